import { createHash } from 'node:crypto'
import { PlatformError } from '@roost/base'
import { isNoSpace } from '../disk/no-space.ts'
import { type ContainerdClient, isAlreadyExists, orAbsent } from './client.ts'
import { type Blob, ContentStore } from './content.ts'
import { diff, images, leases, snapshots } from './generated/index.js'
import type { ImageRun } from './spec.ts'

export const SNAPSHOTTER = 'overlayfs'
const UNPACK_TIMEOUT_MS = 600_000
const LEASE_MS = 7_200_000
/** Older ones are not begun anything with: a pull must end before its lease does. */
const LEASE_REUSE_MS = 3_600_000
const CACHE_MAX = 500
const FREE_MS = 60_000
/** Names of what only a pull makes: at start, all of it is left over from one that was cut off. */
export const PULL_LEASE = 'roost-pull'
export const EXTRACT_PREFIX = 'roost-extract-'

export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

/** An image that is unpacked and ready to run. */
export interface StoredImage {
  /** Of the platform's manifest. */
  readonly digest: string
  /** Name of the snapshot that machines start from; '' for an image without layers. */
  readonly chainId: string
  readonly run: ImageRun
}

export interface ImageConfig {
  readonly architecture?: string
  readonly os?: string
  readonly config?: {
    readonly Entrypoint?: readonly string[] | null
    readonly Cmd?: readonly string[] | null
    readonly Env?: readonly string[] | null
    readonly WorkingDir?: string
    readonly User?: string
  }
  readonly rootfs?: { readonly diff_ids?: readonly string[] }
}

/** Images by name, and how they become snapshots. Compressed layers are not kept: their snapshots are. */
export class ImageStore {
  readonly content: ContentStore
  readonly #client: ContainerdClient
  readonly #cache = new Map<string, StoredImage>()
  #pulls = 0
  #lease: { readonly id: string; readonly at: number; made: Promise<unknown> | null } | null = null
  #unpacking: Promise<unknown> = Promise.resolve()

  constructor(client: ContainerdClient) {
    this.#client = client
    this.content = new ContentStore(client)
  }

  /** Undefined unless all that is needed to run it is there. */
  async find(name: string): Promise<StoredImage | undefined> {
    const found = await orAbsent(this.#client.call(images.ImagesService.get, { name }))
    const target = found?.image?.target
    if (!target) return undefined
    const image = this.#cache.get(target.digest) ?? (await this.#read(target.digest))
    if (!image || !(await this.hasSnapshot(image.chainId))) return undefined
    if (this.#cache.size >= CACHE_MAX) this.#cache.clear()
    this.#cache.set(target.digest, image)
    return image
  }

  /** By which machines name the images that are here. */
  async digests(): Promise<readonly string[]> {
    const kept = await this.#client.call(images.ImagesService.list, { filters: [] })
    return kept.images.map(({ name }) => name.replace(/^.*@/, ''))
  }

  /** The image configuration as its builder wrote it, byte for byte. */
  async configOf(name: string): Promise<Uint8Array> {
    const found = await orAbsent(this.#client.call(images.ImagesService.get, { name }))
    const digest = found?.image?.target?.digest
    const manifest = digest === undefined ? undefined : await orAbsent(this.content.read(digest))
    if (manifest) {
      const { config } = JSON.parse(manifest.toString('utf8')) as { config: Descriptor }
      const text = await orAbsent(this.content.read(config.digest))
      if (text) return text
    }
    throw new PlatformError('image_not_found', `read the configuration of image ${name}`, {
      cause: new Error('it is not here yet'),
      retry: 'later',
    })
  }

  async #read(digest: string): Promise<StoredImage | undefined> {
    const manifest = await orAbsent(this.content.read(digest))
    if (!manifest) return undefined
    const { config } = JSON.parse(manifest.toString('utf8')) as { config: Descriptor }
    const text = await orAbsent(this.content.read(config.digest))
    if (!text) return undefined
    const parsed = JSON.parse(text.toString('utf8')) as ImageConfig
    return { digest, chainId: chainIds(parsed).at(-1) ?? '', run: imageRun(parsed) }
  }

  /**
   * Everything that `work` writes with the lease is safe from the garbage collector until it ends and `keep` names it. All
   * that go on at the same time share one. After a failure it stays for the next attempt, which goes on with what is there;
   * but not what a full disk ended: that gives its room back at once.
   */
  async withLease<T>(work: (lease: string) => Promise<T>): Promise<T> {
    this.#pulls++
    let end: 'end' | 'keep' | 'free' = 'keep'
    try {
      const result = await work(await this.#ensureLease())
      end = 'end'
      return result
    } catch (error) {
      if (isNoSpace(error)) end = 'free'
      throw error
    } finally {
      this.#pulls--
      if (this.#pulls === 0 && end !== 'keep') await this.#endLease(end === 'free')
    }
  }

  async #ensureLease(): Promise<string> {
    if (this.#lease && this.#pulls === 1 && Date.now() - this.#lease.at > LEASE_REUSE_MS)
      await this.#endLease()
    this.#lease ??= { id: `${PULL_LEASE}-${crypto.randomUUID()}`, at: Date.now(), made: null }
    const lease = this.#lease
    lease.made ??= this.#client.call(leases.LeasesService.create, {
      id: lease.id,
      labels: { 'containerd.io/gc.expire': new Date(lease.at + LEASE_MS).toISOString() },
    })
    try {
      await lease.made
    } catch (error) {
      if (this.#lease === lease) this.#lease = null
      throw error
    }
    return lease.id
  }

  /** `free`: returns when what only the lease kept is gone. */
  async #endLease(free = false): Promise<void> {
    const id = this.#lease?.id
    this.#lease = null
    if (id === undefined) return
    // One that stays for lack of an answer ends by its own time.
    await this.#client
      .call(leases.LeasesService.delete, { id, sync: free }, { timeoutMs: FREE_MS })
      .catch(() => {})
  }

  async hasSnapshot(name: string): Promise<boolean> {
    if (name === '') return true
    const call = this.#client.call(snapshots.SnapshotsService.stat, {
      snapshotter: SNAPSHOTTER,
      key: name,
    })
    return (await orAbsent(call)) !== undefined
  }

