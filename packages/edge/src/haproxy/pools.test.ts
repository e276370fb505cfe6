import type {
  AppName,
  HostId,
  HttpOptions,
  Listener,
  MachineId,
  RegionCode,
  Route,
} from '@roost/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { entryName } from './entry.ts'
import type { ObservedEntry, ObservedProxy } from './observed-proxy.ts'
import { planChanges } from './plan-changes.ts'
import { type Pool, poolOf, poolOfSlot } from './pools.ts'

const MAPS = {
  names: '/names.map',
  ports: '/ports.map',
  options: '/options.map',
  statics: '/statics.map',
}

function route(
  app: string,
  kind: Listener['kind'] | 'web',
  http: HttpOptions = {},
  up = true,
): Route {
  const names = { web: [`${app}.test`], https: [`${app}.test:8443`] }
  return {
    key: `${app}/${kind}`,
    app: app as AppName,
    hostnames: kind === 'web' || kind === 'https' ? names[kind] : [`${kind}:${app}`],
    forceHttps: false,
    concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
    targets: up
      ? [
          {
            machine: '00000000000001' as MachineId,
            host: 'h' as HostId,
            region: 'ams' as RegionCode,
            address: '10.210.4.2',
            port: 8080,
            rank: 0,
            ...(http.h2_backend ? { dialect: 'h2' as const } : {}),
          },
        ]
      : [],
    coming: [],
    http,
    ...(kind === 'web' ? {} : { listener: { kind, from: 8443, to: 8443 } }),
  }
}

const plan = (routes: readonly Route[], observed: ObservedProxy, count = 4) =>
  planChanges({
    routes,
    observed,
    slots: count,
    hostsMap: '/hosts.map',
    secureMap: null,
    holdSocket: 'hold',
    services: { pools: { o: count, c: count, t: count }, httpsPort: 443, maps: MAPS },
  })

/** As HAProxy is when all that was planned is done and what left is gone. */
function done(made: ReturnType<typeof plan>): ObservedProxy {
  const slots = [...made.servers].map(([slot, entries]): [string, ObservedEntry[]] => [
    slot,
    entries.map((entry) => ({
      name: entryName(entry),
      entry,
      endpoint: `${entry.address}:${entry.port}`,
      maxConnections: 0,
      maint: false,
      up: true,
      checking: true,
      sessions: 0,
      sessionsTotal: 0,
      secondsInState: 9,
    })),
  ])
  return { hosts: made.hosts, secure: new Set(), slots: new Map(slots), services: made.services }
}
const NOTHING: ObservedProxy = { hosts: new Map(), secure: new Set(), slots: new Map() }

describe('slots of different make', () => {
  test.each<[Listener['kind'] | 'web', HttpOptions, Pool]>([
    ['web', {}, 's'],
    ['web', { h2_backend: true }, 's'],
    ['https', { idle_timeout: 5 }, 'o'],
    ['web', { response: { pristine: true } }, 'o'],
    ['web', { response: { headers: { a: false } } }, 'o'],
    ['https', { compress: true, idle_timeout: 5 }, 'c'],
    ['tls', {}, 't'],
    ['passthrough', {}, 't'],
  ])('%s with %j takes one of %s', (kind, http, pool) => {
    expect(poolOf(route('shop', kind, http))).toBe(pool)
    const made = plan([route('shop', kind, http)], NOTHING)
    const [slot = ''] = made.servers.keys()
    expect(poolOfSlot(slot)).toBe(pool)
  })

  test('an app that asks for more is served where that is done before its old slot is left', () => {
    const before = done(plan([route('shop', 'web')], NOTHING))
    const { commands } = plan([route('shop', 'web', { idle_timeout: 5 })], before)
    const at = (part: string) => commands.findIndex((command) => command.includes(part))
    const order = [
      at('add server o0/'),
      at('o0/00000000000001.a0 state ready'),
      at('add map /options.map o0'),
      at('set map /hosts.map shop.test o0'),
      at('set server s0/00000000000001.a0 state maint'),
    ]
    expect(order).not.toContain(-1)
    expect(order).toEqual(order.toSorted((a, b) => a - b))
  })

  test('a machine that is spoken to in another way is entered anew, under the same address', () => {
    const before = done(plan([route('shop', 'web')], NOTHING))
    const { commands } = plan([route('shop', 'web', { h2_backend: true })], before)
    expect(commands[0]).toMatch(/^add server s0\/00000000000001\.a0-h2 .* proto h2 /)
    expect(commands.at(-1)).toBe('set server s0/00000000000001.a0 state maint')
  })

  test('servers by which HAProxy comes to itself are left alone', () => {
    const own = done(plan([route('shop', 'tls')], NOTHING))
    const server = { ...(own.slots.get('t0')?.[0] as ObservedEntry), name: 'tls', entry: null }
    const slots = new Map([...own.slots, ['to_tls', [server]]])
    expect(JSON.stringify(plan([], { ...own, slots }))).not.toContain('to_tls')
  })

  test('what is missing is said by its kind, and all else is served', () => {
    const routes = ['a', 'b', 'c'].map((app) => route(app, 'tls'))
    const made = plan([...routes, route('a', 'web')], NOTHING, 2)
    expect([made.missingSlots, made.missingPools]).toEqual([1, ['t']])
    expect([...made.servers.keys()].sort()).toEqual(['s0', 't0', 't1'])
    // TCP has no name that would lead to where nobody serves.
    expect(made.services.names.size).toBe(2)
  })

  test('whatever is asked for after whatever was: each route has a slot of its kind, of its own, and keeps it', () => {
    const one = fc.record({
      app: fc.constantFrom('a', 'b', 'c'),
      kind: fc.constantFrom<Listener['kind'] | 'web'>('web', 'https', 'tls', 'tcp', 'udp'),
      http: fc.constantFrom<HttpOptions>({}, { compress: true }, { idle_timeout: 5 }),
    })
    const many = fc.uniqueArray(one, {
      selector: ({ app, kind }) => `${app} ${kind}`,
      maxLength: 6,
    })
    fc.assert(
      fc.property(fc.array(many, { minLength: 1, maxLength: 4 }), (steps) => {
        let observed = NOTHING
        for (const wanted of steps) {
          const routes = wanted.map(({ app, kind, http }) =>
            route(app, kind, kind === 'web' || kind === 'https' ? http : {}),
          )
          const made = plan(routes, observed, 8)
          const again = plan(routes, done(made), 8)
          const taken = new Set<string>()
          for (const asked of routes.filter(({ listener }) => listener?.kind !== 'udp')) {
            const names = poolOf(asked) === 't' ? made.services.names : made.hosts
            const slot = names.get(asked.hostnames[0] ?? '') ?? ''
            expect(poolOfSlot(slot)).toBe(poolOf(asked))
            expect(taken.has(slot)).toBe(false)
            taken.add(slot)
          }
          expect([...again.services.names]).toEqual([...made.services.names])
          expect([...again.hosts]).toEqual([...made.hosts])
          observed = done(made)
        }
      }),
    )
  })
})
