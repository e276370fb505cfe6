import { createHash } from 'node:crypto'
import { PlatformError } from '@roost/base'
import {
  chainIds,
  configBlob,
  type Descriptor,
  type ImageConfig,
  type ImageStore,
  manifestBlob,
} from '../containerd/image-store.ts'
import type { ImageToPull } from '../runtime.ts'
import { RegistryClient, type RegistryRepository } from './registry.ts'

/** Downloads at once, all images together. */
const DOWNLOADS_MAX = 3
const LAYERS_MAX = 500

/** Keeps pulls from filling a disk on which machines run. */
export interface PullRoom {
  /** Throws `disk_full` when `bytes` don't fit; else the signal aborts with that when room ends before `end`. */
  watch(
    doing: string,
    bytes: number,
  ): Promise<{ readonly signal: AbortSignal; readonly end: () => void }>
  /** `disk_full` if there is no room at this moment; else null. */
  refusal(doing: string): Promise<Error | null>
  /** The error of somebody who had no room, as `disk_full` that says where; another one as it is. */
  explain(doing: string, error: unknown): Promise<unknown>
}

interface Index {
  readonly manifests?: readonly (Descriptor & {
    readonly platform?: { readonly os?: string; readonly architecture?: string }
  })[]
}
interface Manifest {
  readonly config?: Descriptor
  readonly layers?: readonly Descriptor[]
}

/** The name under which containerd keeps an image for us. */
export const imageName = (image: ImageToPull): string => `${image.repository}@${image.digest}`

/**
 * Pulls images into containerd: only what is missing, each image and each layer once however many ask. What one caller
 * asked for goes on when it leaves, if another still waits.
 */
export class ImagePuller {
  readonly #store: ImageStore
  /** Where a repository may be, best first. */
  readonly #places: (repository: string) => readonly RegistryRepository[]
  readonly #architecture: string
  readonly #room: PullRoom | undefined
  readonly #images = new Map<string, Shared<void>>()
  readonly #blobs = new Map<string, Promise<void>>()
  #downloads = 0
  readonly #queue: (() => void)[] = []

  constructor(options: {
    store: ImageStore
    places: (repository: string) => readonly RegistryRepository[]
    /** As images name it. */
    architecture?: string
    /** Asked before and while something is fetched; absent: there is always room. */
    room?: PullRoom
  }) {
    this.#store = options.store
    this.#places = options.places
    this.#architecture = options.architecture ?? 'amd64'
    this.#room = options.room
  }

