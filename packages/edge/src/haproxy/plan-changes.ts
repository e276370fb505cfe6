import type { Draining, MachineId, Route, RouteTarget } from '@roost/core'
import { type Entry, type EntryRole, entryName, patienceFor, serverOptions } from './entry.ts'
import type { ObservedEntry, ObservedProxy, ServiceMaps } from './observed-proxy.ts'
import { POOLS, type Pool, type PoolCounts, poolOf, poolOfSlot, slotsOf } from './pools.ts'
import { checked, EMPTY_SLOT, holdName, holdOptions, isHold } from './render-config.ts'
import { serviceMapsOf } from './service-maps.ts'

/**
 * From what HAProxy does and what it should do: the commands in between. Nothing is remembered: which app has which slot is read
 * from HAProxy's own map, so that either side may be restarted at any time.
 *
 * A far machine is a `backup`. HAProxy uses only the first backup that is up, in the order in which they were
 * added; so they are kept in order of distance (when a nearer one comes, those behind it are entered anew), and when
 * the nearest region that is up has several machines, these become active as well, to share the work.
 */
export interface ProxyPlan {
  /** In this order: what comes in before what goes out. */
  readonly commands: readonly string[]
  /** Servers that left and may be gone as soon as nobody uses them. HAProxy refuses while somebody does. */
  readonly deletions: readonly string[]
  /** Machines that are in no route any more and still known to HAProxy. */
  readonly draining: readonly Draining[]
  /** Slots in which something is to be done or waited for. */
  readonly touched: ReadonlySet<string>
  /** Connections to these hang: they have been down for seconds. */
  readonly cuts: readonly string[]
  /** Somebody waits for a machine that does not answer: look again soon. */
  readonly hanging: boolean
  /** Slots that were missing, and of which pools. */
  readonly missingSlots: number
  readonly missingPools: readonly Pool[]
  /** What a HAProxy that starts now must have from its first instant. A slot that belongs to an app is in it, if without servers. */
  readonly servers: ReadonlyMap<string, readonly Entry[]>
  /** Which app has which slot. */
  readonly routes: ReadonlyMap<string, Route>
  readonly hosts: ReadonlyMap<string, string>
  readonly secure: ReadonlySet<string>
  readonly services: ServiceMaps
  /** Slots of apps that replay. */
  readonly replaying: ReadonlySet<string>
}

export interface PlanRequest {
  readonly routes: readonly Route[]
  readonly observed: ObservedProxy
  readonly slots: number
  readonly hostsMap: string
  /** null: there is no HTTPS to send anybody to. */
  readonly secureMap: string | null
  readonly holdSocket: string
  /** Missing: only HTTP on 80 and 443 is served, without options. */
  readonly services?: {
    readonly pools: Omit<PoolCounts, 's'>
    readonly httpsPort: number | null
    /** Files of the maps, as HAProxy calls them. */
    readonly maps: { readonly [K in keyof ServiceMaps]: string }
  }
  /** By key of the route and machine: what other edges leave of a hard limit. What is missing has its whole limit. */
  readonly shares?: LimitShares
  /** Apps that replay, and the map of their slots. */
  readonly replays?: { readonly apps: ReadonlySet<string>; readonly map: string }
}

export type LimitShares = ReadonlyMap<string, ReadonlyMap<string, number>>

export const NOTHING_OBSERVED: ObservedProxy = {
  hosts: new Map(),
  secure: new Set(),
  slots: new Map(),
}

/**
 * A server that answers neither checks nor connections for so long: what hangs on it is cut, and what may be repeated is. HAProxy counts
 * whole seconds and may be one ahead. Connections that are still being made must have given up before (`timeout connect`), and go
 * elsewhere then: cut, they would end without an answer.
 */
const CUT_AFTER_SECONDS = 3
/** A nearer region must be down for so long before a farther one shares the work; its first backup takes over at once. */
const PROMOTE_AFTER_SECONDS = 1

