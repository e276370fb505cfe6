import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type KeptBody, keepBody } from './kept-body.ts'
import { responseHeaders } from './replay-headers.ts'

/** One request of a client, and the ways to answer it. */
export interface Exchange {
  readonly request: IncomingMessage
  /** null: there is none. */
  readonly body: KeptBody | null
  /** Protocol that the client wants to go on with. */
  readonly upgrade: string | null
  /** The client is gone. */
  readonly gone: AbortSignal
  say(status: number, text: string, headers?: Readonly<Record<string, string>>): void
  forward(answer: IncomingMessage): void
  /** From here on it is bytes. */
  join(answer: IncomingMessage, socket: Duplex, head: Buffer): void
}

export function exchangeOf(
  request: IncomingMessage,
  response: ServerResponse,
  joined: { readonly socket: Duplex; readonly head: Buffer } | null,
): Exchange {
  const gone = new AbortController()
  const { headers } = request
  const hasBody =
    headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
  response.sendDate = false
  response.on('close', () => {
    if (!response.writableFinished) gone.abort()
  })
  joined?.socket.on('close', () => gone.abort())
  joined?.socket.on('error', () => gone.abort())
  return {
    request,
    body: hasBody && joined === null ? keepBody(request) : null,
    upgrade: joined === null ? null : (headers.upgrade ?? 'websocket'),
    gone: gone.signal,
    say(status, text, more = {}) {
      if (response.headersSent) return void response.destroy()
      response.writeHead(status, { 'content-type': 'text/plain', ...more })
      response.end(`${text}\n`)
    },
    forward(answer) {
      response.writeHead(
        answer.statusCode ?? 502,
        answer.statusMessage ?? '',
        responseHeaders(answer.rawHeaders),
      )
      // An answer may say its headers long before its first byte.
      response.flushHeaders()
      answer.pipe(response, { end: false })
      answer.once('end', () => {
        if (answer.rawTrailers.length > 0) response.addTrailers(trailersOf(answer.rawTrailers))
        response.end()
      })
      answer.once('error', () => response.destroy())
      gone.signal.addEventListener('abort', () => answer.destroy(), { once: true })
    },
    join(answer, other, head) {
      if (joined === null) return void other.destroy()
      const { socket } = joined
      const headers = responseHeaders(answer.rawHeaders)
      const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`]
      for (let n = 0; n < headers.length; n += 2) lines.push(`${headers[n]}: ${headers[n + 1]}`)
      lines.push('connection: upgrade', `upgrade: ${answer.headers.upgrade ?? 'websocket'}`, '', '')
      socket.write(lines.join('\r\n'))
      if (head.length > 0) socket.write(head)
      if (joined.head.length > 0) other.write(joined.head)
      socket.pipe(other)
      other.pipe(socket)
      other.on('error', () => socket.destroy())
      other.on('close', () => socket.destroy())
      socket.on('close', () => other.destroy())
    },
  }
}

/** For a request that wants to go on with another protocol, and may be refused in HTTP. */
export function responseOn(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket as Socket)
  response.on('finish', () => socket.end())
  return response
}

function trailersOf(raw: readonly string[]): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, n) => [raw[2 * n] ?? '', raw[2 * n + 1] ?? ''])
}
