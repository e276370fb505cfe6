import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type EdgeConfig, type MachineView, type RecordValues, VERSION } from '@roost/api'
import {
  type Clock,
  createRecordCache,
  follow,
  type Logger,
  type RecordCache,
  startLoop,
} from '@roost/base'
import {
  type App,
  type HostId,
  hostMeshIpv4,
  type RegionCode,
  type Route,
  routeOfHost,
  routesByHost,
  withoutServer,
  type Zone,
} from '@roost/core'
import type { EdgePeers } from './certificate/edge-peers.ts'
import { createCertificates } from './certificate/start-certificates.ts'
import { answerQuery } from './dns/answer-query.ts'
import { type CountryOf, createLocator } from './dns/client-location.ts'
import { startDnsServer } from './dns/dns-server.ts'
import { routesOf, settingsOf, zoneOf } from './edge-view.ts'
import { certificatePaths } from './haproxy/certificate-files.ts'
import { createEdgeCertificate } from './haproxy/edge-certificate.ts'
import { createHaproxyProcess } from './haproxy/haproxy-process.ts'
import type { ObservedProxy } from './haproxy/observed-proxy.ts'
import { type ProxyStatus, startProxyController } from './haproxy/proxy-controller.ts'
import { bindsOf, type ProxyFiles, type ProxyShape } from './haproxy/render-config.ts'
import type { ServiceFiles, ServicePorts } from './haproxy/render-services.ts'
import { createRuntimeApi } from './haproxy/runtime-api.ts'
import { ownTlsListsOf } from './haproxy/tls-lists.ts'
import { createHoldRequests } from './hold/hold-requests.ts'
import type { ServerLink } from './link/server-link.ts'
import { type AccessLog, createAccessLog } from './numbers/access-log.ts'
import { createNumbers, type Numbers } from './numbers/numbers.ts'
import { listenToTraffic } from './numbers/traffic-log.ts'
import { startSpreadLoad } from './overflow/spread-load.ts'
import { createEdgeEndpoint } from './probe/edge-endpoint.ts'
import { type EdgeAsker, startProber, tcpKnock } from './probe/prober.ts'
import { createGoodRecords } from './record/good-records.ts'
import { startReplayerProcess } from './replay/replayer-process.ts'
import { createReplayingApps } from './replay/replaying-apps.ts'
import { createSteerRequests } from './replay/steer-requests.ts'
import { startPortForwarder } from './service/forward-ports.ts'

export interface EdgeParts {
  readonly config: EdgeConfig
  readonly link: ServerLink
  readonly asker: EdgeAsker
  /** What other edges are told and asked about certificates. */
  readonly edges: EdgePeers
  /** How long the word of an edge lasts that another alone orders a certificate; default 60 s. */
  readonly leaseMs?: number
  readonly pace?: EdgePace
  readonly countryOf: CountryOf
  readonly clock: Clock
  readonly log: Logger
}

/** Waits that a trial may have shorter; what is missing is as everywhere. */
export interface EdgePace {
  /** Between two questions to another edge. */
  readonly askEdgesMs?: number
  /** Without a word of the server, until this edge goes by what answers. */
  readonly unheardMs?: number
  /** Of a request that is held, for a machine that is not replaced on purpose. */
  readonly holdMs?: number
  /** Of a request in line, where all machines have as much as they may. */
  readonly queueMs?: number
  /** Of a request, until its headers have arrived. */
  readonly requestMs?: number
  /** After the files of HAProxy could not be written. */
  readonly saveAgainMs?: number
}

export interface Edge {
  /** null while it can't be bound: an address may come later than we do. */
  ports(): { readonly dns: number | null; readonly probe: number | null }
  status(): ProxyStatus
  numbers(): Pick<Numbers, 'recent' | 'page'>
  access(): Pick<AccessLog, 'follow'>
  /** Leaves HAProxy running, unless the configuration says otherwise. */
  close(): Promise<void>
}

const HEARTBEAT_MS = 2000
/** How often a port that could not be bound is tried. */
const BIND_MS = 1000
const KNOCK_MS_MAX = 1300
const ROUTES_MS = 1000
const SWEEP_MS = 60_000
/** For a replayer to be started, while the first request of its first app waits. */
const LEARN_MS_MAX = 9000

