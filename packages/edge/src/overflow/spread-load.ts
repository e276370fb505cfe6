import { type Clock, type Logger, startLoop } from '@roost/base'
import type { RegionCode, Route } from '@roost/core'
import type { RuntimeApi } from '../haproxy/runtime-api.ts'
import { type LoadElsewhere, parseLoad, planSpread, type SpreadState } from './spread-plan.ts'

/**
 * Sends what is too much for the own region to farther ones: HAProxy is looked at ten times a second, only at the slots of apps with
 * machines in several regions. It is on the way of overflow alone: without it requests queue at the hard limit, and a machine
 * that dies is left as ever.
 */
export interface SpreadLoad {
  /** What this edge has at work, by key of the route and machine; routes with nothing are missing. */
  atWork(): Readonly<Record<string, Readonly<Record<string, number>>>>
  stop(): Promise<void>
}

const LOOK_MS = 100
/** Slots at rest take turns when there are more of them. */
const AT_REST_EACH_LOOK = 50

export function startSpreadLoad(options: {
  readonly api: Pick<RuntimeApi, 'send'>
  readonly region: RegionCode
  /** Which app has which slot. */
  readonly slots: () => ReadonlyMap<string, Route>
  /** What other edges say that they have at work for this route. */
  readonly elsewhere: (routeKey: string) => readonly LoadElsewhere[]
  readonly clock: Clock
  readonly log: Logger
}): SpreadLoad {
  const { api, log } = options
  const states = new Map<string, SpreadState>()
  const atWork = new Map<string, Readonly<Record<string, number>>>()
  const busy = new Set<string>()
  let turn = 0

  async function look(): Promise<void> {
    const all = [...options.slots()].filter(([, route]) => hasFar(route))
    const known = new Set(all.map(([slot]) => slot))
    const keys = new Set(all.map(([, { key }]) => key))
    for (const key of atWork.keys()) if (!keys.has(key)) atWork.delete(key)
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
      const elsewhere = options.elsewhere(route.key)
      const next = planSpread({ slot, region: options.region, route, seen, elsewhere, before })
      if (next.load > 0) atWork.set(route.key, next.atWork)
      else atWork.delete(route.key)
      if (next.state.farthest !== (before?.farthest ?? -1))
        log.info('overflow', { app: route.app, farthest: next.state.farthest, load: next.load })
      states.set(slot, next.state)
      if (next.busy) busy.add(slot)
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
  return { atWork: () => Object.fromEntries(atWork), stop: () => loop.stop() }
}

function hasFar(route: Route): boolean {
  return route.targets.some(({ rank }) => rank !== route.targets[0]?.rank)
}
