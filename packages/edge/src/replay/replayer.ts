import { createServer, type Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { createServeStatic, FILES_HEADER } from '../statics/serve-static.ts'
import { createBodyRooms } from './body-room.ts'
import { carry } from './carry.ts'
import { type Exchange, exchangeOf, hasBody, responseOn } from './exchange.ts'
import { createReplayStore } from './replay-store.ts'

/**
 * A program of its own, which requests of apps that replay pass through: it keeps each until it is answered, so that it can be delivered again. What
 * may be a file of an app's image passes through as well, and is answered with that where it is one.
 * It outlives the edge that started it, as HAProxy does, and ends when no edge has been there and nothing was to do for a while. It
 * decides nothing: that is asked of the edge, request by request.
 */
export interface ReplayerOptions {
  readonly replaySocket: string
  readonly againSocket: string
  readonly steerSocket: string
  /** Files of images: where they lie, and where other hosts ask for theirs. Missing: none are served. */
  readonly statics?: StaticsStart | undefined
}
interface StaticsStart {
  readonly dir: string
  readonly listen: { readonly address: string; readonly port: number }
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
const KEPT_MS = 60_000
/** What is above passes through, and can't be sent on. */
const BODIES_BYTES_MAX = 64 * 1_048_576

export function startReplayer(options: ReplayerOptions): Promise<Replayer> {
  const store = createReplayStore()
  let active = 0
  let attached = 0
  let restingSince = performance.now()

  const { statics, steerSocket } = options
  const serveStatic =
    statics && createServeStatic({ steerSocket, dir: statics.dir, port: statics.listen.port })
  const roomOf = createBodyRooms(BODIES_BYTES_MAX)
  const server: Server = createServer({
    maxHeaderSize: HEADER_BYTES_MAX,
    requestTimeout: 0,
    // HAProxy lets go of a connection first: who closes it may meet a request.
    keepAliveTimeout: KEPT_MS,
    // One with a body can be refused or answered, but not go on with another protocol: its body would be taken for that.
    shouldUpgradeCallback: (request) => !hasBody(request),
  })
  const take = (exchange: Exchange, ended: (done: () => void) => void) => {
    active += 1
    ended(() => {
      active -= 1
      restingSince = performance.now()
    })
    answer(exchange).catch(() => exchange.say(500, 'The edge could not handle this request.'))
  }
  async function answer(exchange: Exchange): Promise<void> {
    const mayBeFile = exchange.request.headers[FILES_HEADER] !== undefined
    if (mayBeFile && exchange.upgrade === null && (await serveStatic?.(exchange))) return
    await carry(exchange, { ...options, store, now: Date.now })
  }
  server.on('request', (request, response) => {
    if (request.headers[ATTACH_HEADER] === undefined)
      return take(exchangeOf(request, response, null, roomOf), (done) =>
        response.once('close', done),
      )
    attached += 1
    response.once('close', () => {
      attached -= 1
      restingSince = performance.now()
    })
    response.writeHead(200, { 'roost-pid': `${process.pid}` })
    response.flushHeaders()
  })
  server.on('upgrade', (request, socket, head) => {
    const exchange = exchangeOf(request, responseOn(request, socket), { socket, head }, roomOf)
    take(exchange, (done) => socket.once('close', done))
  })
  server.on('clientError', (_, socket) => refuse(socket))

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

/** What HAProxy lets pass and Node does not: methods that it does not know, control characters. Never into an answer that has begun. */
function refuse(socket: Duplex): void {
  if (!socket.writable || (socket as Socket).bytesWritten > 0) return void socket.destroy()
  const text = 'The edge can not send such a request on.\n'
  socket.end(
    `HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n${text}`,
  )
}
