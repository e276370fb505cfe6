import { createHash } from 'node:crypto'
import { isIPv4 } from 'node:net'
import { HELD_MAX, HOLD_REPLACED_MS } from '@roost/core'
import type { CertificatePaths } from './certificate-files.ts'
import { type Entry, entryName, serverOptions } from './entry.ts'
import { holdScript } from './hold-script.ts'
import { challengeRules, isSecureName, nameRules } from './hostname-rules.ts'
import { accessRules, logRing, logRules } from './log-rules.ts'
import { poolOfSlot } from './pools.ts'
import {
  renderServices,
  type ServiceShape,
  secondHttpsBind,
  serviceHoldRules,
  serviceSlots,
  slotRules,
  type WebFrontend,
} from './render-services.ts'
import { connectionLimit, requestLimit, sourceTables } from './source-limits.ts'
import {
  againConfig,
  EDGES_ALONE,
  FILES_MAX,
  learnRules,
  namedRules,
  REPLAYED_MAX,
  steerRules,
} from './steer-config.ts'
import { steerScript } from './steer-script.ts'

/** What of HAProxy's configuration can't change while it runs. */
export interface ProxyShape {
  readonly region: string
  readonly http: ProxyBind
  /** null: no TLS, since there is nothing to make even a placeholder certificate with. */
  readonly https: (ProxyBind & { readonly certificateFile: string }) | null
  /** Backends called `s0`, `s1`, … that wait for apps. */
  readonly slots: number
  readonly maxConnections: number
  /** Missing: as many as processors. */
  readonly threads?: number | undefined
  /** Missing: `QUEUE_MS`. */
  readonly queueMs?: number | undefined
  /** Missing: `REQUEST_MS`. */
  readonly requestMs?: number | undefined
  readonly files: ProxyFiles
  /** User and group to run as once the ports are bound; null: stay who we are. */
  readonly user: string | null
  /** Missing: HTTP on these two and nothing else. */
  readonly services?: ServiceShape
}
export interface ProxyBind {
  readonly address: string
  readonly port: number
}
export interface ProxyFiles {
  readonly config: string
  readonly pid: string
  /** What HAProxy says while it starts. */
  readonly log: string
  /** Runtime API of the worker. */
  readonly socket: string
  /** Of the master, through which workers that are on their way out are asked. */
  readonly masterSocket: string
  /** Host name → slot. */
  readonly hostsMap: string
  /** Host names that plain HTTP is sent away from. */
  readonly secureMap: string
  /** What is done with a request that no machine can take. */
  readonly holdScript: string
  /** Certificates of people's own names. */
  readonly certificates: CertificatePaths
  /** Abstract sockets: where requests are held, and where HAProxy asks for how long. */
  readonly holdSocket: string
  readonly askSocket: string
  /** Abstract, too: where HAProxy tells of each answer. */
  readonly logSocket: string
  /** On the way there: where HAProxy waits for who listens. */
  readonly relaySocket: string
  /** Slots of apps that replay. */
  readonly replayMap: string
  /** Slots of apps whose requests somebody listens to, and whether with queries. */
  readonly accessMap: string
  /** Abstract sockets: of the replayer, where it hands requests back, and where HAProxy and it ask which machine is meant. */
  readonly replaySocket: string
  readonly againSocket: string
  readonly steerSocket: string
}

/** What HAProxy does by scripts: all in one file. */
export function scriptOf(files: Pick<ProxyFiles, 'askSocket' | 'steerSocket'>): string {
  return `${holdScript(files.askSocket)}${steerScript(files.steerSocket)}`
}

/** Of host names whose app has nothing to serve with. */
export const EMPTY_SLOT = 'empty'
export const slotName = (number: number): string => `s${number}`
/** The last of each slot: who takes what nobody else can. */
export const holdName = (number: number): string => `hold.${number}`
export const isHold = (name: string): boolean => /^hold\.\d+$/.test(name)
/** Options of such a server. It keeps no connections. Of TCP, the socket says for which slot it is, and who came to which port. */
export const holdOptions = (files: Pick<ProxyFiles, 'holdSocket'>, slot: string): string =>
  poolOfSlot(slot) === 't'
    ? `abns@${files.holdSocket}.${slot} pool-max-conn 0 backup send-proxy-v2`
    : `abns@${files.holdSocket} pool-max-conn 0 backup`

/** Descriptors of the sockets that listen, as the keeper of HAProxy inherits them. */
export const HTTP_DESCRIPTOR = 3
export const HTTPS_DESCRIPTOR = 4

