import { DURATIONS_MS } from '@roost/core'

/**
 * Numbers that each request adds to, as plain ones: prom-client's own put all labels together for each addition, which cost more than all else that an edge's
 * program does for a request. They become its metrics when somebody asks.
 */
export interface Durations {
  readonly buckets: number[]
  sumMs: number
}
/** Of one status. */
export interface Answers extends Durations {
  responses: number
}
export interface AnswersByStatus {
  readonly statuses: Map<number, Answers>
  bytesIn: number
  bytesOut: number
}

export type Labels = Readonly<Record<string, string | number>>

export const newDurations = (): Durations => ({
  buckets: new Array<number>(DURATIONS_MS.length + 1).fill(0),
  sumMs: 0,
})

export const newAnswers = (): AnswersByStatus => ({
  statuses: new Map(),
  bytesIn: 0,
  bytesOut: 0,
})

export function addDuration(to: Durations, ms: number): void {
  const found = DURATIONS_MS.findIndex((end) => ms <= end)
  const bucket = found === -1 ? DURATIONS_MS.length : found
  to.buckets[bucket] = (to.buckets[bucket] ?? 0) + 1
  to.sumMs += ms
}

/** `ms`: until it began; null: that is not known. */
export function addAnswer(to: AnswersByStatus, status: number, ms: number | null): void {
  let answers = to.statuses.get(status)
  if (answers === undefined) {
    answers = { responses: 0, ...newDurations() }
    to.statuses.set(status, answers)
  }
  answers.responses += 1
  if (ms !== null) addDuration(answers, ms)
}

/** A counter as prom-client's registries have it in JSON. */
export function counterOf(
  about: { readonly name: string; readonly help: string },
  values: readonly { readonly labels: Labels; readonly value: number }[],
) {
  return { ...about, type: 'counter', aggregator: 'sum', values }
}

/** The same of a histogram, in seconds. Series without a duration are left out. */
export function histogramOf(
  about: { readonly name: string; readonly help: string },
  series: readonly { readonly labels: Labels; readonly durations: Durations }[],
) {
  const value = (suffix: string, labels: Labels, value: number) => ({
    metricName: `${about.name}_${suffix}`,
    labels,
    value,
  })
  const values = series.flatMap(({ labels, durations: { buckets, sumMs } }) => {
    let below = 0
    const counted = buckets.map((count, n) => {
      below += count
      const end = DURATIONS_MS[n]
      return value('bucket', { le: end === undefined ? '+Inf' : end / 1000, ...labels }, below)
    })
    if (below === 0) return []
    return [...counted, value('sum', labels, sumMs / 1000), value('count', labels, below)]
  })
  return { ...about, type: 'histogram', aggregator: 'sum', values }
}
