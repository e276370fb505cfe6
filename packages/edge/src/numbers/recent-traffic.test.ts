import {
  type Answer,
  answersIn,
  DURATIONS_MS,
  failuresIn,
  NO_TRAFFIC,
  quantileMs,
  sumTraffic,
} from '@roost/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { recentTraffic } from './recent-traffic.ts'

const answers = fc.array(
  fc.record({
    status: fc.constantFrom(0, 101, 200, 204, 301, 404, 500, 502, 503),
    bytesIn: fc.nat(10_000),
    bytesOut: fc.nat(1_000_000),
    ms: fc.option(fc.integer({ min: 0, max: 60_000 })),
  }),
)
const of = (list: readonly Answer[]) => {
  const recent = recentTraffic(1000, 10)
  for (const answer of list) recent.add(answer, 0)
  return recent.sum(0)
}

describe('recent traffic', () => {
  test('sums of parts are the sum of all, in whatever order', () => {
    fc.assert(
      fc.property(answers, answers, (one, two) => {
        expect(sumTraffic([of(one), of(two)])).toEqual(of([...two, ...one]))
        expect(answersIn(of(one))).toBe(one.length)
        expect(failuresIn(of(one))).toBe(one.filter(({ status }) => status >= 500).length)
      }),
    )
  })

  test('a quantile lies in the bucket in which the answer is that it stands for', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 60_000 }), { minLength: 1 }),
        fc.double({ min: 0.001, max: 1, noNaN: true }),
        (times, share) => {
          const found = quantileMs(
            of(times.map((ms) => ({ status: 200, bytesIn: 0, bytesOut: 0, ms }))),
            share,
          )
          const exact = [...times].sort((a, b) => a - b)[Math.ceil(times.length * share) - 1] ?? 0
          const end = DURATIONS_MS.find((upper) => exact <= upper) ?? DURATIONS_MS.at(-1) ?? 0
          const start = DURATIONS_MS[DURATIONS_MS.indexOf(end) - 1] ?? 0
          expect(found).toBeLessThanOrEqual(end)
          expect(found).toBeGreaterThanOrEqual(exact > end ? end : start)
        },
      ),
    )
    expect(quantileMs(NO_TRAFFIC, 0.5)).toBeNull()
  })

  test('what is older than the spans that are kept is forgotten', () => {
    const recent = recentTraffic(10_000, 6)
    const answer = { status: 200, bytesIn: 1, bytesOut: 2, ms: 3 }
    for (let at = 0; at < 120_000; at += 1000) recent.add(answer, at)
    // The span that is under way, and five before it.
    expect(answersIn(recent.sum(119_999))).toBe(60)
    expect(answersIn(recent.sum(130_000))).toBe(40)
    expect(recent.isOver(130_000)).toBe(false)
    expect(recent.isOver(180_000)).toBe(true)
  })
})
