import { describe, expect, test } from 'vitest'
import type { DnsFinding } from '../certificate/dns-check.ts'
import { certificate, DAY, failure, HOUR, hostname } from '../certificate/trial-certificates.ts'
import { type HostnameFacts, hostnameFindings } from './hostname-findings.ts'

const found = (given: Partial<HostnameFacts>, now: number, orders = true) =>
  hostnameFindings([{ hostname: hostname(), certificates: [], dns: [], ...given }], { now, orders })
const told = (...args: Parameters<typeof found>) =>
  found(...args).map(({ severity, problem }) => `${severity}: ${problem}`)

const elsewhere: DnsFinding = {
  type: 'A',
  name: 'www.example.com',
  wanted: ['shop.roost.test', '192.0.2.1'],
  found: ['203.0.113.9'],
  state: 'wrong',
  needed: true,
  why: 'www.example.com leads to 203.0.113.9, which is no edge of this installation',
}

describe('one that is ordered', () => {
  test('is well while it is new, and while it is being renewed', () => {
    expect(told({ certificates: [certificate()] }, 60 * DAY)).toEqual([])
    expect(told({ certificates: [certificate()] }, 60 * DAY + 60_000)).toEqual([])
    expect(told({}, 60_000)).toEqual([])
  })

  test('has failed: said with the words of the authority, and worse as its end comes near', () => {
    const certificates = [certificate()]
    const failed = hostname({ failure: failure({ at: 70 * DAY, count: 3, why: 'no route' }) })
    const [warning] = found({ hostname: failed, certificates }, 70 * DAY + 60_000)
    expect(warning).toEqual({
      severity: 'warning',
      about: 'certificate of www.example.com',
      problem: 'it ends in 20 days, and its last order failed',
      why: 'no route (tried 3 times, last 60 s ago by http-01, again in 7 min)',
      fixes: [
        'roost certs check www.example.com -a shop   # looks at DNS again, and orders at once',
      ],
    })
    expect(told({ hostname: failed, certificates }, 80 * DAY)[0]).toMatch(/^error: it ends in 10/)
    expect(told({ hostname: failed, certificates }, 92 * DAY)).toEqual([
      'error: it has expired 2 days ago, and its last order failed',
    ])
    expect(told({ hostname: failed }, 71 * DAY)).toEqual([
      'error: it has none, and its last order failed',
    ])
    // The order after it worked.
    const renewed = [certificate({ from: 71 * DAY })]
    expect(told({ hostname: failed, certificates: renewed }, 72 * DAY)).toEqual([])
  })

  test('is not being renewed, or was never ordered', () => {
    expect(told({ certificates: [certificate()] }, 60 * DAY + HOUR)).toEqual([
      'warning: it ends in 30 days, and is not being renewed',
    ])
    expect(told({ certificates: [certificate()] }, 95 * DAY)).toEqual([
      'error: it has expired 5 days ago, and none is being ordered',
    ])
    const [missing] = found({}, HOUR, false)
    expect(missing).toMatchObject({
      severity: 'error',
      problem: 'it has none, and none is being ordered',
      fixes: [expect.stringMatching(/^roost up --acme-email/)],
    })
  })
})

describe('one that was imported', () => {
  const own = hostname({ acme: false, provenAt: 1 })
  const imported = [certificate({ source: 'custom' })]

  test('is told of when a third of its life is left, or a month, since nobody renews it', () => {
    expect(told({ hostname: own, certificates: imported }, 59 * DAY)).toEqual([])
    const [ending] = found({ hostname: own, certificates: imported }, 61 * DAY)
    expect(ending).toMatchObject({ severity: 'warning', problem: 'it ends in 29 days' })
    expect(ending?.fixes[0]).toMatch(/^roost certs import www\.example\.com -a shop --fullchain/)
    const year = [certificate({ source: 'custom', notAfter: 365 * DAY })]
    expect(told({ hostname: own, certificates: year }, 330 * DAY)).toEqual([])
    expect(told({ hostname: own, certificates: year }, 340 * DAY)).toHaveLength(1)
    expect(told({ hostname: own, certificates: imported }, 91 * DAY)).toEqual([
      'error: it has expired 24 h ago',
    ])
  })

  test('is followed by an ordered one where that is there', () => {
    const both = [...imported, certificate({ from: 50 * DAY })]
    expect(told({ hostname: hostname({ provenAt: 1 }), certificates: both }, 80 * DAY)).toEqual([])
    expect(told({ hostname: hostname({ provenAt: 1 }), certificates: both }, 91 * DAY)).toEqual([])
  })

  test('is shown to nobody before DNS says whose the name is', () => {
    const [unproven] = found({ hostname: hostname({ acme: false }), certificates: imported }, DAY)
    expect(unproven).toMatchObject({
      severity: 'error',
      problem: expect.stringContaining('not shown'),
    })
    expect(unproven?.why).toContain('_fly-ownership.www.example.com')
  })
})

describe('DNS that leads elsewhere', () => {
  test('is a warning of its own, with the record that mends it', () => {
    const [finding] = found({ certificates: [certificate()], dns: [elsewhere] }, DAY)
    expect(finding).toMatchObject({
      severity: 'warning',
      problem: 'its DNS does not lead here',
      why: elsewhere.why,
    })
    expect(finding?.fixes[0]).toContain('CNAME www.example.com → shop.roost.test or 192.0.2.1')
  })

  test('explains why an order failed, in one finding', () => {
    const failed = hostname({ failure: failure({ at: HOUR, why: 'no route' }) })
    const all = found({ hostname: failed, dns: [elsewhere] }, HOUR + 1000)
    expect(all).toHaveLength(1)
    expect(all[0]?.why).toMatch(/^no route \(tried last .*; www\.example\.com leads to 203/)
    expect(all[0]?.fixes).toHaveLength(2)
  })

  test('what could not be asked, or is not needed, says nothing', () => {
    const given = [
      { ...elsewhere, state: 'unknown' as const },
      { ...elsewhere, needed: false },
    ]
    expect(told({ certificates: [certificate()], dns: given }, DAY)).toEqual([])
  })
})

test('a wildcard is typed so that no shell looks for files', () => {
  const name = '*.example.com'
  const [finding] = found({ hostname: hostname({ name }) }, HOUR)
  expect(finding?.fixes[0]).toContain("roost certs check '*.example.com' -a shop")
})
