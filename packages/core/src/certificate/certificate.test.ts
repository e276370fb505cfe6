import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Certificate,
  gotAfter,
  holdsCertificate,
  mergeCertificates,
  renewAt,
  servingCertificate,
} from './certificate.ts'
import { certificate, DAY, id } from './trial-certificates.ts'

const some = fc
  .record({
    gotAt: fc.integer({ min: 0, max: 3 }),
    fingerprint: fc.constantFrom('a', 'b'),
    sealedKeys: fc.dictionary(fc.constantFrom('h1', 'h2', 'h3'), fc.constantFrom('x', 'y')),
  })
  .map((change): Certificate => certificate(change as never))

describe('what is known of a certificate', () => {
  test('does not depend on the order in which it was heard', () => {
    fc.assert(
      fc.property(some, some, some, (a, b, c) => {
        const of = (...list: Certificate[]) =>
          list.reduce((known: Certificate | null, one) => mergeCertificates(known, one), null)
        expect(of(a, b)).toEqual(of(b, a))
        expect(of(a, b, c)).toEqual(of(c, b, a))
        expect(of(a, a)).toEqual(a)
      }),
    )
  })

  test('whoever holds what came of it needs to be told nothing', () => {
    fc.assert(
      fc.property(some, some, (a, b) => {
        const both = mergeCertificates(a, b)
        expect(holdsCertificate(both, a)).toBe(true)
        expect(holdsCertificate(both, b)).toBe(true)
      }),
    )
  })

  test('one that is got now replaces what a clock that was ahead says was got later', () => {
    expect(gotAfter(null, 5)).toBe(5)
    expect(gotAfter(certificate({ gotAt: 3 }), 5)).toBe(5)
    const ahead = certificate({ gotAt: 100 * DAY, fingerprint: 'old' })
    const renewed = certificate({ gotAt: gotAfter(ahead, DAY), fingerprint: 'new' })
    expect(mergeCertificates(ahead, renewed)).toBe(renewed)
  })

  test('a later one replaces an earlier one, also with fewer keys', () => {
    const old = certificate({ sealedKeys: { [id('a')]: 'x' } })
    const renewed = certificate({ from: 60 * DAY })
    expect(mergeCertificates(old, renewed)).toBe(renewed)
    expect(holdsCertificate(renewed, old)).toBe(true)
    expect(holdsCertificate(old, renewed)).toBe(false)
  })
})

test('it is renewed at two thirds of its life', () => {
  expect(renewAt(certificate({ from: 30 * DAY }))).toBe(90 * DAY)
})

test('clients are shown an imported one while it is valid, else the ordered one', () => {
  const ordered = certificate({ from: 10 * DAY })
  const imported = certificate({ source: 'custom', notAfter: 20 * DAY })
  expect(servingCertificate([ordered, imported], 15 * DAY)).toBe(imported)
  expect(servingCertificate([ordered, imported], 25 * DAY)).toBe(ordered)
  expect(servingCertificate([ordered, imported], 500 * DAY)).toBe(imported)
  expect(servingCertificate([], 0)).toBeNull()
})
