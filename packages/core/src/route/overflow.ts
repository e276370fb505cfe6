/**
 * How far from home an app's requests go. A tier is all machines of one region that are up, nearest first. While those of the open
 * tiers have room below their soft limits, the next tier stays closed and gets nothing. Once it is full, the next one opens and gets
 * the excess: each tier is filled to nine tenths of its soft limit before the next one; when all are, the load is spread evenly, up to
 * the hard limits, which the proxy enforces. A tier closes when the nearer ones would have had room for everything for two seconds.
 *
 * Load is counted over all tiers together with what queues. Counted in the own region alone it would look low as soon as others
 * share the work, and tiers would open and close in turns.
 */
export interface Overflow {
  /** How many tiers serve, at least 1. */
  readonly open: number
  /** For how many looks in a row the nearer tiers would have been enough. */
  readonly calm: number
}
export const CLOSED: Overflow = { open: 1, calm: 0 }

/** Looks with room enough before a tier closes, at ten a second. */
export const CALM_LOOKS = 20
const CLOSE_BELOW = 0.8
const FILL_TO = 0.9
const SHARE_MIN = 5

/** `tiers`: machines that are up in each region, nearest first, none of them 0. `load`: requests at work and waiting. */
export function nextOverflow(
  before: Overflow,
  at: {
    readonly tiers: readonly number[]
    readonly softLimit: number
    readonly load: number
  },
): Overflow {
  const { tiers, softLimit, load } = at
  const last = Math.max(1, tiers.length)
  const enough = (part: number) => {
    let room = 0
    for (const [n, machines] of tiers.entries()) {
      room += machines * softLimit
      if (load < room * part) return n + 1
    }
    return last
  }
  const open = Math.min(before.open, last)
  const wanted = enough(1)
  if (wanted >= open) return { open: wanted, calm: 0 }
  const closing = enough(CLOSE_BELOW)
  if (closing >= open) return { open, calm: 0 }
  const calm = before.calm + 1
  return calm < CALM_LOOKS ? { open, calm } : { open: closing, calm: 0 }
}

/** Weight of each machine of each tier, 100 for a machine of the first and 0 for closed ones: the load is shared in proportion to them. */
export function sharesOf(
  open: number,
  at: { readonly tiers: readonly number[]; readonly softLimit: number; readonly load: number },
): readonly number[] {
  let left = at.load
  return at.tiers.map((machines, n) => {
    const room = machines * at.softLimit * FILL_TO
    const part = Math.min(1, Math.max(0, left / room))
    left -= room
    if (n === 0) return 100
    return n < open ? Math.max(SHARE_MIN, Math.round(100 * part)) : 0
  })
}
