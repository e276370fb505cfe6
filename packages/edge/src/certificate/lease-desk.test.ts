import { type HostId, LEASE_MS } from '@roost/core'
import { expect, test } from 'vitest'
import { createLeaseDesk } from './lease-desk.ts'

const [self, other] = ['a'.repeat(14) as HostId, 'b'.repeat(14) as HostId]

test('an edge that has just started gives no word for as long as one lasts, unless it is alone', () => {
  let now = 1000
  const desk = createLeaseDesk({ self, isAlone: () => false, elapsedMs: () => now })
  expect(desk.ask('x.y', other)).toMatchObject({ kind: 'refused', by: self })
  now += LEASE_MS
  expect(desk.ask('x.y', other).kind).toBe('granted')
  expect(desk.ask('x.y', self)).toMatchObject({ kind: 'refused', by: other })
  desk.end('x.y', self)
  expect(desk.ask('x.y', self).kind).toBe('refused')
  desk.end('x.y', other)
  expect(desk.ask('x.y', self).kind).toBe('granted')
  const alone = createLeaseDesk({ self, isAlone: () => true, elapsedMs: () => now })
  expect(alone.ask('x.y', self).kind).toBe('granted')
})
