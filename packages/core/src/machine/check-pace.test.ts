import { expect, test } from 'vitest'
import { nextCheckAt } from './check-pace.ts'

const NOW = 1_000_000_000
const check = { key: 'a', intervalMs: 10_000, passing: true, passedAt: NOW, startedAt: NOW }

test('what passes runs once in each interval, at a point of its own', () => {
  const first = nextCheckAt(check, NOW)
  expect(first).toBeGreaterThan(NOW)
  expect(first - NOW).toBeLessThanOrEqual(10_000)
  expect(nextCheckAt(check, first)).toBe(first + 10_000)
  expect(nextCheckAt(check, first + 3)).toBe(first + 10_000)
  expect(nextCheckAt({ ...check, key: 'b' }, NOW)).not.toBe(first)
})

test('five hundred that begin together are spread over the interval', () => {
  const perTenth = Array<number>(100).fill(0)
  for (let n = 0; n < 500; n++) {
    const key = `${n.toString(16).padStart(14, '0')}/servicecheck-00-tcp-8080`
    const at = nextCheckAt({ ...check, key }, NOW) - NOW - 1
    const tenth = Math.floor(at / 100)
    perTenth[tenth] = (perTenth[tenth] ?? 0) + 1
  }
  // Five are the mean.
  expect(Math.max(...perTenth)).toBeLessThanOrEqual(20)
  expect(perTenth.filter((n) => n === 0).length).toBeLessThan(10)
})

test('what does not pass is tried soon at first, then less and less', () => {
  const pause = (passedAt: number | null, agoMs: number, intervalMs = 10_000) =>
    nextCheckAt(
      {
        ...check,
        intervalMs,
        passing: false,
        passedAt: passedAt === null ? null : NOW - agoMs,
        startedAt: NOW - agoMs,
      },
      NOW,
    ) - NOW
  expect(pause(null, 0)).toBe(200)
  expect(pause(null, 10_000)).toBe(1_000)
  expect(pause(null, 60_000)).toBe(5_000)
  expect(pause(null, 3_600_000, 2_000)).toBe(2_000)
  expect(pause(NOW, 0)).toBe(1_000)
  expect(pause(NOW, 3_600_000)).toBe(5_000)
})
