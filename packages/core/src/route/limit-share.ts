/**
 * Several edges send requests to one machine, and its hard limit holds for all of them together. Each edge does these sums by itself, of what
 * each has at work there and waiting for it: the same numbers give the same shares everywhere, which never add up to more than the limit.
 * - What all want fits: each gets what it wants, and what is left over in equal parts.
 * - It does not: each gets one, or nobody could get through, and the rest goes in proportion to what each wants above that. So all wait
 *   for equally long, as in one line.
 * Edges that want nothing leave all. What one wants does not depend on its share (who does not get in waits in line, and counts), so shares
 * settle as soon as all have heard of each other.
 *
 * They hear late: an edge that wants more than it has told takes of that what is free by the others' word, and what they must give up for
 * it only once they could know.
 */
export interface LimitUser {
  readonly edge: string
  /** Requests at work on the machine and waiting for it. */
  readonly wanted: number
}

/** Rounding of shares that add up to a whole must not take two numbers that should be one for different ones. */
const GRAIN = 1e-9

/** How many requests `self` may have at work at once: whole, at least 1. `limit` is of the machine, at least 1. */
export function limitShare(at: {
  readonly limit: number
  /** `told`: what it said last that it wants. */
  readonly self: LimitUser & { readonly told: number }
  readonly others: readonly LimitUser[]
}): number {
  const { limit, others } = at
  const { edge, wanted, told } = at.self
  const free = agreed(limit, { edge, wanted: 0 }, others)
  const now = agreed(limit, { edge, wanted }, others)
  return Math.max(agreed(limit, { edge, wanted: told }, others), Math.min(now, free))
}

/** What all come to who know the same. */
function agreed(limit: number, self: LimitUser, others: readonly LimitUser[]): number {
  // In one order everywhere: sums of fractions depend on it.
  const users = [self, ...others]
    .filter(({ wanted }) => wanted > 0)
    .map(({ edge, wanted }) => ({ edge, wanted: Math.max(1, wanted) }))
    .sort((a, b) => (a.edge < b.edge ? -1 : 1))
  const total = users.reduce((sum, { wanted }) => sum + wanted, 0)
  if (self.wanted <= 0) return Math.max(1, Math.floor(limit - total))
  const count = users.length
  if (limit <= count) return 1
  const parts = users.map(({ edge, wanted }) => {
    const share =
      total <= limit
        ? wanted + (limit - total) / count
        : 1 + ((limit - count) * (wanted - 1)) / (total - count)
    // With a little more, which all together stays below one: a share of just about 5 is 5 also for who heard a little less.
    return { edge, share, whole: Math.floor(share + 1 / (count + 1)) }
  })
  const left = limit - parts.reduce((sum, { whole }) => sum + whole, 0)
  const cut = parts.filter(({ share, whole }) => whole < share - GRAIN)
  const more = cut.slice(0, left).some(({ edge }) => edge === self.edge)
  return (parts.find(({ edge }) => edge === self.edge)?.whole ?? 1) + (more ? 1 : 0)
}
