import { isDeepStrictEqual } from 'node:util'
import type { RecordValues } from '@roost/api'
import { silentLogger } from '@roost/base'
import type { HostId, RegionCode } from '@roost/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createLocator } from './dns/client-location.ts'
import { routesOf, settingsOf, zoneOf } from './edge-view.ts'
import { NOTHING_OBSERVED, planChanges } from './haproxy/plan-changes.ts'
import { tlsListsOf } from './haproxy/tls-lists.ts'
import { type CheckedKind, checkRecord } from './record/check-record.ts'
import type { GoodRecords } from './record/good-records.ts'
import { portRules } from './service/port-rules.ts'

const HOST = 'a'.repeat(14)
const machine = {
  id: '00000000000001',
  app: 'shop',
  host: HOST,
  region: 'ams',
  privateIpv4: '10.210.4.2',
  routed: true,
  coming: null,
  statics: {
    image: `sha256:${'a'.repeat(64)}`,
    folders: [{ guest_path: '/app/public', url_prefix: '/assets' }],
  },
  status: {
    state: 'started',
    startedAt: 5,
    checks: [{ name: 'up', status: 'passing', output: '', updatedAt: 1 }],
  },
  services: [
    {
      protocol: 'tcp',
      internal_port: 8080,
      autostop: 'off',
      checks: [],
      concurrency: { type: 'requests', soft_limit: 20, hard_limit: 25 },
      ports: [
        { port: 80, handlers: ['http'], force_https: true },
        {
          port: 443,
          handlers: ['tls', 'http'],
          force_https: false,
          http_options: {
            ...{ compress: true, h2_backend: true, idle_timeout: 9 },
            response: { headers: { a: 'b', c: ['d'], e: false }, pristine: true },
            replay_cache: [{ path_prefix: '/', ttl_seconds: 60, type: 'cookie', name: 'a' }],
          },
          tls_options: { alpn: ['h2'], versions: ['TLSv1.3'] },
        },
        { port: 5432, handlers: ['pg_tls'], force_https: false },
        {
          ...{ port: 9000, end_port: 9009, handlers: ['proxy_proto'], force_https: false },
          proxy_proto_options: { version: 'v2' },
        },
      ],
    },
    {
      protocol: 'udp',
      internal_port: 5060,
      checks: [],
      concurrency: { type: 'connections', soft_limit: 20, hard_limit: null },
      ports: [{ port: 5060, handlers: [], force_https: false }],
    },
  ],
}
const RECORDS: { readonly [K in CheckedKind]: object } = {
  settings: {
    domain: 'roost.test',
    clientNetworks: [{ cidr: '198.18.0.0/15', region: 'ams' }],
  },
  host: { id: HOST, name: 'ams-1', region: 'ams', number: 1, publicAddress: '198.18.1.1' },
  app: { name: 'shop', createdAt: 1, release: 1 },
  machine,
  hostname: { name: 'www.example.com', app: 'shop', acme: true, createdAt: 1, provenAt: null },
  certificate: {},
}

type Path = readonly string[]

function pathsIn(value: unknown, at: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [at]
  return [at, ...Object.entries(value).flatMap(([key, inner]) => pathsIn(inner, [...at, key]))]
}

/** `undefined` takes it away. */
function withAt(value: unknown, [key, ...rest]: Path, put: unknown): unknown {
  if (key === undefined) return put
  const entries = Object.entries(value as object)
    .map(([name, inner]) => [name, name === key ? withAt(inner, rest, put) : inner] as const)
    .filter(([, inner]) => inner !== undefined)
  return Array.isArray(value) ? entries.map(([, inner]) => inner) : Object.fromEntries(entries)
}

/** All that an edge makes of its records. */
function workWith(records: GoodRecords): readonly string[] {
  const self = { host: HOST as HostId, region: 'ams' as RegionCode }
  const trips = { isAlive: () => true, roundTrips: () => new Map(), roundTripsOf: () => new Map() }
  const routes = routesOf(records, self, trips)
  createLocator(settingsOf(records)?.clientNetworks ?? [], () => null, silentLogger)
  zoneOf(records, self, trips, { serving: true, revision: 1, challengeTexts: () => [] })
  tlsListsOf(routes, 'roost.test')
  portRules({
    ...{ table: 't', address: '198.18.1.1', httpsPort: 443, self: self.host, routes },
    ports: { http: 1, https: 2, tcp: 3, tls: 4, pg_tls: 5, passthrough: 6 },
  })
  return planChanges({
    ...{ routes, observed: NOTHING_OBSERVED, slots: 9, hostsMap: 'h', secureMap: 's' },
    holdSocket: 'hold',
    services: {
      pools: { o: 9, c: 9, t: 9 },
      httpsPort: 443,
      maps: { names: 'n', ports: 'p', options: 'o', statics: 'f' },
    },
  }).commands
}

function recordsWith(kind: CheckedKind, value: unknown): GoodRecords {
  const all = { ...RECORDS, [kind]: value }
  return {
    list: <K extends CheckedKind>(wanted: K) =>
      (wanted === 'certificate' ? [] : [all[wanted]]) as unknown as readonly RecordValues[K][],
    refused: () => [],
    refresh: () => {},
  }
}

test('whatever is changed in a record: it is refused, or can be worked with and tells HAProxy no second command', () => {
  const counts = { refused: 0, good: 0 }
  const changed = fc
    .constantFrom<CheckedKind>('settings', 'host', 'app', 'machine', 'hostname')
    .chain((kind) =>
      fc.record({
        kind: fc.constant(kind),
        path: fc.constantFrom(...pathsIn(RECORDS[kind])),
        put: fc.oneof(
          fc.jsonValue(),
          fc.constant(undefined),
          fc.constantFrom('a\nb', 'x; shutdown sessions', '} accept', '*', '', -1, 65536, 1e9),
        ),
      }),
    )
  fc.assert(
    fc.property(changed, ({ kind, path, put }) => {
      const value = withAt(RECORDS[kind], path, put)
      if (checkRecord(kind, value).kind === 'bad') {
        counts.refused += 1
        return
      }
      if (!isDeepStrictEqual(value, RECORDS[kind])) counts.good += 1
      for (const command of workWith(recordsWith(kind, value)))
        expect(command).not.toMatch(/[\n\r;\\]/)
    }),
    { numRuns: 2000 },
  )
  expect(counts.refused).toBeGreaterThan(300)
  expect(counts.good).toBeGreaterThan(100)
})
