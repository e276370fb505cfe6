import { HELD_MAX } from '@roost/core'
import { connectionLogRules } from './log-rules.ts'
import { POOLS, type PoolCounts, poolOfSlot, slotsOf } from './pools.ts'
import type { ProxyFiles, ProxyShape } from './render-config.ts'
import { servicesScript } from './services-script.ts'
import { connectionLimit } from './source-limits.ts'

/**
 * What HAProxy needs for services other than HTTP on 80 and 443. It listens on a few ports of its own, one for each kind of service; the
 * host's rules (see `port-rules.ts`) lead any public port to one of them, and HAProxy sees which port was meant. So a port comes or
 * goes without a reload. Who comes to those ports directly finds nothing.
 */
export interface ServiceShape {
  /** Of the public address. */
  readonly ports: ServicePorts
  readonly pools: Omit<PoolCounts, 's'>
  readonly files: ServiceFiles
}
export interface ServicePorts {
  readonly http: number
  readonly https: number
  readonly tcp: number
  readonly tls: number
  readonly pg_tls: number
  /** TLS for all apps, where some of them end it by themselves, or want what is inside as it is. */
  readonly passthrough: number
}
export interface ServiceFiles {
  readonly names: string
  readonly ports: string
  readonly options: string
  readonly statics: string
  readonly script: string
  /** Certificates with options, for HTTP inside TLS and for anything else. */
  readonly httpsList: string
  readonly tlsList: string
  /** Abstract sockets on which HAProxy comes to itself: to end TLS, and with what other apps than those by `raw:` have on 443. */
  readonly tlsSocket: string
  readonly httpsSocket: string
}
export interface WebFrontend {
  readonly name: string
  readonly binds: readonly string[]
  /** Rules that make of `txn.host` what the hosts map has. */
  readonly find: readonly string[]
}

/** Servers that are HAProxy itself, who sees the same connection again. */
const PASSED_ON = ['tls', 'https'] as const
export const isPassedOn = (server: string): boolean => PASSED_ON.some((one) => one === server)

export function serviceSlots(services: ServiceShape | undefined): string[] {
  if (services === undefined) return []
  const counts = { ...services.pools, s: 0 }
  return POOLS.flatMap((pool) => slotsOf(pool, counts))
}

/** Where the frontend for HTTPS gets what came by way of the passthrough. */
export function secondHttpsBind({ services }: ProxyShape, options: string): string[] {
  return services === undefined
    ? []
    : [`  bind abns@${services.files.httpsSocket} accept-proxy${options}`]
}

/** For requests that wait and did not come to 80 or 443. */
export function serviceHoldRules(
  { hostsMap }: Pick<ProxyFiles, 'hostsMap'>,
  services: ServiceShape | undefined,
): string[] {
  if (services === undefined) return []
  return [
    `  http-request set-var(txn.port) req.hdr(fly-forwarded-port),map_int(${services.files.ports})`,
    '  http-request set-var(txn.named) var(txn.host),concat(:,txn.port) if { var(txn.port) -m found }',
    `  http-request set-var(txn.host) var(txn.named) if { var(txn.named),map_str(${hostsMap}) -m found }`,
  ]
}

/** What a slot does besides balancing. */
export function slotRules(slot: string, services: ServiceShape | undefined): string[] {
  const pool = poolOfSlot(slot)
  if (services === undefined || (pool !== 'o' && pool !== 'c')) return []
  const part = (number: number) => `var(txn.options),field(${number},|)`
  const idle = `{ ${part(1)} -m int gt 0 }`
  return [
    `  http-request set-var(txn.options) str(${slot}),map_str(${services.files.options})`,
    `  http-request set-var(txn.pristine) bool(true) if { ${part(2)} -m str 1 }`,
    `  http-request set-timeout server ${part(1)} if ${idle}`,
    `  http-request set-timeout tunnel ${part(1)} if ${idle}`,
    `  http-response lua.dress if { ${part(3)} -m len gt 0 }`,
    ...(pool === 'c' ? COMPRESSION : []),
  ]
}

