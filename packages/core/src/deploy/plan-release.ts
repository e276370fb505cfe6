import type { Host } from '../host/host.ts'
import type { HostId, MachineId, RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import { addReserved, describePlacementRefusal, place, reservedBy } from '../placement/place.ts'
import type { PlacementRefusal, Reserved } from '../placement/placement.ts'
import { GROUP_DEFAULT, groupTakingOver } from './group.ts'
import { type GroupCounts, unknownRegion, wantedCounts } from './plan-scale.ts'
import {
  type DeployStrategy,
  isInPlace,
  type ReleaseAsk,
  type ReleaseCause,
  type Replacement,
} from './release.ts'
import { inWaves } from './waves.ts'

/**
 * From "how many of which process group where" and "what runs now" to a list of replacements, each new machine with its id and host.
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
  /** At least one; the default group first. */
  readonly groups: readonly PlannedGroup[]
  /** What the default group was called in the release that serves. Default `app`. */
  readonly formerDefault?: string
  /** Machines of this app that releases look after and nobody has told to go. */
  readonly machines: readonly PlannedMachine[]
  readonly hosts: readonly Host[]
  /** What all machines of all apps take now, by host. */
  readonly used: ReadonlyMap<HostId, Reserved>
  /** Fresh ids, one for each new machine. */
  readonly newId: () => MachineId
}

export interface PlannedGroup {
  readonly name: string
  readonly guest: MachineGuest
  /** It has services: strangers reach it. */
  readonly served: boolean
}

