import { Agent, type IncomingMessage, request } from 'node:http'
import { request as requestTls, Agent as SecureAgent } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { WebSocket } from 'ws'
import { DOMAIN } from './trial-edge.ts'

/**
 * For tests: strict traffic of many kinds at once. A request fails if it gets any status but 200, a reset, or nothing within its time. A
 * WebSocket fails if it is cut, or does not echo within 5 s; the app's own goodbye (1001) is none, and it is opened again. Open loop: a
 * slow answer delays no other request.
 */
export interface LoadOptions {
  readonly address: string
  readonly port: number
  readonly perSecond: number
  /** Open for all of the time, with an echo each half second. */
  readonly webSockets?: number
  /** Bodies that arrive over `uploadMs`, a second. */
  readonly slowUploads?: number
  readonly uploadMs?: number
  /** Answers that take `longMs`, a second. */
  readonly long?: number
  readonly longMs?: number
  /** Requests over TLS, for another name, of which every other one makes a connection of its own. */
  readonly secure?: {
    readonly port: number
    readonly name: string
    readonly ca: string
    readonly perSecond: number
  }
}
export interface LoadFailure {
  readonly kind: string
  readonly what: string
  /** `POST /?id=…`, or which WebSocket. */
  readonly request: string
  /** Since the load began. */
  readonly sentMs: number
  readonly failedMs: number
}
export interface LoadSocket {
  /** Who answers on it; null: nobody has yet. */
  readonly machine: string | null
  readonly openedMs: number
}
export interface Load {
  readonly failures: readonly LoadFailure[]
  sent(): number
  kinds(): ReadonlyMap<string, number>
  /** The slowest of the quick ones, since the last time it was asked. */
  slowestMs(): number
  /** Those that are open. */
  sockets(): readonly LoadSocket[]
  /** Machines that said goodbye, once for each WebSocket. */
  readonly goodbyes: readonly (string | null)[]
  /** SHA-256 of certificates that new connections were shown. */
  readonly shown: ReadonlySet<string>
  stop(): Promise<void>
}

const TIMEOUT_MS = 10_000
const ECHO_MS_MAX = 5000
const GOODBYE = 1001

interface Ask {
  readonly kind: string
  readonly method: string
  readonly path: string
  readonly kept: boolean
  readonly slow?: boolean
  /** Missing: it is a quick one. */
  readonly timeoutMs?: number
  readonly secure?: LoadOptions['secure']
}