const COMPRESSION = [
  '  filter compression',
  '  compression algo gzip',
  '  compression type text/ application/json application/javascript application/xml application/wasm application/manifest+json application/rss+xml application/atom+xml application/xhtml+xml application/ld+json image/svg+xml font/ttf font/otf',
]

type MakeWeb = (scheme: 'http' | 'https', web: WebFrontend) => string[]

export function renderServices(
  shape: ProxyShape,
  webFrontend: MakeWeb,
): {
  readonly web: readonly string[]
  readonly tcp: readonly string[]
  /** All that is not servers. */
  readonly structure: readonly string[]
  readonly counts: readonly number[]
} {
  const { services } = shape
  if (services === undefined) return { web: [], tcp: [], structure: [], counts: [] }
  const web = [
    ...webFrontend('http', webOn(shape, services, 'web', services.ports.http, '')),
    ...(shape.https === null
      ? []
      : webFrontend(
          'https',
          webOn(
            shape,
            services,
            'websecure',
            services.ports.https,
            `${tlsBind(shape, services.files, 'https')} alpn h2,http/1.1`,
          ),
        )),
  ]
  const tcp = [
    ...tcpDefaults(),
    ...rawFrontend(shape, services),
    ...(shape.https === null ? [] : tlsFrontends(shape, services)),
    ...holdTcp(shape, services),
  ]
  const rules = serviceSlots(services).flatMap((slot) => [slot, ...slotRules(slot, services)])
  return {
    web,
    tcp,
    structure: [...web, ...tcp, ...rules, servicesScript(shape.files.askSocket)],
    counts: POOLS.filter((pool) => pool !== 's').map((pool) => services.pools[pool as 't']),
  }
}

const tlsBind = (
  { https, files: { certificates } }: ProxyShape,
  { httpsList, tlsList }: ServiceFiles,
  inside: 'https' | 'tls',
): string =>
  https === null
    ? ''
    : ` ssl crt ${https.certificateFile} crt-list ${certificates.list} crt-list ${certificates[inside]} crt-list ${inside === 'https' ? httpsList : tlsList}`

function bind({ http }: ProxyShape, port: number, options = ''): string {
  return `  bind ${http.address}:${port}${options}`
}

/** HTTP on any other port: the host name and the port together say which app. */
function webOn(
  shape: ProxyShape,
  { files }: ServiceShape,
  name: string,
  port: number,
  options: string,
): WebFrontend {
  const httpsPort = shape.https && shape.https.port !== 443 ? `:${shape.https.port}` : ''
  return {
    name,
    binds: [bind(shape, port, options)],
    find: [
      '  http-request set-var(txn.bare) var(txn.host)',
      `  http-request set-var(txn.port) dst_port,map_int(${files.ports})`,
      '  http-request set-var(txn.host) var(txn.bare),concat(:,txn.port)',
      ...(name === 'web' && shape.https !== null
        ? [
            `  http-request redirect location https://%[var(txn.bare)]${httpsPort}%[capture.req.uri] code 301 if { var(txn.host),map_str(${shape.files.secureMap}) -m found }`,
          ]
        : []),
    ],
  }
}

function tcpDefaults(): string[] {
  return [
    'defaults',
    '  mode tcp',
    '  balance leastconn',
    '  timeout connect 1300ms',
    '  timeout check 1300ms',
    '  timeout client 60s',
    '  timeout server 125s',
    '  timeout queue 5s',
    '  timeout tunnel 1h',
    '  option redispatch 1',
    '  option abortonclose',
    '  option clitcpka',
    '  option srvtcpka',
    '  retries 3',
    '',
  ]
}

const findPort = ({ files }: ServiceShape) => [
  `  tcp-request content set-var(txn.port) dst_port,map_int(${files.ports})`,
  '  tcp-request content reject unless { var(txn.port) -m found }',
]
const toSlot = [
  '  tcp-request content reject unless { var(txn.slot) -m found }',
  '  use_backend %[var(txn.slot)]',
  '',
]

