import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { MachineId, RegionCode } from '../id.ts'
import {
  ANYWHERE,
  chooseTarget,
  isAimedAt,
  mayReplay,
  type ReplayAim,
  type ReplayCandidate,
} from './choose-target.ts'

const candidate = (machine: string, region: string, more: Partial<ReplayCandidate> = {}) => ({
  machine: machine as MachineId,
  region: region as RegionCode,
  rank: { ams: 0, fra: 1, iad: 2 }[region] ?? 3,
  load: 0,
  full: false,
  ...more,
})
const all = [
  candidate('a', 'ams', { load: 3 }),
  candidate('b', 'ams', { load: 1 }),
  candidate('c', 'fra'),
  candidate('d', 'iad'),
]
const choose = (aim: Partial<ReplayAim>, among: readonly ReplayCandidate[] = all) =>
  chooseTarget({ ...ANYWHERE, ...aim }, among)?.machine ?? null

describe('who gets a request that was sent on', () => {
  test('the nearest region, there the least busy, before those that are full', () => {
    expect(choose({})).toBe('b')
    expect(choose({}, [candidate('a', 'ams', { full: true }), candidate('d', 'iad')])).toBe('d')
    expect(choose({}, [candidate('a', 'ams', { full: true })])).toBe('a')
    expect(choose({}, [])).toBeNull()
  })

  test('regions in the order of the list, whole parts of the world among them', () => {
    expect(choose({ regions: ['iad', 'ams'] })).toBe('d')
    expect(choose({ regions: ['syd', 'us'] })).toBe('d')
    expect(choose({ regions: ['eu'], not: ['a', 'b'] })).toBe('c')
    expect(choose({ regions: ['syd'] })).toBeNull()
    expect(choose({ regions: ['syd'], preferRegions: true })).toBe('b')
  })

  test('one machine and no other, or rather one', () => {
    expect(choose({ instance: 'd' })).toBe('d')
    expect(choose({ instance: 'gone' })).toBeNull()
    expect(choose({ instance: 'd', regions: ['ams'] })).toBeNull()
    expect(choose({ preferInstance: 'd' })).toBe('d')
    expect(choose({ preferInstance: 'gone' })).toBe('b')
    expect(choose({ not: ['b'] })).toBe('a')
  })

  test('whoever is chosen was meant, and whenever somebody was, somebody is chosen', () => {
    const machine = fc.constantFrom('a', 'b', 'c', 'd', 'e')
    const regions = fc.constantFrom('ams', 'fra', 'iad', 'eu', 'any', 'syd')
    fc.assert(
      fc.property(
        fc.record({
          instance: fc.option(machine),
          preferInstance: fc.option(machine),
          regions: fc.array(regions, { maxLength: 3 }),
          preferRegions: fc.boolean(),
          not: fc.array(machine, { maxLength: 2 }),
        }),
        fc.subarray(all),
        (aim, among) => {
          const chosen = chooseTarget(aim, among)
          const meant = among.filter((one) => isAimedAt(aim, one))
          if (chosen === null) expect(meant).toEqual([])
          else expect(meant).toContain(chosen)
        },
      ),
    )
  })

  test('only apps of one organization and one network send each other requests', () => {
    const own = { organization: 'o', network: 1 }
    expect(mayReplay(own, own)).toBe(true)
    expect(mayReplay(own, { organization: 'p', network: 1 })).toBe(false)
    expect(mayReplay(own, { organization: 'o', network: 2 })).toBe(false)
  })
})
