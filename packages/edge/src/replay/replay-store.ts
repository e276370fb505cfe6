import { createHash } from 'node:crypto'
import {
  cacheKeysOf,
  cookieOf,
  type KeptReplay,
  type ReplayCacheRule,
  sessionOf,
} from '@roost/core'

/** Kept replays of this edge, in memory alone: what is lost is asked for again. The oldest go when there are too many. */
export interface ReplayStore {
  /** By the session that a request belongs to, or by its path. */
  find(request: CachedRequest, now: number): KeptReplay | null
  /** How sessions are told apart, by the rules of the app as they were told last. */
  sessionOf(request: CachedRequest): ReturnType<typeof sessionOf>
  setRules(host: string, rules: readonly ReplayCacheRule[]): void
  keep(kept: KeptReplay): void
  forget(key: string): void
}
export interface CachedRequest {
  readonly host: string
  /** Without the query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
}

const KEPT_MAX = 50_000
const HOSTS_MAX = 20_000

export function createReplayStore(): ReplayStore {
  const byKey = new Map<string, KeptReplay>()
  const rulesOf = new Map<string, readonly ReplayCacheRule[]>()

  function session({ host, path, headers }: CachedRequest): ReturnType<typeof sessionOf> {
    const found = sessionOf(rulesOf.get(host) ?? [], {
      ...{ host: host.replace(/:\d+$/, ''), path },
      valueOf: (type, name) =>
        type === 'cookie'
          ? cookieOf(headers['cookie']?.toString(), name)
          : headers[name.toLowerCase()]?.toString(),
    })
    // A client may say anything, of any length, in its cookies.
    return found && { ...found, key: createHash('sha256').update(found.key).digest('base64') }
  }
  function evict(from: Map<string, unknown>, most: number): void {
    const [oldest] = from.keys()
    if (from.size >= most && oldest !== undefined) from.delete(oldest)
  }

  return {
    find(request, now) {
      if (byKey.size === 0) return null
      const own = session(request)
      const keys = cacheKeysOf(request.host, request.path)
      for (const key of own === null ? keys : [own.key, ...keys]) {
        const found = byKey.get(key)
        if (found === undefined) continue
        if (found.expiresAt > now) return found
        byKey.delete(key)
      }
      return null
    },
    sessionOf: session,
    setRules(host, rules) {
      rulesOf.delete(host)
      if (rules.length === 0) return
      evict(rulesOf, HOSTS_MAX)
      rulesOf.set(host, rules)
    },
    keep(kept) {
      byKey.delete(kept.key)
      evict(byKey, KEPT_MAX)
      byKey.set(kept.key, kept)
    },
    forget: (key) => void byKey.delete(key),
  }
}
