import { createHash } from 'node:crypto'
import {
  cacheKeysOf,
  cookieOf,
  type KeptReplay,
  type ReplayCacheRule,
  sessionOf,
} from '@roost/core'
import { LRUCache } from 'lru-cache'

/** Kept replays of this edge, in memory alone: what is lost is asked for again. Those go that were not used for longest when they are too much. */
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

/** An app says how long each of them is, and a client how many there are. */
const KEPT_BYTES_MAX = 24 * 1_048_576
const RULES_BYTES_MAX = 8 * 1_048_576
/** Of what holds an entry. */
const ENTRY_BYTES = 300

const bytesOf = (value: object, key: string) =>
  ENTRY_BYTES + key.length + JSON.stringify(value).length

export function createReplayStore(): ReplayStore {
  const byKey = new LRUCache<string, KeptReplay>({
    maxSize: KEPT_BYTES_MAX,
    sizeCalculation: bytesOf,
  })
  const rulesOf = new LRUCache<string, readonly ReplayCacheRule[]>({
    maxSize: RULES_BYTES_MAX,
    sizeCalculation: bytesOf,
  })

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
      if (rules.length === 0) rulesOf.delete(host)
      else rulesOf.set(host, rules)
    },
    keep(kept) {
      byKey.set(kept.key, kept)
    },
    forget: (key) => void byKey.delete(key),
  }
}
