import type { ClientRequest, IncomingMessage } from 'node:http'
import { REPLAY_BODY_BYTES_MAX } from '@roost/core'

/**
 * A body on its way to the first machine, kept as long as it is small enough to be sent again.
 *
 * One that says that it is small is sent when all of it is there. What is written to a connection whose other side has answered and closed
 * fails at once, and Node then drops the answer that lies there unread; an app that sends a request on may answer before it has read a body.
 */
export interface KeptBody {
  /** Nobody has got anything of it, and it should be sent on as it comes. */
  streams(): boolean
  /** What came and what comes. Once. */
  sendTo(target: ClientRequest): void
  /** All of it; null: it is too large. Rejects when the client is gone before the end. */
  whole(): Promise<Buffer | null>
}

export function keepBody(source: IncomingMessage): KeptBody {
  let chunks: Buffer[] = []
  let bytes = 0
  let target: ClientRequest | null = null
  const length = Number(source.headers['content-length'] ?? Number.POSITIVE_INFINITY)
  let streaming = length > REPLAY_BODY_BYTES_MAX
  /** After a turn in which an answer that is there is read. */
  const pass = (to: ClientRequest, chunk: Buffer) =>
    setImmediate(() => {
      if (to !== target || to.write(chunk)) return
      source.pause()
      to.once('drain', () => source.resume())
    })
  const settled = new Promise<Buffer | null>((resolve, reject) => {
    source.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= REPLAY_BODY_BYTES_MAX) chunks.push(chunk)
      else {
        chunks = []
        resolve(null)
      }
      if (target !== null) pass(target, chunk)
    })
    source.once('end', () => {
      resolve(bytes <= REPLAY_BODY_BYTES_MAX ? Buffer.concat(chunks) : null)
      const last = target
      // After the last piece.
      if (last !== null) setImmediate(() => last.end())
    })
    source.once('error', reject)
    source.once('close', () => reject(new Error('the client went')))
  })
  settled.catch(() => {})
  source.pause()
  return {
    streams: () => streaming,
    sendTo(first) {
      streaming = false
      target = first
      // Who has answered need not read the rest; it is kept for the next one.
      first.once('close', () => {
        if (target === first) target = null
        source.resume()
      })
      source.resume()
    },
    whole: () => {
      source.resume()
      return settled
    },
  }
}