/** Whoever speaks first: nothing is read here. */
function rawFrontend(shape: ProxyShape, services: ServiceShape): string[] {
  return [
    'frontend tcp',
    bind(shape, services.ports.tcp),
    `  maxconn ${shape.maxConnections}`,
    ...connectionLimit(shape.maxConnections),
    ...connectionLogRules('edge'),
    ...findPort(services),
    `  tcp-request content set-var(txn.slot) str(tcp:),concat(,txn.port),map_str(${services.files.names})`,
    ...toSlot,
  ]
}

function tlsFrontends(shape: ProxyShape, services: ServiceShape): string[] {
  const { ports, files } = services
  const named = (name: string) =>
    `  tcp-request content set-var(txn.slot) str(tls:),concat(,${name},:),concat(,txn.port),map_str(${files.names})`
  return [
    'frontend tls',
    bind(shape, ports.tls, tlsBind(shape, files, 'tls')),
    `  bind abns@${files.tlsSocket} accept-proxy${tlsBind(shape, files, 'tls')}`,
    `  maxconn ${shape.maxConnections}`,
    ...connectionLimit(shape.maxConnections),
    ...connectionLogRules('edge', true),
    ...findPort(services),
    '  tcp-request content set-var(txn.sni) ssl_fc_sni,lower',
    '  tcp-request content set-var(txn.any) str(*)',
    named('txn.sni'),
    `${named('txn.any')} unless { var(txn.slot) -m found }`,
    ...toSlot,
    // Postgres begins TLS in the middle of a conversation: answered by the script, then all goes the way of TLS.
    'frontend postgres',
    bind(shape, ports.pg_tls),
    `  maxconn ${shape.maxConnections}`,
    ...connectionLimit(shape.maxConnections),
    ...findPort(services),
    '  tcp-request inspect-delay 10s',
    '  tcp-request content lua.postgres',
    '  tcp-request content reject unless { var(txn.postgres) -m str tls }',
    '  default_backend to_tls',
    '',
    'frontend named',
    bind(shape, ports.passthrough),
    `  maxconn ${shape.maxConnections}`,
    ...connectionLimit(shape.maxConnections),
    ...connectionLogRules('edge'),
    '  tcp-request inspect-delay 5s',
    // Nothing after it is looked at before the first message is there.
    '  tcp-request content set-var(txn.sni) req.ssl_sni,lower if { req.ssl_hello_type 1 }',
    `  tcp-request content set-var(txn.slot) str(raw:),concat(,txn.sni),map_str(${files.names})`,
    `  tcp-request content set-var(txn.inside) str(tls:),concat(,txn.sni,:443),map_str(${files.names})`,
    '  use_backend %[var(txn.slot)] if { var(txn.slot) -m found }',
    '  use_backend to_tls if { var(txn.inside) -m found }',
    '  default_backend to_https',
    '',
    'backend to_tls',
    `  server ${PASSED_ON[0]} abns@${files.tlsSocket} send-proxy-v2`,
    'backend to_https',
    `  server ${PASSED_ON[1]} abns@${files.httpsSocket} send-proxy-v2`,
    '',
  ]
}

/** As `hold` for HTTP. The socket is that of the slot: what was said by then says nothing about the app. */
function holdTcp({ files, maxConnections }: ProxyShape, services: ServiceShape): string[] {
  return [
    'frontend hold_tcp',
    ...slotsOf('t', { ...services.pools, s: 0 }).map(
      (slot) => `  bind abns@${files.holdSocket}.${slot} name ${slot} accept-proxy`,
    ),
    `  maxconn ${maxConnections + HELD_MAX}`,
    '  timeout client 125s',
    ...connectionLogRules('detour'),
    '  tcp-request inspect-delay 70s',
    '  tcp-request content lua.hold_tcp',
    '  tcp-request content set-var(txn.slot) so_name',
    '  tcp-request content reject if { var(txn.why) -m found }',
    '  use_backend %[so_name]',
    '',
  ]
}
