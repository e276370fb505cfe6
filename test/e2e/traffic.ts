import { Resolver } from 'node:dns/promises'
import { Agent, request } from 'node:http'
import { parseArgs } from 'node:util'

/**
 * Steady traffic until standard input ends or `--seconds` are over, from inside a client's network namespace. A quarter each of
 * GET and POST over keep-alive and over new connections; open loop (a slow answer delays no other request).
 * A request fails if it gets any status but 200, a reset, a short body, or nothing within `--timeout` ms.
 * Ends with one line of JSON: { requests, failures, samples, slowestMs, p50Ms, p99Ms, seconds, regions, bodies, reused }.
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
    seconds: { type: 'string', default: '60' },
    timeout: { type: 'string', default: '10000' },
  },
})
const host = values.host ?? ''
const timeoutMs = Number(values.timeout)
const keepAlive = new Agent({ keepAlive: true, maxSockets: 64 })
const fresh = new Agent({ keepAlive: false })
const POST_BODY = 'x'.repeat(2000)

interface Failure {
  readonly atMs: number
  readonly kind: string
  readonly what: string
}
const failures: Failure[] = []
const times: number[] = []
const bodies = new Map<string, number>()
let requests = 0
let reused = 0
const begin = performance.now()

async function address(): Promise<string> {
  if (values.address !== undefined) return values.address
  const resolver = new Resolver({ timeout: 2000, tries: 3 })
  resolver.setServers([values.dns ?? '127.0.0.1'])
  const [found] = await resolver.resolve4(host)
  if (found === undefined) throw new Error(`no address for ${host}`)
  return found
}

function send(target: string, method: 'GET' | 'POST', agent: Agent): Promise<void> {
  requests++
  const start = performance.now()
  const kind = `${method} ${agent === keepAlive ? 'keep-alive' : 'new connection'}`
  return new Promise((done) => {
    let ended = false
    const end = (what: string | null) => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      if (what === null) times.push(performance.now() - start)
      else failures.push({ atMs: Math.round(start - begin), kind, what })
      done()
    }
    const outgoing = request(
      {
        host: target,
        port: Number(values.port),
        method,
        path: values.path,
        agent,
        headers: { host, ...(method === 'POST' ? { 'content-length': POST_BODY.length } : {}) },
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
          end(
            response.statusCode === 200
              ? null
              : `status ${response.statusCode}: ${body.slice(0, 120)}`,
          )
        })
      },
    )
    const timer = setTimeout(() => {
      end(`nothing within ${timeoutMs} ms`)
      outgoing.destroy()
    }, timeoutMs)
    outgoing.on('socket', () => {
      if (outgoing.reusedSocket) reused++
    })
    outgoing.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
    outgoing.end(method === 'POST' ? POST_BODY : undefined)
  })
}

const target = await address()
const everyMs = 1000 / Number(values.rate)
const untilMs = Number(values.seconds) * 1000
const open = new Set<Promise<void>>()
let stopped = false
process.stdin.on('end', () => {
  stopped = true
})
process.stdin.resume()
process.stdin.unref?.()

for (let n = 0; !stopped; n++) {
  const dueMs = n * everyMs
  if (dueMs >= untilMs) break
  const waitMs = dueMs - (performance.now() - begin)
  if (waitMs > 0) await new Promise((wake) => setTimeout(wake, waitMs))
  const sent = send(target, n % 4 < 2 ? 'GET' : 'POST', n % 2 === 0 ? keepAlive : fresh)
  open.add(sent)
  void sent.then(() => open.delete(sent))
}
const seconds = Math.round((performance.now() - begin) / 100) / 10
await Promise.all(open)
times.sort((a, b) => a - b)
const at = (share: number) =>
  Math.round((times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0) * 10) / 10
console.log(
  JSON.stringify({
    requests,
    failures: failures.length,
    samples: failures.slice(0, 20),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    slowestMs: at(1),
    seconds,
    reused,
    bodies: Object.fromEntries(bodies),
  }),
)
process.exit(0)
