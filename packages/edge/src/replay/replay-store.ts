import { cacheKeysOf, type KeptReplay } from '@roost/core'

/** Kept replays of this edge, in memory alone: what is lost is asked for again. The oldest go when there are too many. */
export interface ReplayStore {
  find(host: string, path: string, now: number): KeptReplay | null
  keep(kept: KeptReplay): void
  forget(key: string): void
}

const KEPT_MAX = 50_000

export function createReplayStore(): ReplayStore {
  const byKey = new Map<string, KeptReplay>()
  return {
    find(host, path, now) {
      if (byKey.size === 0) return null
      for (const key of cacheKeysOf(host, path)) {
        const found = byKey.get(key)
        if (found === undefined) continue
        if (found.expiresAt > now) return found
        byKey.delete(key)
      }
      return null
    },
    keep(kept) {
      byKey.delete(kept.key)
      const [oldest] = byKey.keys()
      if (byKey.size >= KEPT_MAX && oldest !== undefined) byKey.delete(oldest)
      byKey.set(kept.key, kept)
    },
    forget: (key) => void byKey.delete(key),
  }
}
