import { type Clock, PlatformError } from '@roost/base'
import { type Instant, isLive, type TokenId } from '@roost/core'
import type { Store } from '../store/store.ts'
import { getToken, tokenKey } from '../store/tokens.ts'

/** What a token holds open: logs that are followed, a session in a machine. */
export interface Hold {
  /** Aborts, with a PlatformError that says why, when the token is revoked or expires. */
  readonly signal: AbortSignal
  /** To be called when what was open has ended. May be called twice. */
  release(): void
}

/**
 * Whoever keeps something open for longer than a request takes holds the token meanwhile: a token that was revoked reads
 * no further line. Revocations are heard from the store, so it does not matter which server was asked for one.
 */
export interface TokenWatch {
  hold(id: TokenId): Hold
  /** How many are held. */
  count(): number
}

/** Timers of programs know no longer ones. */
const SLEEP_MS_MAX = 2 ** 31 - 1

export function createTokenWatch(deps: {
  readonly store: Store
  readonly clock: Clock
}): TokenWatch {
  const { store, clock } = deps
  const held = new Map<string, Set<() => void>>()
  store.onChange(({ keys }) => {
    if (held.size === 0) return
    for (const key of keys) for (const look of held.get(key) ?? []) look()
  })

  return {
    count: () => [...held.values()].reduce((sum, looks) => sum + looks.size, 0),
    hold(id) {
      const key = tokenKey(id)
      const ended = new AbortController()
      const released = new AbortController()
      const end = (why: string) =>
        ended.abort(new PlatformError('unauthorized', `this token ${why}`))
      const look = async (): Promise<Instant | null> => {
        const token = await store.read((reader) => getToken(reader, id))
        if (released.signal.aborted) return null
        if (token === null || token.revokedAt !== null) end('was revoked')
        else if (!isLive(token, clock.now())) end('has expired')
        else return token.policy.expiresAt ?? null
        return null
      }
      // A store that can't be read now says nothing about the token; what it changes later wakes us again.
      const wake = () => void look().catch(() => {})
      const looks = held.get(key) ?? new Set()
      held.set(key, looks.add(wake))
      void untilExpiry(look, clock, AbortSignal.any([released.signal, ended.signal])).catch(
        () => {},
      )
      return {
        signal: ended.signal,
        release() {
          released.abort()
          looks.delete(wake)
          if (looks.size === 0 && held.get(key) === looks) held.delete(key)
        },
      }
    },
  }
}

/** Looks at once, since it may have been revoked just before, and again when its time has come. */
async function untilExpiry(
  look: () => Promise<Instant | null>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const at = await look()
    if (at === null) return
    await clock.sleep(Math.min(Math.max(1, at - clock.now()), SLEEP_MS_MAX), signal)
  }
}
