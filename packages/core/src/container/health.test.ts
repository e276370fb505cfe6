import { expect, test } from 'vitest'
import { type CheckTally, NEW_TALLY, tally } from './health.ts'

const check = { intervalMs: 10_000, gracePeriodMs: 5_000, successThreshold: 1, failureThreshold: 2 }

function after(
  results: readonly (readonly [at: number, passing: boolean])[],
  change = {},
): CheckTally {
  return results.reduce(
    (stands, [at, passing]) =>
      tally({ ...check, ...change }, stands, { passing, startedAt: 0 }, at),
    NEW_TALLY,
  )
}

test('a program that has just been started is not sick, however often it is looked at', () => {
  expect(
    after([
      [200, false],
      [400, false],
      [600, false],
      [14_000, false],
    ]).status,
  ).toBe('warning')
  expect(
    after([
      [200, false],
      [15_000, false],
      [16_000, false],
      [24_000, false],
    ]).status,
  ).toBe('warning')
  expect(
    after([
      [200, false],
      [15_000, false],
      [25_000, false],
    ]).status,
  ).toBe('critical')
})

test('thresholds count in a row', () => {
  expect(after([[200, true]]).status).toBe('passing')
  expect(
    after(
      [
        [200, true],
        [400, false],
      ],
      { successThreshold: 2 },
    ).status,
  ).toBe('warning')
  expect(
    after(
      [
        [200, true],
        [400, false],
        [600, true],
        [800, true],
      ],
      { successThreshold: 2 },
    ).status,
  ).toBe('passing')
  expect(
    after([
      [200, true],
      [20_000, false],
    ]).status,
  ).toBe('passing')
  expect(
    after([
      [200, true],
      [20_000, false],
      [21_000, false],
    ]).status,
  ).toBe('passing')
  expect(
    after([
      [200, true],
      [20_000, false],
      [30_000, false],
    ]).status,
  ).toBe('critical')
  expect(
    after([
      [200, true],
      [20_000, false],
      [25_000, true],
      [30_000, false],
    ]).status,
  ).toBe('passing')
})
