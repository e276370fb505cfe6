import type { AppName, HostId, MachineId, RegionCode, Route } from '@roost/core'
import { describe, expect, test } from 'vitest'
import {
  type LoadElsewhere,
  parseLoad,
  planSpread,
  type ServerLoad,
  type SpreadState,
} from './spread-plan.ts'

const id = (n: number) => n.toString(16).padStart(14, '0') as MachineId
const address = (n: number) => `10.210.4.${n}`
/** Soft limit 10, hard limit 20. */
function route(ranks: readonly number[], hard: number | null = 20): Route {
  return {
    key: 'shop/http',
    app: 'shop' as AppName,
    hostnames: ['shop.roost.test'],
    forceHttps: false,
    concurrency: { type: 'requests', soft_limit: 10, hard_limit: hard },
    targets: ranks.map((rank, n) => ({
      machine: id(n + 1),
      host: 'h' as HostId,
      region: `r${rank}` as RegionCode,
      address: address(n + 1),
      port: 8080,
      rank,
    })),
    coming: [],
  }
}
const server = (n: number, role: string, more: Partial<ServerLoad> = {}): ServerLoad => ({
  name: `${id(n)}.${role}0`,
  endpoint: `${address(n)}:8080`,
  maint: false,
  up: true,
  load: 0,
  weight: 100,
  maxConnections: 20,
  ...more,
})
const plan = (
  servers: readonly ServerLoad[],
  options: {
    queued?: number
    before?: SpreadState | null
    route?: Route
    elsewhere?: readonly LoadElsewhere[]
  } = {},
) =>
  planSpread({
    slot: 's1',
    region: 'r0' as RegionCode,
    route: options.route ?? route([0, 1, 2]),
    elsewhere: options.elsewhere ?? [],
    seen: { servers, queued: options.queued ?? 0 },
    before: options.before ?? null,
  })
const brief = (commands: readonly string[]) =>
  commands
    .filter((command) => !command.startsWith('enable health'))
    .map((command) => command.replace(/ pool-max-conn.*/, '').replaceAll(/0000000000000/g, 'm'))
const atRest = [server(1, 'a'), server(2, 'b'), server(3, 'b')]
const busy = (load: number) => [server(1, 'a', { load }), server(2, 'b'), server(3, 'b')]

