import type { Host } from '../host/host.ts'
import type { HostId, MachineId, RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import { addReserved, place, reservedBy } from '../placement/place.ts'
import type { Reserved } from '../placement/placement.ts'
import { GROUP_DEFAULT, groupOf } from './group.ts'
import { isInPlace, type Release, type Replacement, releaseOf } from './release.ts'
import { HOST_SILENT_MS, isServing, type ReleaseMachine } from './release-machine.ts'
import { replacedAtATime } from './waves.ts'

/**
 * The way back from a release that was given up: from what its plan has made of the machines by now to the machines of the
 * release that served before.
 *
 * What the old machine still serves beside is simply taken away. What has taken over already is replaced by a machine of the
 * old release: beside it while it serves and there is room, else in place, which needs no room.
 */
export interface ReturnRequest {
  readonly release: Pick<Release, 'plan' | 'version' | 'strategy' | 'maxUnavailable'>
  /** The release that served; null when there was none, or what it needs is no longer there. */
  readonly to: { guestOf(group: string): MachineGuest } | null
  /** Those of the plan that exist or have existed, by id. */
  readonly machines: ReadonlyMap<MachineId, ReleaseMachine>
  readonly hosts: readonly Host[]
  /** What all machines of all apps take now, by host. */
  readonly used: ReadonlyMap<HostId, Reserved>
  readonly newId: () => MachineId
}

export interface ReturnPlan {
  readonly replacements: readonly Replacement[]
  /** What can't be brought back, a sentence for each; empty when all can. */
  readonly lost: readonly string[]
}

const NOTHING: Reserved = { cpus: 0, memoryMb: 0 }

export function planReturn(request: ReturnRequest): ReturnPlan {
  const { release, to, machines, hosts } = request
  const used = new Map(request.used)
  const wanted = (id: MachineId | null): ReleaseMachine | null => {
    const machine = id === null ? undefined : machines.get(id)
    return machine === undefined || machine.assignment.goal === 'destroyed' ? null : machine
  }
  const first: Replacement[] = []
  const later: Replacement[] = []
  /** Serve beside what served before: they go when all is back. */
  const surplus: Replacement[] = []
  const lost: string[] = []
  /** Regions that lack a machine and have no room beside what runs. */
  const lacking: { readonly region: RegionCode; readonly group: string }[] = []
  const base = { wave: 0, round: 0 } as const
  /** Of the machine that it was before, as far as that is still known. */
  const groupBefore = ({ source, group = GROUP_DEFAULT }: Replacement): string => {
    const machine = source === null ? undefined : machines.get(source)
    const version = machine === undefined ? null : releaseOf(machine.assignment.config)
    return machine === undefined || version === release.version
      ? group
      : groupOf(machine.assignment.config)
  }
  const removal = (machine: ReleaseMachine): Replacement => ({
    ...base,
    group: groupOf(machine.assignment.config),
    region: machine.region,
    source: machine.id,
    target: null,
    host: null,
  })
  const inPlace = (machine: ReleaseMachine, group: string): Replacement => ({
    ...base,
    group,
    region: machine.region,
    source: machine.id,
    target: machine.id,
    host: machine.host,
  })
  const add = (host: HostId, { cpus, memoryMb }: Reserved, sign: 1 | -1) =>
    used.set(
      host,
      addReserved(used.get(host) ?? NOTHING, { cpus: sign * cpus, memoryMb: sign * memoryMb }),
    )
  const leaving = [...machines.values()].filter(
    (m) => m.assignment.goal === 'destroyed' && m.status?.state !== 'destroyed',
  )
  /** A machine of the old release on a host that has room for it, or will have when those that were told to go are gone. */
  const beside = (
    region: RegionCode,
    source: MachineId | null,
    group: string,
  ): Replacement | null => {
    if (to === null) return null
    const siblings = [...machines.values()]
      .filter((m) => m.assignment.goal !== 'destroyed')
      .filter((m) => groupOf(m.assignment.config) === group)
      .map((m) => m.host)
    const needed = reservedBy(to.guestOf(group))
    for (const round of [0, 1]) {
      if (round === 1)
        for (const m of leaving) add(m.host, reservedBy(m.assignment.config.guest), -1)
      const placement = place({ region, ...needed, siblings }, hosts, used)
      if (round === 1)
        for (const m of leaving) add(m.host, reservedBy(m.assignment.config.guest), 1)
      if (placement.kind !== 'placed') continue
      const { host } = placement
      add(host, needed, 1)
      return { ...base, group, region, source, target: request.newId(), host, round }
    }
    return null
  }
  const answers = (machine: ReleaseMachine) =>
    machine.hostSilentMs <= HOST_SILENT_MS && hosts.some((h) => h.id === machine.host)
  /** Nothing is left of it. */
  const isMissing = (replacement: Replacement): boolean =>
    wanted(replacement.target) === null &&
    (isInPlace(replacement) || (replacement.source !== null && wanted(replacement.source) === null))

  // They take their room before any machine that could also be replaced in place.
  for (const replacement of release.plan.filter(isMissing)) {
    const { region } = replacement
    const group = groupBefore(replacement)
    const again = beside(region, null, group)
    if (again === null) lacking.push({ region, group })
    else first.push(again)
  }
  for (const replacement of release.plan) {
    const { region } = replacement
    const target = wanted(replacement.target)
    if (target === null) continue
    const group = groupBefore(replacement)
    if (isInPlace(replacement)) {
      if (releaseOf(target.assignment.config) === release.version) {
        if (to === null) lost.push(keepsText(target, release.version))
        else if (isServing(target)) later.push(inPlace(target, group))
        else first.push(inPlace(target, group))
      }
      continue
    }
    const stays = replacement.source === null || wanted(replacement.source) !== null
    if (stays) {
      const list = isServing(target) ? surplus : first
      list.push(removal(target))
      continue
    }
    // Without what was before, a machine of this release is better than none.
    if (to === null) {
      lost.push(keepsText(target, release.version))
      continue
    }
    const other = isServing(target) || !answers(target) ? beside(region, target.id, group) : null
    if (other !== null) later.push(other)
    else if (!answers(target)) lost.push(`host ${target.hostName} in ${region} does not answer`)
    else if (isServing(target)) later.push(inPlace(target, group))
    else first.push(inPlace(target, group))
  }

  for (const { region, group } of lacking) {
    // One that would be taken away becomes the one that is missing.
    const spare = [...first, ...surplus].find((r) => {
      const machine = r.target === null ? wanted(r.source) : null
      return machine !== null && machine.region === region && answers(machine)
    })
    const machine = wanted(spare?.source ?? null)
    if (spare === undefined || machine === null || to === null) {
      lost.push(`no host in ${region} has room for the machine that was replaced`)
      continue
    }
    for (const list of [first, surplus])
      if (list.includes(spare)) list.splice(list.indexOf(spare), 1)
    first.push(inPlace(machine, group))
  }

  // What serves goes a few at a time, as it came.
  const { strategy, maxUnavailable } = release
  const waves = [
    ...inGroups(
      later.filter((r) => !isInPlace(r)),
      replacedAtATime(strategy, maxUnavailable, later.length),
    ),
    ...inGroups(
      later.filter(isInPlace),
      replacedAtATime('recreate', strategy === 'recreate' ? maxUnavailable : null, later.length),
    ),
  ]
  return {
    replacements: [
      // What never served, or serves no more, goes and comes at once.
      ...first.map((r) => ({ ...r, wave: r.target === null ? 0 : 1 })),
      ...waves.flatMap((rows, n) => rows.map((r) => ({ ...r, wave: n + 2 }))),
      ...surplus.map((r) => ({ ...r, wave: waves.length + 2 })),
    ],
    lost,
  }
}

function inGroups<T>(rows: readonly T[], size: number): T[][] {
  const groups: T[][] = []
  for (let n = 0; n < rows.length; n += size) groups.push(rows.slice(n, n + size))
  return groups
}

function keepsText(machine: ReleaseMachine, version: number): string {
  return `machine ${machine.id} in ${machine.region} keeps release ${version}`
}
