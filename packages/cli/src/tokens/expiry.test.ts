import { expect, test } from 'vitest'
import { expirySeconds } from './expiry.ts'

test.each<[string, number | null]>([
  ['720h', 2_592_000],
  ['30d', 2_592_000],
  ['1h30m', 5400],
  ['2w', 1_209_600],
  ['10y', 315_360_000],
  ['never', null],
])('%s', (text, seconds) => {
  expect(expirySeconds(text)).toBe(seconds)
})

test.each(['', '1', 'h', '1 h', '1s', '0h', '11y', '-1h', 'Never'])('%j is refused', (text) => {
  expect(() => expirySeconds(text)).toThrow(/is no time|a token lives from/)
})
