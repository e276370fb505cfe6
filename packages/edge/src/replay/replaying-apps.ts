import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import type { Logger } from '@roost/base'

/**
 * Apps that are known to replay: found out by an edge when one does for the first time, told to all others when they ask whether it is alive,
 * and written down. So a client meets the redirect of the first time once for each app, not once for each edge. It is not forgotten
 * as long as there is the app: a redirect costs a client more than the longer way costs an edge.
 */
export interface ReplayingApps {
  /** Those that there are. */
  all(): ReadonlySet<string>
  add(apps: readonly string[]): void
}

const APPS_MAX = 20_000

export function createReplayingApps(options: {
  readonly file: string
  readonly exists: (app: string) => boolean
  readonly onChange: () => void
  readonly log: Logger
}): ReplayingApps {
  const apps = new Set<string>(read(options.file))
  let writing: Promise<void> = Promise.resolve()

  async function write(): Promise<void> {
    try {
      await writeFile(`${options.file}.part`, JSON.stringify([...apps]), { mode: 0o600 })
      await rename(`${options.file}.part`, options.file)
    } catch (error) {
      options.log.warn('which apps replay can not be written down', { error })
    }
  }

  return {
    all: () => new Set([...apps].filter(options.exists)),
    add(more) {
      const news = more.filter((app) => !apps.has(app) && options.exists(app))
      if (news.length === 0) return
      for (const app of apps) if (!options.exists(app)) apps.delete(app)
      for (const app of news) if (apps.size < APPS_MAX) apps.add(app)
      writing = writing.then(write)
      options.onChange()
    },
  }
}

function read(file: string): readonly string[] {
  try {
    const found: unknown = JSON.parse(readFileSync(file, 'utf8'))
    return Array.isArray(found) ? found.filter((app) => typeof app === 'string') : []
  } catch {
    return []
  }
}
