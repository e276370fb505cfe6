import type { AppName, HostId, MachineId, RegionCode, Route } from '@roost/core'
import { describe, expect, test } from 'vitest'
import { type LimitState, planLimits } from './limit-plan.ts'
import type { ServerLoad } from './spread-plan.ts'

const id = (n: number) => n.toString(16).padStart(14, '0') as MachineId
/** Two machines here, one far away; hard limit 10. */
const route: Route = {
  key: 'shop/http',
  app: 'shop' as AppName,
  hostnames: [],
  forceHttps: false,
  concurrency: { type: 'requests', soft_limit: 10, hard_limit: 10 },
  targets: [1, 2, 3].map((n) => ({
    machine: id(n),
    host: 'h' as HostId,
    region: 'r' as RegionCode,
    address: `10.210.4.${n}`,
    port: 8080,
    rank: n === 3 ? 1 : 0,
  })),
  coming: [],
}
const server = (n: number, role: string, more: Partial<ServerLoad> = {}): ServerLoad => ({
  name: `${id(n)}.${role}0`,
  endpoint: `10.210.4.${n}:8080`,
  maint: false,
  up: true,
  load: 0,
  weight: 100,
  maxConnections: 10,
  ...more,
})
const plan = (
  servers: readonly ServerLoad[],
  elsewhere: Readonly<Record<number, number>>,
  options: { queued?: number; before?: LimitState; told?: Record<string, number> } = {},
) => {
  const wanted = Object.fromEntries(Object.entries(elsewhere).map(([n, w]) => [id(Number(n)), w]))
  return planLimits({
    slot: 's1',
    route,
    edge: 'a',
    seen: { servers, queued: options.queued ?? 0 },
    elsewhere: [{ edge: 'b', wanted }],
    told: options.told ?? {},
    before: options.before ?? null,
  })
}
const brief = ({ commands }: { readonly commands: readonly string[] }) =>
  commands.map((command) => command.replaceAll(/0000000000000/g, 'm'))

describe('what a slot sends to machines to which others send as well', () => {
  test('all entries of those machines get the share, others are left alone', () => {
    const servers = [
      server(1, 'a', { load: 2 }),
      server(2, 'a', { maxConnections: 99 }),
      server(3, 'b'),
      server(3, 'o', { maint: true }),
    ]
    expect(brief(plan(servers, { 1: 4, 3: 30 }, { told: { [id(1)]: 2 } }))).toEqual([
      'set maxconn server s1/m1.a0 4',
      'set maxconn server s1/m3.b0 1',
      'set maxconn server s1/m3.o0 1',
    ])
  })

  test('who waits for any machine waits in part for each that takes part: backups only where nobody else is up', () => {
    const wanted = (servers: readonly ServerLoad[]) =>
      plan(servers, { 1: 1 }, { queued: 6 }).state?.wanted
    const [one, two, far] = [server(1, 'a', { load: 10 }), server(2, 'a'), server(3, 'b')]
    expect(wanted([one, two, far])).toEqual({ [id(1)]: 13, [id(2)]: 3 })
    const down = { up: false }
    expect(wanted([one, server(2, 'a', down), far])).toEqual({ [id(1)]: 16 })
    expect(wanted([server(1, 'a', down), server(2, 'a', down), far])).toEqual({ [id(3)]: 6 })
  })

  test('a machine that is no more shared gets its limit back, and the last one ends it', () => {
    const both = [server(1, 'a', { maxConnections: 1 }), server(2, 'a', { maxConnections: 1 })]
    const { state } = plan(both, { 1: 20, 2: 20 })
    if (state === null) throw new Error('they are shared')
    const next = plan(both, { 1: 20 }, { before: state })
    expect(brief(next)).toEqual(['set maxconn server s1/m2.a0 10'])
    expect(plan(both, {}, { before: state }).state).toBe(null)
  })
})
