import { Readable } from 'node:stream'
import { Pool } from 'undici'
import { peerUri } from './http-listener.ts'
import { PlatformError } from './platform-error.ts'

export interface PeerClientOptions {
  /** `https://10.210.4.1:4281`. */
  readonly url: string
  /** PEM: the only authority that is believed, and who we are. */
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string }
  /** Who must answer: `roost://server`, `roost://agent/<host id>`. The address in its certificate is not looked at. */
  readonly expect: string
  /** Default 3 s. */
  readonly connectTimeoutMs?: number
  /** Requests at once; others queue. Streams count. Default 32. */
  readonly connectionsMax?: number
}

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'
/** JSON is made of it, unless it is a stream of bytes. */
export type PeerBody = AsyncIterable<Uint8Array> | object | undefined

export interface PeerRequest {
  readonly signal?: AbortSignal
  readonly headers?: Readonly<Record<string, string>>
}

/**
 * Calls one other program. Every failure is a PlatformError: with code and text of the reply where there was one, else
 * `unavailable` (`retry: 'later'`). An abort by the caller throws the signal's reason.
 */
export interface PeerClient {
  /** Whole call within `timeoutMs` (default 10 s). An empty reply is `undefined`. */
  json<T>(
    method: Method,
    path: string,
    body?: PeerBody,
    options?: PeerRequest & { readonly timeoutMs?: number },
  ): Promise<T>
  /** Newline-delimited JSON until it ends. Dead after `idleMs` (default 15 s) without a byte. */
  lines<T>(
    method: Method,
    path: string,
    options?: PeerRequest & { readonly body?: PeerBody; readonly idleMs?: number },
  ): AsyncIterable<T>
  /** Cuts off what is under way. */
  close(): Promise<void>
}

const REPLY_BYTES_MAX = 32_000_000
const LINE_CHARS_MAX = 8_000_000
/** A stream that must wait longer for a connection is none. */
const OPEN_MS_MAX = 5000

export function createPeerClient(options: PeerClientOptions): PeerClient {
  const { tls, expect } = options
  const pool = new Pool(options.url, {
    connections: options.connectionsMax ?? 32,
    pipelining: 1,
    keepAliveTimeout: 30_000,
    connect: {
      ca: tls.ca,
      cert: tls.certificate,
      key: tls.key,
      timeout: options.connectTimeoutMs ?? 3000,
      // A resumed session would skip the check below.
      maxCachedSessions: 0,
      checkServerIdentity: (_host, certificate) =>
        peerUri(certificate.subjectaltname) === expect
          ? undefined
          : new Error(`${options.url} is ${peerUri(certificate.subjectaltname)}, not ${expect}`),
    },
  })

  async function call(method: Method, path: string, request: Call) {
    const { body, signal, headers, timeoutMs } = request
    const streamed = body !== undefined && Symbol.asyncIterator in body
    try {
      const reply = await pool.request({
        method,
        path,
        headers: {
          ...(body === undefined || streamed ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body === undefined ? null : streamed ? toReadable(body) : JSON.stringify(body),
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        ...(signal === undefined ? {} : { signal }),
      })
      if (reply.statusCode < 400) return reply
      throw replyError(reply.statusCode, await textOf(reply.body, 64_000))
    } catch (error) {
      throw wrap(error, method, path, signal)
    }
  }

  function wrap(error: unknown, method: string, path: string, signal?: AbortSignal): unknown {
    if (error instanceof PlatformError) return error
    if (signal?.aborted) return signal.reason ?? error
    return new PlatformError('unavailable', `${method} ${options.url}${path.split('?')[0]}`, {
      cause: error,
      retry: 'later',
    })
  }

  return {
    async json<T>(
      method: Method,
      path: string,
      body?: PeerBody,
      { signal, headers, timeoutMs = 10_000 }: PeerRequest & { timeoutMs?: number } = {},
    ): Promise<T> {
      const deadline = AbortSignal.timeout(timeoutMs)
      const either = signal ? AbortSignal.any([signal, deadline]) : deadline
      try {
        const reply = await call(method, path, {
          body,
          headers,
          signal: either,
          timeoutMs: timeoutMs + 1000,
        })
        const text = await textOf(reply.body, REPLY_BYTES_MAX)
        return (text === '' ? undefined : JSON.parse(text)) as T
      } catch (error) {
        if (deadline.aborted && !signal?.aborted)
          throw new PlatformError('unavailable', `${method} ${options.url}${path.split('?')[0]}`, {
            cause: new Error(`no reply within ${timeoutMs} ms`),
            retry: 'later',
          })
        throw wrap(error, method, path, signal)
      }
    },
    async *lines<T>(
      method: Method,
      path: string,
      request: PeerRequest & { body?: PeerBody; idleMs?: number } = {},
    ): AsyncIterable<T> {
      const { signal, headers, body, idleMs = 15_000 } = request
      // While all connections are in use a request waits, and no other deadline has begun.
      const opening = new AbortController()
      const late = setTimeout(() => opening.abort(), OPEN_MS_MAX + idleMs)
      const either = signal ? AbortSignal.any([signal, opening.signal]) : opening.signal
      const reply = await call(method, path, { body, headers, signal: either, timeoutMs: idleMs })
        .catch((error: unknown) => {
          throw opening.signal.aborted && !signal?.aborted
            ? new PlatformError('unavailable', `${method} ${options.url}${path.split('?')[0]}`, {
                cause: new Error(`no reply within ${OPEN_MS_MAX + idleMs} ms`),
                retry: 'later',
              })
            : error
        })
        .finally(() => clearTimeout(late))
      const decoder = new TextDecoder()
      let rest = ''
      try {
        for await (const chunk of reply.body) {
          rest += decoder.decode(chunk as Uint8Array, { stream: true })
          if (rest.length > LINE_CHARS_MAX) throw new Error('a line is too long')
          let from = 0
          for (let at = rest.indexOf('\n'); at !== -1; at = rest.indexOf('\n', from)) {
            const line = rest.slice(from, at)
            from = at + 1
            if (line.trim() !== '') yield JSON.parse(line) as T
          }
          rest = rest.slice(from)
        }
        if (rest.trim() !== '') throw new Error('the last line is cut off')
      } catch (error) {
        throw wrap(error, method, path, signal)
      } finally {
        reply.body.on('error', () => {})
        reply.body.destroy()
      }
    },
    close: () => pool.destroy(),
  }
}

interface Call {
  readonly body: PeerBody
  readonly headers: Readonly<Record<string, string>> | undefined
  readonly signal: AbortSignal | undefined
  readonly timeoutMs: number
}

function toReadable(body: AsyncIterable<Uint8Array>): Readable {
  return body instanceof Readable ? body : Readable.from(body, { objectMode: false })
}

async function textOf(body: AsyncIterable<unknown>, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += (chunk as Uint8Array).length
    if (bytes > bytesMax) throw new Error(`the reply is longer than ${bytesMax} bytes`)
    chunks.push(chunk as Uint8Array)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** What a reply of 400 and above says, as the error that the other program threw. */
function replyError(status: number, text: string): PlatformError {
  const retry = status >= 500 || status === 408 || status === 429 ? 'later' : 'never'
  try {
    const body = JSON.parse(text) as { error?: unknown; code?: unknown }
    if (typeof body.error === 'string')
      return new PlatformError(typeof body.code === 'string' ? body.code : 'internal', body.error, {
        retry,
      })
  } catch {
    // Not ours: shown as it is.
  }
  return new PlatformError('internal', `status ${status}: ${text.slice(0, 200)}`, { retry })
}
