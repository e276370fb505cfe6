import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AppName, HostId, InstanceId, MachineId, RegionCode } from '../id.ts'
import type { MachineService } from '../machine/config.ts'
import { isReady, type MachineStatus } from '../machine/machine.ts'
import { type RoutableMachine, type RoutesRequest, routesFor, withoutServer } from './routes-for.ts'

const ams = 'ams' as RegionCode
const iad = 'iad' as RegionCode
const syd = 'syd' as RegionCode

function service(changes: Partial<MachineService> = {}): MachineService {
  return {
    protocol: 'tcp',
    internal_port: 8080,
    ports: [
      { port: 80, handlers: ['http'], force_https: false },
      { port: 443, handlers: ['tls', 'http'], force_https: false },
    ],
    checks: [],
    concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
    autostop: 'off',
    autostart: true,
    min_machines_running: 0,
    ...changes,
  }
}

function status(id: string, changes: Partial<MachineStatus> = {}): MachineStatus {
  return {
    id: id as MachineId,
    host: 'h' as HostId,
    state: 'started',
    generation: 1,
    instanceId: 'I' as InstanceId,
    configGeneration: 1,
    sequence: 1,
    startedAt: 1,
    updatedAt: 1,
    exit: null,
    reason: null,
    restartCount: 0,
    checks: [],
    ...changes,
  }
}

function machine(id: string, region: RegionCode, changes: Partial<RoutableMachine> = {}) {
  return {
    id: id as MachineId,
    app: 'shop',
    host: `host-${region}` as HostId,
    region,
    privateIpv4: '10.210.4.2',
    services: [service()],
    routed: true,
    status: status(id),
    ...changes,
  }
}

function request(machines: RoutableMachine[], changes: Partial<RoutesRequest> = {}): RoutesRequest {
  return {
    self: { host: 'host-ams' as HostId, region: ams },
    hosts: [ams, iad, syd].map((region) => ({ id: `host-${region}` as HostId, region })),
    apps: [{ name: 'shop' as AppName }],
    machines,
    roundTripMs: new Map(),
    domain: 'Roost.test',
    ...changes,
  }
}
const only = (asked: RoutesRequest) => {
  const [route, ...more] = routesFor(asked)
  if (route === undefined || more.length > 0) throw new Error('not one route')
  return route
}