export interface PlannedMachine {
  readonly id: MachineId
  /** As its metadata says. */
  readonly group: string
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

export type PlanRefusal = Extract<ReleasePlan, { kind: 'refused' }>
interface Draft {
  /** Of the machine that goes, where its group was removed. */
  readonly group: string
  readonly region: RegionCode
  readonly source: PlannedMachine | null
  readonly wantsTarget: boolean
}

export function planRelease(request: PlanRequest): ReleasePlan {
  const owners = ownersOf(request)
  const wanted = wantedCounts(request, (group) =>
    request.machines.filter((m) => owners.get(m.id) === group),
  )
  if ('kind' in wanted) return wanted
  const drafts = draftsOf(request, owners, wanted.counts)
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

/** The group that each machine is taken over by; those of a group that was removed are missing. */
function ownersOf({ machines, groups, formerDefault }: PlanRequest): Map<MachineId, string> {
  const names = groups.map(({ name }) => name)
  return new Map(
    machines.flatMap((machine) => {
      const group = groupTakingOver(machine.group, names, formerDefault ?? GROUP_DEFAULT)
      return group === null ? [] : [[machine.id, group] as const]
    }),
  )
}

function draftsOf(
  request: PlanRequest,
  owners: ReadonlyMap<MachineId, string>,
  wanted: GroupCounts,
): Draft[] {
  const reachable = new Set(request.hosts.filter((h) => h.status === 'ok').map((h) => h.id))
  const kept = request.groups.flatMap(({ name }) => {
    const own = request.machines.filter((m) => owners.get(m.id) === name)
    const counts = wanted.get(name) ?? {}
    const regions = [...new Set([...Object.keys(counts), ...own.map((m) => m.region)])]
    return (regions as RegionCode[]).flatMap((region) => {
      const count = counts[region] ?? 0
      // Those that are missed least come last: they are the ones that go when fewer are wanted.
      const sources = leastMissedLast(
        own.filter((m) => m.region === region),
        reachable,
      )
      const drafts: Draft[] = []
      for (let n = 0; n < Math.max(count, sources.length); n++) {
        const source = sources[n] ?? null
        if (n >= count) drafts.push({ group: name, region, source, wantsTarget: false })
        else if (source === null || isReplaced(request, name))
          drafts.push({ group: name, region, source, wantsTarget: true })
      }
      return drafts
    })
  })
  const removed = request.machines
    .filter((m) => !owners.has(m.id))
    .map((source): Draft => {
      const { group, region } = source
      return { group, region, source, wantsTarget: false }
    })
  return [...kept, ...removed]
}

/** A change of the number of machines replaces none of them; one of their size does. */
function isReplaced({ cause, ask }: PlanRequest, group: string): boolean {
  return cause !== 'scale' || ask.guests?.[group] !== undefined
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
): PlanRefusal | { replacements: Replacement[] } {
  const used = new Map(request.used)
  const take = (host: HostId, amount: Reserved) =>
    used.set(host, addReserved(used.get(host) ?? { cpus: 0, memoryMb: 0 }, amount))
  const give = ({ host, guest }: PlannedMachine) => {
    const { cpus, memoryMb } = reservedBy(guest)
    take(host, { cpus: -cpus, memoryMb: -memoryMb })
  }
  const replacements: Replacement[] = []
  const inPlace = drafts.filter((d) => isRecreated(request, d))
  for (const { group, source } of inPlace) {
    if (source === null) continue
    const needed = neededBy(request, group)
    give(source)
    const refusal = refusalInPlace(request, source, needed, used)
    if (refusal !== null) return refusal
    take(source.host, needed)
    const { id, region, host } = source
    replacements.push({ group, region, source: id, target: id, host, wave: 0, round: 0 })
  }
  const siblings = siblingsOf(request, drafts)
  let open = drafts.filter((d) => d.wantsTarget && !isRecreated(request, d))
  let leaving = drafts.filter((d) => !d.wantsTarget)

  for (let round = 0; open.length > 0 || leaving.length > 0; round++) {
    const later: Draft[] = []
    const freed: PlannedMachine[] = []
    let refusal: PlacementRefusal | null = null
    for (const draft of open) {
      const { group, region, source } = draft
      const needed = neededBy(request, group)
      const beside = siblings.get(group) ?? []
      const placement = place({ region, ...needed, siblings: beside }, request.hosts, used)
      if (placement.kind !== 'placed') {
        refusal ??= placement
        later.push(draft)
        continue
      }
      const { host } = placement
      take(host, needed)
      siblings.set(group, [...beside, host])
      if (source !== null) freed.push(source)
      const target = request.newId()
      replacements.push({ group, region, source: source?.id ?? null, target, host, wave: 0, round })
    }
    // Those that go without a successor go last, or earlier where the others need their room.
    const stuck = refusal !== null && freed.length === 0
    const going = leaving.filter(
      (d) => later.length === 0 || (stuck && later.some((other) => other.region === d.region)),
    )
    for (const { group, region, source } of going) {
      if (source === null) continue
      freed.push(source)
      replacements.push({
        group,
        region,
        source: source.id,
        target: null,
        host: null,
        wave: 0,
        round,
      })
    }
    if (refusal !== null && freed.length === 0) return refusalOf(refusal, request)
    leaving = leaving.filter((d) => !going.includes(d))
    open = later
    for (const machine of freed) give(machine)
  }
  return { replacements }
}

function neededBy({ groups }: PlanRequest, group: string): Reserved {
  const found = groups.find(({ name }) => name === group) ?? groups[0]
  return found === undefined ? { cpus: 0, memoryMb: 0 } : reservedBy(found.guest)
}

/** Where machines of each group are that stay: others of the group rather come elsewhere. */
function siblingsOf(request: PlanRequest, drafts: readonly Draft[]): Map<string, HostId[]> {
  const gone = new Set(drafts.flatMap((d) => (isRecreated(request, d) ? [] : (d.source?.id ?? []))))
  const owners = ownersOf(request)
  const siblings = new Map<string, HostId[]>()
  for (const { id, host } of request.machines) {
    const group = owners.get(id)
    if (group === undefined || gone.has(id)) continue
    siblings.set(group, [...(siblings.get(group) ?? []), host])
  }
  return siblings
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
): PlanRefusal | null {
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

function refusalOf(refusal: PlacementRefusal, request: PlanRequest): PlanRefusal {
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

function describe(request: PlanRequest, replacements: readonly Replacement[]): string[] {
  const names = new Map(request.hosts.map((h) => [h.id, h.name]))
  const several =
    request.groups.length > 1 || replacements.some((r) => r.group !== request.groups[0]?.name)
  const lines = replacements.map((replacement) => {
    const { region, source, target, host, group } = replacement
    const machine = several ? `machine (${group})` : 'machine'
    const where = `${region} on ${(host && names.get(host)) ?? host}`
    if (target === null) return `destroy ${machine} ${source} in ${region}`
    if (isInPlace(replacement))
      return `replace ${machine} ${source} in place in ${where}: it stops first`
    return source === null
      ? `create ${machine} ${target} in ${where}`
      : `replace ${machine} ${source} by ${target} in ${where}`
  })
  return lines.length === 0 ? ['nothing to do: the machines are as asked for'] : lines
}
