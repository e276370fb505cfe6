import type { Host } from '../host/host.ts'
import type { HostId, MachineId, RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import { addReserved, describePlacementRefusal, place, reservedBy } from '../placement/place.ts'
import type { PlacementRefusal, Reserved } from '../placement/placement.ts'
import type { ReleaseAsk, ReleaseCause, Replacement, Scale } from './release.ts'

/**
 * From "how many where" and "what runs now" to a list of replacements, each new machine with its id and host.
 *
 * Every new machine is placed beside the one that it replaces. Where there is no room for all, the plan has waves: what
 * fits comes first, then its sources go, then what fits in their place comes, and so on. When nothing at all fits beside
 * what runs, the plan is refused, since going on would mean to stop first.
 */
export interface PlanRequest {
  readonly cause: ReleaseCause
  readonly ask: ReleaseAsk
  readonly primaryRegion: RegionCode | null
  readonly guest: MachineGuest
  /** Machines of this app that releases look after and nobody has told to go. */
  readonly machines: readonly PlannedMachine[]
  readonly hosts: readonly Host[]
  /** What all machines of all apps take now, by host. */
  readonly used: ReadonlyMap<HostId, Reserved>
  /** Fresh ids, one for each new machine. */
  readonly newId: () => MachineId
}

export interface PlannedMachine {
  readonly id: MachineId
  readonly region: RegionCode
  readonly host: HostId
  readonly guest: MachineGuest
  readonly serving: boolean
}

export type ReleasePlan =
  | {
      readonly kind: 'planned'
      readonly replacements: readonly Replacement[]
      readonly waves: number
      /** For a person, one line for each region. */
      readonly lines: readonly string[]
    }
  | {
      readonly kind: 'refused'
      readonly code: 'unknown_region' | 'no_room' | 'disk_full' | 'host_unreachable' | 'invalid'
      readonly message: string
    }

type Refusal = Extract<ReleasePlan, { kind: 'refused' }>
interface Draft {
  readonly region: RegionCode
  readonly source: PlannedMachine | null
  readonly wantsTarget: boolean
}

const MACHINES_MAX = 500

export function planRelease(request: PlanRequest): ReleasePlan {
  const scale = wantedScale(request)
  if ('kind' in scale) return scale
  const known = new Set(request.hosts.map((h) => h.region))
  for (const [region, count] of Object.entries(scale.counts)) {
    if (count > 0 && !known.has(region as RegionCode)) return unknownRegion(region, known)
  }
  const total = Object.values(scale.counts).reduce((sum, n) => sum + n, 0)
  if (total > MACHINES_MAX)
    return {
      kind: 'refused',
      code: 'invalid',
      message: `${total} machines are more than the ${MACHINES_MAX} that one app may have`,
    }
  const drafts = draftsOf(request, scale.counts)
  const placed = placeInWaves(request, drafts)
  if ('kind' in placed) return placed
  return {
    kind: 'planned',
    replacements: placed.replacements,
    waves: placed.replacements.reduce((most, r) => Math.max(most, r.wave + 1), 1),
    lines: describe(request, placed.replacements),
  }
}

/** `spread`: nobody named a region, so the machines of a first release may go to hosts anywhere. */
function wantedScale(request: PlanRequest): Refusal | { counts: Scale; spread: boolean } {
  const { ask, cause, machines, primaryRegion, hosts } = request
  const now: Record<RegionCode, number> = {}
  for (const machine of machines) now[machine.region] = (now[machine.region] ?? 0) + 1

  if (ask.scale !== null) {
    return { counts: cause === 'scale' ? { ...now, ...ask.scale } : ask.scale, spread: false }
  }
  if (machines.length > 0) {
    for (const region of ask.regions) now[region] ??= 1
    return { counts: now, spread: false }
  }
  const regions = [...new Set(ask.regions)]
  if (regions.length === 0 && primaryRegion !== null) regions.push(primaryRegion)
  if (regions.length > 1) {
    return { counts: Object.fromEntries(regions.map((r) => [r, 1])), spread: false }
  }
  const count = ask.ha ? 2 : 1
  const [region] = regions
  if (region !== undefined) return { counts: { [region]: count }, spread: false }
  return spreadOver(hosts, count)
}

/** One machine after the other where it has most company of free hosts: in one region while that has hosts of its own for each. */
function spreadOver(
  hosts: readonly Host[],
  count: number,
): Refusal | { counts: Scale; spread: boolean } {
  const usable = hosts.filter((h) => h.availability === 'active' && h.status === 'ok')
  if (usable.length === 0)
    return {
      kind: 'refused',
      code: 'host_unreachable',
      message: hosts.length === 0 ? 'there is no host yet: join one first' : 'no host answers',
    }
  const byRegion = new Map<RegionCode, number>()
  for (const host of usable) byRegion.set(host.region, (byRegion.get(host.region) ?? 0) + 1)
  const regions = [...byRegion].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
  const counts: Record<RegionCode, number> = {}
  let left = count
  for (const [region, hostCount] of regions) {
    const here = Math.min(left, hostCount)
    if (here > 0) counts[region] = here
    left -= here
  }
  const [first] = regions
  if (left > 0 && first !== undefined) counts[first[0]] = (counts[first[0]] ?? 0) + left
  return { counts, spread: true }
}

function draftsOf(request: PlanRequest, counts: Scale): Draft[] {
  const regions = [...new Set([...Object.keys(counts), ...request.machines.map((m) => m.region)])]
  const reachable = new Set(request.hosts.filter((h) => h.status === 'ok').map((h) => h.id))
  return (regions as RegionCode[]).flatMap((region) => {
    const wanted = counts[region] ?? 0
    // Those that are missed least come last: they are the ones that go when fewer are wanted.
    const sources = leastMissedLast(
      request.machines.filter((m) => m.region === region),
      reachable,
    )
    const drafts: Draft[] = []
    for (let n = 0; n < Math.max(wanted, sources.length); n++) {
      const source = sources[n] ?? null
      if (n >= wanted) drafts.push({ region, source, wantsTarget: false })
      else if (source === null || request.cause !== 'scale')
        drafts.push({ region, source, wantsTarget: true })
    }
    return drafts
  })
}

/** Serving on a host that answers first; among those, one on each host before a second on any. */
function leastMissedLast(
  machines: readonly PlannedMachine[],
  reachable: ReadonlySet<HostId>,
): PlannedMachine[] {
  const rank = (m: PlannedMachine) => (reachable.has(m.host) ? 0 : 2) + (m.serving ? 0 : 1)
  const sorted = [...machines].sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1))
  const seen = new Map<HostId, number>()
  return sorted
    .map((machine) => {
      const round = seen.get(machine.host) ?? 0
      seen.set(machine.host, round + 1)
      return { machine, round }
    })
    .sort((a, b) => rank(a.machine) - rank(b.machine) || a.round - b.round)
    .map(({ machine }) => machine)
}

