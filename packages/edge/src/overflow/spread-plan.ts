import {
  CLOSED,
  nextOverflow,
  type Overflow,
  type RegionCode,
  type Route,
  type RouteTarget,
  roomOf,
  sharesOf,
  type Tier,
} from '@roost/core'
import { type Entry, entryName, parseEntryName, serverOptions } from '../haproxy/entry.ts'
import { statRows } from '../haproxy/observed-proxy.ts'
import { checked, isHold } from '../haproxy/render-config.ts'

/** What `show stat SLOT 6 -1` says of one slot. */
export interface SlotLoad {
  readonly servers: readonly ServerLoad[]
  /** Requests that wait for any of them. */
  readonly queued: number
}
export interface ServerLoad {
  readonly name: string
  readonly endpoint: string
  readonly maint: boolean
  readonly up: boolean
  /** At work and waiting. */
  readonly load: number
  readonly weight: number
  /** Requests at once, others queue; 0 is no limit. */
  readonly maxConnections: number
}

const COLUMNS = ['svname', 'addr', 'status', 'scur', 'qcur', 'slim', 'weight'] as const

export function parseLoad(csv: string): SlotLoad {
  let queued = 0
  const servers: ServerLoad[] = []
  for (const at of statRows(csv, COLUMNS)) {
    const name = at('svname')
    if (name === 'BACKEND') queued = Number(at('qcur'))
    else if (name !== 'FRONTEND') {
      const status = at('status')
      servers.push({
        name,
        endpoint: at('addr'),
        maint: status.startsWith('MAINT'),
        up: status.startsWith('UP') || status === 'no check',
        load: Number(at('scur')) + Number(at('qcur')),
        weight: Number(at('weight')),
        maxConnections: Number(at('slim')),
      })
    }
  }
  return { servers, queued }
}

export interface SpreadState {
  /** Rank of the farthest region that serves; the one before anything was decided: null. */
  readonly farthest: number | null
  readonly calm: number
}
export interface Spread {
  readonly state: SpreadState
  /** In this order: what comes in before what goes out. */
  readonly commands: readonly string[]
  /** Requests at work and waiting. */
  readonly load: number
  /** By machine, where there is any. */
  readonly atWork: Readonly<Record<string, number>>
  /** Worth another look soon. */
  readonly busy: boolean
}

/** What another edge has at work on an app's machines. */
export interface LoadElsewhere {
  /** Of that edge. */
  readonly region: string
  /** By machine. */
  readonly atWork: Readonly<Record<string, number>>
}

/** A change of weight by less is not worth it. */
const WEIGHT_CHANGE = 0.15

