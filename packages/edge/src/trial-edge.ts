import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type Server,
} from 'node:http'
import { request as requestTls } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { edgeConfig, type MachineView, type Settings, type WatchEvent } from '@roost/api'
import { createLogger, type SealingKey, silentLogger, systemClock } from '@roost/base'
import type {
  App,
  Draining,
  Host,
  HostId,
  MachineId,
  MachinePort,
  MachineService,
  RegionCode,
} from '@roost/core'
import { WebSocketServer } from 'ws'
import { type Edge, type EdgePace, portTable, proxyFiles, startEdge } from './edge.ts'
import { createHaproxyProcess } from './haproxy/haproxy-process.ts'
import type { ServerLink } from './link/server-link.ts'

/** For tests: an edge with a real HAProxy on loopback addresses, small backends that tell who they are, and a server that says what the test wants. */
export const DOMAIN = 'roost.test'

/** So that a trial waits for what edges tell each other for as long as it must. */
export const TRIAL_PACE: EdgePace = { askEdgesMs: 200 }

export interface Backend {
  readonly machine: MachineId
  readonly region: string
  readonly address: string
  readonly port: number
  readonly hits: { count: number }
  /** `?id=` of each request that arrived in full. */
  readonly ids: string[]
  /** Asked to end the connection instead of answering. */
  readonly dropped: { count: number }
  /** Of bodies. */
  readonly bytes: { count: number }
  headers: IncomingHttpHeaders
  /** Requests at work, and the most at once. */
  readonly busy: { now: number; most: number }
  /** What it says instead of who it is; null: as ever. Asked before the body arrived. */
  answer: ((asked: IncomingMessage) => BackendAnswer | null) | null
  /** Connections are reset and refused, as when the process is killed. */
  kill(): Promise<void>
  webSockets(): number
  /** As an app that is told to end: WebSockets are closed with 1001, what is under way is finished. */
  shutDown(): Promise<void>
}

export interface BackendAnswer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly text?: string
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly machine: string | null
}

export function host(letter: string, region: string, number: number): Host {
  return {
    id: letter.repeat(14) as HostId,
    name: `host-${region}-${number}`,
    region: region as RegionCode,
    number,
    publicAddress: `198.18.${number}.1`,
    wireguard: { endpoint: '', publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 1, memoryMb: 1 },
    builder: false,
    availability: 'active',
    agentSeenAt: null,
    edgeSeenAt: null,
    status: 'ok',
  }
}

/** Clients of `network` are nearest to iad. */
export const settingsWith = (network: string): Settings => ({
  domain: DOMAIN,
  clientNetworks: [{ cidr: network, region: 'iad' as RegionCode }],
  networks: [],
  registry: { name: '', url: '' },
})

export const app = (name: string) =>
  ({ name, organization: 'o', network: 1, createdAt: 0, primaryRegion: null, release: 1 }) as App

/** A service that is reached on the web's ports: `http` and `https` change these. */
export function webService(
  internal_port: number,
  changes: Partial<MachineService & Record<'http' | 'https', Partial<MachinePort>>> = {},
): MachineService {
  const { http, https, ...rest } = changes
  return {
    protocol: 'tcp',
    internal_port,
    ports: [
      { port: 80, handlers: ['http'], force_https: false, ...http },
      { port: 443, handlers: ['tls', 'http'], force_https: false, ...https },
    ],
    checks: [],
    concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
    autostop: 'off',
    autostart: true,
    min_machines_running: 0,
    ...rest,
  }
}

