import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PlatformError } from '@roost/base'

/** The checkout that this CLI belongs to: from it the other programs are started, be the CLI bundled or not. */
export function sourceRoot(): string {
  for (let at = import.meta.dirname; dirname(at) !== at; at = dirname(at))
    if (existsSync(join(at, 'packages/server')) && existsSync(join(at, 'packages/agent'))) return at
  throw new PlatformError('internal', `no checkout of Roost above ${import.meta.dirname}`)
}

/** A program of ours, run from its sources: `node …/packages/agent/src/main.ts --config FILE`. */
export function ourProgram(
  room: 'server' | 'agent' | 'edge',
  ...args: string[]
): readonly [string, ...string[]] {
  return [process.execPath, join(sourceRoot(), 'packages', room, 'src/main.ts'), ...args]
}

/** Code that Node has compiled once; NODE_COMPILE_CACHE of every program of ours. */
export function compileCache(): string {
  return join(sourceRoot(), 'node_modules/.cache/roost')
}
