import type { Instant } from '../id.ts'

const EAGER_MS = 200
const EAGER_FOR_MS = 10_000
const SOON_MS = 1_000
const SOON_FOR_MS = 60_000
const LATER_MS = 5_000

/**
 * When a check is to run next. What passes is looked at once in each interval, at a point of it that is the check's own, so that
 * however many a host has, and however they began, they are spread over it. What fails, or has not passed yet, is tried sooner,
 * so that readiness and recovery are seen soon; but the longer that lasts the less it costs.
 */
export function nextCheckAt(
  check: {
    /** Tells one check of a host from another. */
    readonly key: string
    readonly intervalMs: number
    readonly passing: boolean
    /** null: it has never passed in this run. */
    readonly passedAt: Instant | null
    readonly startedAt: Instant
  },
  now: Instant,
): Instant {
  const { intervalMs, passing, passedAt, startedAt } = check
  if (passing) {
    const pointMs = hash(check.key) % intervalMs
    return now + intervalMs - ((((now - pointMs) % intervalMs) + intervalMs) % intervalMs)
  }
  // A clock that was set back makes nobody eager.
  const troubleMs = Math.abs(now - (passedAt ?? startedAt))
  if (passedAt === null && troubleMs < EAGER_FOR_MS) return now + EAGER_MS
  return now + Math.min(intervalMs, troubleMs < SOON_FOR_MS ? SOON_MS : LATER_MS)
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let n = 0; n < text.length; n++)
    value = Math.imul(value ^ text.charCodeAt(n), 0x01000193) >>> 0
  return value
}
