import { execFileSync } from 'node:child_process'
import type { AppName, HostId, Listener, MachineId, RegionCode, Route } from '@roost/core'
import { expect, test } from 'vitest'
import { noPortRules, type PortRulesInput, portRules } from './port-rules.ts'

const target = (n: number, rank: number) => ({
  machine: `${n}` as MachineId,
  host: `h${rank}` as HostId,
  region: `r${rank}` as RegionCode,
  address: `10.210.4.${n}`,
  port: 5060,
  rank,
})
const route = (kind: Listener['kind'], from: number, to = from, ranks: number[] = [0]): Route => ({
  key: `${kind}/${from}`,
  app: 'shop' as AppName,
  hostnames: [],
  forceHttps: false,
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  targets: ranks.map((rank, n) => target(n + 1, rank)),
  coming: [],
  listener: { kind, from, to },
})
const input = (routes: Route[], changes: Partial<PortRulesInput> = {}): PortRulesInput => ({
  table: 'roost_edge_test',
  address: '198.18.1.1',
  ports: { http: 4284, https: 4285, tcp: 4286, tls: 4287, pg_tls: 4288, passthrough: 4289 },
  httpsPort: 443,
  self: 'h0' as HostId,
  routes,
  ...changes,
})
function accepted(rules: string | null): string {
  execFileSync('nft', ['--check', '-f', '-'], { input: rules ?? '' })
  return (rules ?? '').replace(/\s+/g, ' ')
}

test('each kind is led to where HAProxy listens for it, and what is shared once', () => {
  const rules = accepted(
    portRules(
      input([
        route('tcp', 25),
        route('tcp', 9000, 9100),
        route('tls', 8883),
        route('tls', 8883),
        route('pg_tls', 5432),
        route('http', 8080),
      ]),
    ),
  )
  expect(rules).toContain('tcp dport { 25, 9000-9100 } dnat to 198.18.1.1:4286')
  expect(rules).toContain('tcp dport { 8883 } dnat to 198.18.1.1:4287')
  expect(rules).toContain('tcp dport { 5432 } dnat to 198.18.1.1:4288')
  expect(rules).not.toContain('443')
})

test('443 goes its own way only while some app needs it', () => {
  const way = 'tcp dport { 443 } dnat to 198.18.1.1:4289'
  expect(accepted(portRules(input([route('passthrough', 443)])))).toContain(way)
  expect(accepted(portRules(input([route('tls', 443)])))).toContain(way)
  expect(portRules(input([route('tls', 443), route('tls', 8883)], { httpsPort: null }))).toBeNull()
  expect(portRules(input([]))).toBeNull()
  accepted(noPortRules('roost_edge_test'))
})

test('UDP goes to machines of the nearest region, by way of this host to those elsewhere', () => {
  const near = accepted(portRules(input([route('udp', 5061, 5061, [0, 0, 1])])))
  expect(near).toContain(
    'dnat ip addr . port to jhash ip saddr . udp sport mod 2 map { 0 : 10.210.4.1 . 5060, 1 : 10.210.4.2 . 5060 }',
  )
  expect(near).not.toContain('masquerade')
  const far = accepted(portRules(input([route('udp', 6000, 6010, [1])])))
  expect(far).toContain('mod 1 map { 0 : 10.210.4.1 }')
  expect(far).toContain('ip daddr { 10.210.4.1 } masquerade')
  expect(portRules(input([route('udp', 6000, 6010, [])]))).toBeNull()
})
