import type { ClientRequest, IncomingMessage } from 'node:http'
import { REPLAY_BODY_BYTES_MAX } from '@roost/core'
import type { BodyRoom } from './body-room.ts'

/**
 * A body on its way to a machine, as it comes, kept as long as it may be sent again: in one piece that grows with it, since a client may send it in
 * pieces of a byte, each of which would cost hundreds. Where it is too large, or there is no room, it passes through all the same and is
 * had only once.
 */
export interface KeptBody {
  /** What came and what comes, to nobody else from now on. false: some of it is not here any more. */
  sendTo(target: ClientRequest): boolean
  /** Waits for the end; who got it so far gets no more. Rejects when the client is gone before it. */
  whole(): Promise<Kept>
  /** It will not be sent again. */
  release(): void
}
export type Kept = 'whole' | 'too-large' | 'crowded'

export function keepBody(source: IncomingMessage, room: BodyRoom): KeptBody {
  let kept: Buffer | null = Buffer.alloc(0)
  let bytes = 0
  let ended = false
  let target: ClientRequest | null = null
  let settle: (how: Kept) => void = () => {}
  const settled = new Promise<Kept>((resolve, reject) => {
    settle = resolve
    source.once('error', reject)
    source.once('close', () => reject(new Error('the client went')))
  })
  settled.catch(() => {})

  function release(): void {
    room.give(kept?.length ?? 0)
    kept = null
  }
  function lose(why: Kept): void {
    release()
    settle(why)
  }
  function keep(chunk: Buffer): void {
    if (kept === null) return
    const needed = bytes + chunk.length
    if (needed > REPLAY_BODY_BYTES_MAX) {
      lose('too-large')
      return
    }
    if (needed > kept.length) {
      const length = Math.min(REPLAY_BODY_BYTES_MAX, Math.max(needed, 2 * kept.length))
      if (!room.take(length - kept.length)) {
        lose('crowded')
        return
      }
      const larger = Buffer.allocUnsafe(length)
      kept.copy(larger, 0, 0, bytes)
      kept = larger
    }
    chunk.copy(kept, bytes)
    bytes = needed
  }

  source.on('data', (chunk: Buffer) => {
    keep(chunk)
    if (target === null || target.write(chunk)) return
    source.pause()
    target.once('drain', () => source.resume())
  })
  source.once('end', () => {
    ended = true
    settle('whole')
    target?.end()
  })
  source.pause()

  return {
    sendTo(next) {
      if (kept === null) return false
      target = next
      // Who has answered need not read the rest; it is kept for the next one.
      next.once('close', () => {
        if (target === next) target = null
        source.resume()
      })
      if (bytes > 0) next.write(kept.subarray(0, bytes))
      if (ended) next.end()
      else source.resume()
      return true
    },
    whole() {
      target = null
      source.resume()
      return settled
    },
    release,
  }
}
