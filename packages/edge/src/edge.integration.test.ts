import { execFile, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, createServer, type IncomingHttpHeaders, request, type Server } from 'node:http'
import { connect as connectH2 } from 'node:http2'
import { request as requestTls } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { edgeConfig, type MachineView, type Settings, type WatchEvent } from '@roost/api'
import { createLogger, silentLogger, systemClock } from '@roost/base'
import type { App, Draining, Host, HostId, MachineId, RegionCode } from '@roost/core'
import { decode, encode } from 'dns-packet'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { type Edge, proxyFiles, startEdge } from './edge.ts'
import { createHaproxyProcess } from './haproxy/haproxy-process.ts'
import type { ServerLink } from './link/server-link.ts'

/** A real HAProxy on loopback addresses, small backends that tell who they are, and a server that says what the test wants. */
const run = promisify(execFile)
const NET = `127.${60 + (process.pid % 60)}.${process.pid % 250}`
const DOMAIN = 'roost.test'
const HTTP_PORT = 18080
const HTTPS_PORT = 18443

let pki: string
beforeAll(async () => {
  pki = await mkdtemp(join(tmpdir(), 'roost-edge-pki-'))
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
})
afterAll(() => rm(pki, { recursive: true, force: true }))

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

// ---- a server that the test plays

function fakeLink() {
  const records = new Map<string, WatchEvent & { type: 'record' }>()
  const beats: { applied: number; draining: readonly Draining[]; at: number }[] = []
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
        const news = [...records.values()]
          .filter((r) => r.revision > seen)
          .sort((a, b) => a.revision - b.revision)
        for (const record of news) yield record
        seen = revision
        yield { type: 'synced', revision }
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
  }
}
type Fake = ReturnType<typeof fakeLink>

function host(letter: string, region: string, number: number): Host {
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
const app = (name: string) =>
  ({ name, organization: 'o', network: 1, createdAt: 0, primaryRegion: null, release: 1 }) as App

function view(
  backend: Pick<Backend, 'machine' | 'region' | 'address' | 'port'>,
  changes: Partial<MachineView> & { state?: string; hard?: number; forceHttps?: boolean } = {},
): MachineView {
  const { state = 'started', hard, forceHttps = false, ...rest } = changes
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
      {
        protocol: 'tcp',
        internal_port: backend.port,
        ports: [
          { port: 80, handlers: ['http'], force_https: forceHttps },
          { port: 443, handlers: ['tls', 'http'], force_https: false },
        ],
        checks: [],
        concurrency: { type: 'requests', soft_limit: 20, hard_limit: hard ?? null },
        autostop: 'off',
        autostart: true,
        min_machines_running: 0,
      },
    ],
    routed: true,
    status: { state, checks: [] } as never,
    ...rest,
  }
}

// ---- backends

interface Backend {
  readonly machine: MachineId
  readonly region: string
  readonly address: string
  readonly port: number
  readonly hits: { count: number }
  headers: IncomingHttpHeaders
  /** Connections are reset and refused, as when the process is killed. */
  kill(): Promise<void>
}
const closers: (() => Promise<unknown> | unknown)[] = []

