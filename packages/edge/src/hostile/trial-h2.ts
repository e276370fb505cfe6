import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import type { HeaderList } from './trial-corpus.ts'

/** For tests: HTTP/2 by hand, since what is to be sent no client would send. */
export const FRAME = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const
export const END_STREAM = 1
export const END_HEADERS = 4

export interface H2Client {
  readonly socket: TLSSocket
  /** By stream: a status, or that it was reset. */
  readonly answers: Map<number, number | 'reset'>
  readonly ended: { readonly goaway: boolean; readonly closed: boolean }
}

export async function connectH2(options: {
  readonly host: string
  readonly port: number
  readonly servername: string
  readonly localAddress: string
  readonly settings?: readonly (readonly [number, number])[]
}): Promise<H2Client> {
  const { settings = [], ...to } = options
  const socket = connect({ ...to, rejectUnauthorized: false, ALPNProtocols: ['h2'] })
  const answers = new Map<number, number | 'reset'>()
  const ended = { goaway: false, closed: false }
  let text = Buffer.alloc(0)
  socket.on('error', () => {})
  socket.on('close', () => {
    ended.closed = true
  })
  await once(socket, 'secureConnect')
  socket.on('data', (chunk) => {
    text = Buffer.concat([text, chunk])
    while (text.length >= 9) {
      const length = text.readUIntBE(0, 3)
      if (text.length < 9 + length) return
      const [type, stream] = [text[3], text.readUInt32BE(5) & 0x7fffffff]
      const payload = text.subarray(9, 9 + length)
      if (type === FRAME.headers && !answers.has(stream)) answers.set(stream, statusOf(payload))
      if (type === FRAME.reset && !answers.has(stream)) answers.set(stream, 'reset')
      if (type === FRAME.goaway) ended.goaway = true
      text = text.subarray(9 + length)
    }
  })
  const values = settings.map(([key, value]) => {
    const one = Buffer.alloc(6)
    one.writeUInt16BE(key, 0)
    one.writeUInt32BE(value, 2)
    return one
  })
  socket.write(
    Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      frame(FRAME.settings, 0, 0, Buffer.concat(values)),
    ]),
  )
  return { socket, answers, ended }
}

export function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** Each as a literal that is not remembered, whatever its letters. */
export function headerBlock(headers: HeaderList): Buffer {
  return Buffer.concat(
    headers.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]),
  )
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1')
  const length: number[] = []
  if (bytes.length < 127) length.push(bytes.length)
  else {
    length.push(127)
    let rest = bytes.length - 127
    for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128)
    length.push(rest)
  }
  return Buffer.concat([Buffer.from(length), bytes])
}

/** HAProxy says the status first, as a number of the static table or as three digits. */
function statusOf(block: Buffer): number {
  const known = [200, 204, 206, 304, 400, 404, 500][(block[0] ?? 0) - 0x88]
  return known ?? Number(block.subarray(2, 5).toString('latin1'))
}
