import type { EdgeAliveReply } from '@roost/api'
import { type Clock, type Logger, startLoop } from '@roost/base'
import type { HostId, RegionCode, Route } from '@roost/core'
import type { ObservedEntry, ObservedProxy } from '../haproxy/observed-proxy.ts'
import type { LimitShares } from '../haproxy/plan-changes.ts'
import type { RuntimeApi } from '../haproxy/runtime-api.ts'
import { hardLimitOf, type LimitState, planLimits } from './limit-plan.ts'
import { parseLoad, planSpread, type SpreadState } from './spread-plan.ts'

/**
 * Sends what is too much for the own region to farther ones, and keeps to the part of hard limits that other edges leave: HAProxy is looked
 * at ten times a second, only at the slots of apps with machines in several regions, and of those with a hard limit of which others tell.
 * It is on the way of nothing else: without it requests queue at the hard limit, which is each edge's own then, and a machine that dies is
 * left as ever.
 */
export interface SpreadLoad {
  /** What this edge has at work, by key of the route and machine, of apps in several regions; routes with nothing are missing. */
  atWork(): RequestsByRoute
  /**
   * The same with what waits, of hard limits: only where the edges together might be above one, for which at least one of them
   * must have its even part of it. It is for other edges: from then on it counts as told.
   */
  tellWanted(): RequestsByRoute
  /** What others leave of hard limits. */
  shares(): LimitShares
  stop(): Promise<void>
}

type Requests = Readonly<Record<string, number>>
type RequestsByRoute = Readonly<Record<string, Requests>>

const LOOK_MS = 100
/** Slots at rest take turns when there are more of them. */
const AT_REST_EACH_LOOK = 50

export function startSpreadLoad(options: {
  readonly api: Pick<RuntimeApi, 'send'>
  readonly self: { readonly host: HostId; readonly region: RegionCode }
  /** Which app has which slot. */
  readonly slots: () => ReadonlyMap<string, Route>
  /** What the controller saw last, which costs nothing more: what is told of slots that nobody else tells of. */
  readonly observed: () => ObservedProxy['slots']
  /** What other edges that live said last. */
  readonly elsewhere: () => readonly EdgeAliveReply[]
  readonly clock: Clock
  readonly log: Logger
}): SpreadLoad {
  const { api, log, self } = options
  const states = new Map<string, SpreadState>()
  const atWork = new Map<string, Requests>()
  /** By key of the route. */
  const limits = new Map<string, LimitState>()
  let wantedAsTold: RequestsByRoute = {}
  const busy = new Set<string>()
  let turn = 0

  async function look(): Promise<void> {
    const replies = options.elsewhere()
    const told = new Set(replies.flatMap((reply) => Object.keys(wantedBy(reply))))
    const isShared = (route: Route) =>
      hardLimitOf(route) !== null && (told.has(route.key) || limits.has(route.key))
    const all = [...options.slots()].filter(([, route]) => hasFar(route) || isShared(route))
    const known = new Set(all.map(([slot]) => slot))
    const keys = new Set(all.map(([, { key }]) => key))
    const limited = new Set(all.flatMap(([, route]) => (hardLimitOf(route) ? [route.key] : [])))
    for (const key of atWork.keys()) if (!keys.has(key)) atWork.delete(key)
    for (const key of limits.keys()) if (!limited.has(key)) limits.delete(key)
    for (const slot of states.keys()) if (!known.has(slot)) states.delete(slot)
    for (const slot of busy) if (!known.has(slot)) busy.delete(slot)
    const resting = all.filter(([slot]) => !busy.has(slot))
    turn = turn >= resting.length ? 0 : turn
    const now = [
      ...all.filter(([slot]) => busy.has(slot)),
      ...resting.slice(turn, turn + AT_REST_EACH_LOOK),
    ]
    turn += AT_REST_EACH_LOOK
    if (now.length === 0) return
    const stats = await api.send(now.map(([slot]) => `show stat ${slot} 6 -1`))
    const commands: string[] = []
    for (const [n, [slot, route]] of now.entries()) {
      const seen = parseLoad(stats[n] ?? '')
      const before = states.get(slot) ?? null
      const elsewhere = replies.map((reply) => ({
        edge: reply.host,
        region: reply.region,
        atWork: reply.at_work?.[route.key] ?? {},
        wanted: wantedBy(reply)[route.key] ?? {},
      }))
      const next = planSpread({ slot, region: self.region, route, seen, elsewhere, before })
      if (next.load > 0 && hasFar(route)) atWork.set(route.key, next.atWork)
      else atWork.delete(route.key)
      if (isShared(route)) {
        const was = limits.get(route.key) ?? null
        const shared = planLimits({
          slot,
          route,
          edge: self.host,
          seen,
          elsewhere,
          told: wantedAsTold[route.key] ?? {},
          before: was,
        })
        // Known before it is done, or the controller would take it back.
        if (shared.state === null) limits.delete(route.key)
        else limits.set(route.key, shared.state)
        commands.push(...shared.commands)
      }
      if (next.state.farthest !== (before?.farthest ?? -1))
        log.info('overflow', { app: route.app, farthest: next.state.farthest, load: next.load })
      states.set(slot, next.state)
      if (next.busy || (next.load > 0 && limits.has(route.key))) busy.add(slot)
      else busy.delete(slot)
      commands.push(...next.commands)
    }
    // What is refused (a server that went in this moment) is seen at the next look.
    if (commands.length > 0) await api.send(commands)
  }

  const loop = startLoop({
    name: 'overflow',
    periodMs: LOOK_MS,
    clock: options.clock,
    log,
    lap: look,
  })
  return {
    atWork: () => Object.fromEntries(atWork),
    tellWanted() {
      const observed = options.observed()
      const theirs = options.elsewhere().map(wantedBy)
      // Who asks is there, heard or not.
      const edges = Math.max(1, theirs.length) + 1
      const wanted: Record<string, Requests> = {}
      for (const [slot, route] of options.slots()) {
        const limit = hardLimitOf(route)
        if (limit === null) continue
        const mine = limits.get(route.key)?.wanted ?? sessionsOn(observed.get(slot) ?? [])
        const isMuch = (requests = 0) => requests * edges >= limit
        const worth = Object.entries(mine).filter(
          ([machine, requests]) =>
            isMuch(requests) || theirs.some((by) => isMuch(by[route.key]?.[machine])),
        )
        if (worth.length > 0) wanted[route.key] = Object.fromEntries(worth)
      }
      wantedAsTold = wanted
      return wanted
    },
    shares: () => new Map([...limits].map(([key, { shares }]) => [key, shares])),
    stop: () => loop.stop(),
  }
}

/** Edges of before hard limits were shared tell of apps in several regions alone, and not of what waits. */
function wantedBy({
  wanted,
  at_work,
}: Pick<EdgeAliveReply, 'wanted' | 'at_work'>): RequestsByRoute {
  return wanted ?? at_work ?? {}
}

function sessionsOn(entries: readonly ObservedEntry[]): Requests {
  const sessions: Record<string, number> = {}
  for (const { entry, sessions: n } of entries)
    if (entry !== null && n > 0) sessions[entry.machine] = (sessions[entry.machine] ?? 0) + n
  return sessions
}

function hasFar(route: Route): boolean {
  return route.targets.some(({ rank }) => rank !== route.targets[0]?.rank)
}
