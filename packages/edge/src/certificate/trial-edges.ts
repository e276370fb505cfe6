import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { type Agent, createServer } from 'node:http'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect } from 'node:tls'
import { type AcmeSettings, edgeConfig, type WatchEvent } from '@roost/api'
import { createLogger, runCommand, silentLogger, systemClock } from '@roost/base'
import {
  type AppName,
  type Certificate,
  certificateId,
  type Host,
  type Hostname,
  type MachineId,
  mergeCertificates,
  type TlsOptions,
} from '@roost/core'
import { type Edge, proxyFiles, startEdge } from '../edge.ts'
import { createHaproxyProcess } from '../haproxy/haproxy-process.ts'
import type { ServerLink } from '../link/server-link.ts'
import { createEdgeAsker } from '../probe/edge-asker.ts'
import { createEdgeClients } from '../probe/edge-clients.ts'
import { app, host, settingsWith, TRIAL_PACE, until, webService } from '../trial-edge.ts'
import { createEdgePeers, type EdgePeers } from './edge-peers.ts'
import { makeSealingKey } from './trial-certificate.ts'

/**
 * For tests: several edges, each with a real HAProxy, that speak to each other over mTLS on loopback, one machine behind them, and a
 * server that keeps what they say and can be dead.
 */
export const LEASE_MS = 2000
const LETTERS = ['a', 'b', 'c'] as const
export type TrialEdges = Awaited<ReturnType<typeof raiseEdges>>

