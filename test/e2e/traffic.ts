import { Resolver } from 'node:dns/promises'
import { Agent, request } from 'node:http'
import { parseArgs } from 'node:util'
import { WebSocket } from 'ws'

/**
 * Steady traffic until standard input ends or `--seconds` are over, from inside a client's network namespace. Open loop: a slow
 * answer delays no other request. `--rate` requests per second, a quarter each of GET and POST over keep-alive and over new
 * connections; beside them, where asked for, `--slow` requests per second that take 20 s, `--uploads` per second that send their
 * body for 5 s, and `--sockets` WebSockets that say something each second.
 *
 * A request fails if it gets any status but 200, a reset, a short or wrong body, or nothing within its time. A WebSocket that is
 * closed properly (1000, 1001, 1012) is opened again and is no failure; one that is cut, or does not answer, is.
 *
 * Ends with one line of JSON: `TrafficReport` in terminal.ts.
 */
const { values } = parseArgs({
  options: {
    host: { type: 'string' },
    dns: { type: 'string' },
    /** Skips DNS. */
    address: { type: 'string' },
    port: { type: 'string', default: '80' },
    path: { type: 'string', default: '/' },
    rate: { type: 'string', default: '50' },
    slow: { type: 'string', default: '0' },
    uploads: { type: 'string', default: '0' },
    sockets: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '60' },
    timeout: { type: 'string', default: '10000' },
  },
})
const host = values.host ?? ''
const port = Number(values.port)
const timeoutMs = Number(values.timeout)
const untilMs = Number(values.seconds) * 1000
/** Lets connections go that rested, before the edge does: without a time of its own Node's agent does not heed what the edge tells about that. */
const keepAlive = new Agent({ keepAlive: true, maxSockets: 256, timeout: 60_000 })
const fresh = new Agent({ keepAlive: false })
const POST_BODY = 'x'.repeat(2000)
const SLOW_MS = 20_000
const UPLOAD_MS = 5_000
const UPLOAD_PARTS = 20
const PROPER_CLOSES = new Set([1000, 1001, 1012])
const TIMES_MAX = 2_000_000
const SAID_AT_ONCE_MAX = 20

interface Failure {
  readonly atMs: number
  readonly kind: string
  readonly what: string
}
const failures: Failure[] = []
const times: number[] = []
const bodies = new Map<string, number>()
const usedAt = new WeakMap<object, number>()
const kinds = new Map<string, number>()
let requests = 0
let reused = 0
let restedMsMax = 0
let stopped = false
const begin = performance.now()
const sinceBegin = () => performance.now() - begin

function counted(kind: string): void {
  requests++
  kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
}

function failed(kind: string, startMs: number, what: string): void {
  const failure = { atMs: Math.round(startMs), kind, what }
  failures.push(failure)
  // Who watches for an hour wants to know at once.
  if (failures.length <= SAID_AT_ONCE_MAX)
    process.stderr.write(`failed: ${JSON.stringify(failure)}\n`)
}

async function address(): Promise<string> {
  if (values.address !== undefined) return values.address
  const resolver = new Resolver({ timeout: 2000, tries: 3 })
  resolver.setServers([values.dns ?? '127.0.0.1'])
  const [found] = await resolver.resolve4(host)
  if (found === undefined) throw new Error(`no address for ${host}`)
  return found
}

interface Ask {
  readonly kind: string
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly agent: Agent
  /** Sent in so many parts over so much time. */
  readonly body?: { readonly text: string; readonly parts: number; readonly ms: number }
  readonly withinMs: number
  /** Only of quick requests the time is of interest. */
  readonly timed: boolean
}

function send(target: string, ask: Ask): Promise<void> {
  counted(ask.kind)
  const startMs = sinceBegin()
  return new Promise((done) => {
    let ended = false
    const end = (what: string | null) => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      if (what !== null) failed(ask.kind, startMs, what)
      else if (ask.timed && times.length < TIMES_MAX) times.push(sinceBegin() - startMs)
      done()
    }
    const length = ask.body?.text.length
    const outgoing = request(
      {
        host: target,
        port,
        method: ask.method,
        path: ask.path,
        agent: ask.agent,
        headers: { host, ...(length === undefined ? {} : { 'content-length': length }) },
      },
      (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          if (body.length < 400) body += chunk
        })
        response.on('aborted', () => end('aborted in the body'))
        response.on('error', (error) => end(error.message))
        response.on('end', () => {
          const key = body.slice(0, 60)
          if (bodies.size < 100 || bodies.has(key)) bodies.set(key, (bodies.get(key) ?? 0) + 1)
          if (response.statusCode !== 200)
            return end(`status ${response.statusCode}: ${body.slice(0, 120)}`)
          restedMsMax = Math.max(restedMsMax, Number(/"rested":(\d+)/.exec(body)?.[1] ?? 0))
          const counts = length === undefined || !body.includes('"bytes":')
          end(counts || body.includes(`"bytes":${length}`) ? null : `body cut short: ${body}`)
        })
      },
    )
    const timer = setTimeout(() => {
      end(`nothing within ${ask.withinMs} ms`)
      outgoing.destroy()
    }, ask.withinMs)
    // What an unlucky one is found by: how its connection came, and for how long it had rested.
    let connection = 'new connection'
    outgoing.on('socket', (socket) => {
      if (outgoing.reusedSocket) {
        reused++
        const restedMs = sinceBegin() - (usedAt.get(socket) ?? Number.NaN)
        connection = `rested ${Math.round(restedMs)} ms, port ${socket.localPort}, ${socket.bytesRead} bytes read`
      }
      socket.once('free', () => usedAt.set(socket, sinceBegin()))
    })
    outgoing.on('error', (error: NodeJS.ErrnoException) =>
      end(
        `${error.code}: ${error.message} after ${Math.round(sinceBegin() - startMs)} ms (${connection})`,
      ),
    )
    if (ask.body === undefined) return void outgoing.end()
    const { text, parts, ms } = ask.body
    const size = Math.ceil(text.length / parts)
    const sendPart = (n: number) => {
      if (ended && n > 0) return
      const part = text.slice(n * size, (n + 1) * size)
      if (n === parts - 1) return void outgoing.end(part)
      outgoing.write(part)
      setTimeout(sendPart, ms / parts, n + 1)
    }
    sendPart(0)
  })
}

