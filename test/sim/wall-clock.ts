import type { Clock } from '../../packages/base/src/index.ts'

/** The clock on the wall of one host: it can be wrong, be set, and drift. Pauses last as long as they should. */
export interface WallClock extends Clock {
  set(byMs: number): void
  /** From now on it gains `ratio` of the time that passes; negative: it loses. */
  drift(ratio: number): void
  /** How far it is ahead of true time. */
  aheadMs(): number
}

export function createWallClock(clock: Clock): WallClock {
  let offsetMs = 0
  let ratio = 0
  let driftsSince = clock.now()
  const aheadMs = () => Math.round(offsetMs + ratio * (clock.now() - driftsSince))
  return {
    now: () => clock.now() + aheadMs(),
    sleep: (ms, signal) => clock.sleep(ms, signal),
    set: (byMs) => {
      offsetMs += byMs
    },
    drift: (to) => {
      offsetMs = aheadMs()
      driftsSince = clock.now()
      ratio = to
    },
    aheadMs,
  }
}
