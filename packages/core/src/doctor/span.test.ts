import { expect, test } from 'vitest'
import { spanText } from './span.ts'

test.each([
  [0, '0 s'],
  [119_400, '119 s'],
  [120_000, '2 min'],
  [7_200_000, '2 h'],
  [172_800_000, '2 days'],
])('%d ms', (ms, text) => {
  expect(spanText(ms)).toBe(text)
})
