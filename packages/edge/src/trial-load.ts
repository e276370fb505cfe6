import { Agent, request } from 'node:http'
import { WebSocket } from 'ws'
import { DOMAIN } from './trial-edge.ts'

/**
 * For tests: strict traffic of many kinds at once. A request fails if it gets any status but 200, a reset, or nothing within its time; a
 * WebSocket if it ends, or does not echo within 5 s. Open loop: a slow answer delays no other request.
 */
export interface LoadOptions {
  readonly address: string
  readonly port: number
  readonly perSecond: number
  /** Open for all of the time, with an echo each half second. */
  readonly webSockets?: number
  /** Bodies that arrive over three seconds, a second. */
  readonly slowUploads?: number
  /** Answers that take `longMs`, a second. */
  readonly long?: number
  readonly longMs?: number
}
export interface LoadFailure {
  readonly kind: string
  readonly what: string
}
export interface Load {
  readonly failures: readonly LoadFailure[]
  sent(): number
  /** The slowest of the quick ones, since the last time it was asked. */
  slowestMs(): number
  stop(): Promise<void>
}

const TIMEOUT_MS = 10_000
const UPLOAD_MS = 3000

export function startLoad(options: LoadOptions): Load {
  const { address, port, perSecond, longMs = 5000 } = options
  const agent = new Agent({ keepAlive: true, maxSockets: 32 })
  const failures: LoadFailure[] = []
  const pending = new Set<Promise<void>>()
  const timers: NodeJS.Timeout[] = []
  let sent = 0
  let slowest = 0

  function send(
    kind: string,
    ask: { method: string; path: string; kept: boolean; slow?: boolean; timeoutMs?: number },
  ): void {
    sent += 1
    const from = performance.now()
    const one = new Promise<void>((done) => {
      const end = (what: string | null) => {
        clearTimeout(timer)
        if (what !== null) failures.push({ kind, what })
        else if (ask.timeoutMs === undefined) slowest = Math.max(slowest, performance.now() - from)
        done()
      }
      const made = request(
        {
          host: address,
          port,
          method: ask.method,
          path: ask.path,
          headers: { host: `shop.${DOMAIN}` },
          agent: ask.kept ? agent : false,
        },
        (response) => {
          response.resume()
          response.on('error', (error) => end(`in the body: ${error.message}`))
          response.on('end', () =>
            end(response.statusCode === 200 ? null : `${response.statusCode}`),
          )
        },
      )
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
      }, UPLOAD_MS / 6)
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
      send(`${method} ${kept ? 'kept' : 'new'}`, {
        method,
        kept,
        path: `/?ms=${n % 5 === 0 ? 50 : 0}`,
      })
    }
  })
  every(options.slowUploads ?? 0, () =>
    send('slow upload', {
      method: 'POST',
      path: '/',
      kept: false,
      slow: true,
      timeoutMs: UPLOAD_MS + TIMEOUT_MS,
    }),
  )
  every(options.long ?? 0, () =>
    send('long', {
      method: 'GET',
      path: `/?ms=${longMs}`,
      kept: true,
      timeoutMs: longMs + TIMEOUT_MS,
    }),
  )

  let stopping = false
  const sockets = Array.from({ length: options.webSockets ?? 0 }, () => {
    const socket = new WebSocket(`ws://${address}:${port}`, { headers: { host: `shop.${DOMAIN}` } })
    let askedAt: number | null = null
    const fail = (what: string) => {
      if (!stopping) failures.push({ kind: 'WebSocket', what })
    }
    socket.on('open', () =>
      timers.push(
        setInterval(() => {
          if (socket.readyState !== WebSocket.OPEN) return
          if (askedAt !== null && performance.now() - askedAt > 5000) fail('no echo')
          askedAt ??= performance.now()
          socket.send('x')
        }, 500),
      ),
    )
    socket.on('message', () => {
      askedAt = null
    })
    socket.on('error', (error) => fail(error.message))
    socket.on('close', (code) => fail(`closed with ${code}`))
    return socket
  })

  return {
    failures,
    sent: () => sent,
    slowestMs() {
      const ms = Math.round(slowest)
      slowest = 0
      return ms
    },
    async stop() {
      for (const timer of timers) clearInterval(timer)
      await Promise.all(pending)
      stopping = true
      for (const socket of sockets) socket.terminate()
      agent.destroy()
    },
  }
}
