import { distanceKm } from '@roost/core'

interface Place {
  readonly code: string
  readonly hosts: number
  readonly latitude: number | null
  readonly longitude: number | null
}

/**
 * Where an app goes when nobody says where: the first region, and the one nearest to it where the first has a single host, since
 * two machines on one host die together.
 */
export function defaultRegions(all: readonly Place[], highlyAvailable: boolean): string[] {
  const [first, ...others] = all
  if (first === undefined) return []
  if (!highlyAvailable || first.hosts > 1) return [first.code]
  const [near] = others
    .map((place) => ({ code: place.code, km: kmBetween(first, place) }))
    .sort((a, b) => a.km - b.km || a.code.localeCompare(b.code))
  return near === undefined ? [first.code] : [first.code, near.code]
}

function kmBetween(a: Place, b: Place): number {
  if (a.latitude === null || a.longitude === null || b.latitude === null || b.longitude === null)
    return Number.MAX_VALUE
  return distanceKm(
    { latitude: a.latitude, longitude: a.longitude },
    { latitude: b.latitude, longitude: b.longitude },
  )
}