/** A request that was held for as long as can be, and then takes its time. */
const SERVER_TIMEOUT = `${HOLD_REPLACED_MS / 1000 + 65}s`
/** Requests must not wait for longer than a lost first packet takes to be sent again: 1 s, and a round trip around the world. */
const CONNECT_TIMEOUT = '1300ms'
/** How long a request waits in line where all machines have as much as they may. */
const QUEUE_MS = 5000
/** How long the headers of a request may take to arrive. */
const REQUEST_MS = 10_000
/**
 * A client's connection may rest for so long; longer than clients keep one (Go's 90 s, most others less), since a request that meets its closing is
 * lost. What clients are told is shorter, for those that keep one for as long as they may.
 */
const KEPT_SECONDS = 100
const ANNOUNCED_SECONDS = 90

/**
 * The whole configuration, with the servers that are wanted now, so that HAProxy serves from its first instant.
 * `mark` changes with everything but the servers: a running HAProxy that shows the same mark needs no reload.
 */
export function renderConfig(
  shape: ProxyShape,
  servers: ReadonlyMap<string, readonly Entry[]>,
): { readonly text: string; readonly mark: string } {
  const head = (mark: string) => [
    'global',
    `  description ${mark}`,
    `  maxconn ${2 * shape.maxConnections + HELD_MAX + REPLAYED_MAX + FILES_MAX}`,
    ...(shape.threads === undefined ? [] : [`  nbthread ${shape.threads}`]),
    `  stats socket ${shape.files.socket} mode 600 level admin expose-fd listeners`,
    '  stats timeout 1h',
    // Open WebSockets live on in the worker that was replaced, for so long.
    '  hard-stop-after 1h',
    '  mworker-max-reloads 50',
    // A worker that was replaced closes no kept connection by itself, where it might meet a request: its answers say that they are the last.
    '  close-spread-time infinite',
    // Nothing here asks by HAProxy's own HTTP client, whose authorities it would read anew at each start: half of the work of one.
    '  httpclient.ssl.verify none',
    `  lua-load ${shape.files.holdScript}`,
    ...(shape.services === undefined ? [] : [`  lua-load ${shape.services.files.script}`]),
    // Fewer files than wished for is no reason not to serve.
    '  no strict-limits',
    // Idle connections of many apps are not thrown away at a quarter of the files.
    '  tune.pool-low-fd-ratio 80',
    '  tune.pool-high-fd-ratio 90',
    ...(shape.https ? ['  ssl-default-bind-options ssl-min-ver TLSv1.2'] : []),
    ...(shape.user ? [`  user ${shape.user}`, `  group ${shape.user}`] : []),
    '',
    'defaults',
    '  mode http',
    '  balance leastconn',
    `  timeout connect ${CONNECT_TIMEOUT}`,
    // Or a check is waited for until the next one is due.
    `  timeout check ${CONNECT_TIMEOUT}`,
    // Of a connection that rests, the shorter of the two holds.
    `  timeout client ${KEPT_SECONDS}s`,
    `  timeout server ${SERVER_TIMEOUT}`,
    `  timeout queue ${shape.queueMs ?? QUEUE_MS}`,
    `  timeout http-request ${shape.requestMs ?? REQUEST_MS}`,
    `  timeout http-keep-alive ${KEPT_SECONDS}s`,
    '  timeout tunnel 1h',
    '  option redispatch 1',
    // Who has gone must not be waited with, in a queue, on hold or for an answer.
    '  option abortonclose',
    '  retries 3',
    '  retry-on conn-failure empty-response',
    ...errors(),
    '',
    ...logRing(shape.files),
    ...sourceTables(),
    ...frontend(shape, 'http', {
      name: 'http',
      binds: [...bindLines(shape.http, HTTP_DESCRIPTOR, '')],
      find: [],
    }),
    ...(shape.https
      ? frontend(shape, 'https', {
          name: 'https',
          binds: [
            ...bindLines(shape.https, HTTPS_DESCRIPTOR, tlsOptions(shape)),
            ...secondHttpsBind(shape, tlsOptions(shape)),
          ],
          find: [],
        })
      : []),
    ...holdFrontend(shape),
    ...againConfig(shape.files, SERVER_TIMEOUT),
    `backend ${EMPTY_SLOT}`,
    `  server ${holdName(0)} ${holdOptions(shape.files, EMPTY_SLOT)}`,
  ]
  const names = Array.from({ length: shape.slots }, (_, n) => slotName(n))
  const others = serviceSlots(shape.services)
  const services = renderServices(shape, (scheme, other) => frontend(shape, scheme, other))
  const structure = [
    ...head(''),
    ...names,
    ...namedRules(),
    scriptOf(shape.files),
    ...services.structure,
  ].join('\n')
  const counts = [shape.slots, ...services.counts].join('.')
  const mark = `roost-${counts}-${createHash('sha256').update(structure).digest('hex').slice(0, 20)}`
  const backend = (name: string) => [
    `backend ${name}`,
    ...slotRules(name, shape.services),
    ...(servers.get(name) ?? []).map(
      (entry) => `  server ${entryName(entry)} ${serverOptions(checked(entry))}`,
    ),
    ...(servers.has(name) ? [`  server ${holdName(0)} ${holdOptions(shape.files, name)}`] : []),
    ...(poolOfSlot(name) === 't' ? [] : namedRules()),
  ]
  const text = [
    ...head(mark),
    ...services.web,
    ...names.flatMap(backend),
    ...others.filter((name) => poolOfSlot(name) !== 't').flatMap(backend),
    // In a section of its own: from here on, defaults are those of TCP.
    ...services.tcp,
    ...others.filter((name) => poolOfSlot(name) === 't').flatMap(backend),
  ]
  return { text: `${text.join('\n')}\n`, mark }
}

