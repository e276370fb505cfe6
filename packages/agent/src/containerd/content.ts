import { once } from 'node:events'
import type { ServiceError } from '@grpc/grpc-js'
import { PlatformError } from '@roost/base'
import { type ContainerdClient, containerdError, isAlreadyExists } from './client.ts'
import { content } from './generated/index.js'

type WriteRequest = ReturnType<typeof content.WriteContentRequest.create>
type WriteResponse = ReturnType<typeof content.WriteContentResponse.create>

export interface Blob {
  readonly digest: string
  readonly size: number
  readonly labels?: Readonly<Record<string, string>>
}

const PIECE_BYTES = 512 * 1024
const WRITE_TIMEOUT_MS = 1_800_000

/** containerd's content store: blobs by digest. */
export class ContentStore {
  readonly #client: ContainerdClient
  constructor(client: ContainerdClient) {
    this.#client = client
  }

  /** For manifests and configs; blobs above `bytesMax` are refused. */
  async read(digest: string, bytesMax = 8_000_000): Promise<Buffer> {
    const replies = await this.#client.collect(content.ContentService.read, {
      digest,
      offset: 0n,
      size: BigInt(bytesMax),
    })
    return Buffer.concat(replies.map((reply) => reply.data))
  }

  /**
   * Writes a blob from `source`, which is asked for the bytes from `offset` on: a write that broke off goes on where it
   * stood. containerd checks the digest. A blob that is there already is no error, and is not asked for.
   */
  async write(
    blob: Blob,
    source: (offset: number) => Promise<AsyncIterable<Uint8Array> | Iterable<Uint8Array>>,
    options: { lease: string; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const method = content.ContentService.write
    const stream = this.#client.duplex(method, {
      lease: options.lease,
      timeoutMs: WRITE_TIMEOUT_MS,
    })
    const replies = stream[Symbol.asyncIterator]() as AsyncIterator<WriteResponse>
    const onAbort = () => stream.cancel()
    options.signal?.addEventListener('abort', onAbort, { once: true })
    // Without a listener an error between two reads would end the process.
    stream.on('error', () => {})
    const ask = async (request: Partial<WriteRequest>) => {
      const full = content.WriteContentRequest.fromPartial({
        ref: `roost-${blob.digest}`,
        total: BigInt(blob.size),
        expected: blob.digest,
        ...request,
      })
      if (!stream.write(full)) await Promise.race([once(stream, 'drain'), once(stream, 'close')])
      const reply = await replies.next()
      if (reply.done) throw new Error('containerd ended the write')
      return reply.value
    }
    try {
      options.signal?.throwIfAborted()
      const begun = await ask({ action: content.WriteAction.STAT })
      let offset = Number(begun.offset)
      if (offset < blob.size) {
        for await (const piece of pieces(await source(offset))) {
          await ask({ action: content.WriteAction.WRITE, offset: BigInt(offset), data: piece })
          offset += piece.length
          if (offset > blob.size) break
        }
      }
      if (offset !== blob.size)
        throw new PlatformError('unavailable', `blob ${blob.digest}`, {
          cause: new Error(`${offset} bytes instead of ${blob.size}`),
          retry: 'later',
        })
      await ask({
        action: content.WriteAction.COMMIT,
        offset: BigInt(offset),
        labels: { ...blob.labels },
      })
      stream.end()
    } catch (error) {
      const translated =
        error instanceof PlatformError || (error as ServiceError).code === undefined
          ? error
          : containerdError(method.path, error as ServiceError)
      if (!isAlreadyExists(translated)) throw translated
    } finally {
      options.signal?.removeEventListener('abort', onAbort)
      stream.cancel()
    }
  }
}

async function* pieces(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncIterable<Uint8Array> {
  let waiting: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of source) {
    waiting.push(chunk)
    bytes += chunk.length
    if (bytes < PIECE_BYTES) continue
    yield Buffer.concat(waiting)
    waiting = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(waiting)
}
