import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  activeLease,
  LEASE_MS_MAX,
  type Lease,
  mayChange,
  releaseLease,
  takeLease,
} from './lease.ts'

const NOW = Date.UTC(2026, 0, 1)
const lease: Lease = {
  nonce: 'n1',
  owner: 'alice',
  description: 'deploying shop',
  takenAt: NOW,
  expiresAt: NOW + 13_000,
}
const ask = { nonce: null, newNonce: 'n2', owner: 'bob', description: null, ttlMs: 13_000 }
const held =
  'machine lease currently held by alice, expires at 2026-01-01T00:00:13Z (deploying shop)'

test('only who holds the nonce may change a leased machine', () => {
  expect(mayChange(null, null, NOW)).toEqual({ kind: 'may' })
  expect(mayChange(lease, 'n1', NOW)).toEqual({ kind: 'may' })
  expect(mayChange(lease, null, NOW)).toEqual({ kind: 'held', text: held })
  expect(mayChange(lease, 'n2', NOW)).toEqual({ kind: 'held', text: held })
  expect(mayChange(lease, null, NOW + 13_000)).toEqual({ kind: 'may' })
})

test('a lease is taken once; its holder makes it last under the same nonce', () => {
  expect(takeLease(null, ask, NOW)).toMatchObject({
    kind: 'taken',
    lease: { nonce: 'n2', owner: 'bob', description: '', expiresAt: NOW + 13_000 },
  })
  expect(takeLease(lease, ask, NOW)).toEqual({ kind: 'held', text: held })
  expect(takeLease(lease, { ...ask, nonce: 'n1' }, NOW + 5_000)).toEqual({
    kind: 'taken',
    lease: { ...lease, expiresAt: NOW + 18_000 },
  })
})

test('who comes too late to refresh is told, and does not get another', () => {
  expect(takeLease(lease, { ...ask, nonce: 'n1' }, NOW + 13_000).kind).toBe('not-found')
  expect(takeLease(null, { ...ask, nonce: 'n1' }, NOW).kind).toBe('not-found')
  expect(releaseLease(lease, 'n1', NOW + 13_000).kind).toBe('not-found')
  expect(releaseLease(lease, 'n2', NOW)).toEqual({ kind: 'held', text: held })
  expect(releaseLease(lease, 'n1', NOW)).toEqual({ kind: 'released' })
})

test('a clock that was set back locks nobody out', () => {
  expect(activeLease(lease, NOW - LEASE_MS_MAX)).toBeNull()
  expect(mayChange(lease, null, NOW - LEASE_MS_MAX)).toEqual({ kind: 'may' })
})

test('whatever is asked for, at most one holds it, and never for longer than the bound', () => {
  const asked = fc.record({
    who: fc.constantFrom('a', 'b', 'c'),
    what: fc.constantFrom('take', 'refresh', 'release', 'change'),
    ttlMs: fc.integer({ min: -10, max: 2 * LEASE_MS_MAX }),
    laterMs: fc.integer({ min: 0, max: LEASE_MS_MAX }),
  })
  fc.assert(
    fc.property(fc.array(asked, { maxLength: 30 }), (deeds) => {
      let stored: Lease | null = null
      let now = NOW
      const nonces = new Map<string, string>()
      deeds.forEach(({ who, what, ttlMs, laterMs }, n) => {
        now += laterMs
        const nonce = nonces.get(who) ?? null
        const holds = activeLease(stored, now)
        if (what === 'release') {
          if (nonce !== null && releaseLease(stored, nonce, now).kind === 'released') stored = null
        } else if (what === 'change') {
          const may = mayChange(stored, nonce, now).kind === 'may'
          expect(may).toBe(holds === null || holds.owner === who)
        } else {
          const mine = what === 'refresh' ? nonce : null
          const result = takeLease(
            stored,
            { nonce: mine, newNonce: `n${n}`, owner: who, description: null, ttlMs },
            now,
          )
          if (result.kind !== 'taken') return
          expect(holds === null || holds.owner === who).toBe(true)
          stored = result.lease
          nonces.set(who, result.lease.nonce)
          expect(result.lease.expiresAt - now).toBeLessThanOrEqual(LEASE_MS_MAX)
          expect(activeLease(stored, now + LEASE_MS_MAX)).toBeNull()
        }
      })
    }),
    { numRuns: 2000 },
  )
})