/** In the order of their descriptors. */
export function bindsOf({ http, https }: Pick<ProxyShape, 'http' | 'https'>): readonly ProxyBind[] {
  return https === null ? [http] : [http, https]
}

/** How many slots the HAProxy with this mark was started with; null: it is none of ours. */
export function slotsOfMark(mark: string): number | null {
  return countsOfMark(mark)?.[0] ?? null
}

/** The same of each pool, in the order of `POOLS`. */
export function countsOfMark(mark: string): readonly number[] | null {
  const match = /^roost-(\d+(?:\.\d+)*)-[0-9a-f]{20}$/.exec(mark)
  return match?.[1]?.split('.').map(Number) ?? null
}

/**
 * The last gate before text that HAProxy reads as commands: whatever passed the checks of records, only numbers and
 * addresses get through here.
 */
export function checked(entry: Entry): Entry {
  const whole = (value: number, max: number) =>
    Number.isInteger(value) && value >= 0 && value <= max
  if (
    !/^[0-9a-f]{14}$/.test(entry.machine) ||
    !isIPv4(entry.address) ||
    !whole(entry.port, 65535) ||
    entry.port === 0 ||
    !whole(entry.maxConnections, 10_000_000) ||
    !whole(entry.number, 999_999)
  )
    throw new Error(`not a server: ${JSON.stringify(entry)}`)
  return entry
}

function bindLines({ address, port }: ProxyBind, descriptor: number, options: string): string[] {
  return [`  # ${address}:${port}`, `  bind fd@${descriptor}${options}`]
}

const tlsOptions = ({ https, services, files }: ProxyShape): string =>
  ` ssl crt ${https?.certificateFile} crt-list ${files.certificates.list} crt-list ${files.certificates.https}${services === undefined ? '' : ` crt-list ${services.files.httpsList}`} alpn h2,http/1.1`