/** One WebSocket after the other, for as long as there is traffic. */
async function keepSocket(target: string): Promise<void> {
  while (!stopped && sinceBegin() < untilMs) {
    const kind = 'WebSocket'
    counted(kind)
    const startMs = sinceBegin()
    const what = await new Promise<string | null>((done) => {
      const socket = new WebSocket(`ws://${target}:${port}/ws`, {
        headers: { host },
        handshakeTimeout: timeoutMs,
      })
      let waitingSince: number | null = null
      const timer = setInterval(() => {
        if (stopped || sinceBegin() >= untilMs) return socket.close(1000)
        if (waitingSince !== null) {
          if (sinceBegin() - waitingSince < timeoutMs) return
          done(`no answer within ${timeoutMs} ms`)
          return socket.terminate()
        }
        if (socket.readyState !== WebSocket.OPEN) return
        waitingSince = sinceBegin()
        socket.send('are you there')
      }, 1000)
      socket.on('message', () => {
        waitingSince = null
      })
      socket.on('error', (error) => done(error.message))
      socket.on('close', (code) => {
        clearInterval(timer)
        done(PROPER_CLOSES.has(code) ? null : `closed with ${code}`)
      })
    })
    if (what === null) continue
    failed(kind, startMs, `${what} (after ${Math.round((sinceBegin() - startMs) / 1000)} s)`)
    await new Promise((wake) => setTimeout(wake, 200))
  }
}

const target = await address()
const open = new Set<Promise<void>>()
process.stdin.on('end', () => {
  stopped = true
})
process.stdin.resume()
process.stdin.unref?.()

/** The n-th of them is sent when it is due, whatever became of those before. */
async function steadily(rate: number, nth: (n: number) => Ask): Promise<void> {
  if (rate <= 0) return
  for (let n = 0; !stopped; n++) {
    const dueMs = (n * 1000) / rate
    if (dueMs >= untilMs) break
    // In short steps, so that the end of standard input is seen.
    while (!stopped && dueMs > sinceBegin())
      await new Promise((wake) =>
        setTimeout(wake, Math.max(0, Math.min(500, dueMs - sinceBegin()))),
      )
    if (stopped) break
    const sent = send(target, nth(n))
    open.add(sent)
    void sent.then(() => open.delete(sent))
  }
}

await Promise.all([
  steadily(Number(values.rate), (n) => {
    const method = n % 4 < 2 ? 'GET' : 'POST'
    const agent = n % 2 === 0 ? keepAlive : fresh
    return {
      kind: `${method} ${agent === keepAlive ? 'keep-alive' : 'new connection'}`,
      method,
      path: values.path,
      agent,
      ...(method === 'POST' ? { body: { text: POST_BODY, parts: 1, ms: 0 } } : {}),
      withinMs: timeoutMs,
      timed: true,
    }
  }),
  steadily(Number(values.slow), (n) => ({
    kind: `GET of ${SLOW_MS / 1000} s`,
    method: 'GET',
    path: `${values.path}?ms=${SLOW_MS}`,
    agent: n % 2 === 0 ? keepAlive : fresh,
    withinMs: SLOW_MS + timeoutMs,
    timed: false,
  })),
  steadily(Number(values.uploads), (n) => ({
    kind: `POST over ${UPLOAD_MS / 1000} s`,
    method: 'POST',
    path: values.path,
    agent: n % 2 === 0 ? keepAlive : fresh,
    body: { text: 'y'.repeat(100_000), parts: UPLOAD_PARTS, ms: UPLOAD_MS },
    withinMs: UPLOAD_MS + timeoutMs,
    timed: false,
  })),
  ...Array.from({ length: Number(values.sockets) }, () => keepSocket(target)),
])
const seconds = Math.round(sinceBegin() / 100) / 10
await Promise.all(open)
times.sort((a, b) => a - b)
const at = (share: number) =>
  Math.round((times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0) * 10) / 10
console.log(
  JSON.stringify({
    requests,
    kinds: Object.fromEntries(kinds),
    failures: failures.length,
    samples: failures.slice(0, 20),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    slowestMs: at(1),
    seconds,
    reused,
    restedMsMax,
    bodies: Object.fromEntries(bodies),
  }),
)
process.exit(0)
