/** Of requests, told live to one who asks: all edges together. */
export const ACCESS_LINES_PER_SECOND = 200

/** How many lines somebody is told: so many in each second, and how many were left out. */
export interface LineBudget {
  take(nowMs: number): boolean
  /** Not for want of budget: there was no room for it. */
  miss(lines: number): void
  /** Since this was last asked. */
  leftOut(): number
}

export function lineBudget(perSecond: number): LineBudget {
  const now = { second: Number.NEGATIVE_INFINITY, taken: 0, leftOut: 0 }
  return {
    take(nowMs) {
      const second = Math.floor(nowMs / 1000)
      if (second !== now.second) {
        now.second = second
        now.taken = 0
      }
      if (now.taken >= perSecond) {
        now.leftOut += 1
        return false
      }
      now.taken += 1
      return true
    },
    miss(lines) {
      now.leftOut += lines
    },
    leftOut() {
      const { leftOut } = now
      now.leftOut = 0
      return leftOut
    },
  }
}
