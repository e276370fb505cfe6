import type { Host } from '../host/host.ts'
import type { RegionCode } from '../id.ts'
import type { PlannedGroup, PlannedMachine, PlanRefusal, PlanRequest } from './plan-release.ts'
import type { Scale } from './release.ts'

/** How many machines of each process group are wanted in which region. */
export type GroupCounts = ReadonlyMap<string, Scale>

const MACHINES_MAX = 500

/** `ownOf`: the machines of a group. */
export function wantedCounts(
  request: PlanRequest,
  ownOf: (group: string) => readonly PlannedMachine[],
): PlanRefusal | { readonly counts: GroupCounts } {
  const { ask, groups, hosts } = request
  const names = groups.map(({ name }) => name)
  const unknown = Object.keys(ask.groups ?? {}).find((name) => !names.includes(name))
  if (unknown !== undefined)
    return {
      kind: 'refused',
      code: 'invalid',
      message: `there is no process group ${unknown}; there are: ${names.join(', ')}`,
    }
  const counts = new Map<string, Scale>()
  for (const group of groups) {
    const wanted = countsOf(request, group, ownOf(group.name), counts)
    if ('kind' in wanted) return wanted
    counts.set(group.name, wanted)
  }
  const known = new Set(hosts.map((h) => h.region))
  const all = [...counts.values()].flatMap((scale) => Object.entries(scale))
  for (const [region, count] of all)
    if (count > 0 && !known.has(region as RegionCode)) return unknownRegion(region, known)
  const total = all.reduce((sum, [, n]) => sum + n, 0)
  if (total > MACHINES_MAX)
    return {
      kind: 'refused',
      code: 'invalid',
      message: `${total} machines are more than the ${MACHINES_MAX} that one app may have`,
    }
  return { counts }
}

function countsOf(
  { ask, cause, groups, primaryRegion, hosts }: PlanRequest,
  group: PlannedGroup,
  own: readonly PlannedMachine[],
  others: GroupCounts,
): PlanRefusal | Scale {
  const isDefault = group === groups[0]
  const now: Record<RegionCode, number> = {}
  for (const machine of own) now[machine.region] = (now[machine.region] ?? 0) + 1

  const asked = ask.groups?.[group.name] ?? (isDefault ? ask.scale : null)
  if (asked !== null) return cause === 'scale' ? { ...now, ...asked } : asked
  if (cause === 'scale') return now
  // What strangers reach is wanted near them; what works in the background is wanted once.
  const everywhere = isDefault || group.served
  if (own.length > 0) {
    if (everywhere) for (const region of ask.regions) now[region] ??= 1
    return now
  }
  const regions = [...new Set(ask.regions)]
  if (regions.length === 0 && primaryRegion !== null) regions.push(primaryRegion)
  if (regions.length > 1 && everywhere) return Object.fromEntries(regions.map((r) => [r, 1]))
  const count = ask.ha && everywhere ? 2 : 1
  const first = others.values().next().value ?? {}
  const beside = (Object.keys(first) as RegionCode[]).sort(
    (a, b) => (first[b] ?? 0) - (first[a] ?? 0) || (a < b ? -1 : 1),
  )
  const [region] =
    primaryRegion !== null && regions.includes(primaryRegion)
      ? [primaryRegion]
      : [...regions, ...beside]
  return region === undefined ? spreadOver(hosts, count) : { [region]: count }
}

/** One machine after the other where it has most company of free hosts: in one region while that has hosts of its own for each. */
function spreadOver(hosts: readonly Host[], count: number): PlanRefusal | Scale {
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
  return counts
}

export function unknownRegion(region: string, known: ReadonlySet<string>): PlanRefusal {
  const list = [...known].sort().join(', ')
  return {
    kind: 'refused',
    code: 'unknown_region',
    message: `no host is in region ${region}; there are: ${list === '' ? 'none' : list}`,
  }
}