/** Files of the HAProxy that belongs to this edge; others read `pid` to end it. */
export function proxyFiles(config: Pick<EdgeConfig, 'runDir'>): ProxyFiles {
  const inRun = (file: string) => join(config.runDir, file)
  const name = createHash('sha256').update(config.runDir).digest('hex').slice(0, 16)
  return {
    config: inRun('haproxy.cfg'),
    pid: inRun('haproxy.pid'),
    socket: inRun('haproxy.sock'),
    masterSocket: inRun('haproxy-master.sock'),
    log: inRun('haproxy.log'),
    hostsMap: inRun('files/hosts.map'),
    secureMap: inRun('files/secure.map'),
    holdScript: inRun('files/hold.lua'),
    certificates: certificatePaths(config.runDir),
    // Several edges may live on one machine.
    holdSocket: `roost-hold-${name}`,
    askSocket: `roost-ask-${name}`,
    logSocket: `roost-log-${name}`,
    relaySocket: `roost-relay-${name}`,
    replayMap: inRun('files/replay.map'),
    accessMap: inRun('files/access.map'),
    // Of another version, requests of the workers before the reload go to the replayer of then.
    replaySocket: `roost-replay-${VERSION}-${name}`,
    againSocket: `roost-again-${name}`,
    steerSocket: `roost-steer-${name}`,
  }
}

function serviceFiles(config: Pick<EdgeConfig, 'runDir'>): ServiceFiles {
  const inFiles = (file: string) => join(config.runDir, 'files', file)
  const name = createHash('sha256').update(config.runDir).digest('hex').slice(0, 16)
  return {
    names: inFiles('services.map'),
    ports: inFiles('ports.map'),
    options: inFiles('options.map'),
    statics: inFiles('statics.map'),
    script: inFiles('services.lua'),
    httpsList: inFiles('https.list'),
    tlsList: inFiles('tls.list'),
    tlsSocket: `roost-tls-${name}`,
    httpsSocket: `roost-https-${name}`,
  }
}

/** The host's rules that lead to this edge's services; whoever takes an edge away takes it away. */
export function portTable(config: Pick<EdgeConfig, 'runDir'>): string {
  return `roost_edge_${createHash('sha256').update(config.runDir).digest('hex').slice(0, 8)}`
}

const NOTHING_MEASURED = { roundTrips: () => new Map(), roundTripsOf: () => new Map() }

/** As many slots of other kinds as most installations need; more are made when they are missing. */
const POOLS_AT_FIRST = { o: 16, c: 16, t: 16 }

function servicePorts({ servicePorts: first }: EdgeConfig): ServicePorts {
  return {
    http: first,
    https: first + 1,
    tcp: first + 2,
    tls: first + 3,
    pg_tls: first + 4,
    passthrough: first + 5,
  }
}

