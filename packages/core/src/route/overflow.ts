/**
 * How far from home an app's requests go. A tier is all machines of one region that are up, nearest first. While those of the open
 * tiers have room below their soft limits, the next tier stays closed and gets nothing. Once they are full, the next one opens and gets
 * the excess: each tier is filled to nine tenths of its soft room before the next one. What is left when all are goes where there is
 * room below the hard limits, nearest first again: a request that waits anywhere waits least at home. A tier closes when the nearer ones
 * would have had room for everything for two seconds.
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

/** What one edge may have at work on the machines of one region: see `roomOf`. */
export interface Tier {
  /** At least 1. */
  readonly machines: number
  readonly softRoom: number
  /** At least `softRoom`; infinite where there is no hard limit. */
  readonly hardRoom: number
}

/** Looks with room enough before a tier closes, at ten a second. */
export const CALM_LOOKS = 20
const CLOSE_BELOW = 0.8
const FILL_TO = 0.9
const SHARE_MIN = 5
const SHARE_MAX = 256
const GRAIN = 0.001

/**
 * What one edge may have at work below a limit, of what several edges send to the same machines. The edges of their region come first;
 * among equals each keeps what it has where it fits, and all give way in proportion where it does not. So edges that know each
 * other's load a second late neither send their excess to and fro nor all take the same room and all leave it again.
 */
export function roomOf(at: {
  readonly limit: number
  /** At work there by this edge, by those that come before it, and by its equals. */
  readonly mine: number
  readonly before: number
  readonly equals: number
}): number {
  const room = Math.max(0, at.limit - at.before)
  if (at.equals === 0 || room === Number.POSITIVE_INFINITY) return room
  return Math.max(room - at.equals, (room * at.mine) / (at.mine + at.equals))
}

/** `tiers`: nearest first. `load`: requests at work and waiting. */
export function nextOverflow(
  before: Overflow,
  at: { readonly tiers: readonly Tier[]; readonly load: number },
): Overflow {
  // With a grain more: a tier that is just full is none with room.
  const needed = (load: number) =>
    Math.max(1, 1 + allotted(at.tiers, load + GRAIN).findLastIndex((part) => part > 0))
  const open = Math.min(before.open, Math.max(1, at.tiers.length))
  const wanted = needed(at.load)
  if (wanted >= open) return { open: wanted, calm: 0 }
  const closing = needed(at.load / CLOSE_BELOW)
  if (closing >= open) return { open, calm: 0 }
  const calm = before.calm + 1
  return calm < CALM_LOOKS ? { open, calm } : { open: closing, calm: 0 }
}

/**
 * Weight of each machine of each tier, 100 for a machine of the first and 0 for those that get nothing: the load is shared in proportion
 * to them.
 */
export function sharesOf(
  open: number,
  at: { readonly tiers: readonly Tier[]; readonly load: number },
): readonly number[] {
  const serving = at.tiers.slice(0, open)
  const parts = allotted(
    serving.map((tier) => ({ ...tier, softRoom: tier.softRoom * FILL_TO })),
    at.load,
  ).map((part, n) => part / (serving[n]?.machines ?? 1))
  const first = parts[0] ?? 0
  return at.tiers.map(({ softRoom }, n) => {
    if (n === 0) return 100
    // An open tier with room gets a little also in a moment without load: it closes by time.
    if (n >= open || ((parts[n] ?? 0) === 0 && softRoom === 0)) return 0
    const share = first === 0 ? 0 : Math.round((100 * (parts[n] ?? 0)) / first)
    return Math.min(SHARE_MAX, Math.max(SHARE_MIN, share))
  })
}

/** How much of a load each tier gets; what nobody has room for waits at the first. */
function allotted(tiers: readonly Tier[], load: number): readonly number[] {
  let left = load
  const take = (room: number) => {
    const part = Math.max(0, Math.min(room, left))
    left -= part
    return part
  }
  const soft = tiers.map(({ softRoom }) => take(softRoom))
  const all = tiers.map(({ hardRoom }, n) => (soft[n] ?? 0) + take(hardRoom - (soft[n] ?? 0)))
  return all.map((part, n) => (n === 0 ? part + left : part))
}
