import { type Clock, type Logger, startLoop } from '@roost/base'
import type { Route } from '@roost/core'
import type { RuntimeApi } from '../haproxy/runtime-api.ts'
import { parseLoad, planSpread, type SpreadState } from './spread-plan.ts'

/**
 * Sends what is too much for the own region to farther ones: HAProxy is looked at ten times a second, only at the slots of apps with
 * machines in several regions. It is on the way of overflow alone: without it requests queue at the hard limit, and a machine
 * that dies is left as ever.
 */
export interface SpreadLoad {
  stop(): Promise<void>
}

const LOOK_MS = 100
/** Slots at rest take turns when there are more of them. */
const AT_REST_EACH_LOOK = 50

export function startSpreadLoad(options: {
  readonly api: Pick<RuntimeApi, 'send'>
  /** Which app has which slot. */
  readonly slots: () => ReadonlyMap<string, Route>
  readonly clock: Clock
  readonly log: Logger
}): SpreadLoad {
  const { api, log } = options
  const states = new Map<string, SpreadState>()
  const busy = new Set<string>()
  let turn = 0

  async function look(): Promise<void> {
    const all = [...options.slots()].filter(([, route]) => hasFar(route))
    const known = new Set(all.map(([slot]) => slot))
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
      const next = planSpread({ slot, route, seen, before })
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

  return startLoop({
    name: 'overflow',
    periodMs: LOOK_MS,
    clock: options.clock,
    log,
    lap: look,
  })
}

function hasFar(route: Route): boolean {
  return route.targets.some(({ rank }) => rank !== route.targets[0]?.rank)
}
