import type { Clock } from '@roost/base'

/**
 * Which repositories of the image store somebody may be pushing to, or has just been told of an image in. A push needs a
 * token from this server, so it knows of all of them; what it was told before it last started it does not know.
 */
export interface PushActivity {
  /** A build that pushes there. `end(true)`: it is known to be over; else whoever pushed may not have noticed that we are gone. */
  begin(repository: string): { end(over: boolean): void }
  /** A token was given out, or an image looked up. */
  touch(repository: string, forMs: number): void
  isBusy(repository: string): boolean
  isBuilding(repository: string): boolean
  /** No repository is busy. */
  isIdle(): boolean
  /** Of those that are given. */
  busy(repositories: Iterable<string>): ReadonlySet<string>
  /** Tells from now on whether a repository has been quiet since, and is. */
  quietFromNow(): (repository: string) => boolean
}

/** A token for a push lives for 15 minutes, and what was begun with it may take a while. */
export const PUSH_MS = 20 * 60_000
/** From the lookup of an image until the release or machine that has it is stored. */
export const LOOKUP_MS = 2 * 60_000
const REPOSITORIES_MAX = 10_000

export function createPushActivity(options: {
  readonly clock: Clock
  /** Tokens that an earlier life of this server gave out may be in use for so long. */
  readonly unknownMs?: number
}): PushActivity {
  const { clock, unknownMs = 0 } = options
  const startedAt = clock.now()
  const builds = new Map<string, number>()
  const until = new Map<string, number>()
  /** Of each repository the number of its last news. */
  const news = new Map<string, number>()
  let count = 0
  /** What is no longer in `news` was no later than this. */
  let forgotten = 0

  function isBusy(repository: string): boolean {
    const now = clock.now()
    if (now < startedAt + unknownMs) return true
    return (builds.get(repository) ?? 0) > 0 || now < (until.get(repository) ?? 0)
  }

  function note(repository: string): void {
    if (news.size >= REPOSITORIES_MAX) {
      news.clear()
      forgotten = count
    }
    news.set(repository, ++count)
  }

  function touch(repository: string, forMs: number): void {
    const now = clock.now()
    if (until.size >= REPOSITORIES_MAX)
      for (const [name, at] of until) if (at <= now) until.delete(name)
    note(repository)
    until.set(repository, Math.max(now + forMs, until.get(repository) ?? 0))
  }

  return {
    isBusy,
    isBuilding: (repository) => (builds.get(repository) ?? 0) > 0,
    isIdle: () => {
      const now = clock.now()
      if (now < startedAt + unknownMs || builds.size > 0) return false
      return [...until.values()].every((at) => at <= now)
    },
    touch,
    busy: (repositories) => new Set([...repositories].filter(isBusy)),
    quietFromNow() {
      const before = count
      return (repository) => !isBusy(repository) && (news.get(repository) ?? forgotten) <= before
    },
    begin(repository) {
      note(repository)
      builds.set(repository, (builds.get(repository) ?? 0) + 1)
      let ended = false
      return {
        end(over) {
          if (ended) return
          ended = true
          note(repository)
          const left = (builds.get(repository) ?? 1) - 1
          if (left > 0) builds.set(repository, left)
          else builds.delete(repository)
          if (!over) touch(repository, PUSH_MS)
        },
      }
    },
  }
}