export function planChanges(request: PlanRequest): ProxyPlan {
  const { observed, slots } = request
  // What passes without HAProxy is not its to know.
  const routes = request.routes.filter(({ listener }) => listener?.kind !== 'udp')
  const leases = leaseSlots(routes, observed, { ...NO_POOLS, ...request.services?.pools, s: slots })
  const patience = patienceFor(routes.reduce((sum, { targets }) => sum + targets.length, 0))
  const hosts = new Map<string, string>()
  const secure = new Set<string>()
  const servers = new Map<string, readonly Entry[]>()
  const incoming: string[] = []
  const outgoing: string[] = []
  const deletions: string[] = []
  const cuts: string[] = []
  let hanging = false
  const serving = new Set<MachineId>()
  const leaving = new Map<MachineId, number>()
  const touched = new Set<string>()
  const routeBySlot = new Map<string, Route>()

  for (const route of routes) {
    for (const target of route.targets) serving.add(target.machine)
    if (poolOf(route) === 't') continue
    const slot = leases.bySlot.get(route.key) ?? EMPTY_SLOT
    for (const hostname of route.hostnames) {
      hosts.set(hostname, slot)
      if (route.forceHttps) secure.add(hostname)
    }
  }
  const services = serviceMapsOf(
    request.services === undefined ? [] : routes,
    ({ key }) => leases.bySlot.get(key),
    request.services?.httpsPort ?? null,
  )

  const routeOfSlot = new Map([...leases.bySlot].map(([key, slot]) => [slot, key]))
  const routeByKey = new Map(routes.map((route) => [route.key, route]))
  for (const slot of new Set([...routeOfSlot.keys(), ...observed.slots.keys()])) {
    const route = routeByKey.get(routeOfSlot.get(slot) ?? '')
    const existing = observed.slots.get(slot) ?? []
    // The empty one, and those by which HAProxy comes to itself, are as they are.
    if (poolOfSlot(slot) === null) continue
    const { kept, added, wanted } = matchEntries(route, existing, patience)
    const before = incoming.length
    const shares = request.shares?.get(route?.key ?? '')
    if (route !== undefined) {
      servers.set(slot, wanted)
      routeBySlot.set(slot, route)
    }
    for (const entry of added) {
      const name = `${slot}/${entryName(entry)}`
      incoming.push(
        `add server ${name} ${serverOptions(checked(entry))}`,
        `enable health ${name}`,
        `set server ${name} state ready`,
      )
    }
    for (const { entry, found } of kept) {
      const name = `${slot}/${found.name}`
      // Shares are of this moment: a HAProxy that starts has the whole limit until it is looked at.
      const limit = shares?.get(entry.machine) ?? entry.maxConnections
      if (found.maxConnections !== limit) incoming.push(`set maxconn server ${name} ${limit}`)
      if (!found.checking) incoming.push(`enable health ${name}`)
      if (found.maint) incoming.push(`set server ${name} state ready`)
      if (found.maint || found.up || found.sessions === 0) continue
      hanging = true
      touched.add(slot)
      if (found.secondsInState >= CUT_AFTER_SECONDS) cuts.push(`shutdown sessions server ${name}`)
    }
    const keptNames = new Set(kept.map(({ found }) => found.name))
    if (route !== undefined) {
      const hold = holdBehind(existing, { kept, added })
      keptNames.add(hold.name)
      const name = `${slot}/${hold.name}`
      if (hold.isNew)
        incoming.push(
          `add server ${name} ${holdOptions(request, slot)}`,
          `set server ${name} state ready`,
        )
    }
    if (incoming.length > before) touched.add(slot)
    for (const found of existing) {
      if (keptNames.has(found.name)) continue
      touched.add(slot)
      const name = `${slot}/${found.name}`
      if (!found.maint) outgoing.push(`set server ${name} state maint`)
      if (found.sessions === 0) deletions.push(`del server ${name}`)
      const machine = found.entry?.machine
      if (machine !== undefined && !serving.has(machine))
        leaving.set(machine, (leaving.get(machine) ?? 0) + found.sessions)
    }
  }

  const replaying = new Set(
    [...routeBySlot].flatMap(([slot, { app }]) => (request.replays?.apps.has(app) ? [slot] : [])),
  )
  const maps = [
    ...(request.services === undefined
      ? []
      : serviceCommands(request.services.maps, observed, services)),
    ...mapCommands(request.hostsMap, observed.hosts, hosts),
    ...(request.secureMap === null
      ? []
      : mapCommands(request.secureMap, flags(observed.secure), flags(secure))),
    ...(request.replays === undefined
      ? []
      : mapCommands(request.replays.map, flags(observed.replaying ?? new Set()), flags(replaying))),
  ]
  return {
    commands: [...incoming, ...maps, ...outgoing],
    deletions,
    draining: [...leaving].map(([machine, sessions]) => ({ machine, sessions })),
    touched,
    cuts,
    hanging,
    missingSlots: leases.missing.length,
    missingPools: [...new Set(leases.missing)],
    servers,
    routes: routeBySlot,
    hosts,
    secure,
    services,
    replaying,
  }
}