/** Which machines of farther regions a slot should use now, and with what weight: commands from how it is to how it should be. */
export function planSpread(options: {
  readonly slot: string
  /** Of this edge. */
  readonly region: RegionCode
  readonly route: Route
  readonly seen: SlotLoad
  readonly elsewhere: readonly LoadElsewhere[]
  /** null: as HAProxy has it. */
  readonly before: SpreadState | null
}): Spread {
  const { slot, route, seen, elsewhere } = options
  const { soft_limit, hard_limit } = route.concurrency
  const softLimit = Math.max(1, Math.min(soft_limit, hard_limit ?? soft_limit))
  const of = (target: RouteTarget) =>
    seen.servers.flatMap((server) => {
      const entry = parseEntryName(server.name)
      const same = entry?.machine === target.machine && entry.dialect === target.dialect
      return same && server.endpoint === `${target.address}:${target.port}`
        ? [{ ...server, role: entry.role, number: entry.number }]
        : []
    })
  // Checks rest in maintenance, where every server looks well: its backup tells how a far machine is.
  const isUp = (target: RouteTarget) =>
    of(target).some(({ role, maint, up }) => role !== 'overflow' && !maint && up)
  const ranks = [...new Set(route.targets.map(({ rank }) => rank))].sort((a, b) => a - b)
  const tiers = ranks
    .map((rank) => route.targets.filter((target) => target.rank === rank && isUp(target)))
    .filter((targets) => targets.length > 0)
  const servingNow = route.targets.filter((target) =>
    of(target).some(({ role, maint }) => role === 'overflow' && !maint),
  )
  const farthest =
    options.before?.farthest ?? Math.max(-1, ...servingNow.map((target) => target.rank))
  const rankOf = (targets: readonly RouteTarget[]) => targets[0]?.rank ?? 0
  const load =
    seen.queued +
    seen.servers.reduce((sum, server) => sum + (isHold(server.name) ? 0 : server.load), 0)
  const mine = atWorkOf(seen)
  const tierOf = (targets: readonly RouteTarget[]): Tier => {
    const region = targets[0]?.region
    const on = (atWork: Readonly<Record<string, number>>) =>
      targets.reduce((sum, { machine }) => sum + (atWork[machine] ?? 0), 0)
    const by = (isHome: boolean) =>
      elsewhere.reduce((sum, o) => sum + ((o.region === region) === isHome ? on(o.atWork) : 0), 0)
    const isHome = options.region === region
    const others = { before: isHome ? 0 : by(true), equals: by(isHome), mine: on(mine) }
    const room = (limit: number) => roomOf({ limit: targets.length * limit, ...others })
    return {
      machines: targets.length,
      softRoom: room(softLimit),
      hardRoom: room(hard_limit ?? Number.POSITIVE_INFINITY),
    }
  }
  const at = { tiers: tiers.map(tierOf), load }
  const before: Overflow = {
    open: Math.max(CLOSED.open, tiers.filter((targets) => rankOf(targets) <= farthest).length),
    calm: options.before?.calm ?? 0,
  }
  const next = nextOverflow(before, at)
  const shares = sharesOf(next.open, at)

  const incoming: string[] = []
  const used = new Set<string>()
  for (const [n, targets] of tiers.entries()) {
    if (next.open === 1 || n >= next.open) break
    const weight = shares[n] ?? 0
    if (weight === 0) continue
    for (const target of targets) {
      const entries = of(target)
      if (entries.some(({ role, maint, up }) => role === 'active' && !maint && up)) continue
      const found =
        entries.find(({ role, maint }) => role === 'overflow' && !maint) ??
        entries.find(({ role }) => role === 'overflow')
      const server = found?.name ?? freeName(target, seen)
      const name = `${slot}/${server}`
      used.add(server)
      if (found === undefined)
        incoming.push(
          `add server ${name} ${serverOptions(checked(entryOf(target, server, route)))}`,
          `enable health ${name}`,
        )
      const off = Math.abs(weight - (found?.weight ?? 100))
      if (found?.maint !== false || off > WEIGHT_CHANGE * found.weight)
        incoming.push(`set server ${name} weight ${weight}`)
      if (found?.maint !== false) incoming.push(`set server ${name} state ready`)
    }
  }
  const outgoing = seen.servers
    .filter(({ name, maint }) => parseEntryName(name)?.role === 'overflow' && !maint)
    .filter(({ name }) => !used.has(name))
    .map(({ name }) => `set server ${slot}/${name} state maint`)
  return {
    state: {
      farthest: next.open === 1 ? -1 : rankOf(tiers[next.open - 1] ?? []),
      calm: next.calm,
    },
    commands: [...incoming, ...outgoing],
    load,
    atWork: mine,
    busy: next.open > 1 || load * 2 >= (at.tiers[0]?.softRoom ?? 0),
  }
}

function atWorkOf({ servers }: SlotLoad): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {}
  for (const { name, load } of servers) {
    const machine = parseEntryName(name)?.machine
    if (machine !== undefined && load > 0) sums[machine] = (sums[machine] ?? 0) + load
  }
  return sums
}

function freeName(target: RouteTarget, { servers }: SlotLoad): string {
  const used = new Set(servers.map(({ name }) => name))
  let number = 0
  const { machine, dialect } = target
  const name = () => entryName({ machine, role: 'overflow', number, dialect })
  while (used.has(name())) number += 1
  return name()
}

function entryOf(target: RouteTarget, server: string, route: Route): Entry {
  return {
    machine: target.machine,
    role: 'overflow',
    number: parseEntryName(server)?.number ?? 0,
    address: target.address,
    port: target.port,
    maxConnections: route.concurrency.hard_limit ?? 0,
    far: true,
    dialect: target.dialect,
  }
}
