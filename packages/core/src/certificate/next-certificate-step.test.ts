import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Certificate } from './certificate.ts'
import {
  type CertificateQuestion,
  chooseChallenge,
  nextCertificateStep,
  retryAt,
} from './next-certificate-step.ts'
import { whoseTurn } from './order-turn.ts'
import { certificate, DAY, failure, HOUR, hostname, id } from './trial-certificates.ts'

const host = (letter: string, alive = true) => ({ id: id(letter), alive, sealingKey: 'key' })
const three = [host('a'), host('b'), host('c')]
const first = whoseTurn('www.example.com', three) ?? id('a')
const keysFor = (...letters: string[]) =>
  Object.fromEntries(letters.map((letter) => [id(letter), 'sealed']))

function step(change: Partial<CertificateQuestion> = {}) {
  return nextCertificateStep({
    hostname: hostname(),
    certificates: [],
    self: first,
    hosts: three,
    failure: null,
    now: 0,
    ...change,
  })
}

describe('what an edge does about a name', () => {
  test('one of them orders what is missing, the others leave it to that one', () => {
    const steps = three.map(({ id: self }) => step({ self }).kind)
    expect(steps.filter((kind) => kind === 'order')).toHaveLength(1)
    expect(step()).toEqual({ kind: 'order', why: 'first' })
  })

  test('when it dies, the next one does', () => {
    const hosts = three.map((one) => ({ ...one, alive: one.id !== first }))
    const others = hosts.filter(({ alive }) => alive).map(({ id: self }) => step({ self, hosts }))
    expect(others.filter(({ kind }) => kind === 'order')).toHaveLength(1)
  })

  test('a good one is left alone for two thirds of its life', () => {
    const certificates = [certificate({ sealedKeys: keysFor('a', 'b', 'c') })]
    expect(step({ certificates, now: 60 * DAY - 1 })).toMatchObject({
      kind: 'wait',
      until: 60 * DAY,
    })
    expect(step({ certificates, now: 60 * DAY })).toEqual({ kind: 'order', why: 'renewal' })
  })

  test('an imported one is not ordered, and one that both are is', () => {
    const imported = certificate({ source: 'custom', sealedKeys: keysFor('a', 'b', 'c') })
    expect(step({ hostname: hostname({ acme: false }), certificates: [imported] }).kind).toBe(
      'wait',
    )
    expect(step({ certificates: [imported] }).kind).toBe('order')
  })

  test('a host that came later is given the key by one that has it and lives', () => {
    const certificates = [certificate({ sealedKeys: keysFor('a', 'b') })]
    const kinds = three.map(({ id: self }) => step({ self, certificates }).kind)
    expect(kinds.filter((kind) => kind === 'seal')).toHaveLength(1)
    expect(kinds[2]).not.toBe('seal')
    const alone = [host('a', false), host('b'), host('c')]
    expect(step({ self: id('b'), certificates, hosts: alone })).toMatchObject({
      kind: 'seal',
      hosts: [id('c')],
    })
    // Nobody who has it lives: ordered anew when its time comes.
    const gone = [host('a', false), host('b', false), host('c')]
    expect(step({ self: id('c'), certificates, hosts: gone }).kind).toBe('wait')
  })

  test('after a failure it waits longer each time, unless somebody asks', () => {
    const failed = failure({ at: HOUR, count: 3 })
    expect(retryAt(failed)).toBe(HOUR + 480_000)
    const waiting = step({ failure: failed, now: HOUR + 1000 })
    expect(waiting).toMatchObject({ kind: 'wait', until: HOUR + 480_000 })
    expect(step({ failure: failed, now: HOUR + 480_000 }).kind).toBe('order')
    const asked = hostname({ failure: { ...failed, count: 2 }, askedAt: HOUR + 500 })
    expect(step({ hostname: asked, now: HOUR + 1000 }).kind).toBe('order')
    expect(retryAt(failure({ count: 50 }))).toBe(6 * HOUR)
  })

  test('where three in a row failed at one edge, the next one tries, and so on; all agree who', () => {
    const turns = [0, 1, 2, 3, 5, 6, 9].map((count) => {
      const failed = count === 0 ? null : failure({ at: 0, count })
      const steps = three.map(({ id: self }) =>
        step({ self, hostname: hostname({ failure: failed }), now: DAY }),
      )
      expect(steps.filter(({ kind }) => kind === 'order')).toHaveLength(1)
      return steps.findIndex(({ kind }) => kind === 'order')
    })
    expect(turns.slice(0, 3)).toEqual([turns[0], turns[0], turns[0]])
    expect(turns[3]).toBe(turns[4])
    expect(turns[6]).toBe(turns[0])
    expect(new Set([turns[0], turns[3], turns[5]]).size).toBe(3)
    // What nobody else knows of changes nothing.
    expect(step({ failure: failure({ at: 0, count: 3 }), now: DAY }).kind).toBe('order')
    const renewed = [certificate({ from: DAY, sealedKeys: keysFor('a', 'b', 'c') })]
    const old = hostname({ failure: failure({ at: 0, count: 3 }) })
    expect(step({ hostname: old, certificates: renewed, now: 62 * DAY }).kind).toBe('order')
  })

  test('an authority that wants to be left alone is, also by who asks, but not for ever', () => {
    const failed = failure({ at: HOUR, notBefore: 2 * DAY })
    expect(retryAt(failed)).toBe(2 * DAY)
    const asked = hostname({ failure: failed, askedAt: HOUR + 500 })
    expect(step({ hostname: asked, now: DAY })).toMatchObject({ kind: 'wait', until: 2 * DAY })
    expect(step({ hostname: asked, now: 2 * DAY }).kind).toBe('order')
    expect(retryAt(failure({ at: 0, notBefore: 900 * DAY }))).toBe(7 * DAY)
    expect(retryAt(failure({ at: HOUR, count: 3, notBefore: HOUR + 1 }))).toBe(HOUR + 480_000)
  })

  test('one that was got by a clock that was ahead does not make failures count for nothing', () => {
    const ahead = certificate({ gotAt: 500 * DAY, sealedKeys: keysFor('a', 'b', 'c') })
    const failed = failure({ at: 70 * DAY })
    expect(step({ certificates: [ahead], failure: failed, now: 70 * DAY + 1000 }).kind).toBe('wait')
    expect(step({ certificates: [ahead], failure: failed, now: 71 * DAY }).kind).toBe('order')
  })

  test('an order that failed before the last one that worked is history', () => {
    const renewed = certificate({ from: DAY, sealedKeys: keysFor('a', 'b', 'c') })
    const old = failure({ at: DAY - 1, count: 9 })
    expect(step({ certificates: [renewed], failure: old, now: 61 * DAY }).kind).toBe('order')
  })

  test('it always arrives: whoever lives orders in the end, whatever failed before and however clocks were set', () => {
    fc.assert(
      fc.property(
        fc.record({
          alive: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
          failedAt: fc.integer({ min: 0, max: 1000 * DAY }),
          count: fc.integer({ min: 1, max: 40 }),
          now: fc.integer({ min: 0, max: 1000 * DAY }),
          from: fc.option(fc.integer({ min: -200 * DAY, max: 0 })),
        }),
        ({ alive, failedAt, count, now, from }) => {
          fc.pre(alive.includes(true))
          const hosts = three.map((one, n) => ({ ...one, alive: alive[n] ?? false }))
          const keys = keysFor('a', 'b', 'c')
          let certificates: Certificate[] =
            from === null ? [] : [certificate({ from: now + from, sealedKeys: keys })]
          let at = now
          for (let n = 0; n < 8; n++) {
            const steps = hosts
              .filter((one) => one.alive)
              .map(({ id: self }) =>
                step({
                  self,
                  hosts,
                  certificates,
                  failure: failure({ at: failedAt, count }),
                  now: at,
                }),
              )
            const orders = steps.filter(({ kind }) => kind === 'order')
            expect(orders.length).toBeLessThanOrEqual(1)
            if (orders.length === 1) {
              certificates = [certificate({ from: at, sealedKeys: keys })]
              continue
            }
            const current = certificates[0]
            if (current !== undefined && at < current.notBefore + 60 * DAY) return
            at += 6 * HOUR
          }
          throw new Error('it never settled')
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('how it is shown whose the name is', () => {
  const choose = (change: Partial<Parameters<typeof chooseChallenge>[0]> = {}) => {
    const choice = chooseChallenge({
      hostname: hostname(),
      offered: ['http-01', 'tls-alpn-01', 'dns-01'],
      delegated: false,
      serving: null,
      failures: 0,
      now: 0,
      ...change,
    })
    return choice.kind === 'chosen' ? choice.challenge : choice.why
  }

  test('by DNS where the name is delegated, else over the ports in turn', () => {
    expect([0, 1, 2].map((failures) => choose({ failures }))).toEqual([
      'http-01',
      'tls-alpn-01',
      'http-01',
    ])
    expect([0, 1, 2].map((failures) => choose({ failures, delegated: true }))).toEqual([
      'dns-01',
      'http-01',
      'tls-alpn-01',
    ])
  })

  test('never in a way that clients of a good certificate notice, but before they would be cut off for good', () => {
    const serving = certificate()
    for (const failures of [0, 1, 2, 3]) expect(choose({ serving, failures })).toBe('http-01')
    expect(choose({ serving, failures: 1, now: 81 * DAY })).toBe('tls-alpn-01')
    expect(choose({ serving, failures: 1, now: 91 * DAY })).toBe('tls-alpn-01')
    const only = hostname({ challenge: 'tls-alpn-01' })
    expect(choose({ hostname: only, serving })).toContain('last tenth')
    expect(choose({ hostname: only })).toBe('tls-alpn-01')
  })

  test('a wildcard by DNS alone', () => {
    const wildcard = hostname({ name: '*.example.com' })
    expect([0, 1].map((failures) => choose({ hostname: wildcard, failures }))).toEqual([
      'dns-01',
      'dns-01',
    ])
    expect(
      choose({ hostname: hostname({ name: '*.example.com', challenge: 'http-01' }) }),
    ).toContain('only dns-01 can')
    expect(choose({ hostname: wildcard, offered: ['http-01'] })).toContain('none of dns-01')
  })
})
