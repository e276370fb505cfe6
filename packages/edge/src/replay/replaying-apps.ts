import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import type { ReplayedApp } from '@roost/api'
import type { Logger } from '@roost/base'
import type { Instant } from '@roost/core'

/**
 * Apps that are known to replay: found out by an edge when one does for the first time, told to all others when they ask whether it is alive,
 * and written down. So a client meets the redirect of the first time once for each app, not once for each edge. An app that has not
 * replayed anywhere for a day takes the short way again.
 *
 * What is told is when it was seen, by the clock of who saw it, and passed on as it is: edges that tell each other keep nothing alive.
 */
export interface ReplayingApps {
  all(): ReadonlySet<string>
  /** For other edges. */
  told(): readonly ReplayedApp[]
  /** It did so here, now. */
  saw(app: string): void
  /** What another edge told. */
  heard(others: readonly ReplayedApp[]): void
}

const APPS_MAX = 20_000
const KEPT_MS = 24 * 3_600_000
/** That it did so again is worth being written down and told when so much time has passed. */
const AGAIN_MS = 3_600_000

export function createReplayingApps(options: {
  readonly file: string
  readonly exists: (app: string) => boolean
  readonly now: () => Instant
  readonly onChange: () => void
  readonly log: Logger
}): ReplayingApps {
  const { file, exists, now, log } = options
  const apps = new Map(read(file).map((one) => [one.app, one] as const))
  let writing = false
  /** Something came while it was being written. */
  let again = false

  async function write(): Promise<void> {
    again = writing
    if (writing) return
    writing = true
    await writeNow()
    writing = false
    if (again) void write()
  }

  async function writeNow(): Promise<void> {
    try {
      await writeFile(`${file}.part`, JSON.stringify([...apps.values()]), { mode: 0o600 })
      await rename(`${file}.part`, file)
    } catch (error) {
      log.warn('which apps replay can not be written down', { error })
    }
  }

  const holds = ({ app, at }: ReplayedApp) => exists(app) && now() - at < KEPT_MS
  const held = () => [...apps.values()].filter(holds)

  function put(one: ReplayedApp): void {
    const known = apps.get(one.app)
    const isKnown = known !== undefined && holds(known)
    if (!holds(one) || (isKnown && one.at - known.at < AGAIN_MS)) return
    for (const other of apps.values()) if (!holds(other)) apps.delete(other.app)
    if (apps.size >= APPS_MAX && !isKnown) return
    apps.set(one.app, one)
    void write()
    if (!isKnown) options.onChange()
  }

  return {
    all: () => new Set(held().map(({ app }) => app)),
    told: held,
    saw: (app) => put({ app, at: now() }),
    heard(others) {
      // A clock that is ahead of ours makes nothing last longer.
      for (const one of others) if (isReplayedApp(one)) put({ ...one, at: Math.min(one.at, now()) })
    },
  }
}

function read(file: string): readonly ReplayedApp[] {
  try {
    const found: unknown = JSON.parse(readFileSync(file, 'utf8'))
    return Array.isArray(found) ? found.filter(isReplayedApp) : []
  } catch {
    return []
  }
}

function isReplayedApp(value: unknown): value is ReplayedApp {
  if (typeof value !== 'object' || value === null) return false
  const { app, at } = value as Partial<ReplayedApp>
  return typeof app === 'string' && typeof at === 'number'
}
