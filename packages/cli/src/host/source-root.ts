import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PlatformError } from '@roost/base'

/** The checkout that this CLI belongs to: from it the other programs are started, be the CLI bundled or not. */
export function sourceRoot(): string {
  for (let at = import.meta.dirname; dirname(at) !== at; at = dirname(at))
    if (existsSync(join(at, 'packages/server')) && existsSync(join(at, 'packages/agent'))) return at
  throw new PlatformError('internal', `no checkout of Roost above ${import.meta.dirname}`)
}

/**
 * A program of ours: `node …/packages/agent/dist/agent.mjs --config FILE`, or from its sources while they are newer than the bundle,
 * which costs about twice the memory.
 */
export function ourProgram(
  room: 'server' | 'agent' | 'edge',
  ...args: string[]
): readonly [string, ...string[]] {
  const folder = join(sourceRoot(), 'packages', room)
  const program = isFresh(sourceRoot(), room) ? `dist/${room}.mjs` : 'src/main.ts'
  return [process.execPath, join(folder, program), ...args]
}

/** Whether a room's bundle is newer than all that is in it. */
export function isFresh(root: string, room: string): boolean {
  const bundle = join(root, 'packages', room, 'dist', `${room}.mjs`)
  const made = statSync(bundle, { throwIfNoEntry: false })?.mtimeMs
  if (made === undefined) return false
  const sources = ['core', 'api', 'base', room].flatMap((name) => {
    const folder = join(root, 'packages', name, 'src')
    const inside = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    return [folder, ...inside.map((file) => join(folder, file))]
  })
  // Folders too: they change when something in them is removed.
  return sources.every((file) => file.endsWith('.test.ts') || changedAt(file) <= made)
}

function changedAt(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY
}

/** Code that Node has compiled once; NODE_COMPILE_CACHE of every program of ours. */
export function compileCache(): string {
  return join(sourceRoot(), 'node_modules/.cache/roost')
}
