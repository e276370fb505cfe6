import { describe, expect, test } from 'vitest'
import {
  answersIn,
  failuresIn,
  NO_TRAFFIC,
  quantileMs,
  sumTraffic,
  type Traffic,
} from './traffic.ts'

const traffic = (
  responses: Record<number, number>,
  durations: Record<number, number>,
): Traffic => ({
  responses,
  bytesIn: 10,
  bytesOut: 20,
  durations: NO_TRAFFIC.durations.map((_, n) => durations[n] ?? 0),
})

describe('traffic', () => {
  test('is summed by status and by bucket', () => {
    const sum = sumTraffic([
      traffic({ 200: 3, 503: 1 }, { 2: 4 }),
      traffic({ 200: 1, 0: 1 }, { 2: 1 }),
    ])
    expect(sum).toEqual({
      ...traffic({ 200: 4, 503: 1, 0: 1 }, { 2: 5 }),
      bytesIn: 20,
      bytesOut: 40,
    })
    expect([answersIn(sum), failuresIn(sum)]).toEqual([6, 1])
    expect(sumTraffic([])).toEqual(NO_TRAFFIC)
  })

  test('quantiles: a straight line within a bucket, the last end beyond', () => {
    // 2 to 5 ms: ten of them; then some that took longer than half a minute.
    const some = traffic({}, { 2: 10, 14: 10 })
    expect(quantileMs(some, 0.25)).toBe(3.5)
    expect(quantileMs(some, 0.5)).toBe(5)
    expect(quantileMs(some, 0.99)).toBe(30_000)
    expect(quantileMs(NO_TRAFFIC, 0.5)).toBeNull()
  })
})
