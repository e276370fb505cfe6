import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import type { MachineId } from '@roost/core'

/**
 * For tests: a machine that writes down what it is sent, byte by byte, as the strictest reader would have it. Whatever leaves room for two
 * opinions on where a message ends is `odd`, whether or not this reader would have been misled by it.
 */
export interface Recorder {
  readonly machine: MachineId
  readonly region: string
  readonly address: string
  readonly port: number
  readonly seen: Seen[]
  readonly odd: string[]
  /** Instead of a 200 that repeats the target: all of an answer. */
  answer: ((seen: Seen) => string | null) | null
}
export interface Seen {
  /** Which connection, counted from 1. */
  readonly connection: number
  readonly method: string
  readonly target: string
  readonly headers: readonly (readonly [string, string])[]
  readonly body: string
  of(name: string): readonly string[]
}

interface Head extends Omit<Seen, 'body'> {
  readonly bytes: number
}

export async function startRecorder(
  at: { readonly number: number; readonly region?: string; readonly address: string },
  closers: (() => unknown)[],
): Promise<Recorder> {
  const open = new Set<Socket>()
  let connections = 0
  const made: Recorder = {
    machine: at.number.toString(16).padStart(14, '0') as MachineId,
    region: at.region ?? 'ams',
    address: at.address,
    port: 8080,
    seen: [],
    odd: [],
    answer: null,
  }
  const server = createServer((socket) => {
    connections += 1
    const connection = connections
    let text = ''
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      for (;;) {
        const head = readHead(text, connection, made.odd)
        const body = head === null ? null : readBody(text.slice(head.bytes), head, made.odd)
        if (head === null || body === null) return
        text = text.slice(head.bytes + body.bytes)
        const seen: Seen = { ...head, body: body.text }
        made.seen.push(seen)
        socket.write(made.answer?.(seen) ?? answerOf(200, JSON.stringify(seen.target)), 'latin1')
      }
    })
  })
  server.listen(made.port, made.address)
  await once(server, 'listening')
  closers.push(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  return made
}

export function answerOf(status: number, text: string, headers: readonly string[] = []): string {
  const lines = [`HTTP/1.1 ${status} x`, ...headers, `content-length: ${text.length}`]
  return `${lines.join('\r\n')}\r\n\r\n${text}`
}

function readHead(text: string, connection: number, odd: string[]): Head | null {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return null
  const [line = '', ...rest] = text.slice(0, end).split('\r\n')
  const say = (what: string, where: string) =>
    odd.push(
      `${what}: ${JSON.stringify(where.slice(0, 200))} after ${JSON.stringify(line.slice(0, 100))}`,
    )
  const [, method = '', target = ''] =
    /^([A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.[01]$/.exec(line) ?? []
  if (method === '') say('request line', line)
  const headers = rest.map((one): readonly [string, string] => {
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)$/.exec(one) ?? []
    if (name === undefined || value === undefined) say('header', one)
    return [name?.toLowerCase() ?? '', value?.trimEnd() ?? '']
  })
  const of = (name: string) => headers.flatMap(([key, value]) => (key === name ? [value] : []))
  const [lengths, codings] = [of('content-length'), of('transfer-encoding')]
  if (lengths.length > 1 || !lengths.every((value) => /^\d{1,15}$/.test(value)))
    say('content-length', lengths.join(' and '))
  if (codings.length > 1 || !codings.every((value) => value.toLowerCase() === 'chunked'))
    say('transfer-encoding', codings.join(' and '))
  if (lengths.length > 0 && codings.length > 0) say('two lengths', line)
  if (of('host').length !== 1 && /1\.1$/.test(line)) say('host', of('host').join(' and '))
  return { connection, method, target, headers, of, bytes: end + 4 }
}

/** null: more is to come. */
function readBody(
  text: string,
  head: Head,
  odd: string[],
): { readonly text: string; readonly bytes: number } | null {
  if (head.of('transfer-encoding').length === 0) {
    const length = Number(head.of('content-length')[0] ?? 0)
    return text.length < length ? null : { text: text.slice(0, length), bytes: length }
  }
  let body = ''
  let at = 0
  for (;;) {
    const end = text.indexOf('\r\n', at)
    if (end === -1) return null
    const line = text.slice(at, end)
    if (!/^[0-9a-fA-F]{1,8}$/.test(line)) odd.push(`chunk: ${JSON.stringify(line.slice(0, 200))}`)
    const size = Number.parseInt(line, 16)
    at = end + 2
    if (size === 0) break
    if (text.length < at + size + 2) return null
    body += text.slice(at, at + size)
    if (text.slice(at + size, at + size + 2) !== '\r\n') odd.push(`chunk of ${size} does not end`)
    at += size + 2
  }
  // Trailers, if any, and an empty line.
  for (;;) {
    const end = text.indexOf('\r\n', at)
    if (end === -1) return null
    const line = text.slice(at, end)
    at = end + 2
    if (line === '') return { text: body, bytes: at }
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*$/.test(line))
      odd.push(`trailer: ${JSON.stringify(line.slice(0, 200))}`)
  }
}
