import type { Instant, StoredImageFact } from '@roost/core'
import { type ContainerdClient, orAbsent } from './client.ts'
import { ContentStore } from './content.ts'
import { containers, content, images, snapshots } from './generated/index.js'
import {
  chainIds,
  type Descriptor,
  EXTRACT_PREFIX,
  type ImageConfig,
  SNAPSHOTTER,
} from './image-store.ts'

/** When a machine was last seen here that has the image; on the image itself, so that it outlives the agent. */
const USED = 'roost/used'
/** Blobs on their way in. */
const INGEST_PREFIX = 'roost-'
const SIZES_MAX = 5000
/** Walking through what a machine wrote takes time. */
const USAGE_MS = 20_000
/** The collector of a large store works for a while. */
const REMOVE_MS = 120_000

export interface RoomTaken {
  readonly bytes: number
  readonly count: number
  readonly oldestAt: Instant | null
}

/** What images and root file systems take in containerd, and how it is given back. */
export class ImageRoom {
  readonly #client: ContainerdClient
  readonly #content: ContentStore
  /** Committed snapshots never change. */
  readonly #sizes = new Map<string, number>()
  readonly #chains = new Map<string, readonly string[]>()

  constructor(client: ContainerdClient) {
    this.#client = client
    this.#content = new ContentStore(client)
  }

  /** `isWanted`: an image that a machine needs which is not made yet. */
  async list(isWanted: (name: string) => boolean): Promise<readonly StoredImageFact[]> {
    const [kept, inContainers] = await Promise.all([
      this.#client.call(images.ImagesService.list, { filters: [] }),
      this.imagesOfContainers(),
    ])
    const facts: StoredImageFact[] = []
    for (const { name, target, labels, updatedAt } of kept.images) {
      const chain = await this.#chainOf(target?.digest ?? '')
      const layers = await Promise.all(
        chain.map(async (id) => ({ id, bytes: await this.#sizeOf(id) })),
      )
      facts.push({
        name,
        repository: name.replace(/@.*$/, ''),
        layers,
        usedAt: Number(labels[USED]) || Number(updatedAt?.seconds ?? 0n) * 1000,
        inUse: inContainers.has(name) || isWanted(name),
      })
    }
    return facts
  }

  async imagesOfContainers(): Promise<ReadonlySet<string>> {
    const found = await this.#client.call(containers.ContainersService.list, { filters: [] })
    return new Set(found.containers.map(({ image }) => image))
  }

  /** Notes that they are in use now. */
  async touch(names: readonly string[], now: Instant): Promise<void> {
    for (const name of names) {
      const found = await orAbsent(this.#client.call(images.ImagesService.get, { name }))
      if (!found?.image) continue
      const image = { ...found.image, labels: { ...found.image.labels, [USED]: String(now) } }
      await orAbsent(
        this.#client.call(images.ImagesService.update, {
          image,
          updateMask: [`labels.${USED}`],
        }),
      )
    }
  }

  /** Takes the name away and waits until containerd has collected what nothing else needs. */
  async remove(name: string): Promise<void> {
    await orAbsent(
      this.#client.call(
        images.ImagesService.delete,
        { name, sync: true },
        { timeoutMs: REMOVE_MS },
      ),
    )
  }

  /** Gives up downloads that nobody has gone on with for `idleMs`. Returns how many bytes that were. */
  async abortDownloads(now: Instant, idleMs: number): Promise<number> {
    const { statuses } = await this.#client.call(content.ContentService.listStatuses, {
      filters: [],
    })
    let bytes = 0
    for (const { ref, offset, updatedAt } of statuses) {
      const idle = now - Number(updatedAt?.seconds ?? 0n) * 1000
      if (!ref.startsWith(INGEST_PREFIX) || idle < idleMs) continue
      await orAbsent(this.#client.call(content.ContentService.abort, { ref }))
      bytes += Number(offset)
    }
    return bytes
  }

  /** Blobs and layers of images, and what is still on its way. */
  async imagesTaken(): Promise<RoomTaken> {
    const [infos, blobs, { statuses }] = await Promise.all([
      this.#snapshots(),
      this.#client.collect(content.ContentService.list, { filters: [] }),
      this.#client.call(content.ContentService.listStatuses, { filters: [] }),
    ])
    const kept = await this.#client.call(images.ImagesService.list, { filters: [] })
    let bytes = 0
    for (const { name } of infos.filter(({ kind }) => kind === snapshots.Kind.COMMITTED))
      bytes += await this.#sizeOf(name)
    for (const reply of blobs) for (const { size } of reply.info) bytes += Number(size)
    for (const { offset } of statuses) bytes += Number(offset)
    const ages = kept.images.map(({ createdAt }) => Number(createdAt?.seconds ?? 0n) * 1000)
    return {
      bytes,
      count: kept.images.length,
      oldestAt: ages.length > 0 ? Math.min(...ages) : null,
    }
  }

  /** What machines wrote into their root file systems. */
  async machinesTaken(): Promise<RoomTaken> {
    const active = (await this.#snapshots()).filter(
      ({ kind, name }) => kind === snapshots.Kind.ACTIVE && !name.startsWith(EXTRACT_PREFIX),
    )
    let bytes = 0
    for (const { name } of active) bytes += await this.#usage(name)
    const ages = active.map(({ createdAt }) => Number(createdAt?.seconds ?? 0n) * 1000)
    return { bytes, count: active.length, oldestAt: ages.length > 0 ? Math.min(...ages) : null }
  }

  async #snapshots() {
    const replies = await this.#client.collect(snapshots.SnapshotsService.list, {
      snapshotter: SNAPSHOTTER,
      filters: [],
    })
    return replies.flatMap(({ info }) => info)
  }

  async #sizeOf(id: string): Promise<number> {
    const known = this.#sizes.get(id)
    if (known !== undefined) return known
    const bytes = await this.#usage(id)
    if (this.#sizes.size >= SIZES_MAX) this.#sizes.clear()
    this.#sizes.set(id, bytes)
    return bytes
  }

  async #usage(key: string): Promise<number> {
    const request = { snapshotter: SNAPSHOTTER, key }
    const call = this.#client.call(snapshots.SnapshotsService.usage, request, {
      timeoutMs: USAGE_MS,
    })
    return Number((await orAbsent(call))?.size ?? 0n)
  }

  /** Empty where it can't be read any more. */
  async #chainOf(digest: string): Promise<readonly string[]> {
    const known = this.#chains.get(digest)
    if (known !== undefined) return known
    const manifest = await orAbsent(this.#content.read(digest))
    if (!manifest) return []
    const { config } = JSON.parse(manifest.toString('utf8')) as { config?: Descriptor }
    const text = config && (await orAbsent(this.#content.read(config.digest)))
    if (!text) return []
    const chain = chainIds(JSON.parse(text.toString('utf8')) as ImageConfig)
    if (this.#chains.size >= SIZES_MAX) this.#chains.clear()
    this.#chains.set(digest, chain)
    return chain
  }
}
