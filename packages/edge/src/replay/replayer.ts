import { createServer, type Server } from 'node:http'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { carry } from './carry.ts'
import { type Exchange, exchangeOf, responseOn } from './exchange.ts'
import { createReplayStore } from './replay-store.ts'

/**
 * A program of its own, which requests of apps that replay pass through: it keeps each until it is answered, so that it can be delivered again.
 * It outlives the edge that started it, as HAProxy does, and ends when no edge has been there and nothing was to do for a while. It
 * decides nothing: that is asked of the edge, request by request.
 */
export interface ReplayerOptions {
  readonly replaySocket: string
  readonly againSocket: string
  readonly steerSocket: string
}
export interface Replayer {
  /** Requests that it carries now. */
  active(): number
  /** For how long no edge was there and nothing was to do. */
  idleMs(): number
  close(): Promise<void>
}

/** An edge that stays on the line says so by this header. */
export const ATTACH_HEADER = 'roost-attach'
const HEADER_BYTES_MAX = 65_536

export function startReplayer(options: ReplayerOptions): Promise<Replayer> {
  const store = createReplayStore()
  let active = 0
  let attached = 0
  let restingSince = performance.now()

  const server: Server = createServer({ maxHeaderSize: HEADER_BYTES_MAX, requestTimeout: 0 })
  const take = (exchange: Exchange, ended: (done: () => void) => void) => {
    active += 1
    ended(() => {
      active -= 1
      restingSince = performance.now()
    })
    carry(exchange, { ...options, store, now: Date.now }).catch(() =>
      exchange.say(500, 'The edge could not handle this request.'),
    )
  }
  server.on('request', (request, response) => {
    if (request.headers[ATTACH_HEADER] === undefined)
      return take(exchangeOf(request, response, null), (done) => response.once('close', done))
    attached += 1
    response.once('close', () => {
      attached -= 1
      restingSince = performance.now()
    })
    response.writeHead(200, { 'roost-pid': `${process.pid}` })
    response.flushHeaders()
  })
  server.on('upgrade', (request, socket, head) => {
    const exchange = exchangeOf(request, responseOn(request, socket), { socket, head })
    take(exchange, (done) => socket.once('close', done))
  })
  server.on('clientError', (_, socket) => socket.destroy())

  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path: abstractPath(options.replaySocket), backlog: 4096 }, () =>
      resolve({
        active: () => active,
        idleMs: () => (active + attached > 0 ? 0 : performance.now() - restingSince),
        close: () =>
          new Promise((closed) => {
            server.close(() => closed())
            server.closeIdleConnections()
          }),
      }),
    )
  })
}
