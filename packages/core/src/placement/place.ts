import { describeDisk } from '../host/disk.ts'
import type { Host } from '../host/host.ts'
import { assertNever, type HostId, type RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import type { Placement, PlacementRefusal, PlacementRequest, Reserved } from './placement.ts'

export type PlacementHost = Pick<
  Host,
  'id' | 'name' | 'region' | 'capacity' | 'availability' | 'status' | 'disk'
>

const NOTHING: Reserved = { cpus: 0, memoryMb: 0 }

/** What a machine of this size takes from its host for itself. */
export function reservedBy(guest: MachineGuest): Reserved {
  return { cpus: guest.cpu_kind === 'performance' ? guest.cpus : 0, memoryMb: guest.memory_mb }
}

export function addReserved(a: Reserved, b: Reserved): Reserved {
  return { cpus: a.cpus + b.cpus, memoryMb: a.memoryMb + b.memoryMb }
}

/**
 * The host for one machine: in its region, with room, holding the fewest machines of the same app, then with a disk that
 * is not nearly full, then with the most free memory, then by id, so that the same question always has the same answer.
 * Hosts that are draining, that have gone silent or whose disk is full get nothing new. A host absent from `used` is empty.
 */
export function place(
  request: PlacementRequest,
  hosts: readonly PlacementHost[],
  used: ReadonlyMap<HostId, Reserved>,
): Placement {
  const { region } = request
  const inRegion = hosts.filter((host) => host.region === region)
  if (inRegion.length === 0) {
    const known = [...new Set(hosts.map((host) => host.region))].sort()
    return { kind: 'unknown-region', region, known }
  }
  const answering = inRegion.filter(
    (host) => host.availability === 'active' && host.status === 'ok',
  )
  const candidates = answering
    .filter((host) => host.disk?.state !== 'full')
    .map((host) => {
      const taken = used.get(host.id) ?? NOTHING
      return {
        id: host.id,
        freeMemoryMb: host.capacity.memoryMb - taken.memoryMb,
        freeCpus: host.capacity.cpus - taken.cpus,
        siblings: request.siblings.filter((id) => id === host.id).length,
        low: host.disk?.state === 'low' ? 1 : 0,
      }
    })
    .sort(
      (a, b) =>
        a.siblings - b.siblings ||
        a.low - b.low ||
        b.freeMemoryMb - a.freeMemoryMb ||
        (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
    )
  if (answering.length === 0) return { kind: 'no-host', region }
  if (candidates.length === 0)
    return {
      kind: 'disk-full',
      region,
      hosts: answering.flatMap(({ name, disk }) => (disk ? [{ name, disk }] : [])),
    }
  const fitting = candidates.find(
    (host) => host.freeMemoryMb >= request.memoryMb && host.freeCpus >= request.cpus,
  )
  if (fitting) return { kind: 'placed', host: fitting.id }
  const roomiest = candidates.reduce((a, b) => (b.freeMemoryMb > a.freeMemoryMb ? b : a))
  return {
    kind: 'no-room',
    region,
    freeMemoryMb: Math.max(0, roomiest.freeMemoryMb),
    freeCpus: Math.max(0, roomiest.freeCpus),
    neededMemoryMb: request.memoryMb,
    neededCpus: request.cpus,
    elsewhere: roomElsewhere(region, hosts, used),
  }
}

function roomElsewhere(
  region: RegionCode,
  hosts: readonly PlacementHost[],
  used: ReadonlyMap<HostId, Reserved>,
): { readonly region: RegionCode; readonly freeMemoryMb: number }[] {
  const most = new Map<RegionCode, number>()
  for (const host of hosts) {
    if (host.region === region || host.availability !== 'active' || host.status !== 'ok') continue
    const free = host.capacity.memoryMb - (used.get(host.id) ?? NOTHING).memoryMb
    most.set(host.region, Math.max(0, most.get(host.region) ?? 0, free))
  }
  return [...most]
    .map(([code, freeMemoryMb]) => ({ region: code, freeMemoryMb }))
    .sort((a, b) => b.freeMemoryMb - a.freeMemoryMb || (a.region < b.region ? -1 : 1))
}

const ELSEWHERE_SHOWN = 5

export type Placements =
  | { readonly kind: 'placed'; readonly hosts: readonly HostId[] }
  /** Nothing is to be placed then: which request had no host, and why. */
  | { readonly kind: 'refused'; readonly index: number; readonly refusal: PlacementRefusal }

/** Machines of one app in a row: each takes room, and is a sibling, of those after it. All of them or none. */
export function placeAll(
  requests: readonly PlacementRequest[],
  hosts: readonly PlacementHost[],
  used: ReadonlyMap<HostId, Reserved>,
): Placements {
  const taken = new Map(used)
  const placed: HostId[] = []
  for (const [index, request] of requests.entries()) {
    const placement = place(
      { ...request, siblings: [...request.siblings, ...placed] },
      hosts,
      taken,
    )
    if (placement.kind !== 'placed') return { kind: 'refused', index, refusal: placement }
    taken.set(placement.host, addReserved(taken.get(placement.host) ?? NOTHING, request))
    placed.push(placement.host)
  }
  return { kind: 'placed', hosts: placed }
}

/** For a person. Begins as Fly's does where there is no room: its clients look for those words. */
export function describePlacementRefusal(refusal: PlacementRefusal): string {
  switch (refusal.kind) {
    case 'unknown-region':
      return refusal.known.length === 0
        ? `no host is in region ${refusal.region}: no host has joined yet`
        : `no host is in region ${refusal.region}; there are hosts in ${refusal.known.join(', ')}`
    case 'no-host':
      return `could not reserve resource for machine: every host in ${refusal.region} is draining or unreachable`
    case 'disk-full': {
      const full = refusal.hosts
        .map(({ name, disk }) => `${name}: ${describeDisk(disk)}`)
        .join('; ')
      return `could not reserve resource for machine: the disks of all hosts in ${refusal.region} are full (${full}); what takes room: roost doctor`
    }
    case 'no-room': {
      const cpus = (n: number) => (refusal.neededCpus > 0 ? ` and ${n} cpus` : '')
      const others = refusal.elsewhere
        .slice(0, ELSEWHERE_SHOWN)
        .map(({ region, freeMemoryMb }) => `${region} ${freeMemoryMb} MB`)
      const elsewhere = others.length === 0 ? '' : ` (elsewhere: ${others.join(', ')})`
      return `could not reserve resource for machine: ${refusal.neededMemoryMb} MB of memory${cpus(refusal.neededCpus)} are needed in ${refusal.region}; the host with the most room has ${refusal.freeMemoryMb} MB${cpus(refusal.freeCpus)} left${elsewhere}`
    }
    default:
      return assertNever(refusal)
  }
}
