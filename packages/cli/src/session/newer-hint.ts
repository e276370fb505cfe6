import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { VERSION } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { styleOf } from '../terminal/style.ts'
import { contextsFile } from './contexts.ts'

const DAY_MS = 24 * 3_600_000

/** One line, at most once a day; never where that can't be remembered. */
export function hintOfNewer(
  context: Pick<CliContext, 'env' | 'stderr'>,
  version: string,
  now: number = Date.now(),
): void {
  const file = join(dirname(contextsFile(context.env)), 'hinted.json')
  const last = lastHint(file)
  // A clock that was put back must not silence it for ever.
  if (last <= now && now - last < DAY_MS) return
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(`${file}.${process.pid}`, JSON.stringify({ at: now }), { mode: 0o600 })
    renameSync(`${file}.${process.pid}`, file)
  } catch {
    return
  }
  const style = styleOf(context, context.stderr)
  context.stderr.write(
    `${style.yellow('Note:')} the server is Roost ${version}, this command line ${VERSION}; git pull && make setup brings it up to date\n`,
  )
}

function lastHint(file: string): number {
  try {
    const { at } = JSON.parse(readFileSync(file, 'utf8')) as { at?: unknown }
    return typeof at === 'number' ? at : 0
  } catch {
    return 0
  }
}
