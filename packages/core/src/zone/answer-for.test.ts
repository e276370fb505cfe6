import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { HostId, RegionCode } from '../id.ts'
import { answerFor, nearestEdge } from './answer-for.ts'
import type { ClientPlace, Zone, ZoneEdge } from './zone.ts'

function edge(region: string, number: number, alive = true): ZoneEdge {
  return {
    host: `host-${region}-${number}` as HostId,
    name: `${region}-${number}`,
    region: region as RegionCode,
    publicAddress: `198.18.${number}.1`,
    alive,
  }
}
function zone(changes: Partial<Zone> = {}): Zone {
  return {
    domain: 'roost.test',
    serial: 7,
    region: 'ams' as RegionCode,
    hasApp: (name) => name === 'shop',
    challengeTexts: (name) => (name === 'www.example.com' ? ['one', 'two'] : []),
    edges: [edge('ams', 1), edge('iad', 2), edge('syd', 3)],
    roundTripMs: () => null,
    ...changes,
  }
}
const from = (region: string): { place: ClientPlace; key: string } => ({
  place: { kind: 'region', region: region as RegionCode },
  key: 'k',
})
const nowhere = { place: { kind: 'unknown' }, key: 'k' } as const

function addressOf(answer: ReturnType<typeof answerFor>): string | null {
  const [first] = answer.answers
  return first?.type === 'A' ? first.address : null
}

describe('the zone', () => {
  test('an app has the address of the edge that is nearest to the client', () => {
    const ask = (region: string) =>
      addressOf(answerFor(zone(), { name: 'shop.roost.test', type: 'A' }, from(region)))
    expect([ask('ams'), ask('iad'), ask('syd'), ask('lhr'), ask('nrt')]).toEqual([
      '198.18.1.1',
      '198.18.2.1',
      '198.18.3.1',
      '198.18.1.1',
      '198.18.3.1',
    ])
  })

  test('a dead edge is not answered while another lives; when all seem dead, the nearest is', () => {
    const edges = [edge('ams', 1, false), edge('iad', 2), edge('syd', 3)]
    const ask = (z: Zone) =>
      addressOf(answerFor(z, { name: 'shop.roost.test', type: 'A' }, from('ams')))
    expect(ask(zone({ edges }))).toBe('198.18.2.1')
    expect(ask(zone({ edges: edges.map((e) => ({ ...e, alive: false })) }))).toBe('198.18.1.1')
    expect(ask(zone({ edges: [] }))).toBeNull()
  })

  test('a measured round trip goes before the map, also when it was measured the other way', () => {
    const measured = zone({
      edges: [edge('iad', 2), edge('syd', 3)],
      roundTripMs: (a, b) => (a === 'syd' && b === 'ams' ? 20 : null),
    })
    expect(nearestEdge(measured, from('ams'))?.region).toBe('syd')
  })

  test('a client of whom only the country is known goes by distance, an unknown one by where it asked', () => {
    const tokyo = { place: { kind: 'coordinates', latitude: 35, longitude: 139 }, key: '' } as const
    expect(nearestEdge(zone(), tokyo)?.region).toBe('syd')
    expect(nearestEdge(zone({ region: 'iad' as RegionCode }), nowhere)?.region).toBe('iad')
  })

  test('clients are spread over the hosts of a region and stay where they are', () => {
    const edges = [edge('ams', 1), edge('ams', 2), edge('ams', 3)]
    const host = (n: number, list = edges) =>
      nearestEdge(zone({ edges: list }), { place: { kind: 'unknown' }, key: `10.0.${n}.0` })?.name
    const chosen = Array.from({ length: 300 }, (_, n) => host(n))
    for (const { name } of edges)
      expect(chosen.filter((c) => c === name).length).toBeGreaterThan(50)
    const fewer = edges.filter((e) => e.name !== 'ams-2')
    chosen.forEach((before, n) => {
      if (before !== 'ams-2') expect(host(n, fewer)).toBe(before)
    })
  })

  test('names: case is kept, unknown ones do not exist, other zones are refused', () => {
    const ask = (name: string, type = 'A') => answerFor(zone(), { name, type }, nowhere)
    expect(ask('ShOp.RoOsT.test').answers[0]?.name).toBe('ShOp.RoOsT.test')
    expect(ask('nobody.roost.test').kind).toBe('unknown')
    expect(ask('www.shop.roost.test').kind).toBe('unknown')
    expect(ask('nobody.roost.test').authorities.map((r) => r.type)).toEqual(['SOA'])
    expect(ask('shop.example.com').kind).toBe('refused')
    expect(ask('xroost.test').kind).toBe('refused')
    expect(ask('shop.roost.test', 'AAAA')).toMatchObject({ kind: 'answer', answers: [] })
    expect(ask('roost.test')).toMatchObject({ kind: 'answer', answers: [] })
    expect(ask('ns.roost.test')).toMatchObject({ kind: 'answer', answers: [] })
  })

  test('authorities find what was agreed with them under the name that a challenge is delegated to', () => {
    const ask = (name: string, type: string) =>
      answerFor(zone(), { name: `${name}._acme.roost.test`, type }, nowhere)
    expect(ask('WWW.example.com', 'TXT').answers).toMatchObject([
      { type: 'TXT', text: 'one' },
      { type: 'TXT', text: 'two' },
    ])
    expect(ask('www.example.com', 'A')).toMatchObject({ kind: 'answer', answers: [] })
    expect(ask('example.com', 'TXT')).toMatchObject({ kind: 'answer', answers: [] })
  })

  test('every host serves the zone', () => {
    const answer = answerFor(zone(), { name: 'roost.test', type: 'NS' }, nowhere)
    expect(answer.answers.map((r) => r.type === 'NS' && r.target)).toEqual([
      'ams-1.ns.roost.test',
      'iad-2.ns.roost.test',
      'syd-3.ns.roost.test',
    ])
    expect(answer.additionals).toHaveLength(3)
    expect(addressOf(answerFor(zone(), { name: 'iad-2.ns.roost.test', type: 'A' }, nowhere))).toBe(
      '198.18.2.1',
    )
    expect(answerFor(zone(), { name: 'x.ns.roost.test', type: 'A' }, nowhere).kind).toBe('unknown')
    expect(
      answerFor(zone(), { name: 'roost.test', type: 'SOA' }, nowhere).answers[0],
    ).toMatchObject({ type: 'SOA', serial: 7, primary: 'ams-1.ns.roost.test' })
  })

  test('while any edge lives, a living one is answered, and it does not matter how they are listed', () => {
    const edges = fc.uniqueArray(
      fc.record({
        region: fc.constantFrom('ams', 'iad', 'syd', 'garage'),
        number: fc.integer({ min: 1, max: 60 }),
        alive: fc.boolean(),
      }),
      { selector: (e) => e.number, minLength: 1, maxLength: 8 },
    )
    fc.assert(
      fc.property(edges, fc.string(), (list, key) => {
        const all = list.map((e) => edge(e.region, e.number, e.alive))
        const client = { place: { kind: 'unknown' }, key } as const
        const answered = nearestEdge(zone({ edges: all }), client)
        expect(answered?.alive).toBe(all.some((e) => e.alive))
        expect(nearestEdge(zone({ edges: all.toReversed() }), client)).toEqual(answered)
      }),
    )
  })
})
