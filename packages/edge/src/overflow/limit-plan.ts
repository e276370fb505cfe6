import { type LimitUser, limitShare, type Route } from '@roost/core'
import { parseEntryName } from '../haproxy/entry.ts'
import type { SlotLoad } from './spread-plan.ts'

/** By machine. */
type Requests = Readonly<Record<string, number>>

/** What another edge has at work on an app's machines and waiting for them. */
export interface WantedElsewhere {
  readonly edge: string
  readonly wanted: Requests
}

/** Of a route that several edges send requests for. */
export interface LimitState {
  /** What this edge wants: the most of the last looks, or shares would follow each request. */
  readonly wanted: Requests
  /** Of each look, the last one last. */
  readonly looks: readonly Requests[]
  /** How many requests each machine may have at once from this edge; machines that are missing have their whole limit. */
  readonly shares: ReadonlyMap<string, number>
}

/** A second of them. */
const LOOKS_KEPT = 10

/** The hard limit of a route; null where there is none. */
export const hardLimitOf = ({ concurrency }: Route): number | null => concurrency.hard_limit || null

/** What a slot may send to each machine, as long as others send to them as well: commands from how it is to how it should be. */
export function planLimits(options: {
  readonly slot: string
  readonly route: Route
  /** Of this edge. */
  readonly edge: string
  readonly seen: SlotLoad
  readonly elsewhere: readonly WantedElsewhere[]
  /** What others were told last that this edge wants. */
  readonly told: Requests
  readonly before: LimitState | null
}): { readonly state: LimitState | null; readonly commands: readonly string[] } {
  const { slot, route, edge, seen, elsewhere, told, before } = options
  const limit = hardLimitOf(route)
  if (limit === null) return { state: null, commands: [] }
  const looks = [...(before?.looks ?? []), wantedOf(seen)].slice(-LOOKS_KEPT)
  const wanted = mostOf(looks)
  const shares = new Map<string, number>()
  for (const { machine } of route.targets) {
    const others: LimitUser[] = elsewhere.flatMap((one) => {
      const theirs = one.wanted[machine] ?? 0
      return theirs > 0 ? [{ edge: one.edge, wanted: theirs }] : []
    })
    const self = { edge, wanted: wanted[machine] ?? 0, told: told[machine] ?? 0 }
    if (others.length > 0) shares.set(machine, limitShare({ limit, self, others }))
  }
  // What was never shared is not touched: the controller has it.
  const commands = seen.servers.flatMap(({ name, maxConnections }) => {
    const machine = parseEntryName(name)?.machine
    if (machine === undefined) return []
    const share = shares.get(machine) ?? (before?.shares.has(machine) ? limit : maxConnections)
    return share === maxConnections ? [] : [`set maxconn server ${slot}/${name} ${share}`]
  })
  return { state: shares.size === 0 ? null : { wanted, looks, shares }, commands }
}

/** At work on each machine and waiting for it; what waits for any of them waits for each in part. */
function wantedOf({ servers, queued }: SlotLoad): Requests {
  const wanted: Record<string, number> = {}
  const add = (machine: string, requests: number) => {
    if (requests > 0) wanted[machine] = (wanted[machine] ?? 0) + requests
  }
  const entries = servers.flatMap((server) => {
    const entry = parseEntryName(server.name)
    return entry === null ? [] : [{ ...server, ...entry }]
  })
  for (const { machine, load } of entries) add(machine, load)
  const up = entries.filter(({ maint, up }) => up && !maint)
  const balanced = up.filter(({ role }) => role !== 'backup')
  const machines = new Set((balanced.length > 0 ? balanced : up).map(({ machine }) => machine))
  for (const machine of machines) add(machine, queued / machines.size)
  return wanted
}

function mostOf(looks: readonly Requests[]): Requests {
  const most: Record<string, number> = {}
  for (const look of looks)
    for (const [machine, requests] of Object.entries(look))
      most[machine] = Math.max(most[machine] ?? 0, requests)
  return most
}
