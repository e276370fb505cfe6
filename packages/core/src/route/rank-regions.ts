import type { HostId, RegionCode } from '../id.ts'
import { estimatedRoundTripMs, knownRegion } from '../region/region.ts'

/**
 * Regions from near to far as seen from `self`: it comes first, then by the smallest round trip measured to a host there; where none
 * was measured, by the estimate from the map; regions that are on no map come last, by name.
 */
export function rankRegions(options: {
  readonly self: RegionCode
  readonly regions: Iterable<RegionCode>
  readonly hosts: readonly { readonly id: HostId; readonly region: RegionCode }[]
  readonly roundTripMs: ReadonlyMap<HostId, number>
}): ReadonlyMap<RegionCode, number> {
  const { self, hosts, roundTripMs } = options
  const measured = new Map<RegionCode, number>()
  for (const host of hosts) {
    const ms = roundTripMs.get(host.id)
    if (ms !== undefined) measured.set(host.region, Math.min(ms, measured.get(host.region) ?? ms))
  }
  const from = knownRegion(self)
  const far = [...new Set(options.regions)]
    .filter((region) => region !== self)
    .map((region) => {
      const to = knownRegion(region)
      const estimate = from && to ? estimatedRoundTripMs(from, to) : Number.POSITIVE_INFINITY
      return { region, ms: measured.get(region) ?? estimate }
    })
    // Infinity minus itself is NaN, which falls through to the name.
    .sort((a, b) => a.ms - b.ms || (a.region < b.region ? -1 : 1))
  return new Map([[self, 0], ...far.map(({ region }, n) => [region, n + 1] as const)])
}