const NO_POOLS: PoolCounts = { s: 0, o: 0, c: 0, t: 0 }

/** A route keeps the slot that its names lead to; a new one takes a slot that has neither names nor servers. */
function leaseSlots(
  routes: readonly Route[],
  observed: ObservedProxy,
  counts: PoolCounts,
): { readonly bySlot: ReadonlyMap<string, string>; readonly missing: readonly Pool[] } {
  const names = (route: Route) =>
    (poolOf(route) === 't' ? observed.services?.names : observed.hosts) ?? new Map<string, string>()
  const pools = new Map(POOLS.map((pool) => [pool, slotsOf(pool, counts)]))
  const inPool = new Map(POOLS.map((pool) => [pool, new Set(pools.get(pool))]))
  const bySlot = new Map<string, string>()
  const taken = new Set<string>([
    ...observed.hosts.values(),
    ...(observed.services?.names.values() ?? []),
    ...observed.slots.keys(),
  ])
  const leased = new Set<string>()
  for (const route of routes) {
    const slot = route.hostnames
      .map((hostname) => names(route).get(hostname))
      .find(
        (found) =>
          found !== undefined && inPool.get(poolOf(route))?.has(found) && !leased.has(found),
      )
    if (slot === undefined) continue
    bySlot.set(route.key, slot)
    leased.add(slot)
  }
  const free = new Map(
    POOLS.map((pool) => [
      pool,
      pools
        .get(pool)
        ?.filter((slot) => !taken.has(slot))
        .values(),
    ]),
  )
  const missing: Pool[] = []
  for (const route of routes) {
    const pool = poolOf(route)
    // HTTP that nobody can serve waits in the empty slot; TCP has no name that would lead there.
    const wanted = route.targets.length > 0 || (pool === 't' && route.coming.length > 0)
    if (bySlot.has(route.key) || !wanted) continue
    const slot = free.get(pool)?.next()
    if (slot === undefined || slot.done) missing.push(pool)
    else bySlot.set(route.key, slot.value)
  }
  return { bySlot, missing }
}

interface Match {
  readonly kept: readonly { readonly entry: Entry; readonly found: ObservedEntry }[]
  readonly added: readonly Entry[]
  /** All of the above in order: what the slot should hold. */
  readonly wanted: readonly Entry[]
}

function matchEntries(
  route: Route | undefined,
  existing: readonly ObservedEntry[],
  patience: number,
): Match {
  if (route === undefined) return { kept: [], added: [], wanted: [] }
  const kept: { entry: Entry; found: ObservedEntry }[] = []
  const added: Entry[] = []
  const wanted: Entry[] = []
  const used = new Set(existing.map(({ name }) => name))

  const make = (target: RouteTarget, role: EntryRole, number: number): Entry => ({
    machine: target.machine,
    role,
    number,
    address: target.address,
    port: target.port,
    maxConnections: route.concurrency.hard_limit ?? 0,
    far: target.rank > 0,
    patience,
    dialect: target.dialect,
  })
  const find = (target: RouteTarget, role: EntryRole) => {
    const same = existing.filter(
      (found) =>
        found.entry?.machine === target.machine &&
        found.entry.role === role &&
        found.entry.dialect === target.dialect &&
        found.endpoint === `${target.address}:${target.port}`,
    )
    return same.find((found) => !found.maint) ?? same.at(-1)
  }
  const keep = (target: RouteTarget, role: EntryRole, found: ObservedEntry) => {
    const entry = make(target, role, found.entry?.number ?? 0)
    kept.push({ entry, found })
    wanted.push(entry)
  }
  const add = (target: RouteTarget, role: EntryRole) => {
    let number = 0
    const { machine, dialect } = target
    while (used.has(entryName({ machine, role, number, dialect }))) number += 1
    const entry = make(target, role, number)
    used.add(entryName(entry))
    added.push(entry)
    wanted.push(entry)
  }

  for (const target of activeTargets(route, existing)) {
    const found = find(target, 'active')
    if (found) keep(target, 'active', found)
    else add(target, 'active')
  }

  const position = new Map(existing.map((found, n) => [found.name, n]))
  const backups = route.targets
    .filter((target) => target.rank > 0)
    .map((target) => {
      const found = find(target, 'backup')
      return { target, found, at: found ? (position.get(found.name) ?? 0) : existing.length }
    })
    .sort((a, b) => a.target.rank - b.target.rank || a.at - b.at)
  let last = -1
  for (const { target, found, at } of backups) {
    // Once one is entered anew, it stands behind all that are there: those that belong behind it must follow.
    if (found !== undefined && at > last) {
      keep(target, 'backup', found)
      last = at
    } else {
      add(target, 'backup')
      last = existing.length
    }
  }
  // Whether these serve is not decided here, and a HAProxy that starts does without them.
  for (const target of route.targets) {
    const found = find(target, 'overflow')
    if (target.rank > 0 && found !== undefined && !found.maint)
      kept.push({ entry: make(target, 'overflow', found.entry?.number ?? 0), found })
  }
  return { kept, added, wanted }
}