describe('what a slot uses of farther regions', () => {
  test('nothing below the soft limit', () => {
    expect(plan(atRest)).toMatchObject({ commands: [], busy: false })
    expect(plan(busy(9))).toMatchObject({ commands: [], busy: true, state: { farthest: -1 } })
  })

  test('the next region once the own one is full, queued requests counted; a held request is no load', () => {
    const held: ServerLoad = { ...server(1, 'a', { load: 99 }), name: 'hold.0', endpoint: '' }
    expect(plan([...busy(9), held]).commands).toEqual([])
    const opened = plan(busy(8), { queued: 3 })
    expect(brief(opened.commands)).toEqual([
      'add server s1/m2.o0 10.210.4.2:8080',
      'set server s1/m2.o0 weight 22',
      'set server s1/m2.o0 state ready',
    ])
    expect(opened.state).toEqual({ farthest: 1, calm: 0 })
  })

  test('as many regions as the load asks, with a server that is still there used again', () => {
    const left = server(2, 'o', { maint: true, weight: 40 })
    expect(brief(plan([...busy(20), left]).commands)).toEqual([
      'set server s1/m2.o0 weight 100',
      'set server s1/m2.o0 state ready',
      'add server s1/m3.o0 10.210.4.3:8080',
      'set server s1/m3.o0 weight 22',
      'set server s1/m3.o0 state ready',
    ])
  })

  test('not the room that others have taken; of room at home, what the other edge there leaves', () => {
    const others = (region: string, n: number, load: number): LoadElsewhere => ({
      region,
      atWork: { [id(n)]: load },
    })
    expect(brief(plan(busy(15), { elsewhere: [others('r1', 2, 12)] }).commands)).toEqual([
      'add server s1/m3.o0 10.210.4.3:8080',
      'set server s1/m3.o0 weight 67',
      'set server s1/m3.o0 state ready',
    ])
    const full = [others('r1', 2, 12), others('r2', 3, 10)]
    expect(plan(busy(15), { elsewhere: full, route: route([0, 1, 2], null) }).commands).toEqual([])
    // Who comes from far gives way to this edge; who comes in at home as well has the same right.
    expect(plan(busy(8), { elsewhere: [others('r1', 1, 9)] }).commands).toEqual([])
    expect(plan(busy(8), { elsewhere: [others('r0', 1, 9)] }).state.farthest).toBe(1)
    expect(plan(busy(8)).atWork).toEqual({ [id(1)]: 8 })
  })

  test('not a region that is down, and its weight moves only when that is worth it', () => {
    const down = [server(1, 'a', { load: 14 }), server(2, 'b', { up: false }), server(3, 'b')]
    const before = { farthest: 2, calm: 0 }
    const now = (weight: number) =>
      brief(plan([...down, server(3, 'o', { weight })], { before }).commands)
    expect(now(56)).toEqual([])
    expect(now(50)).toEqual([])
    expect(now(30)).toEqual(['set server s1/m3.o0 weight 56'])
  })

  test('after a restart it goes on as HAProxy has it, and closes when it was calm for long enough', () => {
    const open = [...busy(7), server(2, 'o', { load: 0 })]
    let state: SpreadState | null = null
    const commands: string[] = []
    for (let look = 0; look < 20; look++) {
      const next = plan(open, { before: state })
      state = next.state
      commands.push(...next.commands.filter((command) => !command.includes('weight')))
    }
    expect(commands).toEqual([`set server s1/${id(2)}.o0 state maint`])
    expect(state).toEqual({ farthest: -1, calm: 0 })
  })

  test('where the nearest machine is a backup alone, it takes part too: HAProxy uses no backup beside others', () => {
    const servers = [server(1, 'b', { load: 12 }), server(2, 'b')]
    expect(brief(plan(servers, { route: route([1, 2]) }).commands)).toEqual([
      'add server s1/m1.o0 10.210.4.1:8080',
      'set server s1/m1.o0 weight 100',
      'set server s1/m1.o0 state ready',
      'add server s1/m2.o0 10.210.4.2:8080',
      'set server s1/m2.o0 weight 33',
      'set server s1/m2.o0 state ready',
    ])
    // Made active by the plan of the slot, it needs no other entry.
    const active = [server(1, 'a', { load: 12 }), server(1, 'b'), server(2, 'b')]
    expect(brief(plan(active, { route: route([1, 2]) }).commands)).toHaveLength(3)
  })

  test('when the own region dies, those that serve go on', () => {
    const servers = [
      server(1, 'a', { up: false }),
      server(2, 'b'),
      server(3, 'b'),
      server(2, 'o', { load: 15, weight: 100 }),
    ]
    const next = plan(servers, { before: { farthest: 1, calm: 0 } })
    expect(brief(next.commands)).toEqual([
      'add server s1/m3.o0 10.210.4.3:8080',
      'set server s1/m3.o0 weight 67',
      'set server s1/m3.o0 state ready',
    ])
  })
})

test('statistics of a slot: what is at work, what waits', () => {
  const csv = [
    '# pxname,svname,qcur,scur,slim,status,weight,addr,',
    's1,00000000000001.a0,1,4,20,UP,100,10.210.4.1:8080,',
    's1,00000000000002.o0,0,2,,MAINT,30,10.210.4.2:8080,',
    's1,BACKEND,7,6,200,UP,100,,',
  ].join('\n')
  expect(parseLoad(csv)).toEqual({
    queued: 7,
    servers: [
      server(1, 'a', { load: 5 }),
      server(2, 'o', { load: 2, weight: 30, maint: true, up: false, maxConnections: 0 }),
    ],
  })
})
