import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AppName, HostId, MachineId, RegionCode } from '../id.ts'
import type { MachinePort, MachineService, PortHandler } from '../machine/config.ts'
import type { MachineStatus } from '../machine/machine.ts'
import { canShare } from './port-claims.ts'
import type { Route } from './route.ts'
import { type RoutableMachine, routesFor } from './routes-for.ts'
import { serviceRoutesFor } from './service-routes.ts'

const ams = 'ams' as RegionCode

const port = (
  number: number,
  handlers: PortHandler[] = [],
  changes: Partial<MachinePort> = {},
) => ({
  port: number,
  handlers,
  force_https: false,
  ...changes,
})
const service = (ports: MachinePort[], changes: Partial<MachineService> = {}): MachineService => ({
  protocol: 'tcp',
  internal_port: 8080,
  ports,
  checks: [],
  concurrency: { type: 'connections', soft_limit: 20, hard_limit: null },
  autostop: 'off',
  autostart: true,
  min_machines_running: 0,
  ...changes,
})
const machine = (
  id: string,
  app: string,
  services: MachineService[],
  changes: Partial<RoutableMachine> & { startedAt?: number } = {},
): RoutableMachine => ({
  id: id as MachineId,
  app,
  host: 'h' as HostId,
  region: ams,
  privateIpv4: '10.210.4.2',
  services,
  routed: true,
  status: {
    state: 'started',
    checks: [],
    startedAt: changes.startedAt ?? 1,
  } as unknown as MachineStatus,
  ...changes,
})

function routes(machines: RoutableMachine[], apps: readonly string[] = ['shop', 'blog']) {
  const request = {
    self: { host: 'h' as HostId, region: ams },
    hosts: [{ id: 'h' as HostId, region: ams }],
    // In the order of their names, as they were created.
    apps: apps.map((name, createdAt) => ({ name: name as AppName, createdAt })),
    machines,
    roundTripMs: new Map(),
    domain: 'roost.test',
  }
  return serviceRoutesFor(request, routesFor(request))
}
const shown = (found: readonly Route[]) =>
  found.map(({ key, hostnames, targets }) => [key, hostnames, targets.map((t) => t.machine)])

describe('serviceRoutesFor', () => {
  test('a port that is not for the web is a route of its own, found by what its visitors say', () => {
    const services = [
      service([port(80, ['http']), port(443, ['tls', 'http'])]),
      service([port(5432, ['pg_tls']), port(25), port(8080, ['http'])], { internal_port: 9000 }),
      service([port(6000, [], { end_port: 6010 })], { protocol: 'udp', internal_port: 6000 }),
    ]
    expect(shown(routes([machine('a', 'shop', services)]))).toEqual([
      ['shop/http/8080', ['shop.roost.test:8080'], ['a']],
      ['shop/pg_tls/5432', ['tls:shop.roost.test:5432', 'tls:*:5432'], ['a']],
      ['shop/tcp/25', ['tcp:25'], ['a']],
      ['shop/udp/6000', [], ['a']],
    ])
  })

  test('who is alone on a TLS port gets all its visitors, two are told apart by name; 443 is never alone', () => {
    const tls = service([port(8883, ['tls']), port(443, ['tls'])])
    const one = machine('a', 'shop', [tls])
    const names = (found: readonly Route[]) => found.flatMap((route) => route.hostnames)
    expect(names(routes([one]))).toEqual([
      'tls:shop.roost.test:443',
      'tls:shop.roost.test:8883',
      'tls:*:8883',
    ])
    expect(
      names(routes([one, machine('b', 'blog', [tls])])).filter((n) => n.includes('*')),
    ).toEqual([])
    expect(names(routes([machine('c', 'shop', [service([port(443)])])]))).toEqual([
      'raw:shop.roost.test',
    ])
  })

  test('of two apps that want one port, the older has it', () => {
    const smtp = service([port(25)])
    const both = [machine('a', 'shop', [smtp]), machine('b', 'blog', [smtp])]
    expect(shown(routes(both))).toEqual([['shop/tcp/25', ['tcp:25'], ['a']]])
    expect(shown(routes(both, ['blog', 'shop']))).toEqual([['blog/tcp/25', ['tcp:25'], ['b']]])
  })

  test('while a release changes how a port is served, the way of most ready machines holds, then the newest', () => {
    const [raw, secure] = [service([port(9000)]), service([port(9000, ['tls'])])]
    const old = [machine('a', 'shop', [raw]), machine('b', 'shop', [raw])]
    const young = machine('c', 'shop', [secure], { startedAt: 5 })
    expect(shown(routes([...old, young]))).toEqual([['shop/tcp/9000', ['tcp:9000'], ['a', 'b']]])
    const [, left] = old
    expect(routes([left as RoutableMachine, young]).map(({ key }) => key)).toEqual([
      'shop/tls/9000',
    ])
  })

  test('options are those of the newest machine that serves', () => {
    const web = (compress: boolean) =>
      service([port(9000, ['http'], { http_options: { compress } })])
    const found = routes([
      machine('a', 'shop', [web(false)]),
      machine('b', 'shop', [web(true)], { startedAt: 5 }),
      machine('c', 'shop', [web(false)], { startedAt: 9, status: null }),
    ])
    expect(found[0]?.http).toEqual({ compress: true })
  })

  test('whatever is asked for: no port leads to two apps that can not share it, and order does not matter', () => {
    const anyPort = fc
      .tuple(
        fc.integer({ min: 440, max: 450 }),
        fc.integer({ min: 0, max: 3 }),
        fc.constantFrom<PortHandler[]>([], ['tls'], ['tls', 'http'], ['http'], ['pg_tls']),
      )
      .map(([from, more, handlers]) =>
        port(from, handlers, more === 0 ? {} : { end_port: from + more }),
      )
    const anyMachine = fc.record({
      id: fc.string({ minLength: 1, maxLength: 3 }),
      app: fc.constantFrom('shop', 'blog', 'gone'),
      ports: fc.array(anyPort, { maxLength: 3 }),
      protocol: fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
      routed: fc.boolean(),
      startedAt: fc.integer({ min: 0, max: 3 }),
    })
    const many = fc.uniqueArray(anyMachine, { selector: ({ id }) => id, maxLength: 8 })
    fc.assert(
      fc.property(many, fc.integer(), (asked, turn) => {
        const machines = asked.map(({ id, app, ports, protocol, ...rest }) =>
          machine(id, app, [service(ports, { protocol })], rest),
        )
        const found = routes(machines)
        const claims = found.map(({ app, listener }) => ({
          app,
          protocol: listener?.kind === 'udp' ? ('udp' as const) : ('tcp' as const),
          kind: listener?.kind ?? 'tcp',
          from: listener?.from ?? 0,
          to: listener?.to ?? 0,
        }))
        for (const a of claims)
          for (const b of claims) if (a.app !== b.app) expect(canShare(a, b)).toBe(true)
        const names = found.flatMap(({ hostnames }) => hostnames)
        expect(new Set(names).size).toBe(names.length)
        expect(new Set(found.map(({ key }) => key)).size).toBe(found.length)
        const by = machines.length === 0 ? 0 : Math.abs(turn) % machines.length
        const turned = [...machines.slice(by), ...machines.slice(0, by)]
        expect(routes(turned)).toEqual(found)
      }),
      { numRuns: 500 },
    )
  })
})