/** HAProxy takes the first backup that is up: who holds requests must stand behind all machines. */
function holdBehind(
  existing: readonly ObservedEntry[],
  { kept, added }: Pick<Match, 'kept' | 'added'>,
): { readonly name: string; readonly isNew: boolean } {
  const backups = new Set(
    kept.flatMap(({ entry, found }) => (entry.role === 'backup' ? [found.name] : [])),
  )
  const lastBackup = existing.findLastIndex(({ name }) => backups.has(name))
  const behind = existing.find(({ name, maint }, n) => isHold(name) && !maint && n > lastBackup)
  if (behind !== undefined && !added.some(({ role }) => role === 'backup'))
    return { name: behind.name, isNew: false }
  const used = new Set(existing.map(({ name }) => name))
  let number = 0
  while (used.has(holdName(number))) number += 1
  return { name: holdName(number), isNew: true }
}

/** Own region, or the nearest that is up where that has several machines. */
function activeTargets(route: Route, existing: readonly ObservedEntry[]): readonly RouteTarget[] {
  const isDown = (target: RouteTarget) => {
    const entries = existing.filter(
      (found) =>
        found.entry?.machine === target.machine &&
        found.endpoint === `${target.address}:${target.port}` &&
        !found.maint,
    )
    return (
      entries.length > 0 &&
      entries.every((found) => !found.up && found.secondsInState >= PROMOTE_AFTER_SECONDS)
    )
  }
  const ranks = [...new Set(route.targets.map(({ rank }) => rank))].sort((a, b) => a - b)
  const of = (rank: number) => route.targets.filter((target) => target.rank === rank)
  const nearestUp = ranks.find((rank) => !of(rank).every(isDown)) ?? 0
  return route.targets.filter(
    ({ rank }) => rank === 0 || (rank === nearestUp && of(rank).length > 1),
  )
}

function serviceCommands(
  files: { readonly [K in keyof ServiceMaps]: string },
  observed: ObservedProxy,
  desired: ServiceMaps,
): string[] {
  const none: ReadonlyMap<string, string> = new Map()
  // What leads somewhere comes last: what is done there must be known by then.
  return (['options', 'statics', 'ports', 'names'] as const).flatMap((map) =>
    mapCommands(files[map], observed.services?.[map] ?? none, desired[map]),
  )
}

function flags(names: ReadonlySet<string>): ReadonlyMap<string, string> {
  return new Map([...names].map((name) => [name, '1']))
}

function mapCommands(
  file: string,
  observed: ReadonlyMap<string, string>,
  desired: ReadonlyMap<string, string>,
): string[] {
  const commands: string[] = []
  for (const [key, value] of desired) {
    const found = observed.get(key)
    if (found === undefined) commands.push(`add map ${file} ${key} ${value}`)
    else if (found !== value) commands.push(`set map ${file} ${key} ${value}`)
  }
  for (const key of observed.keys()) if (!desired.has(key)) commands.push(`del map ${file} ${key}`)
  return commands
}
