import fc from 'fast-check'
import { expect, test } from 'vitest'
import { dueRun, nextRun, RUN_MS_MAX } from './schedule.ts'

const at = (text: string) => Date.parse(`${text}Z`)

test('runs are whole periods after the creation', () => {
  const created = at('2026-01-31T10:20:30')
  expect(nextRun('hourly', created, at('2026-01-31T10:20:30'))).toBe(at('2026-01-31T11:20:30'))
  expect(nextRun('hourly', created, at('2026-01-31T11:20:29'))).toBe(at('2026-01-31T11:20:30'))
  expect(nextRun('daily', created, at('2026-02-05T10:20:30'))).toBe(at('2026-02-06T10:20:30'))
  expect(nextRun('weekly', created, at('2026-02-05T10:20:30'))).toBe(at('2026-02-07T10:20:30'))
})

test('a month is the same day of the next month, or its last', () => {
  const created = at('2026-01-31T10:20:30')
  expect(nextRun('monthly', created, created)).toBe(at('2026-02-28T10:20:30'))
  expect(nextRun('monthly', created, at('2026-02-28T10:20:30'))).toBe(at('2026-03-31T10:20:30'))
  expect(nextRun('monthly', created, at('2027-12-31T10:20:30'))).toBe(at('2028-01-31T10:20:30'))
  expect(nextRun('monthly', created, at('2028-02-01T00:00:00'))).toBe(at('2028-02-29T10:20:30'))
})

test('the next run is always ahead, and never farther than a month', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('hourly', 'daily', 'weekly', 'monthly'),
      fc.integer({ min: at('2020-01-01T00:00:00'), max: at('2040-01-01T00:00:00') }),
      fc.integer({ min: at('2020-01-01T00:00:00'), max: at('2040-01-01T00:00:00') }),
      (schedule, created, after) => {
        const next = nextRun(schedule, created, after)
        expect(next).toBeGreaterThan(after)
        expect(next - after).toBeLessThan(RUN_MS_MAX)
        // Nothing lies between.
        expect(nextRun(schedule, created, next - 1)).toBe(next)
      },
    ),
  )
})

test('a run that took longer than its period skips what it missed, one that was missed is made up for once', () => {
  const created = at('2026-01-01T00:00:00')
  const over = { endedAt: at('2026-01-01T03:30:00'), slot: at('2026-01-01T01:00:00') }
  expect(dueRun('hourly', created, over, at('2026-01-01T03:31:00'))).toBe(at('2026-01-01T04:00:00'))
  const missed = dueRun('hourly', created, over, at('2026-01-02T12:10:00'))
  expect(missed).toBe(at('2026-01-01T04:00:00'))
})

test('a clock that was set back a little repeats no run, and one that was far ahead stops none', () => {
  const created = at('2026-01-01T00:00:00')
  const early = { endedAt: at('2026-01-01T00:59:58'), slot: at('2026-01-01T01:00:00') }
  expect(dueRun('hourly', created, early, at('2026-01-01T00:59:59'))).toBe(
    at('2026-01-01T02:00:00'),
  )
  const far = { endedAt: at('2027-01-01T00:00:10'), slot: at('2027-01-01T00:00:00') }
  expect(dueRun('hourly', created, far, at('2026-01-01T05:10:00'))).toBe(at('2026-01-01T06:00:00'))
})
