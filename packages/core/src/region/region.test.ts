import { describe, expect, test } from 'vitest'
import { distanceKm, estimatedRoundTripMs, KNOWN_REGIONS, knownRegion } from './region.ts'

const place = (code: string) => {
  const region = knownRegion(code)
  if (region === null) throw new Error(code)
  return region
}

describe('regions', () => {
  test('every code is a region code, once, with a place that exists', () => {
    expect(new Set(KNOWN_REGIONS.map((r) => r.code)).size).toBe(KNOWN_REGIONS.length)
    for (const region of KNOWN_REGIONS) {
      expect(region.code).toMatch(/^[a-z][a-z0-9]{1,11}$/)
      expect(Math.abs(region.latitude)).toBeLessThanOrEqual(90)
      expect(Math.abs(region.longitude)).toBeLessThanOrEqual(180)
    }
    expect(knownRegion('garage')).toBeNull()
  })

  test('distances are those of a globe', () => {
    expect(distanceKm(place('ams'), place('iad'))).toBeGreaterThan(6100)
    expect(distanceKm(place('ams'), place('iad'))).toBeLessThan(6350)
    expect(distanceKm(place('sjc'), place('syd'))).toBeLessThan(12_100)
    expect(distanceKm(place('ams'), place('ams'))).toBe(0)
    expect(
      distanceKm({ latitude: 0, longitude: 179 }, { latitude: 0, longitude: -179 }),
    ).toBeLessThan(230)
  })

  test('an estimate is near what is measured on such ways', () => {
    expect(estimatedRoundTripMs(place('ams'), place('iad'))).toBeGreaterThan(70)
    expect(estimatedRoundTripMs(place('ams'), place('iad'))).toBeLessThan(110)
    expect(estimatedRoundTripMs(place('iad'), place('syd'))).toBeGreaterThan(190)
    expect(estimatedRoundTripMs(place('iad'), place('syd'))).toBeLessThan(270)
  })
})
