import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { WebSocketServer } from 'ws'
import type { Logger } from './log.ts'
import { MESSAGE_BYTES_MAX, type MessageSocket, messageSocket } from './message-socket.ts'
import { describeError, PlatformError } from './platform-error.ts'

export interface ListenerTls {
  /** PEM. */
  readonly key: string
  readonly certificate: string
  /** PEM of the authority. With it, only clients with a certificate of that authority get in (mTLS). */
  readonly clientCa?: string
}

export interface ListenerOptions {
  readonly log: Logger
  readonly tls?: ListenerTls
  /**
   * HTTP status by error code: api's `ERRORS`. What is not in it answers 500. `as` is what the field `status` of the reply says
   * where clients know the error by another name; `code` always has ours.
   */
  readonly errors: Readonly<Record<string, { readonly status: number; readonly as?: string }>>
  /** JSON bodies above this are refused with 413. Streams are not counted. Default 1 MB. */
  readonly bodyBytesMax?: number
  /** A whole request, uploads included, must have arrived by then. Default 30 min. */
  readonly requestTimeoutMs?: number
  readonly newRequestId?: () => string
}

/**
 * A fastify app that listens on any number of addresses. Errors answer `{error, status, code, request_id}`; request ids are also in
 * the header `fly-request-id`. Bodies of `application/gzip`, `application/x-tar` and `application/octet-stream` reach
 * handlers as streams; all others are read as JSON (an empty one is `undefined`).
 */
export interface HttpListener {
  readonly app: FastifyInstance
  /** Port 0 takes a free one. May be called once. */
  listen(
    endpoints: readonly { readonly address: string; readonly port: number }[],
  ): Promise<readonly { readonly address: string; readonly port: number }[]>
  /** Ends line streams, lets other requests finish until the deadline (default 3 s), then cuts them off. */
  close(deadlineMs?: number): Promise<void>
}

const CLOSING = Symbol('closing')
/** Of a request that would become a WebSocket. */
const UPGRADE = Symbol('upgrade')
/** Of one listener; each costs some 50 KB with TLS. More are closed as they come. */
const CONNECTIONS_MAX = 4096
/** Lines that wait for the end of this turn of the event loop. */
const BATCH_CHARS = 32_768
const STREAMED = ['application/gzip', 'application/x-tar', 'application/octet-stream']

export function createHttpListener(options: ListenerOptions): HttpListener {
  const { log, errors } = options
  const closing = new AbortController()
  const app = fastify({
    logger: false,
    bodyLimit: options.bodyBytesMax ?? 1_000_000,
    genReqId: () => options.newRequestId?.() ?? randomUUID(),
    routerOptions: { maxParamLength: 256 },
    forceCloseConnections: true,
  })
  app.decorate(CLOSING, closing.signal)

  app.removeAllContentTypeParsers()
  app.addContentTypeParser(STREAMED, (_request, payload, done) => done(null, payload))
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('*', { parseAs: 'string' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined)
    parseJson(request, body as string, done)
  })

  app.addHook('onRequest', async (request, reply) => {
    reply.header('fly-request-id', request.id)
  })
  // Who asks for more meanwhile should ask somebody else.
  app.addHook('onSend', async (_request, reply) => {
    if (closing.signal.aborted) reply.header('connection', 'close')
  })
  app.setNotFoundHandler((request, reply) => {
    reply
      .code(404)
      .send(
        errorBody('not_found', `no route ${request.method} ${request.url.split('?')[0]}`, request),
      )
  })
  app.setErrorHandler((error, request, reply) => {
    const { status, code, text } = explain(error, errors)
    if (status >= 500)
      log.warn('request failed', {
        request_id: request.id,
        route: `${request.method} ${request.url.split('?')[0]}`,
        error,
        ...(error instanceof PlatformError || !(error instanceof Error)
          ? {}
          : { stack: error.stack }),
      })
    reply.code(status).send(errorBody(code, text, request, errors[code]?.as))
  })

  const servers: Server[] = []
  return {
    app,
    async listen(endpoints) {
      await app.ready()
      const bound = []
      for (const { address, port } of endpoints) {
        const server = makeServer(options)
        server.on('request', app.routing)
        server.on('upgrade', (request, socket, head) =>
          routeUpgrade(app, request, socket as Socket, head),
        )
        server.maxConnections = CONNECTIONS_MAX
        server.on('clientError', (_error, socket) => socket.destroy())
        servers.push(server)
        server.listen(port, address)
        await once(server, 'listening')
        bound.push({ address, port: (server.address() as AddressInfo).port })
      }
      return bound
    },
    async close(deadlineMs = 3000) {
      closing.abort()
      const ended = servers.map((server) => new Promise((resolve) => server.close(resolve)))
      const cut = setTimeout(() => {
        for (const server of servers) server.closeAllConnections()
      }, deadlineMs)
      const idle = setInterval(() => {
        for (const server of servers) server.closeIdleConnections()
      }, 50)
      await Promise.all(ended)
      clearTimeout(cut)
      clearInterval(idle)
      await app.close()
    },
  }
}

