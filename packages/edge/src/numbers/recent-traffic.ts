import { type Answer, DURATIONS_MS, NO_TRAFFIC, sumTraffic, type Traffic } from '@roost/core'

/** The last so many spans of time of one source, the oldest forgotten as time goes on. */
export interface RecentTraffic {
  add(answer: Answer, nowMs: number): void
  /** Over the spans that are kept, the one that is under way among them. */
  sum(nowMs: number): Traffic
  /** Nothing of it is kept any more. */
  isOver(nowMs: number): boolean
}

export function recentTraffic(spanMs: number, spans: number): RecentTraffic {
  const kept = new Map<number, Counting>()
  const forget = (now: number) => {
    for (const span of kept.keys()) if (span <= now - spans) kept.delete(span)
  }
  return {
    add(answer, nowMs) {
      const span = Math.floor(nowMs / spanMs)
      const counting = kept.get(span) ?? newCounting()
      kept.set(span, counting)
      count(counting, answer)
      if (kept.size > spans) forget(span)
    },
    sum(nowMs) {
      forget(Math.floor(nowMs / spanMs))
      return sumTraffic([...kept.values()])
    },
    isOver(nowMs) {
      forget(Math.floor(nowMs / spanMs))
      return kept.size === 0
    },
  }
}

interface Counting {
  readonly responses: Record<number, number>
  bytesIn: number
  bytesOut: number
  readonly durations: number[]
}

const newCounting = (): Counting => ({
  ...NO_TRAFFIC,
  responses: {},
  durations: [...NO_TRAFFIC.durations],
})

function count(into: Counting, { status, bytesIn, bytesOut, ms }: Answer): void {
  into.responses[status] = (into.responses[status] ?? 0) + 1
  into.bytesIn += bytesIn
  into.bytesOut += bytesOut
  if (ms === null) return
  const found = DURATIONS_MS.findIndex((end) => ms <= end)
  const bucket = found === -1 ? DURATIONS_MS.length : found
  into.durations[bucket] = (into.durations[bucket] ?? 0) + 1
}