/** Everything of one edge, put together. Serves from what it knows before it has spoken to anybody. */
export async function startEdge(parts: EdgeParts): Promise<Edge> {
  const { config, link, clock, log, pace = {} } = parts
  const self = { host: config.hostId as HostId, region: config.region as RegionCode }
  await mkdir(config.runDir, { recursive: true, mode: 0o700 })
  await mkdir(config.dataDir, { recursive: true, mode: 0o700 })
  const tls = {
    ca: readFileSync(config.tls.ca, 'utf8'),
    certificate: readFileSync(config.tls.certificate, 'utf8'),
    key: readFileSync(config.tls.key, 'utf8'),
  }
  const stopping = new AbortController()
  const cache: RecordCache<RecordValues> = createRecordCache({
    file: join(config.dataDir, 'records.sqlite'),
    owner: config.hostId,
    log,
  })
  const records = createGoodRecords({
    cache,
    file: join(config.dataDir, 'last-good-records.json'),
    log,
  })

  // One that has heard nothing yet would tell everybody that there is no such app.
  const isServing = () => status().serving && status().applied > 0
  // Made anew when something changed, not for each question.
  let zone: Zone | null = null
  let locate = createLocator([], parts.countryOf, log)
  let located = ''
  let domain = settingsOf(records)?.domain
  let unheardSince: number | null = performance.now()
  let known: {
    readonly at: number
    readonly heard: readonly Route[]
    readonly routes: readonly Route[]
  } | null = null
  let places: ReadonlyMap<string, MachineView> | null = null
  const routes = () => {
    const now = performance.now()
    // Time alone changes something, too, while the server is not heard.
    if (known === null || (unheardSince !== null && now - known.at > ROUTES_MS)) {
      const heard = known?.heard ?? routesOf(records, self, prober)
      const unheardMs = unheardSince === null ? 0 : now - unheardSince
      known = {
        at: now,
        heard,
        routes: withoutServer(heard, unheardMs, clock.now(), pace.unheardMs),
      }
    }
    return known.routes
  }
  const changed = () => {
    known = null
    places = null
    forwarder.current?.wake()
    rezone()
    const networks = settingsOf(records)?.clientNetworks ?? []
    if (JSON.stringify(networks) !== located) {
      located = JSON.stringify(networks)
      locate = createLocator(networks, parts.countryOf, log)
    }
  }
  const rezone = () => {
    zone = zoneOf(records, self, prober, {
      serving: isServing(),
      revision: cache.revision(),
      challengeTexts: (hostname) => certificates.texts(hostname),
    })
  }

  const forwarder: { current: ReturnType<typeof startPortForwarder> | null } = { current: null }
  // Carried out is what both have carried out.
  const status = (): ProxyStatus => {
    const now = controller.status()
    return { ...now, applied: Math.min(now.applied, forwarder.current?.applied() ?? 0) }
  }
  const files = proxyFiles(config)
  const api = createRuntimeApi({ path: files.socket, onLost: () => controller.lookAgain() })
  // Not behind the long answers that the controller waits for.
  const loadApi = createRuntimeApi({ path: files.socket, onLost: () => {} })
  const certificate = createEdgeCertificate({
    file: join(config.dataDir, 'haproxy-certificate.pem'),
    domain: () => settingsOf(records)?.domain ?? null,
    sign: (csr, signal) => link.signCertificate(csr, signal),
    onChange: () => controller.wake(),
    clock,
    log,
  })
  const withTls = await certificate.prepare()
  /** Who has which names; distances are known only once others were asked. */
  const namedRoutes = {
    of: () => routesOf(records, self, { isAlive: () => true, ...NOTHING_MEASURED }),
  }
  const certificates = createCertificates({
    config,
    records,
    settings: () => settingsOf(records),
    link,
    edges: parts.edges,
    api,
    paths: files.certificates,
    tlsOptions: () => ownTlsListsOf(namedRoutes.of(), settingsOf(records)?.domain ?? ''),
    withTls,
    onChange: () => controller.wake(),
    clock,
    log,
    leaseMs: parts.leaseMs,
  })
  await certificates.files.prepare()
  const prober = startProber({
    self: self.host,
    hosts: () => records.list('host'),
    asker: parts.asker,
    onChange: () => {
      changed()
      controller.wake()
    },
    onReply: (reply) => replaying.heard(reply.replayed ?? []),
    periodMs: pace.askEdgesMs,
    clock,
    log,
  })
  namedRoutes.of = routes
  const shape: ProxyShape = {
    region: config.region,
    http: config.http,
    https: withTls
      ? { ...config.https, certificateFile: join(config.dataDir, 'haproxy-certificate.pem') }
      : null,
    slots: config.haproxy.slots,
    maxConnections: config.haproxy.maxConnections,
    threads: config.haproxy.threads,
    queueMs: pace.queueMs,
    requestMs: pace.requestMs,
    files,
    user: process.getuid?.() === 0 && hasUser('haproxy') ? 'haproxy' : null,
    services: {
      ports: servicePorts(config),
      pools: POOLS_AT_FIRST,
      files: serviceFiles(config),
    },
  }
  // Made anew when there are other apps.
  let appNames: { readonly of: readonly App[]; readonly all: ReadonlySet<string> } = {
    of: [],
    all: new Set(),
  }
  const exists = (name: string) => {
    const of = records.list('app')
    if (appNames.of !== of) appNames = { of, all: new Set(of.map(({ name }) => name)) }
    return appNames.all.has(name)
  }
  const replaying = createReplayingApps({
    file: join(config.dataDir, 'replaying-apps.json'),
    exists,
    now: () => clock.now(),
    onChange: () => controller.wake(),
    log,
  })
  // Who keeps replays for sessions says so before the first one.
  const appsThatReplay = () =>
    new Set([
      ...replaying.all(),
      ...routes().flatMap(({ app, http }) => (http?.replay_cache?.length ? [app] : [])),
    ])
  // Before anything of such a machine is up: what serves its files must be there by then.
  const hasStatics = () =>
    config.statics !== undefined &&
    records.list('machine').some(({ statics }) => statics !== undefined)
  const replayer = startReplayerProcess({
    start: {
      runDir: config.runDir,
      statics: config.statics,
      replaySocket: files.replaySocket,
      againSocket: files.againSocket,
      steerSocket: files.steerSocket,
    },
    wanted: () => appsThatReplay().size > 0 || hasStatics(),
    clock,
    log,
  })
  // Made anew when the routes are others, not for each request.
  let byHost: { readonly of: readonly Route[]; readonly routes: ReadonlyMap<string, Route> } = {
    of: [],
    routes: new Map(),
  }
  const hosts = () => {
    const of = routes()
    if (byHost.of !== of) byHost = { of, routes: routesByHost(of) }
    return byHost.routes
  }
  const routeOf = (host: string) => routeOfHost(hosts(), host)
  const appOf = (host: string) => routeOf(host)?.app ?? null
  let bySlot: {
    readonly of: ReadonlyMap<string, Route> | null
    readonly slots: ReadonlyMap<string, string>
  } = { of: null, slots: new Map() }
  const slotOf = (key: string) => {
    const of = controller.slots()
    if (bySlot.of !== of)
      bySlot = { of, slots: new Map([...of].map(([slot, route]) => [route.key, slot])) }
    return bySlot.slots.get(key)
  }
  const placeOf = (machine: string) => {
    places ??= new Map(records.list('machine').map((view) => [view.id as string, view]))
    return places.get(machine) ?? null
  }
  const steer = createSteerRequests({
    steerSocket: files.steerSocket,
    routeOf,
    routes,
    slotOf,
    apps: () => records.list('app'),
    regionOf: (machine) => placeOf(machine)?.region ?? null,
    addressOf: (id) => {
      const host = id === self.host ? undefined : records.list('host').find((one) => one.id === id)
      return host === undefined ? null : hostMeshIpv4(host)
    },
    api: loadApi,
    replayed: (app) => replaying.saw(app),
    learn: async (route) => {
      replaying.saw(route.app)
      if (!(await replayer.ready(LEARN_MS_MAX))) return false
      const slot = slotOf(route.key)
      if (slot === undefined) return false
      const [found = ''] = await loadApi.send([`get map ${files.replayMap} ${slot}`])
      await loadApi.send([
        ...(found.includes('found=yes') ? [] : [`add map ${files.replayMap} ${slot} 1`]),
        'set server replay/replayer health up',
      ])
      return true
    },
    log,
  })
  const proxy = createHaproxyProcess({
    binary: config.haproxy.binary,
    cgroup: config.haproxy.cgroup,
    files,
    binds: bindsOf(shape),
    clock,
    log,
  })
  const hold = createHoldRequests({
    askSocket: files.askSocket,
    hostsMap: files.hostsMap,
    routes,
    services: () => controller.status().services,
    api,
    knock: (endpoint) => {
      const [address = '', port] = endpoint.split(':')
      return tcpKnock(address, Number(port), AbortSignal.timeout(KNOCK_MS_MAX))
    },
    holdMs: pace.holdMs,
    log,
  })
  const numbers = createNumbers({
    region: self.region,
    host: config.hostName,
    placeOf,
    appOf,
    appOfSlot: (slot) => controller.slots().get(slot)?.app ?? null,
    now: () => clock.now(),
  })
  const sweeping = startLoop({
    name: 'numbers',
    periodMs: SWEEP_MS,
    clock,
    log,
    lap: async () => numbers.sweep(),
  })
  let observedSlots: ObservedProxy['slots'] = new Map()
  const controller = startProxyController({
    process: proxy,
    api: {
      ...api,
      disconnect() {
        api.disconnect()
        loadApi.disconnect()
      },
    },
    shape,
    certificate: withTls ? certificate : null,
    certificates: certificates.files,
    desired: () => ({ revision: cache.revision(), routes: routes(), domain: domain ?? '' }),
    replaying: appsThatReplay,
    shares: () => spreading.shares(),
    saveAgainMs: pace.saveAgainMs,
    onStatus: () => {
      rezone()
      heartbeat.wake()
    },
    onLook: (observed) => {
      observedSlots = observed.slots
      hold.look()
      numbers.looked(observed.slots)
    },
    clock,
    log,
  })
  const spreading = startSpreadLoad({
    api: loadApi,
    self,
    slots: () => controller.slots(),
    observed: () => observedSlots,
    elsewhere: () => prober.replies(),
    clock,
    log,
  })
  const access = createAccessLog({
    map: files.accessMap,
    api: loadApi,
    slots: () => controller.slots(),
    appOf,
    region: self.region,
    host: config.hostName,
    clock,
    log,
  })
  const heartbeat = startLoop({
    name: 'heartbeat',
    periodMs: HEARTBEAT_MS,
    clock,
    log: quietAfterFirst(log),
    lap: (signal) => {
      const { applied, draining } = status()
      return link.heartbeat({ applied, draining, refused: records.refused() }, signal)
    },
  })
  forwarder.current = startPortForwarder({
    table: portTable(config),
    address: config.http.address,
    ports: servicePorts(config),
    httpsPort: shape.https?.port ?? null,
    self: self.host,
    desired: () => ({ revision: cache.revision(), routes: routes() }),
    onApplied: () => {
      rezone()
      heartbeat.wake()
    },
    clock,
    log,
  })
  changed()
  certificates.start(prober)

  const following = follow({
    connect: (since, signal) => link.watch(since, signal),
    cache,
    onChange: () => {
      records.refresh()
      changed()
      controller.wake()
      certificates.wake()
      const now = settingsOf(records)?.domain
      if (now !== domain) certificate.wake()
      domain = now
    },
    onConnection: (connected) => {
      log.info(connected ? 'server is heard' : 'server is not heard')
      unheardSince = connected ? null : performance.now()
      known = null
    },
    clock,
    log,
    signal: stopping.signal,
  })

  const probe = keepOpen({
    name: 'probes',
    open: async () => {
      const endpoint = createEdgeEndpoint({
        tls,
        numbers,
        access,
        say: () => ({
          host: self.host,
          region: self.region,
          serving: isServing(),
          round_trip_ms: Object.fromEntries(prober.roundTrips()),
          replayed: [...replaying.told()],
          at_work: spreading.atWork(),
          wanted: spreading.tellWanted(),
        }),
        log,
      })
      certificates.addRoutes(endpoint)
      try {
        const [bound] = await endpoint.listen([config.listen])
        return { port: bound?.port ?? 0, close: () => endpoint.close(500) }
      } catch (error) {
        await endpoint.close(0)
        throw error
      }
    },
    clock,
    log,
  })
  const dns = keepOpen({
    name: 'dns',
    open: () =>
      startDnsServer({
        ...config.dns,
        answer: (message, source, transport) =>
          answerQuery(message, { zone, locate, source, transport }),
        log,
      }),
    clock,
    log,
  })
  const asking = keepOpen({ name: 'held requests', open: () => hold.listen(), clock, log })
  const counting = keepOpen({
    name: 'traffic',
    open: () =>
      listenToTraffic(files.logSocket, {
        answer: (line) => {
          numbers.heard(line)
          access.heard(line)
        },
        connection: (line) => numbers.ended(line),
        failedHandshake: (servername) => numbers.failedHandshake(servername),
      }),
    clock,
    log,
  })
  const steering = keepOpen({ name: 'steered requests', open: () => steer.listen(), clock, log })
  log.info('edge started', { revision: cache.revision() })

  return {
    ports: () => ({ dns: dns.port(), probe: probe.port() }),
    status,
    numbers: () => numbers,
    access: () => access,
    async close() {
      stopping.abort()
      await dns.close()
      await prober.stop()
      await certificates.stop()
      await certificate.stop()
      await spreading.stop()
      await controller.stop()
      await forwarder.current?.stop({ remove: config.haproxy.stopOnExit })
      await heartbeat.stop()
      await following
      await access.stop()
      await probe.close()
      await asking.close()
      await counting.close()
      await sweeping.stop()
      await steering.close()
      await replayer.stop(config.haproxy.stopOnExit)
      await link.close()
      if (config.haproxy.stopOnExit) await proxy.stop()
      cache.close()
    },
  }
}