describe('routesFor', () => {
  test('an app answers under its name, own region first, then as the map has it', () => {
    const route = only(request([machine('c', syd), machine('b', iad), machine('a', ams)]))
    expect(route.key).toBe('shop/http')
    expect(route.hostnames).toEqual(['shop.roost.test'])
    expect(route.targets.map((t) => [t.machine, t.rank])).toEqual([
      ['a', 0],
      ['b', 1],
      ['c', 2],
    ])
  })

  test('what was measured goes before the map', () => {
    const roundTripMs = new Map([
      ['host-iad' as HostId, 300],
      ['host-syd' as HostId, 40],
    ])
    const route = only(request([machine('b', iad), machine('c', syd)], { roundTripMs }))
    expect(route.targets.map((t) => [t.machine, t.rank])).toEqual([
      ['c', 1],
      ['b', 2],
    ])
  })

  test('a machine that is not ready, cordoned or never heard of is no target, and the app stays known', () => {
    const failing = {
      name: 'servicecheck-00-tcp-8080',
      status: 'critical' as const,
      output: '',
      updatedAt: 1,
    }
    const route = only(
      request([
        machine('a', ams, { routed: false }),
        machine('b', ams, { status: null }),
        machine('c', ams, { status: status('c', { state: 'stopping' }) }),
        machine('d', ams, { status: status('d', { checks: [failing] }) }),
      ]),
    )
    expect(route.targets).toEqual([])
    expect(route.hostnames).toEqual(['shop.roost.test'])
    expect(routesFor(request([], { apps: [] }))).toEqual([])
  })

  test('a new release may listen on another port while the old one still serves', () => {
    const route = only(
      request([
        machine('a', ams),
        machine('b', ams, {
          services: [
            service({
              internal_port: 3000,
              concurrency: { type: 'requests', soft_limit: 5, hard_limit: 9 },
            }),
          ],
        }),
      ]),
    )
    expect(route.targets.map((t) => t.port)).toEqual([8080, 3000])
    expect(route.concurrency).toEqual({ type: 'requests', soft_limit: 20, hard_limit: null })
  })

  test('only a service with the http handler on a web port is served by name', () => {
    const other = service({
      ports: [{ port: 9000, handlers: ['http'], force_https: false }],
    })
    const raw = service({ ports: [{ port: 443, handlers: [], force_https: false }] })
    expect(only(request([machine('a', ams, { services: [other, raw] })])).targets).toEqual([])
    const web = service({ internal_port: 4000 })
    expect(only(request([machine('a', ams, { services: [other, web] })])).targets[0]?.port).toBe(
      4000,
    )
  })

  test('https is forced where port 80 asks for it or is not offered', () => {
    const forced = service({ ports: [{ port: 80, handlers: ['http'], force_https: true }] })
    const secure = service({
      ports: [{ port: 443, handlers: ['tls', 'http'], force_https: false }],
    })
    expect(only(request([machine('a', ams, { services: [forced] })])).forceHttps).toBe(true)
    expect(only(request([machine('a', ams, { services: [secure] })])).forceHttps).toBe(true)
    expect(only(request([machine('a', ams)])).forceHttps).toBe(false)
  })

  test('whatever exists: all and only what is ready, near before far, and the order of the input does not matter', () => {
    const region = fc.constantFrom(ams, iad, syd, 'garage' as RegionCode)
    const arbitrary = fc.uniqueArray(
      fc.record({
        id: fc.string({ minLength: 1, maxLength: 3 }),
        region,
        app: fc.constantFrom('shop', 'blog', 'gone'),
        routed: fc.boolean(),
        state: fc.constantFrom('started', 'stopping', 'failed', null),
        passing: fc.boolean(),
      }),
      { selector: (m) => m.id, maxLength: 12 },
    )
    const trips = fc.dictionary(
      fc.constantFrom('host-ams', 'host-iad', 'host-syd'),
      fc.integer({ min: 0, max: 400 }),
    )
    fc.assert(
      fc.property(arbitrary, trips, fc.integer(), (machines, measured, turn) => {
        const views = machines.map((m) =>
          machine(m.id, m.region, {
            app: m.app,
            routed: m.routed,
            status:
              m.state === null
                ? null
                : status(m.id, {
                    state: m.state as MachineStatus['state'],
                    checks: [
                      {
                        name: 'servicecheck-00-tcp-8080',
                        status: m.passing ? 'passing' : 'critical',
                        output: '',
                        updatedAt: 1,
                      },
                    ],
                  }),
          }),
        )
        const changes = {
          apps: [{ name: 'shop' as AppName }, { name: 'blog' as AppName }],
          roundTripMs: new Map(Object.entries(measured) as [HostId, number][]),
        }
        const routes = routesFor(request(views, changes))
        expect(routes.map((r) => r.app)).toEqual(['blog', 'shop'])
        for (const route of routes) {
          const wanted = views.filter(
            (v) => v.app === route.app && v.routed && v.status !== null && isReady(v.status),
          )
          expect(new Set(route.targets.map((t) => t.machine))).toEqual(
            new Set(wanted.map((v) => v.id)),
          )
          expect(route.targets.every((t) => (t.rank === 0) === (t.region === ams))).toBe(true)
          const ranks = route.targets.map((t) => t.rank)
          expect(ranks).toEqual(ranks.toSorted((a, b) => a - b))
        }
        const at = views.length === 0 ? 0 : Math.abs(turn) % views.length
        const turned = [...views.slice(at), ...views.slice(0, at)]
        expect(routesFor(request(turned, changes))).toEqual(routes)
      }),
    )
  })
})

describe('machines on their way', () => {
  const starting = { kind: 'starting', stopsAt: null } as const
  const old = { kind: 'replaced', stopsAt: 50_000 } as const
  const asked = request([
    machine('1', iad, { status: null, coming: starting }),
    machine('2', ams, { routed: false, coming: old }),
    machine('3', ams, { coming: starting }),
    machine('4', ams, { status: null, coming: starting, services: [] }),
  ])

  test('are named with where they will answer, nearest first; what is up is none', () => {
    const { targets, coming } = only(asked)
    expect(targets.map((t) => t.machine)).toEqual(['3'])
    expect(coming.map((c) => [c.machine, c.rank, c.port, c.coming])).toEqual([
      ['2', 0, 8080, old],
      ['1', 1, 8080, starting],
    ])
  })

  test('serve where the server was not heard for long, but not while they may be stopped', () => {
    const routes = routesFor(asked)
    const at = (unheardMs: number, now: number) =>
      withoutServer(routes, unheardMs, now).flatMap((route) => route.targets.map((t) => t.machine))
    expect(at(14_999, 0)).toEqual(['3'])
    expect(at(15_000, 0)).toEqual(['3', '1'])
    expect(at(15_000, 50_000)).toEqual(['2', '3', '1'])
    // The clock was set back by a day: no drain is that long.
    expect(at(15_000, -86_400_000)).toEqual(['2', '3', '1'])
  })
})
