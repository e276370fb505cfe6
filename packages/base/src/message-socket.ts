import type { IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'
import { peerUri } from './http-listener.ts'
import { PlatformError } from './platform-error.ts'

/** A WebSocket of binary messages whose both ends keep each other in bounds: who is slow slows the other down. */
export interface MessageSocket {
  /** Resolves when there is room for more. Throws `unavailable` once the socket is closed. */
  send(message: Uint8Array): Promise<void>
  /** For one reader. Ends when the other end closes; throws `unavailable` when the connection breaks or goes silent. */
  readonly messages: AsyncIterable<Uint8Array>
  /** Says goodbye and closes at the latest 2 s later. `reason`: at most 100 characters, for the other end. May be called again. */
  close(reason?: string): void
  /** Aborts when nothing can be sent any more, with the reason as its own. */
  readonly closed: AbortSignal
}

export const MESSAGE_BYTES_MAX = 1_000_000
const WAITING_BYTES_MAX = 1_000_000
const PING_MS = 10_000
/** As many pings without a sign of life: the other end is gone. */
const SILENT_PINGS = 3
const CLOSE_MS = 2000
const REPLY_BYTES_MAX = 64_000

export function messageSocket(ws: WebSocket): MessageSocket {
  const closed = new AbortController()
  const waiting: Uint8Array[] = []
  const state = { bytes: 0, ended: false, wake: () => {}, silent: 0 }
  const end = (why: string, ok: boolean) => {
    if (closed.signal.aborted) return
    clearInterval(pinging)
    const error = new PlatformError('unavailable', why, { retry: 'later' })
    if (ok) state.ended = true
    closed.abort(error)
    state.wake()
  }
  const pinging = setInterval(() => {
    if (++state.silent > SILENT_PINGS) {
      end('the other end has gone silent', false)
      return ws.terminate()
    }
    // A reader that is slow to read is alive, but its pongs wait behind what is not read: then silence proves nothing.
    if (ws.isPaused) state.silent = 0
    if (ws.readyState === WebSocket.OPEN) ws.ping()
  }, PING_MS)
  pinging.unref()
  ws.on('message', (data: Buffer) => {
    state.silent = 0
    waiting.push(data)
    state.bytes += data.length
    if (state.bytes > WAITING_BYTES_MAX) ws.pause()
    state.wake()
  })
  ws.on('pong', () => {
    state.silent = 0
  })
  ws.on('ping', () => {
    state.silent = 0
  })
  ws.on('error', (error) => end(error.message, false))
  ws.on('close', (code, reason) => {
    const said = reason.toString('utf8')
    end(said === '' ? `the connection was closed (${code})` : said, code === 1000 || code === 1001)
  })

  async function* read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const next = waiting.shift()
      if (next !== undefined) {
        state.bytes -= next.length
        if (ws.isPaused && state.bytes < WAITING_BYTES_MAX / 2) ws.resume()
        yield next
      } else if (closed.signal.aborted) {
        if (state.ended) return
        throw closed.signal.reason
      } else {
        await new Promise<void>((resolve) => {
          state.wake = resolve
        })
      }
    }
  }

  return {
    messages: read(),
    closed: closed.signal,
    send: (message) =>
      new Promise((resolve, reject) => {
        if (closed.signal.aborted) return reject(closed.signal.reason)
        const full = ws.bufferedAmount > WAITING_BYTES_MAX
        ws.send(message, { binary: true }, (error) => {
          if (error)
            reject(new PlatformError('unavailable', 'send', { cause: error, retry: 'later' }))
          else if (full) resolve()
        })
        if (!full) resolve()
      }),
    close(reason = '') {
      if (ws.readyState === WebSocket.CLOSED) return
      ws.close(1000, reason.slice(0, 100))
      // Whoever does not answer is not waited for; what it still sends is not read.
      ws.resume()
      setTimeout(() => ws.terminate(), CLOSE_MS).unref()
    },
  }
}

export interface OpenSocketOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** PEM; absent: what the system knows. */
  readonly ca?: string | string[] | undefined
  /** PEM: who we are. */
  readonly certificate?: string
  readonly key?: string
  /** Who must answer, as in `PeerClientOptions`; then the address in its certificate is not looked at. */
  readonly expect?: string
  /** Default 30 s. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/** The other end answered, and refused: its status beside its code and text. */
export class SocketRefused extends PlatformError {
  readonly status: number
  readonly requestId: string | null
  constructor(status: number, code: string, message: string, requestId: string | null) {
    super(code, message, { retry: status >= 500 ? 'later' : 'never' })
    this.name = 'SocketRefused'
    this.status = status
    this.requestId = requestId
  }
}

/** `url`: `https://…` or `http://…`. Throws SocketRefused, or `unavailable` where nobody answered. */
export function openMessageSocket(
  url: string,
  options: OpenSocketOptions = {},
): Promise<MessageSocket> {
  const { headers, ca, certificate, key, expect, timeoutMs = 30_000, signal } = options
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const ws = new WebSocket(url.replace(/^http/, 'ws'), {
      headers: { ...headers },
      handshakeTimeout: timeoutMs,
      maxPayload: MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      ...(ca === undefined ? {} : { ca }),
      ...(certificate === undefined || key === undefined ? {} : { cert: certificate, key }),
      ...(expect === undefined
        ? {}
        : {
            checkServerIdentity: (_host: string, shown: { subjectaltname?: string }) =>
              peerUri(shown.subjectaltname) === expect
                ? undefined
                : new Error(`${url} is ${peerUri(shown.subjectaltname)}, not ${expect}`),
          }),
    } as ConstructorParameters<typeof WebSocket>[2])
    const onAbort = () => ws.terminate()
    signal?.addEventListener('abort', onAbort, { once: true })
    const done = () => signal?.removeEventListener('abort', onAbort)
    ws.once('open', () => {
      done()
      ws.removeAllListeners()
      resolve(messageSocket(ws))
    })
    ws.once('unexpected-response', (_request, reply: IncomingMessage) => {
      done()
      refusalOf(reply).then(reject, reject)
      ws.on('error', () => {})
    })
    ws.on('error', (cause) => {
      done()
      if (signal?.aborted) return reject(signal.reason)
      const where = url.split('?')[0]
      reject(new PlatformError('unavailable', `connect to ${where}`, { cause, retry: 'later' }))
    })
  })
}

async function refusalOf(reply: IncomingMessage): Promise<SocketRefused> {
  let text = ''
  try {
    for await (const chunk of reply) {
      text += chunk
      if (text.length > REPLY_BYTES_MAX) break
    }
  } catch {
    // What came says enough.
  }
  const status = reply.statusCode ?? 0
  const id = reply.headers['fly-request-id']
  const requestId = typeof id === 'string' ? id : null
  try {
    const { error, code } = JSON.parse(text) as { error?: unknown; code?: unknown }
    if (typeof error === 'string' && typeof code === 'string')
      return new SocketRefused(status, code, error, requestId)
  } catch {
    // Not ours: shown as it is.
  }
  return new SocketRefused(status, 'internal', `status ${status}: ${text.slice(0, 200)}`, requestId)
}
