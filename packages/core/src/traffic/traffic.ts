/** Upper ends of the buckets that response times are counted in, in milliseconds; what took longer is in one more. */
export const DURATIONS_MS: readonly number[] = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000,
]

/** What was answered in some span of time, so that sums of sums are right. */
export interface Traffic {
  /** Answers by status code; 0: the client left before there was one. */
  readonly responses: Readonly<Record<number, number>>
  readonly bytesIn: number
  readonly bytesOut: number
  /** Answers by the time until they began, a number for each bucket. */
  readonly durations: readonly number[]
}

export interface Answer {
  readonly status: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Until the answer began; null: it has no such time, as a WebSocket, or never began. */
  readonly ms: number | null
}

export const NO_TRAFFIC: Traffic = {
  responses: {},
  bytesIn: 0,
  bytesOut: 0,
  durations: new Array(DURATIONS_MS.length + 1).fill(0),
}

export function sumTraffic(parts: readonly Traffic[]): Traffic {
  const responses: Record<number, number> = {}
  const durations = [...NO_TRAFFIC.durations]
  let [bytesIn, bytesOut] = [0, 0]
  for (const part of parts) {
    bytesIn += part.bytesIn
    bytesOut += part.bytesOut
    for (const [status, count] of Object.entries(part.responses))
      responses[Number(status)] = (responses[Number(status)] ?? 0) + count
    for (const [n, count] of part.durations.entries()) durations[n] = (durations[n] ?? 0) + count
  }
  return { responses, bytesIn, bytesOut, durations }
}

export const answersIn = ({ responses }: Traffic): number =>
  Object.values(responses).reduce((sum, count) => sum + count, 0)

/** Answers that say that the platform or the app failed. */
export const failuresIn = ({ responses }: Traffic): number =>
  Object.entries(responses).reduce(
    (sum, [status, count]) => sum + (Number(status) >= 500 ? count : 0),
    0,
  )

/**
 * The time, in milliseconds, within which that share of answers began, 0 to 1; null: there is none. Between the ends of a bucket
 * it is a straight line, as Prometheus' `histogram_quantile` has it; beyond the last end it is that end.
 */
export function quantileMs({ durations }: Traffic, share: number): number | null {
  const all = durations.reduce((sum, count) => sum + count, 0)
  if (all === 0) return null
  const wanted = all * Math.min(1, Math.max(0, share))
  let below = 0
  for (const [n, count] of durations.entries()) {
    const upper = DURATIONS_MS[n]
    const lower = DURATIONS_MS[n - 1] ?? 0
    if (upper === undefined) return lower
    if (count > 0 && below + count >= wanted)
      return lower + ((upper - lower) * Math.max(0, wanted - below)) / count
    below += count
  }
  return DURATIONS_MS.at(-1) ?? null
}