export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  limitMs = 10_000,
): Promise<NonNullable<T>> {
  const deadline = Date.now() + limitMs
  for (;;) {
    const from = performance.now()
    const found = await look()
    if (found !== null && found !== undefined && found !== false) return found as NonNullable<T>
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms: ${what}`)
    // A look that is dear is not taken all the time: who waits would keep busy what it waits for.
    await systemClock.sleep(Math.max(20, Math.min(100, performance.now() - from)))
  }
}

export type Trial = Awaited<ReturnType<typeof openTrial>>

/** `number`: two that are open at once in one process need different ones. */
export async function openTrial(number = 0) {
  const run = promisify(execFile)
  const NET = `127.${60 + (process.pid % 60)}.${process.pid % 250}`
  const HTTP_PORT = 18080 + number
  const HTTPS_PORT = 18443 + number
  const SERVICE_PORT = 18500 + 10 * number
  const closers: (() => Promise<unknown> | unknown)[] = []
  const pki = await mkdtemp(join(tmpdir(), 'roost-edge-pki-'))
  const openssl = (...args: string[]) => run('openssl', args, { cwd: pki })
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await openssl(
    'req',
    '-x509',
    ...ec,
    '-days',
    '2',
    '-subj',
    '/CN=authority',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  )
  await openssl('req', ...ec, '-subj', '/CN=edge', '-keyout', 'edge.key', '-out', 'edge.csr')
  await writeFile(join(pki, 'edge.ext'), 'subjectAltName=URI:roost://edge/aaaaaaaaaaaaaa')
  await openssl(
    'x509',
    '-req',
    '-in',
    'edge.csr',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-days',
    '2',
    '-extfile',
    'edge.ext',
    '-out',
    'edge.pem',
  )
  async function sign(csr: string): Promise<string> {
    const name = join(pki, `${Math.random()}`)
    await writeFile(name, csr)
    await writeFile(`${name}.ext`, `subjectAltName=DNS:${DOMAIN},DNS:*.${DOMAIN}`)
    const { stdout } = await run(
      'openssl',
      [
        'x509',
        '-req',
        '-in',
        name,
        '-CA',
        'ca.pem',
        '-CAkey',
        'ca.key',
        '-days',
        '2',
        '-extfile',
        `${name}.ext`,
      ],
      { cwd: pki },
    )
    return stdout
  }

  function fakeLink() {
    const records = new Map<string, WatchEvent & { type: 'record' }>()
    const beats: {
      applied: number
      draining: readonly Draining[]
      refused: readonly string[]
      at: number
    }[] = []
    let revision = 0
    let reachable = true
    let wake = () => {}
    const put = (kind: string, id: string, value: unknown) => {
      revision += 1
      records.set(`${kind}/${id}`, { type: 'record', revision, kind, id, value } as never)
      wake()
      return revision
    }
    const link: ServerLink = {
      async *watch(since, signal) {
        if (!reachable) throw new Error('no server')
        let seen = since
        if (since === 0) yield { type: 'reset' }
        while (!signal.aborted) {
          if (!reachable) throw new Error('no server')
          const upTo = revision
          const news = [...records.values()]
            .filter((r) => r.revision > seen)
            .sort((a, b) => a.revision - b.revision)
          for (const record of news) yield record
          seen = upTo
          yield { type: 'synced', revision: upTo }
          if (revision > seen) continue
          await new Promise<void>((resolve) => {
            wake = resolve
            signal.addEventListener('abort', () => resolve(), { once: true })
          })
        }
      },
      async heartbeat(beat) {
        if (!reachable) throw new Error('no server')
        beats.push({ ...beat, at: Date.now() })
      },
      signCertificate: (csr) => sign(csr),
      async reportCertificates() {},
      async close() {},
    }
    return {
      link,
      put,
      beats,
      revision: () => revision,
      setReachable: (value: boolean) => {
        reachable = value
      },
      /** Connections break as well. */
      drop: () => wake(),
    }
  }

  function view(
    backend: Pick<Backend, 'machine' | 'region' | 'address' | 'port'>,
    changes: Partial<MachineView> & {
      state?: string
      soft?: number
      hard?: number
      forceHttps?: boolean
    } = {},
  ): MachineView {
    const { state = 'started', soft = 20, hard, forceHttps = false, ...rest } = changes
    return {
      id: backend.machine,
      app: 'shop',
      host: host(
        backend.region === 'ams' ? 'a' : backend.region === 'iad' ? 'b' : 'c',
        backend.region,
        1,
      ).id,
      region: backend.region as RegionCode,
      privateIpv4: backend.address,
      services: [
        webService(backend.port, {
          http: { force_https: forceHttps },
          concurrency: { type: 'requests', soft_limit: soft, hard_limit: hard ?? null },
        }),
      ],
      routed: true,
      status: { state, checks: [] } as never,
      ...rest,
    }
  }

  // ---- backends

  async function backend(number: number, region = 'ams', port = 8080): Promise<Backend> {
    const address = `${NET}.${100 + number}`
    const machine = number.toString(16).padStart(14, '0') as MachineId
    const made: Backend = {
      machine,
      region,
      address,
      port,
      hits: { count: 0 },
      ids: [],
      dropped: { count: 0 },
      bytes: { count: 0 },
      headers: {},
      busy: { now: 0, most: 0 },
      answer: null,
      kill: async () => {
        for (const socket of sockets) socket.resetAndDestroy()
        await new Promise((resolve) => server.close(resolve))
      },
      webSockets: () => ws.clients.size,
      async shutDown() {
        for (const socket of ws.clients) socket.close(1001)
        await new Promise((resolve) => server.close(resolve))
      },
    }
    const sockets = new Set<import('node:net').Socket>()
    const server: Server = createServer((q, s) => {
      made.hits.count += 1
      made.headers = q.headers
      const asked = new URL(q.url ?? '/', 'http://x').searchParams
      const delay = Number(asked.get('ms') ?? 0)
      if (asked.has('die')) {
        void made.kill()
        return
      }
      if (asked.has('drop')) {
        made.dropped.count += 1
        q.on('end', () => q.socket.destroy()).resume()
        return
      }
      q.on('end', () => made.ids.push(asked.get('id') ?? ''))
      q.on('data', (chunk: Buffer) => {
        made.bytes.count += chunk.length
      })
      made.busy.now += 1
      made.busy.most = Math.max(made.busy.most, made.busy.now)
      s.on('close', () => {
        made.busy.now -= 1
      })
      const said = made.answer?.(q) ?? null
      q.on('end', () =>
        setTimeout(() => {
          if (said !== null) s.writeHead(said.status ?? 200, said.headers ?? {}).end(said.text)
          else
            s.setHeader('content-type', 'application/json').end(
              JSON.stringify({ machine, headers: q.headers, url: q.url }),
            )
        }, delay),
      )
    })
    server.on('connection', (socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    })
    const ws = new WebSocketServer({
      server,
      verifyClient: ({ req }, done) => {
        const said = made.answer?.(req) ?? null
        if (said === null) done(true)
        else done(false, said.status ?? 200, said.text ?? '', { ...said.headers })
      },
    })
    ws.on('connection', (socket) =>
      socket.on('message', (data) => socket.send(`${machine}:${data}`)),
    )
    server.listen(port, address)
    await once(server, 'listening')
    closers.push(async () => {
      ws.close()
      server.closeAllConnections()
      server.close()
    })
    return made
  }

  /** A backend in a network namespace of its own, which can stop to pass packets without a word. */
  async function silentBackend(number: number) {
    const name = `roost-edge-${process.pid}`
    const [outside, inside] = [`re${process.pid}a`, `re${process.pid}b`]
    const third = process.pid % 250
    const address = `198.51.${third}.2`
    const machine = number.toString(16).padStart(14, '0') as MachineId
    await run('ip', ['netns', 'add', name])
    closers.push(() => run('ip', ['netns', 'del', name]))
    await run('ip', ['link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', name])
    await run('ip', ['addr', 'add', `198.51.${third}.1/30`, 'dev', outside])
    await run('ip', ['link', 'set', outside, 'up'])
    await run('ip', ['-n', name, 'addr', 'add', `${address}/30`, 'dev', inside])
    await run('ip', ['-n', name, 'link', 'set', inside, 'up'])
    const program = `let now = 0
    require('node:http').createServer((q, s) => {
      if (q.url === '/inside') return s.end('{"now":' + now + ',"machine":""}')
      const ms = Number(new URL(q.url, 'http://x').searchParams.get('ms') ?? 0)
      now += ms > 0 ? 1 : 0
      setTimeout(() => s.end('{"machine":"${machine}"}'), ms)
    }).listen(8080)`
    const child = spawn('ip', ['netns', 'exec', name, process.execPath, '-e', program])
    closers.push(async () => {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
      await run('ip', ['link', 'del', outside])
    })
    return {
      machine,
      region: 'ams',
      address,
      port: 8080,
      fallSilent: () =>
        run('ip', [
          ...['netns', 'exec', name, 'nft'],
          'add table ip x; add chain ip x i { type filter hook input priority 0; policy drop; }; add chain ip x o { type filter hook output priority 0; policy drop; }',
        ]),
    }
  }

  // ---- a client

  function get(
    options: {
      host?: string
      path?: string
      method?: string
      headers?: Record<string, string>
      agent?: Agent
      tls?: { ca: string; name?: string }
      body?: string
      timeoutMs?: number
    } = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const common = {
        host: `${NET}.1`,
        path: options.path ?? '/',
        method: options.method ?? 'GET',
        headers: { host: options.host ?? `shop.${DOMAIN}`, ...options.headers },
      }
      const make = options.tls
        ? requestTls({
            ...common,
            port: HTTPS_PORT,
            ca: options.tls.ca,
            servername: options.tls.name ?? `shop.${DOMAIN}`,
            agent: false,
          })
        : request({ ...common, port: HTTP_PORT, agent: options.agent ?? false })
      make.setTimeout(options.timeoutMs ?? 15_000, () => make.destroy(new Error('no reply')))
      make.on('response', (response) => {
        let text = ''
        response.on('data', (chunk) => {
          text += chunk
        })
        response.on('error', reject)
        response.on('end', () => {
          const machine = text.startsWith('{')
            ? (JSON.parse(text) as { machine: string }).machine
            : null
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, machine })
        })
      })
      make.on('error', reject)
      make.end(common.method === 'POST' ? (options.body ?? 'body') : undefined)
    })
  }

  /** Steady requests on kept and on new connections, GET and POST, or GET alone of one path; the result counts what failed. */
  function load(perSecond: number, path: string | null = null) {
    const agent = new Agent({ keepAlive: true, maxSockets: 4 })
    const failures: string[] = []
    const slowest = { ms: 0 }
    let sent = 0
    const pending = new Set<Promise<unknown>>()
    const timer = setInterval(() => {
      const n = sent++
      const from = Date.now()
      const one = get({
        method: n % 2 === 0 || path !== null ? 'GET' : 'POST',
        path: path ?? `/?ms=${n % 5 === 0 ? 100 : 0}`,
        ...(n % 4 < 2 ? { agent } : {}),
      })
        .then((reply) => {
          slowest.ms = Math.max(slowest.ms, Date.now() - from)
          if (reply.status !== 200) failures.push(`${n}: ${reply.status} ${reply.text}`)
        })
        .catch((error: Error) =>
          failures.push(`${n} ${n % 2 === 0 ? 'GET' : 'POST'}: ${error.message}`),
        )
        .finally(() => pending.delete(one))
      pending.add(one)
    }, 1000 / perSecond)
    return {
      failures,
      slowest,
      sent: () => sent,
      pending: () => pending.size,
      async stop() {
        clearInterval(timer)
        await Promise.all(pending)
        agent.destroy()
      },
    }
  }

  // ---- the edge

  async function raise(
    options: {
      slots?: number
      maxConnections?: number
      server?: ReturnType<typeof fakeLink>
      dir?: string
      /** Names of people's own have certificates whose keys are sealed for this one. */
      sealing?: SealingKey
      pace?: EdgePace
    } = {},
  ) {
    const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'roost-edge-')))
    const server = options.server ?? fakeLink()
    const { sealing } = options
    if (sealing !== undefined) await writeFile(join(dir, 'sealing.json'), JSON.stringify(sealing))
    const config = edgeConfig.parse({
      hostId: 'a'.repeat(14),
      hostName: 'host-ams-1',
      region: 'ams',
      dataDir: join(dir, 'data'),
      runDir: join(dir, 'run'),
      serverUrl: 'https://127.0.0.1:1',
      ...(sealing === undefined ? {} : { sealingKeyFile: join(dir, 'sealing.json') }),
      tls: {
        ca: join(pki, 'ca.pem'),
        certificate: join(pki, 'edge.pem'),
        key: join(pki, 'edge.key'),
      },
      http: { address: `${NET}.1`, port: HTTP_PORT },
      https: { address: `${NET}.1`, port: HTTPS_PORT },
      dns: { address: `${NET}.1`, port: 0 },
      listen: { address: `${NET}.1`, port: 0 },
      // Tests on hosts that are one machine share its ports.
      servicePorts: SERVICE_PORT,
      statics: {
        dir: join(dir, 'statics'),
        listen: { address: `${NET}.1`, port: SERVICE_PORT + 6 },
      },
      haproxy: { slots: options.slots ?? 20, maxConnections: options.maxConnections ?? 500 },
    })
    if (options.server === undefined) {
      server.put('settings', 'settings', settingsWith('198.18.2.0/24'))
      for (const [n, region] of ['ams', 'iad', 'syd'].entries()) {
        const made = {
          ...host('abc'[n] ?? '', region, n + 1),
          sealingKey: n === 0 ? (sealing?.publicKey ?? '') : '',
        }
        server.put('host', made.id, made)
      }
      server.put('app', 'shop', app('shop'))
    }
    const dead = new Set<string>()
    /** What other edges say that replays. */
    const replaying: string[] = []
    /** What the edges of a region say that they have at work on machines of `shop`, and which have been asked since. */
    const atWork = new Map<string, Readonly<Record<string, number>>>()
    const told = new Set<string>()
    const start = (rules: { readonly maxConnections?: number } = {}) =>
      startEdge({
        config: { ...config, haproxy: { ...config.haproxy, ...rules } },
        link: server.link,
        asker: {
          alive: async ({ id, region }) => {
            if (dead.has(region)) throw new Error('dead')
            // Each has its own distance, or chance would rank them.
            await systemClock.sleep(region === 'iad' ? 15 : 60)
            if (atWork.has(region)) told.add(region)
            const replayed = replaying.map((app) => ({ app, at: Date.now() }))
            const at_work = { 'shop/http': atWork.get(region) ?? {} }
            return { host: id, region, serving: true, round_trip_ms: {}, replayed, at_work }
          },
          knock: async () => {},
          forget: () => {},
        },
        edges: {
          lease: async () => 'granted',
          present: async () => {},
          tell: async () => {},
        },
        countryOf: () => null,
        pace: { ...TRIAL_PACE, ...options.pace },
        clock: systemClock,
        log: process.env['ROOST_TEST_LOG'] ? createLogger({ program: 'edge' }) : silentLogger,
      })
    const files = proxyFiles(config)
    const applied = (revision: number, limitMs?: number) =>
      until(
        `revision ${revision} is applied`,
        () => (edge.current.status().applied >= revision ? true : null),
        limitMs,
      )
    const edge: { current: Edge } = { current: await start() }
    closers.push(async () => {
      try {
        await edge.current.close()
      } finally {
        // Also when a test failed while its edge was away.
        await createHaproxyProcess({
          binary: config.haproxy.binary,
          files,
          binds: [config.http, config.https],
          clock: systemClock,
          log: silentLogger,
        }).stop()
      }
      await run('nft', ['delete', 'table', 'ip', portTable(config)]).catch(() => {})
      if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
    })
    return {
      edge,
      server,
      files,
      applied,
      start,
      dead,
      replaying,
      atWork,
      told,
      config,
      masterPid: async () => Number(await readFile(files.pid, 'utf8')),
    }
  }

  return {
    NET,
    HTTP_PORT,
    HTTPS_PORT,
    pki,
    closers,
    backend,
    silentBackend,
    fakeLink,
    get,
    load,
    raise,
    view,
    /** After each test. All of it, also when something of it fails. */
    async cleanUp() {
      const failures: unknown[] = []
      for (const closer of closers.splice(0).reverse()) {
        try {
          await closer()
        } catch (error) {
          failures.push(error)
        }
      }
      if (failures.length > 0) throw failures[0]
    },
    close: () => rm(pki, { recursive: true, force: true }),
  }
}