  async pull(image: ImageToPull, signal: AbortSignal): Promise<void> {
    const name = imageName(image)
    if (await this.#store.find(name)) return
    signal.throwIfAborted()
    let shared = this.#images.get(name)
    if (!shared) {
      shared = new Shared((stop) =>
        this.#store.withLease((lease) => this.#pull(image, name, lease, stop)),
      )
      this.#images.set(name, shared)
      const mine = shared
      const forget = () => {
        if (this.#images.get(name) === mine) this.#images.delete(name)
      }
      shared.result.then(forget, forget)
    }
    await shared.join(signal)
  }

  async #pull(image: ImageToPull, name: string, lease: string, signal: AbortSignal): Promise<void> {
    const { client, manifest, body } = await this.#resolve(image, signal)
    const parsed = parse<Manifest>(body, name)
    const config = parsed.config
    const layers = parsed.layers ?? []
    if (!config || layers.length > LAYERS_MAX) throw unusable(name, 'its manifest names no config')
    // The config is small and says which snapshots we need; it is written once it is known to be good.
    const configBody = await readBlob(client, config, signal)
    const read = parse<ImageConfig>(configBody, name)
    if ((read.os ?? 'linux') !== 'linux' || read.architecture !== this.#architecture)
      throw unusable(
        name,
        `it is for ${read.os ?? 'linux'}/${read.architecture}, this host is linux/${this.#architecture}`,
      )
    const chain = chainIds(read)
    const diffIds = read.rootfs?.diff_ids ?? []
    if (diffIds.length !== layers.length)
      throw unusable(name, `${layers.length} layers, but ${diffIds.length} in its config`)

    // Whatever snapshot exists stands for all layers below it.
    let first = chain.length
    while (first > 0 && !(await this.#store.holdSnapshot(chain[first - 1] ?? '', lease))) first--
    const missing = layers.slice(first).map((layer, n) => ({
      layer,
      diffId: diffIds[first + n] ?? '',
      chainId: chain[first + n] ?? '',
      parent: chain[first + n - 1] ?? '',
    }))
    // At least this much: each layer as it comes, and what is in it.
    const bytes = missing.reduce((sum, { layer }) => sum + 2 * layer.size, 0)
    await this.#whileRoom(name, bytes, signal, async (within) => {
      await Promise.all(missing.map(({ layer }) => this.#download(client, layer, lease, within)))
      await this.#store.unpack(missing, lease, within)
    })
    const { content } = this.#store
    const write = { lease, signal }
    await content.write(
      configBlob(config, chain.at(-1) ?? ''),
      async (offset) => [configBody.subarray(offset)],
      write,
    )
    await content.write(
      manifestBlob(manifest, config),
      async (offset) => [body.subarray(offset)],
      write,
    )
    await this.#store.keep(name, manifest)
  }

  async #whileRoom(
    name: string,
    bytes: number,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    if (this.#room === undefined || bytes === 0) return work(signal)
    const watched = await this.#room.watch(`pull ${name}`, bytes)
    try {
      await work(AbortSignal.any([signal, watched.signal]))
    } catch (error) {
      throw watched.signal.aborted ? watched.signal.reason : error
    } finally {
      watched.end()
    }
  }

  /** The manifest for this platform, from the first place that has the image. */
  async #resolve(
    image: ImageToPull,
    signal: AbortSignal,
  ): Promise<{ client: RegistryClient; manifest: Descriptor; body: Buffer }> {
    let problem: unknown
    for (const place of this.#places(image.repository)) {
      const client = new RegistryClient(place)
      try {
        const found = await this.#manifestFor(client, image, signal)
        if (found) return { client, ...found }
      } catch (error) {
        if (signal.aborted) throw error
        if (error instanceof PlatformError && error.code === 'image_unusable') throw error
        problem ??= error
      }
    }
    const name = imageName(image)
    if (problem !== undefined)
      throw new PlatformError('unavailable', `pull ${name}`, { cause: problem, retry: 'later' })
    throw new PlatformError('image_not_found', `pull ${name}`, {
      cause: new Error('the registry has no such image, or does not show it to us'),
    })
  }

  async #manifestFor(
    client: RegistryClient,
    image: ImageToPull,
    signal: AbortSignal,
  ): Promise<{ manifest: Descriptor; body: Buffer } | undefined> {
    const name = imageName(image)
    const found = await client.manifest(image.digest, signal)
    if (!found) return undefined
    checkDigest(found.body, image.digest)
    const index = parse<Index>(found.body, name)
    if (!index.manifests) {
      const { mediaType, body } = found
      return { manifest: { mediaType, digest: image.digest, size: body.length }, body }
    }
    const mine = index.manifests.find(
      ({ platform }) => platform?.os === 'linux' && platform.architecture === this.#architecture,
    )
    if (!mine) {
      const has = index.manifests.map(({ platform }) => `${platform?.os}/${platform?.architecture}`)
      throw unusable(name, `it is for ${has.join(', ')}, this host is linux/${this.#architecture}`)
    }
    const inner = await client.manifest(mine.digest, signal)
    if (!inner) return undefined
    checkDigest(inner.body, mine.digest)
    return { manifest: { ...mine, size: inner.body.length }, body: inner.body }
  }

  #download(
    client: RegistryClient,
    layer: Descriptor,
    lease: string,
    signal: AbortSignal,
  ): Promise<void> {
    const going = this.#blobs.get(layer.digest)
    if (going) return going.catch(() => this.#download(client, layer, lease, signal))
    const download = this.#inTurn(signal, async () => {
      // Also for one that is there already: this puts it under our lease.
      await this.#store.content.write(
        layer,
        (offset) => client.blob(layer.digest, offset, signal),
        { lease, signal },
      )
    }).finally(() => this.#blobs.delete(layer.digest))
    this.#blobs.set(layer.digest, download)
    return download
  }

  async #inTurn(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    while (this.#downloads >= DOWNLOADS_MAX)
      await new Promise<void>((resolve) => this.#queue.push(resolve))
    this.#downloads++
    try {
      signal.throwIfAborted()
      await work()
    } finally {
      this.#downloads--
      this.#queue.shift()?.()
    }
  }
}

/** Work that several wait for: it is aborted when the last of them has left. */
class Shared<T> {
  readonly result: Promise<T>
  readonly #stop = new AbortController()
  #waiting = 0

  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.result = work(this.#stop.signal)
    this.result.catch(() => {})
  }

  async join(signal: AbortSignal): Promise<T> {
    this.#waiting++
    const left = new AbortController()
    try {
      return await Promise.race([
        this.result,
        new Promise<never>((_resolve, reject) => {
          const leave = () => reject(signal.reason)
          if (signal.aborted) leave()
          signal.addEventListener('abort', leave, { once: true, signal: left.signal })
        }),
      ])
    } finally {
      left.abort()
      if (--this.#waiting === 0) this.#stop.abort()
    }
  }
}

async function readBlob(
  client: RegistryClient,
  blob: Descriptor,
  signal: AbortSignal,
): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of (await client.blob(blob.digest, 0, signal)) as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > blob.size || bytes > 8_000_000) break
    chunks.push(chunk)
  }
  const body = Buffer.concat(chunks)
  checkDigest(body, blob.digest)
  return body
}

function checkDigest(body: Buffer, digest: string): void {
  const found = `sha256:${createHash('sha256').update(body).digest('hex')}`
  if (found !== digest)
    throw new PlatformError('unavailable', `read ${digest}`, {
      cause: new Error(`the registry sent ${found}`),
      retry: 'later',
    })
}

function parse<T>(body: Buffer, name: string): T {
  try {
    return JSON.parse(body.toString('utf8')) as T
  } catch (cause) {
    throw new PlatformError('image_unusable', `image ${name}`, { cause })
  }
}

function unusable(name: string, why: string): PlatformError {
  return new PlatformError('image_unusable', `image ${name}`, { cause: new Error(why) })
}