export async function raiseEdges(options: { readonly net: string; readonly port: number }) {
  const { net, port } = options
  const [HTTP, HTTPS, DNS, PEERS] = [port, port + 1, port + 2, port + 3]
  const dir = await mkdtemp(join(tmpdir(), 'roost-edges-'))
  const at = (file: string) => join(dir, file)
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const openssl = (...args: string[]) => runCommand(['openssl', ...args])
  await openssl(
    ...['req', '-x509', ...ec, '-days', '2', '-subj', '/CN=authority'],
    ...['-keyout', at('ca.key'), '-out', at('ca.pem')],
  )
  const sign = async (names: string, name: string) => {
    await openssl(
      ...['req', '-x509', ...ec, '-days', '2', '-subj', `/CN=${name}`],
      ...['-addext', `subjectAltName=${names}`, '-addext', 'basicConstraints=critical,CA:FALSE'],
      ...['-CA', at('ca.pem'), '-CAkey', at('ca.key')],
      ...['-keyout', at(`${name}.key`), '-out', at(`${name}.pem`)],
    )
  }

  const server = trialServer()
  server.put('settings', 'settings', settingsWith('198.18.2.0/24'))
  server.put('app', 'shop', app('shop'))

  // ---- the machine
  let hits = 0
  const machine = createServer((_, reply) => {
    hits += 1
    reply.end('hello')
  })
  machine.listen(8080, `${net}.100`)
  await once(machine, 'listening')
  /** What it asks of handshakes. */
  const serve = (tls_options: TlsOptions) =>
    server.put('machine', '1'.padStart(14, '0'), {
      id: '1'.padStart(14, '0') as MachineId,
      app: 'shop',
      host: 'a'.repeat(14),
      region: 'ams',
      privateIpv4: `${net}.100`,
      services: [webService(8080, { http: { force_https: true }, https: { tls_options } })],
      routed: true,
      status: { state: 'started', checks: [] },
    })
  serve({})

  // ---- the edges
  const edges = await Promise.all(
    LETTERS.map(async (letter, n) => {
      const address = `${net}.${n + 1}`
      const pair = makeSealingKey()
      const made: Host = {
        ...host(letter, 'ams', n + 1),
        publicAddress: address,
        sealingKey: pair.publicKey,
      }
      await writeFile(at(`${letter}.sealing`), JSON.stringify(pair), { mode: 0o600 })
      await sign(`URI:roost://edge/${made.id}`, letter)
      const tls = { ca: at('ca.pem'), certificate: at(`${letter}.pem`), key: at(`${letter}.key`) }
      const config = edgeConfig.parse({
        hostId: made.id,
        hostName: made.name,
        region: 'ams',
        dataDir: at(`${letter}-data`),
        runDir: at(`${letter}-run`),
        serverUrl: 'https://127.0.0.1:1',
        sealingKeyFile: at(`${letter}.sealing`),
        tls,
        http: { address, port: HTTP },
        https: { address, port: HTTPS },
        dns: { address, port: DNS },
        listen: { address, port: PEERS },
        haproxy: { slots: 5, maxConnections: 200 },
      })
      server.put('host', made.id, made)
      return {
        host: made,
        config,
        letter,
        current: null as Edge | null,
        mute: false,
        /** Records that it refuses: by its last heartbeat, and by its log. */
        refused: [] as readonly string[],
        logged: [] as string[],
      }
    }),
  )

  const nameservers: { list: readonly string[] } = { list: [] }
  /** Of each edge: what stands between it and the others. */
  const between: { present: ((letter: string, signal: AbortSignal) => Promise<void>) | null } = {
    present: null,
  }

  async function start(edge: (typeof edges)[number]): Promise<void> {
    const tls = {
      ca: await readFile(edge.config.tls.ca, 'utf8'),
      certificate: await readFile(edge.config.tls.certificate, 'utf8'),
      key: await readFile(edge.config.tls.key, 'utf8'),
    }
    const clients = createEdgeClients({
      tls,
      urlOf: ({ publicAddress }) => `https://${publicAddress}:${PEERS}`,
    })
    const peers = createEdgePeers(clients)
    const dead = async (): Promise<never> => {
      throw new Error('this edge is dead')
    }
    const heard: EdgePeers = {
      lease: (...args) => (edge.mute ? dead() : peers.lease(...args)),
      present: async (...args) => {
        if (!args[1].end) await between.present?.(edge.letter, args[2])
        return edge.mute ? dead() : peers.present(...args)
      },
      tell: (...args) => (edge.mute ? dead() : peers.tell(...args)),
    }
    edge.mute = false
    edge.current = await startEdge({
      config: { ...edge.config, nameservers: [...nameservers.list] },
      link: server.link(
        () => edge.mute,
        (refused) => {
          edge.refused = refused
        },
      ),
      asker: createEdgeAsker(clients, HTTP),
      edges: heard,
      leaseMs: LEASE_MS,
      pace: TRIAL_PACE,
      countryOf: () => null,
      clock: systemClock,
      log: {
        ...(process.env['ROOST_TEST_LOG'] ? createLogger({ program: edge.letter }) : silentLogger),
        error: (message, fields) => edge.logged.push(`${message}: ${fields?.['record']}`),
      },
    })
  }

  /** As after a `kill -9` of the program: it says nothing to anybody any more, and its HAProxy goes on. */
  async function kill(letter: string): Promise<void> {
    const edge = of(letter)
    edge.mute = true
    await edge.current?.close()
    edge.current = null
  }
  const of = (letter: string) => {
    const edge = edges.find((one) => one.letter === letter)
    if (edge === undefined) throw new Error(`no edge ${letter}`)
    return edge
  }

  function get(options: {
    readonly edge: string
    readonly name: string
    readonly ca: string
    readonly agent?: Agent
  }): Promise<{ status: number; text: string; fingerprint: string }> {
    return new Promise((resolve, reject) => {
      const asking = request(
        {
          host: of(options.edge).host.publicAddress,
          port: HTTPS,
          servername: options.name,
          headers: { host: options.name },
          ca: options.ca,
          agent: options.agent ?? false,
          timeout: 5000,
        },
        (reply) => {
          const socket = reply.socket as import('node:tls').TLSSocket
          const fingerprint = socket.getPeerX509Certificate()?.fingerprint256 ?? ''
          let text = ''
          reply.on('data', (chunk: Buffer) => {
            text += chunk.toString()
          })
          reply.on('error', reject)
          reply.on('end', () => resolve({ status: reply.statusCode ?? 0, text, fingerprint }))
        },
      )
      asking.on('timeout', () => asking.destroy(new Error('no reply')))
      asking.on('error', reject)
      asking.end()
    })
  }

  /** What is shown for a name, whoever believes it. */
  function shown(letter: string, name: string): Promise<X509Certificate> {
    return new Promise((resolve, reject) => {
      const socket = connect(
        {
          host: of(letter).host.publicAddress,
          port: HTTPS,
          servername: name,
          rejectUnauthorized: false,
        },
        () => {
          const raw = socket.getPeerCertificate(true).raw
          socket.destroy()
          resolve(new X509Certificate(raw))
        },
      )
      socket.on('error', reject)
    })
  }

  /** Which protocol was agreed on inside of TLS. */
  function handshake(
    letter: string,
    name: string,
    options: Pick<ConnectionOptions, 'ca' | 'ALPNProtocols' | 'maxVersion'>,
  ): Promise<{ readonly alpn: string | false | null }> {
    return new Promise((resolve, reject) => {
      const to = { host: of(letter).host.publicAddress, port: HTTPS, servername: name }
      const socket = connect({ ...to, ...options }, () => {
        resolve({ alpn: socket.alpnProtocol })
        socket.destroy()
      })
      socket.on('error', reject)
    })
  }

  return {
    serve,
    handshake,
    server,
    edges,
    letters: LETTERS,
    nameservers,
    between,
    httpPort: HTTP,
    httpsPort: HTTPS,
    dnsAt: edges.map(({ host: { publicAddress } }) => `${publicAddress}:${DNS}`),
    addresses: edges.map(({ host: { publicAddress } }) => publicAddress),
    hits: () => hits,
    start: async (letter?: string) => {
      await Promise.all((letter === undefined ? edges : [of(letter)]).map(start))
      for (const edge of letter === undefined ? edges : [of(letter)])
        await until(`edge ${edge.letter} serves`, () => edge.current?.status().serving ?? false)
    },
    kill,
    get,
    shown,
    setAcme: (acme: AcmeSettings) =>
      server.put('settings', 'settings', { ...settingsWith('198.18.2.0/24'), acme }),
    workerOf: async (letter: string) => {
      const { config } = of(letter)
      const running = await createHaproxyProcess({
        binary: config.haproxy.binary,
        files: proxyFiles(config),
        binds: [config.http, config.https],
        clock: systemClock,
        log: silentLogger,
      }).running()
      return running?.workerPid ?? 0
    },
    /** All that lies on the disks of the edges: not what is on tmpfs in a real host. */
    dataDirs: edges.map(({ config }) => config.dataDir),
    async close() {
      for (const { current } of edges) await current?.close()
      for (const { config } of edges)
        await createHaproxyProcess({
          binary: config.haproxy.binary,
          files: proxyFiles(config),
          binds: [config.http, config.https],
          clock: systemClock,
          log: silentLogger,
        }).stop()
      machine.closeAllConnections()
      machine.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** Records in memory, told to all edges; what these say of certificates is kept as the real one does. */
function trialServer() {
  const records = new Map<string, WatchEvent & { type: 'record' }>()
  const waiting = new Set<() => void>()
  let revision = 0
  let reachable = true
  const put = (kind: string, id: string, value: unknown) => {
    revision += 1
    records.set(`${kind}/${id}`, { type: 'record', revision, kind, id, value } as never)
    for (const wake of [...waiting]) wake()
  }
  const get = <T>(kind: string, id: string) =>
    (records.get(`${kind}/${id}`)?.value ?? null) as T | null
  const reports: { failures: Record<string, unknown>; certificates: number }[] = []

  return {
    put,
    get,
    reports,
    setReachable(value: boolean) {
      reachable = value
      for (const wake of [...waiting]) wake()
    },
    hostname: (name: string, change: Partial<Hostname> = {}) =>
      put('hostname', name, {
        name,
        app: 'shop' as AppName,
        createdAt: Date.now(),
        acme: true,
        challenge: null,
        provenAt: null,
        askedAt: null,
        failure: null,
        ...change,
      } satisfies Hostname),
    certificate: (name: string, source = 'acme') =>
      get<Certificate>('certificate', `${name}/${source}`),
    link: (isMute: () => boolean, onBeat: (refused: readonly string[]) => void): ServerLink => ({
      async *watch(since, signal) {
        if (!reachable) throw new Error('no server')
        let seen = since
        if (since === 0) yield { type: 'reset' }
        while (!signal.aborted) {
          if (!reachable || isMute()) throw new Error('no server')
          const upTo = revision
          const news = [...records.values()].filter((record) => record.revision > seen)
          for (const record of news.sort((a, b) => a.revision - b.revision)) yield record
          seen = upTo
          yield { type: 'synced', revision: upTo }
          if (revision > seen) continue
          await new Promise<void>((resolve) => {
            const wake = () => {
              waiting.delete(wake)
              resolve()
            }
            waiting.add(wake)
            setTimeout(wake, 3000)
            signal.addEventListener('abort', wake, { once: true })
          })
        }
      },
      async heartbeat({ refused }) {
        if (!reachable) throw new Error('no server')
        onBeat(refused)
      },
      async signCertificate() {
        throw new Error('names of people’s own are enough here')
      },
      async reportCertificates({ certificates = [], failures = {} }) {
        if (!reachable || isMute()) throw new Error('no server')
        reports.push({ failures, certificates: certificates.length })
        for (const one of certificates) {
          const id = certificateId(one)
          put('certificate', id, mergeCertificates(get<Certificate>('certificate', id), one))
        }
        for (const [name, failure] of Object.entries(failures)) {
          const known = get<Hostname>('hostname', name)
          if (known !== null) put('hostname', name, { ...known, failure })
        }
      },
      async close() {},
    }),
  }
}
