import { expect, test } from 'vitest'
import { challengedBy, challengeTarget, checkHostname, wildcardOf } from './hostname.ts'

const check = (text: string) => checkHostname(text, 'roost.test')

test.each([
  ['www.example.com', 'www.example.com'],
  ['WWW.Example.COM.', 'www.example.com'],
  ['example.com', 'example.com'],
  ['*.example.com', '*.example.com'],
  ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
])('%s can be served', (text, name) => {
  expect(check(text)).toEqual({ kind: 'good', name })
})

test.each([
  ['localhost', 'has no dot'],
  ['*.com', 'has no dot'],
  ['', 'no host name'],
  ['192.0.2.1', 'is an address'],
  ['2001:db8::1', 'is an address'],
  ['www.*.example.com', 'no host name'],
  ['bücher.example', 'no host name'],
  ['-a.example.com', 'no host name'],
  ['a b.example.com', 'no host name'],
  ['example.com/', 'no host name'],
  ['example.123', 'last label'],
  ['shop.roost.test', 'certificate already'],
  ['*.roost.test', 'certificate already'],
  ['roost.test', 'certificate already'],
  [`${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.example`, 'longer than'],
])('%s is refused', (text, why) => {
  expect(check(text)).toMatchObject({ kind: 'refused', why: expect.stringContaining(why) })
})

test('a delegated name is found back from where it leads', () => {
  for (const name of ['www.example.com', '*.example.com', 'example.com']) {
    const target = challengeTarget(name, 'roost.test')
    expect(challengedBy(target, 'roost.test')).toBe(name.replace('*.', ''))
  }
  expect(challengedBy('shop.roost.test', 'roost.test')).toBeNull()
  expect(challengedBy('_acme.roost.test', 'roost.test')).toBeNull()
})

test('a wildcard stands for one more label', () => {
  expect(wildcardOf('a.example.com')).toBe('*.example.com')
})
