import { expect, test } from 'vitest'
import { retryAfterMs } from './retry-after.ts'

const NOW = Date.parse('2026-01-31T12:00:00Z')

test.each([
  ['120', 120_000],
  [' 3 ', 3_000],
  ['Sat, 31 Jan 2026 13:00:00 GMT', 3_600_000],
  ['Sat, 31 Jan 2026 11:00:00 GMT', null],
  ['99999999999', 7 * 86_400_000],
  ['0', null],
  ['', null],
  ['soon', null],
  [['1', '2'], null],
  [undefined, null],
])('%o', (header, ms) => {
  expect(retryAfterMs(header, NOW)).toBe(ms)
})
