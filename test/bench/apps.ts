import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { createServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { edgeConfig } from '@roost/api'
import { silentLogger, systemClock } from '@roost/base'
import { limitsOf, NODE_ENVIRONMENT, nodeArguments } from '../../packages/cli/src/host/limits.ts'
import { ourProgram } from '../../packages/cli/src/host/source-root.ts'
import {
  makeCertificate,
  makeSealingKey,
  ownName,
} from '../../packages/edge/src/certificate/trial-certificate.ts'
import { proxyFiles } from '../../packages/edge/src/edge.ts'
import { createHaproxyProcess } from '../../packages/edge/src/haproxy/haproxy-process.ts'
import { askOnce } from '../../packages/edge/src/haproxy/runtime-api.ts'
import { DOMAIN } from '../../packages/edge/src/trial-edge.ts'
import { type ManyApps, manyApps, startManyMachines } from '../../packages/edge/src/trial-many.ts'
import { run } from '../e2e/terminal.ts'
import { interleaved, median, type Report, timed } from './yardstick.ts'

const APPS = 2000
const FEW = 20
/** Of them with a name of somebody's own and its certificate. */
const OWN_NAMES = 200
const CHANGES = 20
const RELOADS = 5
const REST_SECONDS = 10
const WAIT_MS_MAX = 60_000
const PORT = 18_710
const NET = '127.59.1'
/** The edge runs as on a host with this much memory. */
const HOST_MB = 1024

/**
 * One edge with thousands of apps: what it takes, how soon a change takes effect, reloads, and its start from disk without a server. The
 * yardstick is a bare HAProxy with as many backends written into its configuration, or the same edge with few apps.
 */
export async function measureApps(report: Report): Promise<void> {
  const machines = await startManyMachines(PORT)
  try {
    const few = await measureEdgeWith(FEW, report)
    const many = await measureEdgeWith(APPS, report)
    report.compare({
      name: `change to effect, ${APPS} apps`,
      ours: median(many),
      yardstick: median(few),
      unit: 'ms',
      against: `the same with ${FEW} apps`,
      goal: null,
    })
    report.figure(`change to effect, ${APPS} apps, slowest of ${CHANGES}`, Math.max(...many), 'ms')
  } finally {
    await machines.close()
  }
}

/** Returns how long each change took. */
async function measureEdgeWith(count: number, report: Report): Promise<readonly number[]> {
  const dir = mkdtempSync(join(tmpdir(), 'roost-bench-apps-'))
  const many = manyApps({ count, block: 50, port: PORT })
  const edge = await trialEdge(dir)
  const isMany = count === APPS
  const say = (name: string, value: number, unit: string) => {
    if (isMany) report.figure(`${name}, ${count} apps`, value, unit)
  }
  try {
    await edge.fill(many, isMany ? OWN_NAMES : 0)
    say('from nothing to all served', await timed(() => edge.startUntilApplied()), 'ms')
    const effects: number[] = []
    for (let change = 0; change < CHANGES; change++)
      effects.push(await edge.change(many, change * Math.floor(count / CHANGES)))
    if (!isMany) return effects

    await edge.rest(say)
    // Without its edge, so that both are told to reload in the same way.
    await edge.stopProgram()
    const bare = await startBare(dir, many)
    try {
      report.compare({
        name: `reload of HAProxy, ${count} apps`,
        ...(await interleaved(RELOADS, () => edge.reload(), bare.reload)),
        unit: 'ms',
        against: `bare HAProxy with ${count} backends`,
        goal: null,
      })
      report.compare({
        name: `memory of HAProxy, ${count} apps`,
        ours: await edge.haproxyMb(),
        yardstick: await bare.memoryMb(),
        unit: 'MB RSS',
        against: `bare HAProxy with ${count} backends`,
        goal: null,
      })
    } finally {
      await bare.close()
    }
    await edge.stopHaproxy()
    edge.stopServer()
    say('start from disk without a server', await timed(() => edge.startUntilServing(many)), 'ms')
    return effects
  } finally {
    await edge.close()
    rmSync(dir, { recursive: true, force: true })
  }
}

// ---- an edge as a program of its own, and a server as far as it needs one

async function trialEdge(dir: string) {
  const at = (file: string) => join(dir, file)
  await makePki(dir)
  const sealing = makeSealingKey()
  writeFileSync(at('sealing.json'), JSON.stringify(sealing))
  const server = await startRecordServer(dir)
  const config = edgeConfig.parse({
    hostId: 'a'.repeat(14),
    hostName: 'host-ams-1',
    region: 'ams',
    dataDir: at('data'),
    runDir: at('run'),
    serverUrl: `https://127.0.0.1:${server.port}`,
    sealingKeyFile: at('sealing.json'),
    tls: { ca: at('ca.pem'), certificate: at('edge.pem'), key: at('edge.key') },
    http: { address: `${NET}.1`, port: 18_711 },
    https: { address: `${NET}.1`, port: 18_712 },
    dns: { address: `${NET}.1`, port: 0 },
    listen: { address: `${NET}.1`, port: 0 },
    servicePorts: 18_720,
    logFile: at('edge.log'),
  })
  writeFileSync(at('edge.json'), JSON.stringify(config))
  const files = proxyFiles(config)
  const haproxy = createHaproxyProcess({
    binary: config.haproxy.binary,
    files,
    binds: [config.http, config.https],
    clock: systemClock,
    log: silentLogger,
  })
  const agent = new Agent({ keepAlive: true, maxSockets: 4 })
  let program: ChildProcess | null = null

  function start(): void {
    const [node, file = ''] = ourProgram('edge')
    const limits = limitsOf({ programsCgroup: '' }, 'edge', HOST_MB)
    const flags = nodeArguments('edge', limits)
    program = spawn(node, [...flags, file, '--config', at('edge.json')], {
      env: { ...process.env, ...NODE_ENVIRONMENT },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
  }
  async function stopProgram(): Promise<void> {
    const was = program
    program = null
    if (was === null || was.exitCode !== null) return
    const ended = once(was, 'exit')
    was.kill('SIGTERM')
    await ended
  }
  const answerOf = (name: string) =>
    new Promise<string>((resolve, reject) => {
      const asked = request(
        {
          ...{ host: config.http.address, port: config.http.port, agent, timeout: 5000 },
          headers: { host: `${name}.${DOMAIN}` },
        },
        (reply) => {
          let text = ''
          reply.on('data', (chunk: Buffer) => {
            text += chunk.toString()
          })
          reply.on('error', reject)
          reply.on('end', () => resolve(text))
        },
      )
      asked.on('timeout', () => asked.destroy(new Error('no reply')))
      asked.on('error', reject)
      asked.end()
    })
  const workerPid = async () =>
    Number(/^Pid: (\d+)$/m.exec(await askOnce(files.socket, 'show info').catch(() => ''))?.[1] ?? 0)

  return {
    async fill(many: ManyApps, ownNames: number) {
      for (const [kind, id, value] of many.records) server.put(kind, id, value)
      const certificate = await makeCertificate({
        ...{ ca: at('ca.pem'), caKey: at('ca.key') },
        names: ['*.own.example'],
      })
      const host = { id: many.machine(0, 0).host, sealingKey: sealing.publicKey }
      for (let n = 0; n < ownNames; n++) {
        const name = `www-${n}.own.example`
        server.put('hostname', name, ownName(name, many.nameOf(n)))
        server.put('certificate', `${name}/custom`, await certificate.recordOf(name, [host]))
      }
    },
    async startUntilApplied() {
      start()
      await soon('all is applied', async () => server.applied() >= server.revision())
    },
    async startUntilServing(many: ManyApps) {
      start()
      const last = many.records.filter(([kind]) => kind === 'app').length - 1
      await soon('the last app answers', async () =>
        (await answerOf(many.nameOf(last))).startsWith('127.'),
      )
    },
    /** One app gets another machine; until a client is answered by it. */
    async change(many: ManyApps, n: number) {
      const next = many.machine(n, 2)
      const ms = await timed(async () => {
        server.put('machine', next.id, next)
        for (const copy of [0, 1]) server.put('machine', many.machine(n, copy).id, null)
        const deadline = performance.now() + 10_000
        while ((await answerOf(many.nameOf(n))) !== many.addressOf(n, 2))
          if (performance.now() > deadline) throw new Error('the change takes no effect')
      })
      await soon('it is applied', async () => server.applied() >= server.revision())
      return ms
    },
    /** Memory, and the processor's time while nobody asks for anything. */
    async rest(say: (name: string, value: number, unit: string) => void) {
      const [edgePid, haproxyPid] = [program?.pid ?? 0, await workerPid()]
      const before = [edgePid, haproxyPid].map(cpuSeconds)
      // Waits for nothing: these seconds are what is measured.
      await systemClock.sleep(REST_SECONDS * 1000)
      const share = (pid: number, from: number) => (100 * (cpuSeconds(pid) - from)) / REST_SECONDS
      say('edge at rest', share(edgePid, before[0] ?? 0), '% of a core')
      say('HAProxy at rest, checks included', share(haproxyPid, before[1] ?? 0), '% of a core')
      say('memory of the edge', rssMb(edgePid), 'MB RSS')
    },
    async reload() {
      // A worker that was replaced stays with those who are connected.
      agent.destroy()
      const [master, worker] = [Number(readFileSync(files.pid, 'utf8')), await workerPid()]
      return reloadMs(master, worker, workerPid)
    },
    haproxyMb: async () => rssMb(await workerPid()),
    stopProgram,
    stopHaproxy: () => haproxy.stop(),
    stopServer: () => server.close(),
    async close() {
      await stopProgram()
      await haproxy.stop()
      server.close()
      agent.destroy()
    },
  }
}

async function makePki(dir: string): Promise<void> {
  const at = (file: string) => join(dir, file)
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const make = async (name: string, ...more: string[]) => {
    const argv = ['openssl', 'req', '-x509', ...ec, '-subj', `/CN=${name}`, ...more]
    const made = await run([...argv, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`)])
    if (made.code !== 0) throw new Error(`make ${name}: ${made.stderr}`)
  }
  const signed = (names: string) => [
    ...['-addext', `subjectAltName=${names}`, '-addext', 'basicConstraints=critical,CA:FALSE'],
    ...['-CA', at('ca.pem'), '-CAkey', at('ca.key')],
  ]
  await make('ca')
  await make('server', ...signed('URI:roost://server,IP:127.0.0.1'))
  await make('edge', ...signed(`URI:roost://edge/${'a'.repeat(14)}`))
}

/** Says its records to who watches, and hears how far they were carried out. */
async function startRecordServer(dir: string) {
  const read = (file: string) => readFileSync(join(dir, file), 'utf8')
  const records = new Map<string, { readonly revision: number; readonly line: string }>()
  const watching = new Map<import('node:http').ServerResponse, number>()
  const sockets = new Set<Duplex>()
  let revision = 0
  let applied = 0

  function tell(): void {
    for (const [reply, since] of watching) {
      const news = [...records.values()].filter((record) => record.revision > since)
      const lines = news.map(({ line }) => `${line}\n`).join('')
      reply.write(`${lines}${JSON.stringify({ type: 'synced', revision })}\n`)
      watching.set(reply, revision)
    }
  }
  const server = createServer(
    { ca: read('ca.pem'), cert: read('server.pem'), key: read('server.key'), requestCert: true },
    (asked, reply) => {
      const { pathname, searchParams } = new URL(asked.url ?? '/', 'https://x')
      if (pathname === '/internal/v1/watch') {
        reply.writeHead(200, { 'content-type': 'application/x-ndjson' })
        const since = Number(searchParams.get('since'))
        if (since === 0) reply.write('{"type":"reset"}\n')
        watching.set(reply, since)
        reply.on('close', () => watching.delete(reply))
        return tell()
      }
      let body = ''
      asked.on('data', (chunk: Buffer) => {
        body += chunk.toString()
      })
      asked.on('end', async () => {
        const said = JSON.parse(body || '{}') as { applied?: number; csr?: string }
        applied = Math.max(applied, said.applied ?? 0)
        const certificate = said.csr === undefined ? undefined : await sign(said.csr)
        reply.end(JSON.stringify({ ok: true, certificate }))
      })
    },
  )
  async function sign(csr: string): Promise<string> {
    const at = (file: string) => join(dir, file)
    writeFileSync(at('asked.csr'), csr)
    writeFileSync(at('asked.ext'), `subjectAltName=DNS:${DOMAIN},DNS:*.${DOMAIN}`)
    const { stdout } = await run([
      ...['openssl', 'x509', '-req', '-in', at('asked.csr'), '-extfile', at('asked.ext')],
      ...['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-days', '2'],
    ])
    return stdout
  }
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  // The server says something every 5 s.
  const timer = setInterval(tell, 5000)
  return {
    port: (server.address() as import('node:net').AddressInfo).port,
    put(kind: string, id: string, value: unknown) {
      revision += 1
      const line = JSON.stringify({ type: 'record', revision, kind, id, value: value ?? null })
      records.delete(`${kind}/${id}`)
      records.set(`${kind}/${id}`, { revision, line })
      tell()
    },
    revision: () => revision,
    applied: () => applied,
    close() {
      clearInterval(timer)
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

// ---- the yardstick

async function startBare(dir: string, many: ManyApps) {
  const folder = join(dir, 'bare')
  mkdirSync(folder)
  const at = (file: string) => join(folder, file)
  const numbers = many.records
    .filter(([kind]) => kind === 'app')
    .map((_record, n) => ({ n, name: many.nameOf(n) }))
  writeFileSync(at('hosts.map'), numbers.map(({ n, name }) => `${name}.${DOMAIN} b${n}\n`).join(''))
  writeFileSync(
    at('bare.cfg'),
    `global
  maxconn 4000
  stats socket ${at('bare.sock')} level admin
defaults
  mode http
  timeout client 60s
  timeout connect 5s
  timeout server 60s
frontend f
  bind ${NET}.1:18713
  use_backend %[req.hdr(host),map_str(${at('hosts.map')})]
${numbers
  .map(
    ({ n }) => `backend b${n}
  server one ${many.addressOf(n, 0)}:${PORT} check inter 500ms
  server two ${many.addressOf(n, 1)}:${PORT} check inter 500ms
`,
  )
  .join('')}`,
  )
  const master = spawn('/usr/sbin/haproxy', ['-W', '-q', '-f', at('bare.cfg')], { stdio: 'ignore' })
  const ended = once(master, 'exit')
  const workerPid = async () =>
    Number(
      /^Pid: (\d+)$/m.exec(await askOnce(at('bare.sock'), 'show info').catch(() => ''))?.[1] ?? 0,
    )
  await soon('the bare HAProxy serves', async () => (await workerPid()) > 0)
  return {
    reload: async () => reloadMs(master.pid ?? 0, await workerPid(), workerPid),
    memoryMb: async () => rssMb(await workerPid()),
    async close() {
      master.kill('SIGTERM')
      await ended
    },
  }
}

/** Until another worker answers. Returns once the one before it has ended: a master that is not done yet misses the next signal. */
async function reloadMs(
  master: number,
  worker: number,
  workerPid: () => Promise<number>,
): Promise<number> {
  if (!(master > 1 && worker > 1)) throw new Error('there is no HAProxy to reload')
  const ms = await timed(async () => {
    process.kill(master, 'SIGUSR2')
    await soon('another worker answers', async () => {
      const now = await workerPid()
      return now > 1 && now !== worker
    })
  })
  await soon('the worker from before it has ended', async () => !existsSync(`/proc/${worker}`))
  return ms
}

/** Looks often: what is waited for takes a tenth of a second. */
async function soon(what: string, look: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX
  while (!(await look().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`waited ${WAIT_MS_MAX} ms: ${what}`)
    await systemClock.sleep(5)
  }
}

function rssMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024
}

function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const [, , , , , , , , , , , user, system] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // In hundredths, as Linux tells all programs.
  return (Number(user) + Number(system)) / 100
}