export function startLoad(options: LoadOptions): Load {
  const { address, port, perSecond, longMs = 5000, uploadMs = 3000 } = options
  const agent = new Agent({ keepAlive: true, maxSockets: 32 })
  const secureAgent = new SecureAgent({ keepAlive: true, maxSockets: 4 })
  const failures: LoadFailure[] = []
  const kinds = new Map<string, number>()
  const shown = new Set<string>()
  const goodbyes: (string | null)[] = []
  const pending = new Set<Promise<void>>()
  const timers: NodeJS.Timeout[] = []
  const begin = performance.now()
  const at = () => Math.round(performance.now() - begin)
  let sent = 0
  let slowest = 0
  let stopping = false

  function requestFor({ method, path, kept, secure }: Ask, answered: (a: IncomingMessage) => void) {
    const common = { host: address, method, path }
    if (secure === undefined)
      return request(
        { ...common, port, headers: { host: `shop.${DOMAIN}` }, agent: kept ? agent : false },
        answered,
      )
    const { ca, name } = secure
    return requestTls(
      {
        ...common,
        port: secure.port,
        headers: { host: name },
        servername: name,
        ca,
        agent: kept ? secureAgent : false,
      },
      (answer) => {
        const { fingerprint256 } = (answer.socket as TLSSocket).getPeerCertificate()
        if (!kept) shown.add(fingerprint256)
        answered(answer)
      },
    )
  }

  function send(ask: Ask): void {
    sent += 1
    kinds.set(ask.kind, (kinds.get(ask.kind) ?? 0) + 1)
    const path = `${ask.path}&id=${sent}`
    const sentMs = at()
    const one = new Promise<void>((done) => {
      const end = (what: string | null) => {
        clearTimeout(timer)
        if (what !== null)
          failures.push({
            ...{ kind: ask.kind, what, request: `${ask.method} ${path}`, sentMs },
            failedMs: at(),
          })
        else if (ask.timeoutMs === undefined) slowest = Math.max(slowest, at() - sentMs)
        done()
      }
      const made = requestFor({ ...ask, path }, (answer) => {
        answer.resume()
        answer.on('error', (error) => end(`in the body: ${error.message}`))
        answer.on('end', () => end(answer.statusCode === 200 ? null : `${answer.statusCode}`))
      })
      const timer = setTimeout(
        () => made.destroy(new Error('no answer in time')),
        ask.timeoutMs ?? TIMEOUT_MS,
      )
      made.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
      if (ask.slow !== true)
        return void made.end(ask.method === 'POST' ? 'x'.repeat(500) : undefined)
      let chunks = 0
      const more = setInterval(() => {
        made.write('x'.repeat(1000))
        if (++chunks < 6) return
        clearInterval(more)
        made.end()
      }, uploadMs / 6)
      made.once('close', () => clearInterval(more))
    }).finally(() => pending.delete(one))
    pending.add(one)
  }

  let n = 0
  const every = (perSecondOf: number, what: () => void) => {
    if (perSecondOf > 0) timers.push(setInterval(what, 1000 / perSecondOf))
  }
  // Ten at a time: timers of a busy process come late.
  every(perSecond / 10, () => {
    for (let k = 0; k < 10; k++) {
      n += 1
      const method = n % 2 === 0 ? 'GET' : 'POST'
      const kept = n % 4 < 3
      const kind = `${method} ${kept ? 'kept' : 'new'}`
      send({ kind, method, kept, path: `/?ms=${n % 5 === 0 ? 50 : 0}` })
    }
  })
  every(options.slowUploads ?? 0, () =>
    send({
      ...{ kind: 'slow upload', method: 'POST', path: '/?ms=0', kept: false, slow: true },
      timeoutMs: uploadMs + TIMEOUT_MS,
    }),
  )
  every(options.long ?? 0, () =>
    send({
      ...{ kind: 'long', method: 'GET', path: `/?ms=${longMs}`, kept: true },
      timeoutMs: longMs + TIMEOUT_MS,
    }),
  )
  const { secure } = options
  let secured = 0
  every(secure?.perSecond ?? 0, () => {
    const kept = secured++ % 2 === 0
    send({ kind: `TLS ${kept ? 'kept' : 'new'}`, method: 'GET', path: '/?ms=0', kept, secure })
  })

  const open = new Map<WebSocket, { machine: string | null; readonly openedMs: number }>()
  function openSocket(number: number): void {
    sent += 1
    kinds.set('WebSocket', (kinds.get('WebSocket') ?? 0) + 1)
    const sentMs = at()
    const socket = new WebSocket(`ws://${address}:${port}`, { headers: { host: `shop.${DOMAIN}` } })
    const mine = { machine: null as string | null, openedMs: sentMs }
    let askedAt: number | null = null
    let echoing: NodeJS.Timeout | undefined
    const fail = (what: string) => {
      if (stopping) return
      const which = `WebSocket ${number} on ${mine.machine ?? 'nobody'}`
      failures.push({ kind: 'WebSocket', what, request: which, sentMs, failedMs: at() })
    }
    socket.on('open', () => {
      if (stopping) return socket.terminate()
      open.set(socket, mine)
      const ask = () => {
        if (socket.readyState !== WebSocket.OPEN) return
        if (askedAt !== null && at() - askedAt > ECHO_MS_MAX) fail('no echo')
        askedAt ??= at()
        socket.send('x')
      }
      // At once, to know whose it is: its machine may leave before it is asked again.
      ask()
      echoing = setInterval(ask, 500)
    })
    socket.on('message', (data) => {
      mine.machine = `${data}`.split(':')[0] ?? null
      askedAt = null
    })
    socket.on('error', (error) => fail(error.message))
    socket.on('close', (code) => {
      clearInterval(echoing)
      open.delete(socket)
      if (code !== GOODBYE) return fail(`closed with ${code}`)
      goodbyes.push(mine.machine)
      if (!stopping) openSocket(number)
    })
  }
  for (let number = 0; number < (options.webSockets ?? 0); number++) openSocket(number)

  return {
    failures,
    sent: () => sent,
    kinds: () => kinds,
    slowestMs() {
      const ms = Math.round(slowest)
      slowest = 0
      return ms
    },
    sockets: () => [...open.values()],
    goodbyes,
    shown,
    async stop() {
      for (const timer of timers) clearInterval(timer)
      await Promise.all(pending)
      stopping = true
      for (const socket of open.keys()) socket.terminate()
      agent.destroy()
      secureAgent.destroy()
    },
  }
}
