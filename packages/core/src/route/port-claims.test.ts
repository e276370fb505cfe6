import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { MachinePort, MachineService, PortHandler } from '../machine/config.ts'
import { canShare, claimOf, dialectOf, takenPort, whyRefused } from './port-claims.ts'

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
const service = (protocol: 'tcp' | 'udp', ...ports: MachinePort[]): MachineService => ({
  protocol,
  internal_port: 8080,
  ports,
  checks: [],
  concurrency: { type: 'connections', soft_limit: 20, hard_limit: null },
  autostop: 'off',
  autostart: true,
  min_machines_running: 0,
})

describe('a port', () => {
  test.each<[number, PortHandler[], string | undefined]>([
    [80, ['http'], undefined],
    [443, ['tls', 'http'], undefined],
    [443, ['tls'], 'tls'],
    [443, [], 'passthrough'],
    [8080, ['http'], 'http'],
    [8443, ['tls', 'http'], 'https'],
    [8883, ['tls'], 'tls'],
    [5432, ['pg_tls'], 'pg_tls'],
    [25, [], 'tcp'],
    [25, ['proxy_proto'], 'tcp'],
  ])('%d with %j is served as %s', (number, handlers, kind) => {
    expect(whyRefused('tcp', port(number, handlers), 8080)).toBeNull()
    expect(claimOf('tcp', port(number, handlers))?.kind).toBe(kind)
  })

  test.each<['tcp' | 'udp', MachinePort, string]>([
    ['tcp', port(22), 'port 22 belongs to SSH of the hosts themselves: choose another'],
    ['udp', port(50, [], { end_port: 60 }), 'port 53 belongs to DNS of the edges'],
    ['tcp', port(4000, [], { end_port: 5000 }), 'port 4280 belongs to Roost itself'],
    ['tcp', port(80), 'port 80 is shared by all apps and speaks HTTP'],
    ['tcp', port(79, ['http'], { end_port: 90 }), 'name them by themselves'],
    ['tcp', port(443, ['pg_tls']), 'use another port for pg_tls'],
    ['tcp', port(5432, ['tls', 'pg_tls']), 'pg_tls goes with no other handler'],
    ['tcp', port(9, [], { end_port: 8 }), 'ends at 8, before it begins'],
    ['udp', port(5060, ['tls']), 'udp has no handlers'],
    ['udp', port(6000, [], { end_port: 6010 }), 'set internal_port = 6000'],
    ['tcp', port(9000, ['tls'], { http_options: { compress: true } }), 'need the handler http'],
    ['tcp', port(9000, [], { tls_options: { alpn: ['h2'] } }), 'need the handler tls or pg_tls'],
    [
      'tcp',
      port(9000, ['http', 'proxy_proto'], { http_options: { h2_backend: true } }),
      'do not go together',
    ],
  ])('%s %j is refused', (protocol, asked, why) => {
    expect(whyRefused(protocol, asked, 8080)).toContain(why)
  })

  test('the app is spoken to as it asked', () => {
    expect(dialectOf(port(1, ['proxy_proto']))).toBe('proxy-v1')
    expect(dialectOf(port(1, ['proxy_proto'], { proxy_proto_options: { version: 'v2' } }))).toBe(
      'proxy-v2',
    )
    expect(dialectOf(port(80, ['http'], { http_options: { h2_backend: true } }))).toBe('h2')
    expect(dialectOf(port(80, ['http']))).toBeUndefined()
  })
})

describe('two apps', () => {
  const mine = (asked: MachineService, theirs: MachineService) =>
    takenPort([asked], [{ app: 'other', services: [theirs] }])?.claim.from ?? null

  test('share what a name tells apart, and nothing else', () => {
    const tls = service('tcp', port(8883, ['tls']))
    expect(mine(tls, tls)).toBeNull()
    expect(mine(service('tcp', port(443)), service('tcp', port(443, ['tls'])))).toBeNull()
    expect(mine(tls, service('tcp', port(8883)))).toBe(8883)
    expect(mine(service('tcp', port(25)), service('tcp', port(20, [], { end_port: 30 })))).toBe(25)
    expect(mine(service('udp', port(5060)), service('tcp', port(5060)))).toBeNull()
    expect(mine(service('udp', port(5060)), service('udp', port(5060)))).toBe(5060)
    const web = service('tcp', port(80, ['http']), port(443, ['tls', 'http']))
    expect(mine(web, web)).toBeNull()
  })

  test('what one may share with the other, the other may share with it', () => {
    const claim = fc
      .tuple(
        fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
        fc.integer({ min: 440, max: 450 }),
        fc.integer({ min: 0, max: 5 }),
        fc.constantFrom<PortHandler[]>([], ['tls'], ['tls', 'http'], ['pg_tls']),
      )
      .map(([protocol, from, more, handlers]) =>
        claimOf(protocol, port(from, handlers, { end_port: from + more })),
      )
    fc.assert(
      fc.property(claim, claim, (a, b) => {
        if (a === null || b === null) return
        expect(canShare(a, b)).toBe(canShare(b, a))
        if (a.protocol !== b.protocol || a.to < b.from) expect(canShare(a, b)).toBe(true)
      }),
    )
  })
})