  /** Whether it is there, and then safe with the lease: whoever made it may be gone, and the garbage collector on its way. */
  async holdSnapshot(name: string, lease: string): Promise<boolean> {
    if (!(await this.hasSnapshot(name))) return false
    const resource = { id: name, type: `snapshots/${SNAPSHOTTER}` }
    await this.#client.call(leases.LeasesService.addResource, { id: lease, resource })
    return this.hasSnapshot(name)
  }

  /**
   * Makes the snapshots of `layers` above `parent`, one at a time for the whole host: it is disk and processor that
   * bound it. Each layer's content must hash to what the config says.
   */
  async unpack(
    layers: readonly { layer: Descriptor; diffId: string; chainId: string; parent: string }[],
    lease: string,
    signal: AbortSignal,
  ): Promise<void> {
    const before = this.#unpacking
    const mine = (async () => {
      await before.catch(() => {})
      for (const step of layers) {
        signal.throwIfAborted()
        if (!(await this.hasSnapshot(step.chainId))) await this.#unpackLayer(step, lease, signal)
      }
    })()
    this.#unpacking = mine
    await mine
  }

  async #unpackLayer(
    step: { layer: Descriptor; diffId: string; chainId: string; parent: string },
    lease: string,
    signal: AbortSignal,
  ): Promise<void> {
    const key = `${EXTRACT_PREFIX}${crypto.randomUUID()}`
    const prepared = await this.#client.call(
      snapshots.SnapshotsService.prepare,
      { snapshotter: SNAPSHOTTER, key, parent: step.parent, labels: {} },
      { lease },
    )
    try {
      const applied = await this.#client.call(
        diff.DiffService.apply,
        diff.ApplyRequest.fromPartial({
          diff: {
            mediaType: step.layer.mediaType,
            digest: step.layer.digest,
            size: BigInt(step.layer.size),
          },
          mounts: prepared.mounts,
        }),
        { lease, timeoutMs: UNPACK_TIMEOUT_MS, signal },
      )
      if (applied.applied?.digest !== step.diffId)
        throw new PlatformError('image_unusable', `layer ${step.layer.digest}`, {
          cause: new Error(`holds ${applied.applied?.digest}, its config says ${step.diffId}`),
        })
      await this.#client.call(
        snapshots.SnapshotsService.commit,
        { snapshotter: SNAPSHOTTER, name: step.chainId, key, labels: {} },
        { lease },
      )
    } catch (error) {
      await orAbsent(
        this.#client.call(snapshots.SnapshotsService.remove, { snapshotter: SNAPSHOTTER, key }),
      ).catch(() => {})
      if (!isAlreadyExists(error)) throw error
    }
  }

  /** The name keeps manifest, config and snapshots from the garbage collector. */
  async keep(name: string, manifest: Descriptor): Promise<void> {
    const image = images.Image.fromPartial({
      name,
      target: {
        mediaType: manifest.mediaType,
        digest: manifest.digest,
        size: BigInt(manifest.size),
      },
    })
    try {
      await this.#client.call(images.ImagesService.create, { image })
    } catch (error) {
      if (!isAlreadyExists(error)) throw error
      await this.#client.call(images.ImagesService.update, { image, updateMask: undefined })
    }
  }
}

/** Labels by which the garbage collector goes from a manifest to its config, and from there to the snapshots. */
export function manifestBlob(manifest: Descriptor, config: Descriptor): Blob {
  return { ...manifest, labels: { 'containerd.io/gc.ref.content.config': config.digest } }
}

export function configBlob(config: Descriptor, chainId: string): Blob {
  const labels: Record<string, string> =
    chainId === '' ? {} : { [`containerd.io/gc.ref.snapshot.${SNAPSHOTTER}`]: chainId }
  return { ...config, labels }
}

/** Snapshot names by the image specification: each is the hash of the one below and its own layer. */
export function chainIds(config: ImageConfig): string[] {
  const chain: string[] = []
  for (const diffId of config.rootfs?.diff_ids ?? []) {
    const below = chain.at(-1)
    chain.push(
      below === undefined
        ? diffId
        : `sha256:${createHash('sha256').update(`${below} ${diffId}`).digest('hex')}`,
    )
  }
  return chain
}

function imageRun({ config }: ImageConfig): ImageRun {
  return {
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    env: config?.Env ?? [],
    workingDir: config?.WorkingDir ?? '',
    user: config?.User ?? '',
  }
}