/**
 * Answers with newline-delimited JSON until the source ends, the client goes or the listener closes; `signal` says the latter two.
 * A slow reader slows the source down. When the source throws, the connection is cut, so that the reader
 * can tell it from an ending: say what went wrong in a last line, or throw before calling this.
 *
 * A client that vanished without a word is known only by what is written to it. Where the source may be silent for long, `signMs`
 * is after how much silence an empty line is written; what is not acknowledged the kernel gives up after some 15 min.
 */
export async function sendLines(
  reply: FastifyReply,
  source: (signal: AbortSignal) => AsyncIterable<unknown>,
  options: { log?: Logger; headers?: Readonly<Record<string, string>>; signMs?: number } = {},
): Promise<void> {
  const gone = new AbortController()
  const closing = Reflect.get(reply.server, CLOSING) as AbortSignal | undefined
  const signal = closing ? AbortSignal.any([gone.signal, closing]) : gone.signal
  const raw = reply.raw
  reply.hijack()
  const leave = () => gone.abort()
  // What comes at once goes out at once: a record of TLS for each line costs more than the line.
  let waiting = ''
  let flushing: NodeJS.Immediate | null = null
  const flush = () => {
    if (flushing) clearImmediate(flushing)
    flushing = null
    if (waiting !== '' && !raw.destroyed) raw.write(waiting)
    waiting = ''
    signs?.refresh()
  }
  const sign = () => {
    if (!raw.destroyed && !raw.writableNeedDrain) raw.write('\n')
  }
  const signs = options.signMs === undefined ? null : setInterval(sign, options.signMs).unref()
  raw.on('close', leave)
  raw.on('error', leave)
  // Who left while the handler was still busy has had its `close`.
  if (raw.destroyed) leave()
  try {
    raw.writeHead(200, {
      ...options.headers,
      'content-type': 'application/x-ndjson',
      'cache-control': 'no-store',
      'fly-request-id': reply.request.id,
    })
    raw.flushHeaders()
    for await (const line of source(signal)) {
      if (signal.aborted) break
      waiting += `${JSON.stringify(line)}\n`
      if (waiting.length < BATCH_CHARS) flushing ??= setImmediate(flush)
      else flush()
      if (raw.writableNeedDrain) await once(raw, 'drain', { signal }).catch(() => {})
      if (signal.aborted) break
    }
    flush()
    raw.end()
  } catch (error) {
    if (!signal.aborted)
      options.log?.warn('line stream broke', { request_id: reply.request.id, error })
    raw.destroy()
  } finally {
    if (flushing) clearImmediate(flushing)
    if (signs) clearInterval(signs)
    raw.off('close', leave)
    gone.abort()
  }
}

/** Whether a client asks for a WebSocket here. Any route may be asked; one that does not accept it answers as it always does. */
export function wantsSocket(request: FastifyRequest): boolean {
  return Reflect.has(request.raw, UPGRADE)
}

