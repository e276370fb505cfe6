import type { RegionCode } from '../id.ts'

/** A place on the earth, in degrees. */
export interface Coordinates {
  readonly latitude: number
  readonly longitude: number
}

export interface KnownRegion extends Coordinates {
  readonly code: string
  /** City and country as people say it. */
  readonly name: string
}

/**
 * Fly's region codes, which are IATA codes of airports, with the place that each stands for. An owner may use any other code:
 * Roost then knows no place for it and goes by measured round trips alone.
 */
export const KNOWN_REGIONS: readonly KnownRegion[] = [
  { code: 'ams', name: 'Amsterdam, Netherlands', latitude: 52.37, longitude: 4.9 },
  { code: 'arn', name: 'Stockholm, Sweden', latitude: 59.33, longitude: 18.07 },
  { code: 'atl', name: 'Atlanta, Georgia (US)', latitude: 33.75, longitude: -84.39 },
  { code: 'bog', name: 'Bogotá, Colombia', latitude: 4.71, longitude: -74.07 },
  { code: 'bom', name: 'Mumbai, India', latitude: 19.08, longitude: 72.88 },
  { code: 'bos', name: 'Boston, Massachusetts (US)', latitude: 42.36, longitude: -71.06 },
  { code: 'cdg', name: 'Paris, France', latitude: 48.86, longitude: 2.35 },
  { code: 'den', name: 'Denver, Colorado (US)', latitude: 39.74, longitude: -104.99 },
  { code: 'dfw', name: 'Dallas, Texas (US)', latitude: 32.78, longitude: -96.8 },
  { code: 'ewr', name: 'Secaucus, New Jersey (US)', latitude: 40.79, longitude: -74.06 },
  { code: 'eze', name: 'Ezeiza, Argentina', latitude: -34.82, longitude: -58.54 },
  { code: 'fra', name: 'Frankfurt, Germany', latitude: 50.11, longitude: 8.68 },
  { code: 'gdl', name: 'Guadalajara, Mexico', latitude: 20.67, longitude: -103.35 },
  { code: 'gig', name: 'Rio de Janeiro, Brazil', latitude: -22.91, longitude: -43.17 },
  { code: 'gru', name: 'São Paulo, Brazil', latitude: -23.55, longitude: -46.63 },
  { code: 'hkg', name: 'Hong Kong', latitude: 22.32, longitude: 114.17 },
  { code: 'iad', name: 'Ashburn, Virginia (US)', latitude: 39.04, longitude: -77.49 },
  { code: 'jnb', name: 'Johannesburg, South Africa', latitude: -26.2, longitude: 28.05 },
  { code: 'lax', name: 'Los Angeles, California (US)', latitude: 34.05, longitude: -118.24 },
  { code: 'lhr', name: 'London, United Kingdom', latitude: 51.51, longitude: -0.13 },
  { code: 'mad', name: 'Madrid, Spain', latitude: 40.42, longitude: -3.7 },
  { code: 'mia', name: 'Miami, Florida (US)', latitude: 25.76, longitude: -80.19 },
  { code: 'nrt', name: 'Tokyo, Japan', latitude: 35.68, longitude: 139.69 },
  { code: 'ord', name: 'Chicago, Illinois (US)', latitude: 41.88, longitude: -87.63 },
  { code: 'otp', name: 'Bucharest, Romania', latitude: 44.43, longitude: 26.1 },
  { code: 'phx', name: 'Phoenix, Arizona (US)', latitude: 33.45, longitude: -112.07 },
  { code: 'qro', name: 'Querétaro, Mexico', latitude: 20.59, longitude: -100.39 },
  { code: 'scl', name: 'Santiago, Chile', latitude: -33.45, longitude: -70.67 },
  { code: 'sea', name: 'Seattle, Washington (US)', latitude: 47.61, longitude: -122.33 },
  { code: 'sin', name: 'Singapore', latitude: 1.35, longitude: 103.82 },
  { code: 'sjc', name: 'San Jose, California (US)', latitude: 37.34, longitude: -121.89 },
  { code: 'syd', name: 'Sydney, Australia', latitude: -33.87, longitude: 151.21 },
  { code: 'waw', name: 'Warsaw, Poland', latitude: 52.23, longitude: 21.01 },
  { code: 'yul', name: 'Montreal, Canada', latitude: 45.5, longitude: -73.57 },
  { code: 'yyz', name: 'Toronto, Canada', latitude: 43.65, longitude: -79.38 },
]

/** null for a code that is the owner's own. */
export function knownRegion(code: RegionCode | string): KnownRegion | null {
  return KNOWN_REGIONS.find((region) => region.code === code) ?? null
}

/** Along the earth's surface. */
export function distanceKm(from: Coordinates, to: Coordinates): number {
  const radians = (degrees: number) => (degrees * Math.PI) / 180
  const [a, b] = [radians(from.latitude), radians(to.latitude)]
  const halfChord =
    Math.sin((b - a) / 2) ** 2 +
    Math.cos(a) * Math.cos(b) * Math.sin(radians(to.longitude - from.longitude) / 2) ** 2
  return 2 * 6371 * Math.asin(Math.min(1, Math.sqrt(halfChord)))
}

/**
 * What the round trip over such a distance is likely to be: light in fibre needs 10 ms there and back for 1,000 km, and cables
 * run no straighter than one and a half times the way. For comparing an unmeasured way with measured ones.
 */
export function estimatedRoundTripMs(from: Coordinates, to: Coordinates): number {
  return 1 + distanceKm(from, to) * 0.015
}
