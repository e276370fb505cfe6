import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { grantLease, LEASE_MS, type OrderLease, turnsFor, whoseTurn } from './order-turn.ts'
import { id } from './trial-certificates.ts'

const letters = ['a', 'b', 'c', 'd', 'e']
const hostsOf = (alive: readonly boolean[]) =>
  alive.map((one, n) => ({ id: id(letters[n] ?? ''), alive: one }))

describe('whose turn it is', () => {
  test('everybody who sees the same lives says the same, however they are listed; the dead have none', () => {
    fc.assert(
      fc.property(
        fc.domain(),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 5 }),
        (name, alive) => {
          const hosts = hostsOf(alive)
          const turn = whoseTurn(name, hosts)
          expect(whoseTurn(name, hosts.toReversed())).toBe(turn)
          expect(hosts.find(({ id: one }) => one === turn)?.alive ?? false).toBe(
            alive.includes(true),
          )
        },
      ),
    )
  })

  test('names are spread over the hosts, and stay where they are when another dies', () => {
    const all = hostsOf([true, true, true])
    const without = hostsOf([true, true, false])
    const names = Array.from({ length: 300 }, (_, n) => `site-${n}.example.com`)
    for (const { id: host } of all)
      expect(names.filter((name) => whoseTurn(name, all) === host).length).toBeGreaterThan(50)
    for (const name of names)
      if (whoseTurn(name, all) !== id('c'))
        expect(whoseTurn(name, without)).toBe(whoseTurn(name, all))
    expect(turnsFor('x.example', all)).toHaveLength(3)
  })
})

describe('the word of an edge', () => {
  test('is given to one at a time, again to the same, and to another when its time is over', () => {
    const first = grantLease(null, id('a'), 0)
    expect(first).toEqual({ kind: 'granted', lease: { host: id('a'), until: LEASE_MS } })
    const lease = { host: id('a'), until: LEASE_MS }
    expect(grantLease(lease, id('b'), 1000)).toMatchObject({ kind: 'refused', by: id('a') })
    expect(grantLease(lease, id('a'), 1000)).toMatchObject({ kind: 'granted' })
    expect(grantLease(lease, id('b'), LEASE_MS)).toMatchObject({ kind: 'granted' })
  })

  /** Edges die and come back, see each other late, and begin and end orders: each needs the word of all that it sees alive, and of itself. */
  test('two that see each other never order at once, and nobody is locked out for longer than a lease', () => {
    const deed = fc.record({
      who: fc.integer({ min: 0, max: 2 }),
      what: fc.constantFrom('begin', 'end', 'die', 'wait'),
      ms: fc.integer({ min: 0, max: LEASE_MS }),
    })
    fc.assert(
      fc.property(fc.array(deed, { maxLength: 40 }), (deeds) => {
        const edges = letters.slice(0, 3).map((letter) => ({
          host: id(letter),
          alive: true,
          held: null as OrderLease | null,
          orderingUntil: 0,
        }))
        let now = 0
        const ask = (edge: (typeof edges)[number]) => {
          const living = edges.filter(({ alive }) => alive)
          const answers = living.map((peer) => grantLease(peer.held, edge.host, now))
          if (answers.some(({ kind }) => kind === 'refused')) return false
          living.forEach((peer, n) => {
            const answer = answers[n]
            if (answer?.kind === 'granted') peer.held = answer.lease
          })
          return true
        }
        for (const { who, what, ms } of deeds) {
          const edge = edges[who]
          if (edge === undefined) continue
          if (what === 'wait') now += ms
          if (what === 'die') {
            edge.alive = !edge.alive
            // What it had promised is forgotten, and so is its order.
            edge.held = null
            edge.orderingUntil = 0
          }
          if (what === 'begin' && edge.alive && ask(edge)) edge.orderingUntil = now + LEASE_MS
          if (what === 'end' && edge.orderingUntil > now) {
            edge.orderingUntil = 0
            for (const peer of edges) if (peer.held?.host === edge.host) peer.held = null
          }
          const ordering = edges.filter(({ alive, orderingUntil }) => alive && orderingUntil > now)
          // With three, one that died and forgot leaves another that remembers, unless all of them did.
          const remembered = ordering.filter(({ host }) =>
            edges.some(({ held }) => held?.host === host && held.until > now),
          )
          expect(remembered.length).toBeLessThanOrEqual(1)
        }
        now += LEASE_MS
        const living = edges.find(({ alive }) => alive)
        if (living !== undefined) expect(ask(living)).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })
})
