import type { Host } from '../host/host.ts'
import { assertNever, type HostId, type MachineId, type RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import { addReserved, describePlacementRefusal, place, reservedBy } from '../placement/place.ts'
import type { PlacementRefusal, Reserved } from '../placement/placement.ts'
import {
  type DeployStrategy,
  isInPlace,
  type ReleaseAsk,
  type ReleaseCause,
  type Replacement,
  type Scale,
} from './release.ts'

/**
 * From "how many where" and "what runs now" to a list of replacements, each new machine with its id and host.
 *
 * Every new machine is placed beside the one that it replaces. Where there is no room for all, the plan has rounds: what
 * fits comes first, then its sources go, then what fits in their place comes, and so on. When nothing at all fits beside
 * what runs, the plan is refused, since going on would mean to stop first. Within a round the strategy says how many are
 * replaced at a time: these are the waves. With `recreate` each machine gets its new version in place.
 */
export interface PlanRequest {
  readonly cause: ReleaseCause
  readonly ask: ReleaseAsk
  readonly strategy: DeployStrategy
  readonly maxUnavailable: number | null
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
      readonly rounds: number
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
/** Fly's. */
const MAX_UNAVAILABLE = 0.33

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
  const placed = placeInRounds(request, drafts)
  if ('kind' in placed) return placed
  const rounds = placed.replacements.reduce((most, r) => Math.max(most, r.round + 1), 1)
  if (request.strategy === 'bluegreen' && rounds > 1)
    return {
      kind: 'refused',
      code: 'no_room',
      message: `could not reserve resource for machine: bluegreen starts all machines beside the old ones, and there is no room for all of them; rolling does it in ${rounds} rounds: --strategy rolling`,
    }
  const replacements = inWaves(placed.replacements, request)
  return {
    kind: 'planned',
    replacements,
    waves: replacements.reduce((most, r) => Math.max(most, r.wave + 1), 1),
    rounds,
    lines: describe(request, replacements),
  }
}

/** How many of `count` machines are replaced at a time. */
export function replacedAtATime(
  strategy: DeployStrategy,
  maxUnavailable: number | null,
  count: number,
): number {
  switch (strategy) {
    case 'bluegreen':
    case 'immediate':
      return Math.max(1, count)
    case 'recreate':
      return boundOf(maxUnavailable ?? 1, count)
    case 'rolling':
    case 'canary':
      return boundOf(maxUnavailable ?? MAX_UNAVAILABLE, count)
    default:
      return assertNever(strategy)
  }
}

/** As Fly reads `max_unavailable`. */
function boundOf(said: number, count: number): number {
  return Math.max(1, said < 1 ? Math.ceil(said * count) : Math.floor(said))
}

/**
 * What takes over at a time, round by round. Regions take turns, so that no region is replaced as a whole before another has
 * begun. What comes or goes without a counterpart does so with the last wave of its round, when the others have proved themselves.
 */
function inWaves(replacements: readonly Replacement[], request: PlanRequest): Replacement[] {
  const swaps = replacements.filter((r) => r.source !== null && r.target !== null)
  const size = replacedAtATime(request.strategy, request.maxUnavailable, swaps.length)
  const waveOf = new Map<Replacement, number>()
  const rounds = replacements.reduce((most, r) => Math.max(most, r.round), 0)
  let wave = 0
  for (let round = 0; round <= rounds; round++) {
    let room = request.strategy === 'canary' && round === 0 ? 1 : size
    for (const swap of inTurns(swaps.filter((r) => r.round === round))) {
      if (room === 0) {
        wave++
        room = size
      }
      room--
      waveOf.set(swap, wave)
    }
    for (const other of replacements)
      if (other.round === round && !waveOf.has(other)) waveOf.set(other, wave)
    wave++
  }
  return replacements.map((r) => ({ ...r, wave: waveOf.get(r) ?? 0 }))
}

function inTurns(replacements: readonly Replacement[]): Replacement[] {
  const seen = new Map<RegionCode, number>()
  return replacements
    .map((replacement) => {
      const turn = seen.get(replacement.region) ?? 0
      seen.set(replacement.region, turn + 1)
      return { replacement, turn }
    })
    .sort((a, b) => a.turn - b.turn)
    .map(({ replacement }) => replacement)
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

function placeInRounds(
  request: PlanRequest,
  drafts: readonly Draft[],
): Refusal | { replacements: Replacement[] } {
  const used = new Map(request.used)
  const needed = reservedBy(request.guest)
  const take = (host: HostId, amount: Reserved) =>
    used.set(host, addReserved(used.get(host) ?? { cpus: 0, memoryMb: 0 }, amount))
  const give = ({ host, guest }: PlannedMachine) => {
    const { cpus, memoryMb } = reservedBy(guest)
    take(host, { cpus: -cpus, memoryMb: -memoryMb })
  }
  const replacements: Replacement[] = []
  const inPlace = drafts.filter((d) => isRecreated(request, d))
  for (const { source } of inPlace) {
    if (source === null) continue
    give(source)
    const refusal = refusalInPlace(request, source, needed, used)
    if (refusal !== null) return refusal
    take(source.host, needed)
    const { id, region, host } = source
    replacements.push({ region, source: id, target: id, host, wave: 0, round: 0 })
  }
  const gone = new Set(drafts.flatMap((d) => (isRecreated(request, d) ? [] : (d.source?.id ?? []))))
  const siblings = request.machines.filter((m) => !gone.has(m.id)).map((m) => m.host)
  let open = drafts.filter((d) => d.wantsTarget && !isRecreated(request, d))
  let leaving = drafts.filter((d) => !d.wantsTarget)

  for (let round = 0; open.length > 0 || leaving.length > 0; round++) {
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
        wave: 0,
        round,
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
      replacements.push({ region, source: source.id, target: null, host: null, wave: 0, round })
    }
    if (refusal !== null && freed.length === 0) return refusalOf(refusal, request)
    leaving = leaving.filter((d) => !going.includes(d))
    open = later
    for (const machine of freed) give(machine)
  }
  return { replacements }
}

function isRecreated(request: PlanRequest, draft: Draft): boolean {
  return request.strategy === 'recreate' && draft.source !== null && draft.wantsTarget
}

/** null when a machine can get its new version where it is; `used` without it. */
function refusalInPlace(
  { hosts }: PlanRequest,
  { id, region, host: hostId }: PlannedMachine,
  needed: Reserved,
  used: ReadonlyMap<HostId, Reserved>,
): Refusal | null {
  const host = hosts.find((h) => h.id === hostId)
  if (host === undefined || host.status !== 'ok')
    return {
      kind: 'refused',
      code: 'host_unreachable',
      message: `machine ${id} is to be replaced in place, and its host ${host?.name ?? hostId} in ${region} does not answer: wait until it is back, or do without the machine: roost machine destroy ${id} --force`,
    }
  const taken = used.get(hostId) ?? { cpus: 0, memoryMb: 0 }
  const freeMb = host.capacity.memoryMb - taken.memoryMb
  const freeCpus = host.capacity.cpus - taken.cpus
  if (needed.memoryMb <= freeMb && needed.cpus <= freeCpus) return null
  return {
    kind: 'refused',
    code: 'no_room',
    message: `could not reserve resource for machine: machine ${id} is to be replaced in place on ${host.name} in ${region}: ${needed.memoryMb} MB of memory${needed.cpus > 0 ? ` and ${needed.cpus} cpus` : ''} are needed there, and ${Math.max(0, freeMb)} MB${needed.cpus > 0 ? ` and ${Math.max(0, freeCpus)} cpus` : ''} would be free`,
  }
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
  const lines = replacements.map((replacement) => {
    const { region, source, target, host } = replacement
    const where = `${region} on ${(host && names.get(host)) ?? host}`
    if (target === null) return `destroy machine ${source} in ${region}`
    if (isInPlace(replacement))
      return `replace machine ${source} in place in ${where}: it stops first`
    return source === null
      ? `create machine ${target} in ${where}`
      : `replace machine ${source} by ${target} in ${where}`
  })
  return lines.length === 0 ? ['nothing to do: the machines are as asked for'] : lines
}