/** Answers with a WebSocket. What can be refused is refused before. The listener closes it when it closes itself. */
export async function acceptSocket(reply: FastifyReply): Promise<MessageSocket> {
  const { raw } = reply.request
  const upgrade = Reflect.get(raw, UPGRADE) as Upgrade | undefined
  if (upgrade === undefined)
    throw new PlatformError('invalid', 'this is a WebSocket: ask for an upgrade to one')
  const closing = Reflect.get(reply.server, CLOSING) as AbortSignal | undefined
  const headers = Object.entries(reply.getHeaders()).map(([name, value]) => `${name}: ${value}`)
  reply.hijack()
  // Its `close` may have been before this, and then there is no other.
  if (upgrade.socket.destroyed) throw new PlatformError('unavailable', 'the client left')
  reply.raw.detachSocket(upgrade.socket)
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
  })
  server.on('headers', (lines) => lines.push(...headers))
  const socket = await new Promise<MessageSocket>((resolve, reject) => {
    upgrade.socket.once('close', () => reject(new PlatformError('unavailable', 'the client left')))
    server.handleUpgrade(raw, upgrade.socket, upgrade.head, (ws) => resolve(messageSocket(ws)))
  })
  const close = () => socket.close('the server is going away')
  closing?.addEventListener('abort', close, { once: true })
  socket.closed.addEventListener('abort', () => closing?.removeEventListener('abort', close))
  if (closing?.aborted) close()
  return socket
}

interface Upgrade {
  readonly socket: Socket
  readonly head: Buffer
}

/** Through the same routes, hooks and errors as any other request; only an answer with a WebSocket leaves the connection open. */
function routeUpgrade(
  app: FastifyInstance,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): void {
  socket.on('error', () => socket.destroy())
  Reflect.set(request, UPGRADE, { socket, head } satisfies Upgrade)
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket)
  // Not `end`: HTTP watches this socket no longer, and who never closes its side would keep it for ever.
  response.on('finish', () => socket.destroySoon())
  app.routing(request, response)
}

/** Who the client's certificate says it is: `roost://agent/<host id>`; null without one. Only checked ones reach a handler. */
export function peerOf(request: FastifyRequest): string | null {
  const socket = request.raw.socket as Partial<TLSSocket>
  if (socket.authorized !== true || socket.getPeerCertificate === undefined) return null
  return peerUri(socket.getPeerCertificate().subjectaltname)
}

/** The `roost://…` URI in a certificate's subject alternative names, as Node prints them. */
export function peerUri(names: string | undefined): string | null {
  for (const name of (names ?? '').split(', ')) {
    if (/^URI:roost:\/\/[a-z]+(\/[0-9a-z]+)?$/.test(name)) return name.slice('URI:'.length)
  }
  return null
}

function makeServer(options: ListenerOptions): Server {
  const timeouts = {
    requestTimeout: options.requestTimeoutMs ?? 1_800_000,
    headersTimeout: 15_000,
    keepAliveTimeout: 65_000,
    // Others that ask for another protocol (h2c) get their answer in this one.
    shouldUpgradeCallback: (request: IncomingMessage) =>
      request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket',
  }
  if (options.tls === undefined) return createServer(timeouts)
  const { key, certificate, clientCa } = options.tls
  return createTlsServer({
    ...timeouts,
    key,
    cert: certificate,
    minVersion: 'TLSv1.2',
    handshakeTimeout: 10_000,
    ...(clientCa === undefined
      ? {}
      : { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
  })
}

function explain(
  error: unknown,
  errors: ListenerOptions['errors'],
): { status: number; code: string; text: string } {
  if (error instanceof PlatformError)
    return {
      status: errors[error.code]?.status ?? 500,
      code: error.code,
      text: describeError(error),
    }
  // Fastify's own: a body that is no JSON, too large, of a type nobody reads.
  const status = (error as { statusCode?: unknown } | null)?.statusCode
  if (typeof status === 'number' && status >= 400 && status < 500)
    return { status, code: 'invalid', text: error instanceof Error ? error.message : String(error) }
  return { status: 500, code: 'internal', text: 'internal error' }
}

function errorBody(code: string, text: string, request: FastifyRequest, as = code) {
  return { error: text, status: as, code, request_id: request.id }
}
