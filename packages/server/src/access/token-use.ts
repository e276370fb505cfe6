import type { Logger } from '@roost/base'
import type { Instant, Token, TokenId } from '@roost/core'
import type { Store } from '../store/store.ts'
import { markUsed } from '../store/tokens.ts'

/** Writing it down with each request would make each request a write. */
const PERIOD_MS = 60_000
const REMEMBERED_MAX = 10_000

/** Notes now and then when a token was used last. Nobody waits for it, and on a full disk it is left out. */
export function createTokenUse(deps: {
  readonly store: Store
  readonly log: Logger
}): (token: Pick<Token, 'id' | 'lastUsedAt'>, now: Instant) => void {
  const { store, log } = deps
  const noted = new Map<TokenId, Instant>()
  return ({ id, lastUsedAt }, now) => {
    const last = noted.get(id) ?? lastUsedAt
    if (last !== null && Math.abs(now - last) < PERIOD_MS) return
    if (noted.size >= REMEMBERED_MAX) noted.clear()
    noted.set(id, now)
    store
      .transaction((tx) => markUsed(tx, id, now))
      .catch((error: unknown) => log.warn('note the use of a token', { token: id, error }))
  }
}
