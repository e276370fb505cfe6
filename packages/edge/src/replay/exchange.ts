import { type IncomingMessage, type InformationEvent, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FileAnswer } from '../statics/static-folder.ts'
import type { BodyRoom } from './body-room.ts'
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
  /** Before the answer, as 103 is. */
  hint(answer: InformationEvent): void
  /** `more`: headers besides its own. */
  forward(answer: IncomingMessage, more?: Readonly<Record<string, string>>): void
  /** One of our own making. */
  answer(file: FileAnswer): void
  /** From here on it is bytes. */
  join(answer: IncomingMessage, socket: Duplex, head: Buffer): void
}

const HINTS_MAX = 8

export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

export function exchangeOf(
  request: IncomingMessage,
  response: ServerResponse,
  joined: { readonly socket: Duplex; readonly head: Buffer } | null,
  roomOf: (app: string) => BodyRoom,
): Exchange {
  const gone = new AbortController()
  const owner = `${request.headers['roost-owner'] ?? ''}`
  const body = hasBody(request) ? keepBody(request, roomOf(owner)) : null
  let hints = 0
  response.sendDate = false
  response.on('close', () => {
    body?.release()
    if (!response.writableFinished) gone.abort()
  })
  joined?.socket.on('close', () => gone.abort())
  joined?.socket.on('error', () => gone.abort())

  function say(status: number, text: string, more: Readonly<Record<string, string>> = {}): void {
    if (response.headersSent) return void response.destroy()
    response.writeHead(status, { 'content-type': 'text/plain', ...more })
    response.end(`${text}\n`)
  }

  return {
    request,
    body,
    upgrade: joined === null ? null : (request.headers.upgrade ?? 'websocket'),
    gone: gone.signal,
    say,
    hint({ statusCode, rawHeaders }) {
      hints += 1
      // HTTP/1.0 has none. Nothing slows down who says too many.
      if (statusCode <= 101 || request.httpVersion === '1.0' || hints > HINTS_MAX) return
      if (!response.headersSent) response.writeInformation(statusCode, responseHeaders(rawHeaders))
    },
    answer({ status, headers, body }) {
      if (gone.signal.aborted) return void body.destroy()
      body.once('error', () => response.destroy())
      response.once('close', () => body.destroy())
      response.writeHead(status, headers)
      body.pipe(response)
    },
    forward(answer, more = {}) {
      body?.release()
      response.once('close', () => answer.destroy())
      answer.once('error', () => response.destroy())
      response.writeHead(
        answer.statusCode ?? 502,
        // What HAProxy lets pass there, Node may not.
        (answer.statusMessage ?? '').replace(/[^\t\x20-\x7e\x80-\xff]/g, ''),
        [...responseHeaders(answer.rawHeaders), ...Object.entries(more).flat()],
      )
      // An answer may say its headers long before its first byte.
      response.flushHeaders()
      answer.pipe(response, { end: false })
      answer.once('end', () => {
        if (answer.rawTrailers.length > 0) response.addTrailers(trailersOf(answer.rawTrailers))
        response.end()
      })
    },
    join(answer, other, head) {
      if (joined === null) {
        other.destroy()
        return say(502, 'The app changed the protocol, which nobody had asked for.')
      }
      const { socket } = joined
      const headers = responseHeaders(answer.rawHeaders)
      const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`]
      for (let n = 0; n < headers.length; n += 2) lines.push(`${headers[n]}: ${headers[n + 1]}`)
      lines.push('connection: upgrade', `upgrade: ${answer.headers.upgrade ?? 'websocket'}`, '', '')
      socket.write(lines.join('\r\n'), 'latin1')
      if (head.length > 0) socket.write(head)
      if (joined.head.length > 0) other.write(joined.head)
      lead(socket, other)
      lead(other, socket)
    },
  }
}

/** What `from` says, to its end, to `to`. When `from` is gone, so is `to`, once it has been told all of it. */
function lead(from: Duplex, to: Duplex): void {
  from.pipe(to)
  from.on('error', () => to.destroy())
  from.on('close', () => {
    // Otherwise nobody would see it end.
    to.resume()
    if (from.readableEnded) (to as Socket).destroySoon()
    else to.destroy()
  })
}

/** For a request that wants to go on with another protocol, and may be refused in HTTP. */
export function responseOn(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket as Socket)
  response.on('finish', () => (socket as Socket).destroySoon())
  return response
}

function trailersOf(raw: readonly string[]): [string, string][] {
  const kept = responseHeaders(raw)
  return Array.from({ length: kept.length / 2 }, (_, n) => [
    kept[2 * n] ?? '',
    kept[2 * n + 1] ?? '',
  ])
}