/** What a client's own headers must never decide is set anew; the rules are the same for both ports but for what the port says. */
function frontend(
  shape: ProxyShape,
  scheme: 'http' | 'https',
  { name, binds, find }: WebFrontend,
): string[] {
  const secure = scheme === 'https'
  // Slots whose app asked for it say so.
  const unless = shape.services === undefined ? '' : ' unless { var(txn.pristine) -m found }'
  const port = shape.https && shape.https.port !== 443 ? `:${shape.https.port}` : ''
  return [
    `frontend ${name}`,
    ...binds,
    `  maxconn ${shape.maxConnections}`,
    ...connectionLimit(shape.maxConnections),
    ...logRules('edge', secure),
    // Time in seconds, then 72 random bits: 26 hexadecimal digits are a well-formed ULID.
    `  unique-id-format %{+X}Ts%[uuid,field(5,-),upper]%[uuid,bytes(2,6),upper]-${shape.region}`,
    `  http-after-response set-header fly-request-id %[unique-id]${unless}`,
    `  http-after-response set-header server Roost${unless}`,
    `  http-after-response set-header via "1.1 roost"${unless}`,
    '  http-after-response set-header connection close if { stopping } !{ status 101 }',
    // What an app says there is about its connection to us.
    `  http-after-response set-header keep-alive timeout=${ANNOUNCED_SECONDS}`,
    ...requestLimit(shape.maxConnections),
    // HAProxy lets them pass, and not everybody behind it reads them as it does.
    '  http-request deny deny_status 400 if { req.fhdr(transfer-encoding) -m found } !{ req.fhdr(transfer-encoding) -i chunked }',
    '  http-request deny deny_status 400 if { req.ver 0.9 }',
    '  http-request deny deny_status 400 if { req.hdr_cnt(host) gt 1 }',
    // What an app lets through after it would be what a client wrote, and no more what edges set. (WebSockets of HTTP/2 begin with it, too.)
    '  http-request deny deny_status 405 if METH_CONNECT !HTTP_2.0',
    '  http-request set-var(txn.host) req.hdr(host),field(1,:),rtrim(.),lower',
    ...find,
    ...challengeRules(shape.files.certificates.tokens),
    ...nameRules(shape.files),
    `  http-request return status 404 content-type text/plain string "No app answers under this name.\\n" unless { var(txn.slot) -m found }`,
    ...accessRules(shape.files),
    ...(secure || !shape.https
      ? []
      : [
          `  http-request redirect location https://%[var(txn.host)]${port}%[capture.req.uri] code 301 if ${isSecureName(shape.files)}`,
        ]),
    // Retried after an empty reply: only what may be done twice.
    '  http-request disable-l7-retry unless METH_GET',
    `  http-request del-header ${EDGES_ALONE} -m reg`,
    // A header that it names is dropped by whoever passes the request on behind us, ours among them.
    // And what is said in HTTP/2 after an upgrade would be the client's word alone.
    '  http-request del-header upgrade if { req.hdr(upgrade) -i h2c }',
    '  http-request del-header connection unless { req.hdr(connection) -i upgrade } { req.hdr(upgrade) -m found }',
    '  http-request set-header connection upgrade if { req.hdr_cnt(connection) gt 1 }',
    '  http-request set-header fly-client-ip %[src]',
    `  http-request set-header fly-region ${shape.region}`,
    '  http-request set-header fly-request-id %[unique-id]',
    '  http-request set-header fly-forwarded-port %[dst_port]',
    `  http-request set-header fly-forwarded-proto ${scheme}`,
    `  http-request set-header fly-forwarded-ssl ${secure ? 'on' : 'off'}`,
    '  http-request add-header x-forwarded-for %[src]',
    '  http-request set-header x-forwarded-port %[dst_port]',
    `  http-request set-header x-forwarded-proto ${scheme}`,
    `  http-request set-header x-forwarded-ssl ${secure ? 'on' : 'off'}`,
    '  http-request set-header via "%[req.ver] roost"',
    ...steerRules(shape.files, shape.services?.files.statics),
    ...learnRules(),
    '  use_backend %[var(txn.slot)]',
    '',
  ]
}

/**
 * A detour for requests that no machine of their app can take, whether they were sent to one or not: held here, then sent to their slot
 * again. Only slots without a server that is up lead here, so that all other requests pay nothing for it.
 */
function holdFrontend({ files, services, maxConnections }: ProxyShape): string[] {
  return [
    'frontend hold',
    `  bind abns@${files.holdSocket}`,
    // What was held and is served now stays here for as long as it lives, and must not keep others from waiting.
    `  maxconn ${maxConnections + HELD_MAX}`,
    `  timeout client ${SERVER_TIMEOUT}`,
    '  option httpclose',
    ...logRules('detour'),
    '  http-response set-header roost-answered %[srv_name]',
    '  http-request set-var(txn.host) req.hdr(host),field(1,:),rtrim(.),lower',
    ...serviceHoldRules(files, services),
    '  http-request lua.hold',
    '  http-request return status 503 content-type text/plain hdr retry-after %[var(txn.retry)] lf-string "%[var(txn.why)]\\n" if { var(txn.why) -m found }',
    ...nameRules(files),
    // It may have been sent before it came here. One that kills what answers it would go round for as long as machines come back.
    '  http-request disable-l7-retry',
    '  use_backend %[var(txn.slot)]',
    '',
  ]
}

function errors(): string[] {
  const says: readonly (readonly [number, string])[] = [
    [400, 'The request is not HTTP.'],
    [408, 'The request took too long to arrive.'],
    [500, 'The edge could not handle this request.'],
    [
      502,
      'The app ended the connection before it had answered, or the headers of its answer are not HTTP, more than 100 or than 15 KB.',
    ],
    [503, 'No machine of this app can answer now.'],
    [504, 'The app did not answer in time.'],
  ]
  return says.map(
    ([status, text]) =>
      `  http-error status ${status} content-type text/plain string "${text}\\n"${status === 503 ? ' hdr retry-after 1' : ''}`,
  )
}
