import type { HostId, RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import { addReserved, type PlacementHost, place, reservedBy } from './place.ts'
import type { Reserved } from './placement.ts'

/** No question is for more than one installation holds. */
const COUNT_MAX = 2_000

export interface Fit {
  readonly region: RegionCode
  readonly count: number
}

/**
 * How many machines of a size fit into each of these regions, in their order, until there are `count`; 0: as many as fit. Every
 * other region, that with the most room first, comes where `any` stands. Regions where none fits are left out.
 */
export function fit(
  ask: {
    readonly guest: MachineGuest
    readonly regions: readonly (RegionCode | 'any')[]
    readonly count: number
  },
  hosts: readonly PlacementHost[],
  used: ReadonlyMap<HostId, Reserved>,
): readonly Fit[] {
  const taken = new Map(used)
  const size = reservedBy(ask.guest)
  let left = ask.count === 0 ? COUNT_MAX : Math.min(COUNT_MAX, ask.count)
  const fits: Fit[] = []
  for (const region of inOrder(ask.regions, hosts, used)) {
    let count = 0
    for (; count < left; count++) {
      const placement = place({ region, siblings: [], ...size }, hosts, taken)
      if (placement.kind !== 'placed') break
      const before = taken.get(placement.host)
      taken.set(placement.host, before === undefined ? size : addReserved(before, size))
    }
    left -= count
    if (count > 0) fits.push({ region, count })
  }
  return fits
}

function inOrder(
  regions: readonly (RegionCode | 'any')[],
  hosts: readonly PlacementHost[],
  used: ReadonlyMap<HostId, Reserved>,
): readonly RegionCode[] {
  const free = new Map<RegionCode, number>()
  for (const { id, region, capacity } of hosts)
    free.set(region, (free.get(region) ?? 0) + capacity.memoryMb - (used.get(id)?.memoryMb ?? 0))
  const others = [...free]
    .filter(([region]) => !regions.includes(region))
    .sort(([a, freeA], [b, freeB]) => freeB - freeA || (a < b ? -1 : 1))
    .map(([region]) => region)
  return [...new Set(regions.flatMap((region) => (region === 'any' ? others : [region])))]
}
