import { z } from 'zod'

/**
 * A session runs over a WebSocket of binary messages, from the command line to the server and from there to the host of the
 * machine, which speak the same. Each message is one frame:
 *
 *     kind (1 byte) · stream (4 bytes, big-endian) · payload
 *
 * | kind | name | payload |
 * |---|---|---|
 * | 0 | data | bytes of the stream, at most 64 KB |
 * | 1 | end | none: nothing more comes on this stream in this direction |
 * | 2 | window | how many more bytes may be sent on the stream (4 bytes, big-endian) |
 * | 3 | open | none: the client begins a stream (only where a session connects to a port) |
 * | 4 | reset | why, in UTF-8: the stream is over in both directions |
 * | 5 | control | JSON; the stream is 0 |
 *
 * On each stream and in each direction at most `WINDOW_BYTES` may be under way that were not read: the reader gives
 * room for as much as it has read by `window`. So a stream that nobody reads holds up neither the others nor signals.
 *
 * The client's first frame is a control frame with what it wants. Of a program the streams are 0 (stdin), 1 (stdout) and 2
 * (stderr); they are open from the beginning. After a control frame with `exit` or `error` nothing else comes.
 */
export type Frame =
  | { readonly kind: 'data'; readonly stream: number; readonly bytes: Uint8Array }
  | { readonly kind: 'end'; readonly stream: number }
  | { readonly kind: 'window'; readonly stream: number; readonly bytes: number }
  | { readonly kind: 'open'; readonly stream: number }
  | { readonly kind: 'reset'; readonly stream: number; readonly why: string }
  | { readonly kind: 'control'; readonly value: unknown }

export const WINDOW_BYTES = 262_144
export const FRAME_DATA_BYTES_MAX = 65_536
export const [STDIN, STDOUT, STDERR] = [0, 1, 2] as const
const HEADER_BYTES = 5
const REASON_BYTES_MAX = 2000
const KINDS = ['data', 'end', 'window', 'open', 'reset', 'control'] as const

/** Part of every JavaScript that has fetch, but not of the language's own library. */
declare const TextEncoder: new () => { encode(text: string): Uint8Array }
declare const TextDecoder: new () => { decode(bytes: Uint8Array): string }

export function encodeFrame(frame: Frame): Uint8Array {
  const payload = payloadOf(frame)
  const bytes = new Uint8Array(HEADER_BYTES + payload.length)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, KINDS.indexOf(frame.kind))
  view.setUint32(1, frame.kind === 'control' ? 0 : frame.stream)
  bytes.set(payload, HEADER_BYTES)
  return bytes
}

function payloadOf(frame: Frame): Uint8Array {
  switch (frame.kind) {
    case 'data':
      return frame.bytes
    case 'window': {
      const bytes = new Uint8Array(4)
      new DataView(bytes.buffer).setUint32(0, frame.bytes)
      return bytes
    }
    case 'reset':
      return new TextEncoder().encode(frame.why).subarray(0, REASON_BYTES_MAX)
    case 'control':
      return new TextEncoder().encode(JSON.stringify(frame.value))
    default:
      return new Uint8Array(0)
  }
}

/** null: it is no frame. */
export function decodeFrame(message: Uint8Array): Frame | null {
  if (message.length < HEADER_BYTES) return null
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const kind = KINDS[view.getUint8(0)]
  const stream = view.getUint32(1)
  const payload = message.subarray(HEADER_BYTES)
  switch (kind) {
    case 'data':
      return payload.length > FRAME_DATA_BYTES_MAX ? null : { kind, stream, bytes: payload }
    case 'window':
      return payload.length === 4 ? { kind, stream, bytes: view.getUint32(HEADER_BYTES) } : null
    case 'end':
    case 'open':
      return payload.length === 0 ? { kind, stream } : null
    case 'reset':
      return { kind, stream, why: new TextDecoder().decode(payload) }
    case 'control':
      try {
        return { kind, value: JSON.parse(new TextDecoder().decode(payload)) }
      } catch {
        return null
      }
    default:
      return null
  }
}

const terminal = z.object({
  columns: z.int().min(0).max(10_000),
  rows: z.int().min(0).max(10_000),
})

/** The client's first frame where it wants a program. */
export const programStart = z.object({
  command: z.array(z.string()).min(1).max(1000),
  container: z.string().max(64).optional(),
  /** `name`, `uid`, `name:group` or `uid:gid`; absent: whom the container's program runs as. */
  user: z.string().max(128).optional(),
  /** Absent: no terminal. */
  terminal: terminal.extend({ type: z.string().max(64) }).optional(),
})
export type ProgramStart = z.output<typeof programStart>

/** The client's first frame where it wants a port. Each of its streams is a connection. */
export const portStart = z.object({
  port: z.int().min(1).max(65_535),
  /** A machine, or a name such as `shop.internal`; absent: any machine of the app. */
  host: z.string().max(255).optional(),
  region: z.string().max(16).optional(),
})
export type PortStart = z.output<typeof portStart>

/** Later control frames of the client's. */
export const sessionRequest = z.union([
  z.object({ resize: terminal }),
  z.object({ signal: z.string().max(16) }),
])

/** Control frames to the client. */
export const sessionEvent = z.union([
  /** The program runs, or connections can be opened. */
  z.object({ started: z.object({ machine: z.string(), region: z.string().optional() }) }),
  z.object({ exit: z.object({ code: z.int() }) }),
  z.object({ error: z.object({ code: z.string(), message: z.string() }) }),
])
export type SessionEvent = z.output<typeof sessionEvent>