/** A port that is taken or an address that is not there yet stops nothing else: it is tried again. */
function keepOpen(options: {
  readonly name: string
  readonly open: () => Promise<{ readonly port: number; close(): Promise<void> }>
  readonly clock: Clock
  readonly log: Logger
}): { port(): number | null; close(): Promise<void> } {
  const { name, log } = options
  let opened: Awaited<ReturnType<typeof options.open>> | null = null
  let failed = false
  const loop = startLoop({
    name,
    periodMs: BIND_MS,
    clock: options.clock,
    log,
    lap: async () => {
      if (opened !== null) return
      try {
        opened = await options.open()
        log.info('listening', { for: name, port: opened.port })
      } catch (error) {
        if (!failed) log.error('can not listen, tried again until it works', { for: name, error })
        failed = true
      }
    },
  })
  return {
    port: () => opened?.port ?? null,
    close: async () => {
      await loop.stop()
      await opened?.close()
    },
  }
}

function hasUser(name: string): boolean {
  try {
    return readFileSync('/etc/passwd', 'utf8').includes(`\n${name}:`)
  } catch {
    return false
  }
}

/** A server that is away is said once by the watch; each missed heartbeat after it is no news. */
function quietAfterFirst(log: Logger): Logger {
  return { ...log, warn: (message, fields) => log.debug(message, fields) }
}