async function backend(number: number, region = 'ams', port = 8080): Promise<Backend> {
  const address = `${NET}.${100 + number}`
  const machine = number.toString(16).padStart(14, '0') as MachineId
  const made: Backend = {
    machine,
    region,
    address,
    port,
    hits: { count: 0 },
    headers: {},
    kill: async () => {
      for (const socket of sockets) socket.resetAndDestroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  const sockets = new Set<import('node:net').Socket>()
  const server: Server = createServer((q, s) => {
    made.hits.count += 1
    made.headers = q.headers
    const delay = Number(new URL(q.url ?? '/', 'http://x').searchParams.get('ms') ?? 0)
    q.resume()
    q.on('end', () =>
      setTimeout(() => s.end(JSON.stringify({ machine, headers: q.headers, url: q.url })), delay),
    )
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  const ws = new WebSocketServer({ server })
  ws.on('connection', (socket) => socket.on('message', (data) => socket.send(`${machine}:${data}`)))
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

interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly machine: string | null
}
function get(
  options: {
    host?: string
    path?: string
    method?: string
    headers?: Record<string, string>
    agent?: Agent
    tls?: { ca: string }
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
          servername: `shop.${DOMAIN}`,
          agent: false,
        })
      : request({ ...common, port: HTTP_PORT, agent: options.agent ?? false })
    make.setTimeout(15_000, () => make.destroy(new Error('no reply')))
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
    make.end(common.method === 'POST' ? 'body' : undefined)
  })
}

/** Steady requests on kept and on new connections, GET and POST; the result counts what failed. */
function load(perSecond: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: 4 })
  const failures: string[] = []
  const slowest = { ms: 0 }
  let sent = 0
  const pending = new Set<Promise<unknown>>()
  const timer = setInterval(() => {
    const n = sent++
    const from = Date.now()
    const one = get({
      method: n % 2 === 0 ? 'GET' : 'POST',
      path: `/?ms=${n % 5 === 0 ? 100 : 0}`,
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
    async stop() {
      clearInterval(timer)
      await Promise.all(pending)
      agent.destroy()
    },
  }
}

// ---- the edge

async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  limitMs = 10_000,
): Promise<NonNullable<T>> {
  const deadline = Date.now() + limitMs
  for (;;) {
    const found = await look()
    if (found !== null && found !== undefined && found !== false) return found as NonNullable<T>
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms: ${what}`)
    await systemClock.sleep(20)
  }
}

async function raise(options: { slots?: number; server?: Fake; dir?: string } = {}) {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'roost-edge-')))
  const server = options.server ?? fakeLink()
  const config = edgeConfig.parse({
    hostId: 'a'.repeat(14),
    hostName: 'host-ams-1',
    region: 'ams',
    dataDir: join(dir, 'data'),
    runDir: join(dir, 'run'),
    serverUrl: 'https://127.0.0.1:1',
    tls: {
      ca: join(pki, 'ca.pem'),
      certificate: join(pki, 'edge.pem'),
      key: join(pki, 'edge.key'),
    },
    http: { address: `${NET}.1`, port: HTTP_PORT },
    https: { address: `${NET}.1`, port: HTTPS_PORT },
    dns: { address: `${NET}.1`, port: 0 },
    listen: { address: `${NET}.1`, port: 0 },
    haproxy: { slots: options.slots ?? 20, maxConnections: 500 },
  })
  if (options.server === undefined) {
    const settings: Settings = {
      domain: DOMAIN,
      clientNetworks: [{ cidr: '198.18.2.0/24', region: 'iad' as RegionCode }],
      networks: [],
      registry: { name: '', url: '' },
    }
    server.put('settings', 'settings', settings)
    for (const [n, region] of ['ams', 'iad', 'syd'].entries()) {
      const made = host('abc'[n] ?? '', region, n + 1)
      server.put('host', made.id, made)
    }
    server.put('app', 'shop', app('shop'))
  }
  const dead = new Set<string>()
  const start = () =>
    startEdge({
      config,
      link: server.link,
      asker: {
        alive: async ({ id, region }) => {
          if (dead.has(region)) throw new Error('dead')
          // Each has its own distance, or chance would rank them.
          await systemClock.sleep(region === 'iad' ? 15 : 60)
          return { host: id, region, serving: true, round_trip_ms: {} }
        },
        knock: async () => {},
        forget: () => {},
      },
      countryOf: () => null,
      clock: systemClock,
      log: process.env['ROOST_TEST_LOG'] ? createLogger({ program: 'edge' }) : silentLogger,
    })
  const files = proxyFiles(config)
  const applied = (revision: number) =>
    until(`revision ${revision} is applied`, () =>
      edge.current.status().applied >= revision ? true : null,
    )
  const edge: { current: Edge } = { current: await start() }
  closers.push(async () => {
    await edge.current.close()
    await createHaproxyProcess({
      binary: config.haproxy.binary,
      files,
      binds: [config.http, config.https],
      clock: systemClock,
      log: silentLogger,
    }).stop()
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
  })
  return {
    edge,
    server,
    files,
    applied,
    start,
    dead,
    config,
    masterPid: async () => Number(await readFile(files.pid, 'utf8')),
  }
}

afterEach(async () => {
  for (const closer of closers.splice(0).reverse()) await closer()
})

describe('an edge with a real HAProxy', () => {
  test('answers by name, sets what apps are told and lets no client set it', async () => {
    const one = await backend(1)
    const { server, applied } = await raise()
    server.put('app', 'empty', app('empty'))
    await applied(server.put('machine', one.machine, view(one)))

    const forged = {
      'fly-client-ip': '6.6.6.6',
      'Fly-Region': 'mars',
      'fly-request-id': 'mine',
      fly_client_ip: '6.6.6.6',
      'fly-forwarded-proto': 'https',
      'x-forwarded-for': '9.9.9.9',
      'x_forwarded-for': '6.6.6.6',
      'x-forwarded-proto': 'https',
      'x-forwarded-port': '443',
      via: '1.1 liar',
      'x-custom_name': 'kept',
    }
    const reply = await get({
      headers: forged,
      path: '/a/b?c=d',
      host: `SHOP.${DOMAIN.toUpperCase()}:${HTTP_PORT}`,
    })
    expect(reply.status).toBe(200)
    const seen = JSON.parse(reply.text) as { headers: Record<string, string>; url: string }
    expect(seen.url).toBe('/a/b?c=d')
    expect(seen.headers).toMatchObject({
      'fly-client-ip': '127.0.0.1',
      'fly-region': 'ams',
      'fly-forwarded-port': String(HTTP_PORT),
      'fly-forwarded-proto': 'http',
      'fly-forwarded-ssl': 'off',
      'x-forwarded-for': '9.9.9.9, 127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-port': String(HTTP_PORT),
      'x-forwarded-ssl': 'off',
      via: '1.1 roost',
      'x-custom_name': 'kept',
    })
    expect(Object.keys(seen.headers).filter((name) => /^(fly|x.forwarded).*_/.test(name))).toEqual(
      [],
    )
    const id = seen.headers['fly-request-id']
    expect(id).toMatch(/^[0-7][0-9A-F]{25}-ams$/)
    expect(reply.headers).toMatchObject({ 'fly-request-id': id, via: '1.1 roost', server: 'Roost' })
    expect((await get()).headers['fly-request-id']).not.toBe(id)

    const unknown = await get({ host: `nobody.${DOMAIN}` })
    expect([unknown.status, unknown.text]).toEqual([404, 'No app answers under this name.\n'])
    const idle = await get({ host: `empty.${DOMAIN}` })
    expect([idle.status, idle.headers['retry-after'], idle.text]).toEqual([
      503,
      '1',
      'No machine of this app can answer now.\n',
    ])
    expect(idle.headers['fly-request-id']).toMatch(/-ams$/)
  })

  test('speaks TLS with a certificate of the authority, HTTP/2 and WebSockets included', async () => {
    const one = await backend(1)
    const { server, applied, edge } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const ca = await readFile(join(pki, 'ca.pem'), 'utf8')
    const reply = await until('the certificate is there', () =>
      get({ tls: { ca } }).catch(() => null),
    )
    const { headers } = JSON.parse(reply.text) as { headers: Record<string, string> }
    expect(headers).toMatchObject({
      'fly-forwarded-proto': 'https',
      'x-forwarded-ssl': 'on',
      'fly-forwarded-port': String(HTTPS_PORT),
    })

    const session = connectH2(`https://${NET}.1:${HTTPS_PORT}`, {
      ca,
      servername: `shop.${DOMAIN}`,
    })
    const stream = session.request({ ':path': '/h2', ':authority': `shop.${DOMAIN}` })
    let text = ''
    stream.on('data', (chunk) => {
      text += chunk
    })
    await once(stream, 'end')
    session.close()
    expect(JSON.parse(text)).toMatchObject({ url: '/h2', headers: { via: '2.0 roost' } })

    for (const url of [`ws://${NET}.1:${HTTP_PORT}`, `wss://${NET}.1:${HTTPS_PORT}`]) {
      const secure = { ca, servername: `shop.${DOMAIN}` }
      const socket = new WebSocket(url, { headers: { host: `shop.${DOMAIN}` }, ...secure })
      await once(socket, 'open')
      socket.send('hello')
      const [data] = await once(socket, 'message')
      expect(String(data)).toBe(`${one.machine}:hello`)
      socket.close()
    }

    await applied(server.put('machine', one.machine, view(one, { forceHttps: true })))
    const moved = await get({ path: '/x?y=1' })
    expect([moved.status, moved.headers.location]).toEqual([
      301,
      `https://shop.${DOMAIN}:${HTTPS_PORT}/x?y=1`,
    ])
    expect(edge.current.status().serving).toBe(true)
  })

  test('machines come and go under load and no request fails; who leaves is reported until nobody uses it', async () => {
    const [one, two, three] = [await backend(1), await backend(2), await backend(3, 'ams', 3000)]
    const { server, applied, edge } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}`, {
      headers: { host: `shop.${DOMAIN}` },
    })
    await once(socket, 'open')

    const traffic = load(150)
    for (let round = 0; round < 8; round++) {
      await applied(server.put('machine', two.machine, view(two)))
      const hits = two.hits.count
      await until('the new one is used', () => two.hits.count > hits)
      await applied(server.put('machine', one.machine, view(one, { routed: false })))
      await until('its WebSocket is counted', () =>
        edge.current.status().draining.some((d) => d.machine === one.machine),
      )
      await applied(server.put('machine', one.machine, view(one)))
      await applied(server.put('machine', two.machine, null))
    }
    // A release on another port: both serve, then the old one goes.
    await applied(server.put('machine', three.machine, view(three)))
    await applied(server.put('machine', one.machine, view(one, { routed: false })))
    const quiet = one.hits.count
    await until('others answer', () => three.hits.count > 50)
    await until(
      'only the open WebSocket is left',
      () => edge.current.status().draining.find((d) => d.machine === one.machine)?.sessions === 1,
    )
    expect(one.hits.count).toBeLessThan(quiet + 10)
    socket.close()
    await until('nothing drains', () => edge.current.status().draining.length === 0)
    await until('and the server hears it', () => server.beats.at(-1)?.draining.length === 0)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    expect(traffic.sent()).toBeGreaterThan(100)
  })

  test('a machine that dies costs no request that may be repeated, and what is near takes over before what is far', async () => {
    const [near, far, further] = [
      await backend(1),
      await backend(2, 'iad'),
      await backend(3, 'syd'),
    ]
    const { server, applied } = await raise()
    // Entered from far to near: the order of arrival must not decide.
    await applied(server.put('machine', further.machine, view(further)))
    expect((await get()).machine).toBe(further.machine)
    await applied(server.put('machine', far.machine, view(far)))
    expect((await get()).machine).toBe(far.machine)
    await applied(server.put('machine', near.machine, view(near)))
    expect((await get()).machine).toBe(near.machine)

    const statuses: number[] = []
    const asking = { go: true }
    const clients = Array.from({ length: 5 }, async () => {
      const agent = new Agent({ keepAlive: true })
      while (asking.go)
        statuses.push((await get({ agent, path: '/?ms=10' }).catch(() => ({ status: 0 }))).status)
      agent.destroy()
    })
    await near.kill()
    await until('the next region answers', async () => (await get()).machine === far.machine)
    expect(further.hits.count).toBe(1)
    await far.kill()
    await until('the farthest answers', async () => (await get()).machine === further.machine)
    asking.go = false
    await Promise.all(clients)
    expect(statuses.filter((s) => s !== 200)).toEqual([])
    expect((await get({ method: 'POST' })).status).toBe(200)
  })

  test('when the own region is down, all machines of the nearest one share the work', async () => {
    const [near, a, b] = [await backend(1), await backend(2, 'iad'), await backend(3, 'iad')]
    const { server, applied } = await raise()
    server.put('machine', near.machine, view(near))
    server.put('machine', a.machine, view(a))
    await applied(server.put('machine', b.machine, view(b)))
    await near.kill()
    await get()
    await until('both work', async () => {
      const [hitsA, hitsB] = [a.hits.count, b.hits.count]
      await Promise.all(Array.from({ length: 10 }, () => get({ path: '/?ms=20' })))
      return Math.min(a.hits.count - hitsA, b.hits.count - hitsB) >= 4
    })
    const again = await backend(1)
    await until('the own region serves alone again', async () => {
      const before = a.hits.count + b.hits.count
      const replies = await Promise.all(Array.from({ length: 10 }, () => get()))
      return (
        replies.every((r) => r.machine === again.machine) && a.hits.count + b.hits.count === before
      )
    })
  })

  test('a restart of the edge disturbs nobody; a HAProxy that was killed is back within 2 s', async () => {
    const one = await backend(1)
    const two = await backend(2)
    const { server, applied, edge, start, files, masterPid } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}`, {
      headers: { host: `shop.${DOMAIN}` },
    })
    await once(socket, 'open')
    const pid = await masterPid()

    const traffic = load(100)
    // As after kill -9: HAProxy stays as it is, and no server can be reached.
    await edge.current.close().catch(() => {})
    expect(await masterPid()).toBe(pid)
    server.setReachable(false)
    edge.current = await start()
    await until('the running HAProxy was adopted', () => edge.current.status().applied > 0)
    expect(await masterPid()).toBe(pid)
    server.setReachable(true)
    await applied(server.put('machine', two.machine, view(two)))
    await until('it is steered again', () => two.hits.count > 0)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    socket.send('still')
    expect(String((await once(socket, 'message'))[0])).toBe(`${one.machine}:still`)
    socket.terminate()

    for (const who of ['worker', 'master'] as const) {
      const master = await masterPid()
      const children = await readFile(`/proc/${master}/task/${master}/children`, 'utf8')
      const from = Date.now()
      process.kill(who === 'master' ? master : Number(children.trim().split(' ')[0]), 'SIGKILL')
      // The next request may still meet the dying one; no connection is refused.
      await until(
        'it serves again',
        async () =>
          (await masterPid().catch(() => master)) !== master && (await get()).status === 200,
        2000,
      )
      expect(Date.now() - from).toBeLessThan(2000)
    }
    await until('the files for the next start know the latest', async () =>
      (await readFile(files.config, 'utf8')).includes(two.machine),
    )
  })

  test('a bad record is refused, its last good version and all others go on, also over a restart without a server', async () => {
    const [one, two] = [await backend(1), await backend(2)]
    const { server, applied, edge, start } = await raise()
    server.put('app', 'blog', app('blog'))
    server.put('machine', one.machine, view(one))
    await applied(server.put('machine', two.machine, view(two, { app: 'blog' })))
    server.put('machine', one.machine, { ...view(one), privateIpv4: '1.1.1.1; shutdown sessions' })
    server.put('app', 'evil', { ...app('evil'), name: 'x y\nadd server' })
    server.put('host', 'c'.repeat(14), 'garbage')
    await applied(server.put('machine', two.machine, view(two, { app: 'blog', hard: 7 })))
    expect((await get()).machine).toBe(one.machine)
    expect((await get({ host: `blog.${DOMAIN}` })).machine).toBe(two.machine)

    server.setReachable(false)
    await edge.current.close()
    edge.current = await start()
    await until('it serves from what it knows', () => edge.current.status().applied > 0)
    expect((await get()).machine).toBe(one.machine)
    expect((await get({ host: `blog.${DOMAIN}` })).machine).toBe(two.machine)
  })

  test('more apps than slots: the pool grows by a reload that loses nothing', async () => {
    const one = await backend(1)
    const { server, applied, edge } = await raise({ slots: 2 })
    await applied(server.put('machine', one.machine, view(one)))
    const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}`, {
      headers: { host: `shop.${DOMAIN}` },
    })
    await once(socket, 'open')
    const traffic = load(100)
    let last = 0
    for (let n = 0; n < 9; n++) {
      server.put('app', `app-${n}`, app(`app-${n}`))
      const machine = (100 + n).toString(16).padStart(14, '0') as MachineId
      last = server.put('machine', machine, view(one, { app: `app-${n}`, id: machine }))
    }
    await applied(last)
    for (let n = 0; n < 9; n++) expect((await get({ host: `app-${n}.${DOMAIN}` })).status).toBe(200)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    // The WebSocket is with the old worker now, and counts until it ends.
    await applied(server.put('machine', one.machine, null))
    await until('it is counted', () =>
      edge.current.status().draining.some((d) => d.machine === one.machine && d.sessions === 1),
    )
    socket.send('x')
    expect(String((await once(socket, 'message'))[0])).toBe(`${one.machine}:x`)
    socket.terminate()
  })

  test('a machine that falls silent is left within seconds, also by those who wait for its answer', async () => {
    const hidden = await silentBackend(1)
    const far = await backend(2, 'iad')
    const { server, applied } = await raise()
    server.put('machine', hidden.machine, view(hidden))
    await applied(server.put('machine', far.machine, view(far)))
    const agent = new Agent({ keepAlive: true })
    await until('it serves', async () => (await get({ agent })).machine === hidden.machine)
    const inside = get({ agent, path: '/?ms=1000' })
    await until('it works on it', async () => (await get({ path: '/inside' })).text.includes(':1,'))
    await hidden.fallSilent()
    const from = Date.now()
    const replies = await Promise.all([inside, ...Array.from({ length: 5 }, () => get())])
    expect(replies.map((r) => [r.status, r.machine])).toEqual(replies.map(() => [200, far.machine]))
    expect(Date.now() - from).toBeLessThan(8000)
    agent.destroy()
  })

  test('its DNS gives each client the nearest living edge', async () => {
    const { edge, dead } = await raise()
    const ask = (subnet: string, name = `shop.${DOMAIN}`) =>
      new Promise<{ address: unknown; scope: unknown }>((resolve, reject) => {
        const socket = createSocket('udp4')
        const timer = setTimeout(() => reject(new Error('no answer')), 3000)
        socket.on('message', (message) => {
          clearTimeout(timer)
          socket.close()
          const packet = decode(message)
          const [answer] = packet.answers ?? []
          const opt = packet.additionals?.find((r) => r.type === 'OPT')
          resolve({
            address: answer?.type === 'A' ? answer.data : null,
            scope:
              opt?.type === 'OPT'
                ? (opt.options[0] as { scopePrefixLength?: number })?.scopePrefixLength
                : null,
          })
        })
        const query = encode({
          type: 'query',
          id: 7,
          questions: [{ type: 'A', name }],
          additionals: [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: 1232,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [{ code: 8, family: 1, sourcePrefixLength: 24, ip: subnet }],
            },
          ],
        })
        socket.send(query, edge.current.ports().dns ?? 0, `${NET}.1`)
      })
    await until('it serves', () => edge.current.status().applied > 0 && edge.current.ports().dns)
    expect(await ask('198.18.2.0')).toEqual({ address: '198.18.2.1', scope: 24 })
    expect((await ask('10.1.1.0')).address).toBe('198.18.1.1')
    dead.add('iad')
    await until(
      'the dead one is withdrawn',
      async () => (await ask('198.18.2.0')).address === '198.18.1.1',
      5000,
    )
    dead.delete('iad')
    await until('it is back', async () => (await ask('198.18.2.0')).address === '198.18.2.1', 5000)
  })
})
