import { expect, test } from 'vitest'
import { timeOf } from './logs.ts'

const NOW = Date.parse('2026-01-31T12:00:00Z')
const at = (text: string) => timeOf(text, undefined, NOW)

test('a time is so long ago, or that time', () => {
  expect(at('30s')).toBe('2026-01-31T11:59:30.000Z')
  expect(at('10m')).toBe('2026-01-31T11:50:00.000Z')
  expect(at('2h')).toBe('2026-01-31T10:00:00.000Z')
  expect(at('3d')).toBe('2026-01-28T12:00:00.000Z')
  expect(at('2026-01-30T08:00:00+02:00')).toBe('2026-01-30T06:00:00.000Z')
  expect(at('2026-01-30')).toBe('2026-01-30T00:00:00.000Z')
})

test.each(['', 'yesterday', '10', '10x', '-5m', '99999999999999999d', '2026-13-45'])(
  'what is no time is refused: %s',
  (text) => {
    expect(() => at(text)).toThrow('such as')
  },
)
