import { describe, expect, test } from 'vitest'
import { type DnsFacts, dnsFindings, isProven } from './dns-check.ts'
import type { Hostname } from './hostname.ts'
import { hostname } from './trial-certificates.ts'

const question = (facts: Partial<DnsFacts>, change: Partial<Hostname> = {}) => ({
  hostname: hostname(change),
  domain: 'roost.test',
  addresses: ['198.18.1.1', '198.18.2.1'],
  facts: { a: [], aaaa: [], cname: [], challengeCname: [], ownership: [], ...facts },
})
/** What is needed and not right. */
const wrong = (facts: Partial<DnsFacts>, change: Partial<Hostname> = {}) =>
  dnsFindings(question(facts, change))
    .filter(({ needed, state }) => needed && state !== 'right')
    .map(({ type, name, state }) => `${type} ${name} ${state}`)

describe('what of a name’s DNS is wrong', () => {
  test('nothing when it leads here, by CNAME or by addresses', () => {
    expect(wrong({ cname: ['shop.roost.test'], a: ['198.18.2.1'] })).toEqual([])
    expect(wrong({ a: ['198.18.1.1', '198.18.2.1'] })).toEqual([])
  })

  test('a record that is missing is named with what it should say', () => {
    const [finding] = dnsFindings(question({}))
    expect(finding).toMatchObject({
      type: 'CNAME',
      name: 'www.example.com',
      state: 'missing',
      wanted: ['shop.roost.test', '198.18.1.1', '198.18.2.1'],
    })
  })

  test.each<[string, Partial<DnsFacts>, Partial<Hostname>, string[]]>([
    ['elsewhere', { a: ['203.0.113.9'] }, {}, ['A www.example.com wrong']],
    ['partly elsewhere', { a: ['198.18.1.1', '203.0.113.9'] }, {}, ['A www.example.com wrong']],
    [
      'by CNAME to somebody else',
      { cname: ['x.example.net'], a: ['203.0.113.9'] },
      {},
      ['CNAME www.example.com wrong'],
    ],
    ['by a CNAME to nothing', { cname: ['x.example.net'] }, {}, ['CNAME www.example.com wrong']],
    [
      'also over IPv6',
      { a: ['198.18.1.1'], aaaa: ['2001:db8::1'] },
      {},
      ['AAAA www.example.com wrong'],
    ],
    ['nobody knows', { a: null }, {}, ['CNAME www.example.com unknown']],
    [
      'a wildcard needs its delegation',
      { a: ['198.18.1.1'] },
      { name: '*.example.com' },
      ['CNAME _acme-challenge.example.com missing'],
    ],
    [
      'which may lead elsewhere',
      { a: ['198.18.1.1'], challengeCname: ['other.example.net'] },
      { challenge: 'dns-01' },
      ['CNAME _acme-challenge.www.example.com wrong'],
    ],
  ])('%s', (_what, facts, change, expected) => {
    expect(wrong(facts, change)).toEqual(expected)
  })

  test('a delegation that leads here is right', () => {
    const facts = { a: ['198.18.1.1'], challengeCname: ['example.com._acme.roost.test'] }
    expect(wrong(facts, { name: '*.example.com' })).toEqual([])
  })
})

test('a name is proven by where it leads, or by its owner’s word for this app', () => {
  expect(isProven(question({ a: ['198.18.1.1'] }))).toBe(true)
  expect(isProven(question({ a: ['198.18.1.1', '203.0.113.9'] }))).toBe(false)
  expect(isProven(question({}))).toBe(false)
  expect(isProven(question({ a: null }))).toBe(false)
  expect(isProven(question({ ownership: ['app-shop'] }))).toBe(true)
  expect(isProven(question({ ownership: ['app-blog'] }))).toBe(false)
})