function placeInWaves(
  request: PlanRequest,
  drafts: readonly Draft[],
): Refusal | { replacements: Replacement[] } {
  const used = new Map(request.used)
  const needed = reservedBy(request.guest)
  const take = (host: HostId, amount: Reserved) =>
    used.set(host, addReserved(used.get(host) ?? { cpus: 0, memoryMb: 0 }, amount))
  const gone = new Set(drafts.map((d) => d.source?.id))
  const siblings = request.machines.filter((m) => !gone.has(m.id)).map((m) => m.host)
  const replacements: Replacement[] = []
  let open = drafts.filter((d) => d.wantsTarget)
  let leaving = drafts.filter((d) => !d.wantsTarget)

  for (let wave = 0; open.length > 0 || leaving.length > 0; wave++) {
    const later: Draft[] = []
    const freed: PlannedMachine[] = []
    let refusal: PlacementRefusal | null = null
    for (const draft of open) {
      const placement = place({ region: draft.region, ...needed, siblings }, request.hosts, used)
      if (placement.kind !== 'placed') {
        refusal ??= placement
        later.push(draft)
        continue
      }
      take(placement.host, needed)
      siblings.push(placement.host)
      if (draft.source !== null) freed.push(draft.source)
      replacements.push({
        region: draft.region,
        source: draft.source?.id ?? null,
        target: request.newId(),
        host: placement.host,
        wave,
      })
    }
    // Those that go without a successor go last, or earlier where the others need their room.
    const stuck = refusal !== null && freed.length === 0
    const going = leaving.filter(
      (d) => later.length === 0 || (stuck && later.some((other) => other.region === d.region)),
    )
    for (const { region, source } of going) {
      if (source === null) continue
      freed.push(source)
      replacements.push({ region, source: source.id, target: null, host: null, wave })
    }
    if (refusal !== null && freed.length === 0) return refusalOf(refusal, request)
    leaving = leaving.filter((d) => !going.includes(d))
    open = later
    for (const machine of freed) {
      const { cpus, memoryMb } = reservedBy(machine.guest)
      take(machine.host, { cpus: -cpus, memoryMb: -memoryMb })
    }
  }
  return { replacements }
}

function refusalOf(refusal: PlacementRefusal, request: PlanRequest): Refusal {
  const { region } = refusal
  if (refusal.kind === 'unknown-region') return unknownRegion(region, new Set(refusal.known))
  const silent = request.hosts.filter((h) => h.region === region && h.status !== 'ok')
  if (refusal.kind === 'no-host' && silent.length > 0)
    return {
      kind: 'refused',
      code: 'host_unreachable',
      message: `no host in ${region} answers (${silent.map((h) => h.name).join(', ')}): wait until it is back, or leave the region out: roost scale count 0 --region ${region}`,
    }
  if (refusal.kind === 'disk-full')
    return { kind: 'refused', code: 'disk_full', message: describePlacementRefusal(refusal) }
  const beside = request.machines.some((m) => m.region === region)
    ? ' (new machines start beside the old ones)'
    : ''
  return {
    kind: 'refused',
    code: 'no_room',
    message: `${describePlacementRefusal(refusal)}${beside}`,
  }
}

function unknownRegion(region: string, known: ReadonlySet<string>): Refusal {
  const list = [...known].sort().join(', ')
  return {
    kind: 'refused',
    code: 'unknown_region',
    message: `no host is in region ${region}; there are: ${list === '' ? 'none' : list}`,
  }
}

function describe(request: PlanRequest, replacements: readonly Replacement[]): string[] {
  const names = new Map(request.hosts.map((h) => [h.id, h.name]))
  const lines = replacements.map(({ region, source, target, host }) => {
    const where = `${region} on ${(host && names.get(host)) ?? host}`
    if (target === null) return `destroy machine ${source} in ${region}`
    return source === null
      ? `create machine ${target} in ${where}`
      : `replace machine ${source} by ${target} in ${where}`
  })
  return lines.length === 0 ? ['nothing to do: the machines are as asked for'] : lines
}
