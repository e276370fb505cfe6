import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { HostId, RegionCode } from '../id.ts'
import {
  describePlacementRefusal,
  type PlacementHost,
  place,
  placeAll,
  reservedBy,
} from './place.ts'
import type { PlacementRequest, Reserved } from './placement.ts'

const ams = 'ams' as RegionCode

function host(id: string, change: Partial<PlacementHost> = {}): PlacementHost {
  return {
    id: id as HostId,
    name: id,
    region: ams,
    capacity: { cpus: 2, memoryMb: 1024 },
    availability: 'active',
    status: 'ok',
    ...change,
  }
}
function wanted(change: Partial<PlacementRequest> = {}): PlacementRequest {
  return { region: ams, cpus: 0, memoryMb: 256, siblings: [], ...change }
}
const used = (entries: Record<string, Partial<Reserved>>) =>
  new Map(
    Object.entries(entries).map(
      ([id, r]) => [id as HostId, { cpus: 0, memoryMb: 0, ...r }] as const,
    ),
  )

test('prefers hosts without siblings, then free memory, then the lower id', () => {
  const hosts = [host('b'), host('a'), host('c')]
  expect(place(wanted(), hosts, used({}))).toEqual({ kind: 'placed', host: 'a' })
  expect(place(wanted(), hosts, used({ a: { memoryMb: 256 } }))).toEqual({
    kind: 'placed',
    host: 'b',
  })
  const siblings = ['b' as HostId, 'a' as HostId]
  expect(place(wanted({ siblings }), hosts, used({ c: { memoryMb: 700 } }))).toEqual({
    kind: 'placed',
    host: 'c',
  })
})

test('a host that is draining, silent or full gets nothing', () => {
  const hosts = [
    host('a', { availability: 'draining' }),
    host('b', { status: 'unreachable' }),
    host('c', { capacity: { cpus: 2, memoryMb: 100 } }),
  ]
  expect(place(wanted(), hosts, used({}))).toMatchObject({ kind: 'no-room', freeMemoryMb: 100 })
  expect(place(wanted(), hosts.slice(0, 2), used({}))).toEqual({ kind: 'no-host', region: 'ams' })
})

test('a host whose disk is nearly full is taken last, one whose disk is full never', () => {
  const disk = (state: 'ok' | 'low' | 'full') => ({
    disk: { state, path: '/var/lib/roost', bytes: 40e9, freeBytes: state === 'ok' ? 20e9 : 3e8 },
  })
  const hosts = [host('a', disk('full')), host('b', disk('low')), host('c', disk('ok'))]
  expect(place(wanted(), hosts, used({}))).toEqual({ kind: 'placed', host: 'c' })
  // Two machines of an app on one disk would be worse.
  expect(place(wanted({ siblings: ['c' as HostId] }), hosts, used({}))).toEqual({
    kind: 'placed',
    host: 'b',
  })
  const refused = place(wanted(), hosts.slice(0, 1), used({}))
  if (refused.kind === 'placed') throw new Error('placed on a full disk')
  expect(describePlacementRefusal(refused)).toBe(
    'could not reserve resource for machine: the disks of all hosts in ams are full (a: /var/lib/roost has 0.3 of 40 GB left); what takes room: roost doctor',
  )
})

test('cpus of the performance kind are reserved, shared ones are not', () => {
  const guest = { cpu_kind: 'performance', cpus: 2, memory_mb: 256 } as const
  const two = wanted({ ...reservedBy(guest) })
  expect(two.cpus).toBe(2)
  expect(place(two, [host('a')], used({ a: { cpus: 1 } }))).toMatchObject({
    kind: 'no-room',
    freeCpus: 1,
    neededCpus: 2,
  })
  expect(reservedBy({ ...guest, cpu_kind: 'shared' }).cpus).toBe(0)
})

test('refusals name what a person can change', () => {
  const refusal = place(wanted({ region: 'xyz' as RegionCode }), [host('a')], used({}))
  if (refusal.kind === 'placed') throw new Error('placed')
  expect(describePlacementRefusal(refusal)).toBe('no host is in region xyz; there are hosts in ams')
  const full = place(wanted({ memoryMb: 4096 }), [host('a')], used({}))
  if (full.kind === 'placed') throw new Error('placed')
  expect(describePlacementRefusal(full)).toMatch(/^could not reserve resource for machine: 4096 MB/)
  const regions = [
    host('a'),
    host('b', { region: 'iad' as RegionCode }),
    host('c', { region: 'syd' as RegionCode }),
  ]
  const elsewhere = place(wanted({ memoryMb: 4096 }), regions, used({ b: { memoryMb: 1000 } }))
  if (elsewhere.kind === 'placed') throw new Error('placed')
  expect(describePlacementRefusal(elsewhere)).toMatch(
    / left \(elsewhere: syd \d+ MB, iad \d+ MB\)$/,
  )
})

test('several machines spread over the hosts, and fill them no further than they hold', () => {
  const hosts = [host('a'), host('b')]
  const placed = placeAll([wanted(), wanted(), wanted(), wanted()], hosts, used({}))
  expect(placed).toEqual({ kind: 'placed', hosts: ['a', 'b', 'a', 'b'] })
  expect(placeAll(Array(9).fill(wanted()), hosts, used({}))).toMatchObject({
    kind: 'refused',
    index: 8,
  })
})

test('whatever is placed fits, in the region, whatever the order of the hosts', () => {
  const hostsOf = fc.uniqueArray(
    fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
      region: fc.constantFrom('ams', 'iad'),
      memoryMb: fc.integer({ min: 0, max: 2048 }),
      availability: fc.constantFrom('active' as const, 'draining' as const),
    }),
    { selector: (h) => h.id },
  )
  fc.assert(
    fc.property(
      hostsOf,
      fc.array(fc.integer({ min: 64, max: 1024 }), { maxLength: 8 }),
      (specs, sizes) => {
        const hosts = specs.map((s) =>
          host(s.id, {
            region: s.region as RegionCode,
            availability: s.availability,
            capacity: { cpus: 2, memoryMb: s.memoryMb },
          }),
        )
        const requests = sizes.map((memoryMb) => wanted({ memoryMb }))
        const placed = placeAll(requests, hosts, new Map())
        expect(placeAll(requests, [...hosts].reverse(), new Map())).toEqual(placed)
        if (placed.kind === 'refused') return
        const sums = new Map<string, number>()
        placed.hosts.forEach((id, n) => {
          sums.set(id, (sums.get(id) ?? 0) + (sizes[n] ?? 0))
        })
        for (const [id, sum] of sums) {
          const at = hosts.find((h) => h.id === id)
          expect(at?.region).toBe('ams')
          expect(at?.availability).toBe('active')
          expect(sum).toBeLessThanOrEqual(at?.capacity.memoryMb ?? 0)
        }
      },
    ),
    { numRuns: 2000 },
  )
})
