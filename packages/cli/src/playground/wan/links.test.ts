import { describe, expect, test } from 'vitest'
import { linksFor, NO_FAULTS, roundTripMs, withPair, withPort } from './links.ts'

describe('round trips', () => {
  test('are symmetric, and those of the public internet where they are known', () => {
    expect(roundTripMs('ams', 'iad')).toBe(80)
    expect(roundTripMs('iad', 'ams')).toBe(80)
    expect(roundTripMs('ams', 'syd')).toBe(250)
    expect(roundTripMs('gru', 'nrt')).toBe(roundTripMs('nrt', 'gru'))
    expect(roundTripMs('gru', 'nrt')).toBeGreaterThan(200)
  })
  test('a client is next to its own region and a little farther than that from the others', () => {
    expect(roundTripMs('client-ams', 'ams')).toBe(3)
    expect(roundTripMs('client-ams', 'iad')).toBe(83)
  })
  test('this machine is nowhere, so it is near everything', () => {
    expect(roundTripMs('machine', 'syd')).toBe(0)
  })
  test('regions that nobody knows are far from everything', () => {
    expect(roundTripMs('garage', 'ams')).toBe(100)
  })
})

describe('faults', () => {
  const ends = ['ams', 'iad', 'syd']
  test('a cut is for both directions and for no other pair', () => {
    const links = linksFor(ends, withPair(NO_FAULTS, 'iad', 'ams', { cut: true }))
    expect(links[0]?.[1]?.loss).toBe(1)
    expect(links[1]?.[0]?.loss).toBe(1)
    expect(links[0]?.[2]).toEqual({ oneWayMs: 125, loss: 0 })
  })
  test('changes add up, and a healed pair leaves nothing behind', () => {
    const slow = withPair(NO_FAULTS, 'ams', 'iad', { delayMs: 400 })
    const slowAndLossy = withPair(slow, 'iad', 'ams', { lossPercent: 5 })
    expect(linksFor(ends, slowAndLossy)[0]?.[1]).toEqual({ oneWayMs: 200, loss: 0.05 })
    const healed = { cut: false, delayMs: null, lossPercent: 0 }
    expect(withPair(slowAndLossy, 'ams', 'iad', healed)).toEqual(NO_FAULTS)
  })
  test('a port that is down neither sends nor receives until it is up', () => {
    const down = withPort(NO_FAULTS, 'syd', false)
    const links = linksFor(ends, down)
    expect([links[2]?.[0]?.loss, links[0]?.[2]?.loss, links[0]?.[1]?.loss]).toEqual([1, 1, 0])
    expect(withPort(down, 'syd', true)).toEqual(NO_FAULTS)
  })
})
