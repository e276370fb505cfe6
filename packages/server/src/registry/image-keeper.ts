import { statfsSync } from 'node:fs'
import {
  type Clock,
  describeError,
  type Logger,
  type Loop,
  PlatformError,
  startLoop,
} from '@roost/base'
import {
  type Collection,
  type Digest,
  type DiskSpace,
  diskState,
  planCollection,
  type StoredImages,
} from '@roost/core'
import type { ImageFiles } from './image-files.ts'
import type { ImagesNeeded } from './images-needed.ts'
import type { PushActivity } from './push-activity.ts'

/** Keeps the image store from growing without end, beside a registry that goes on serving. */
export interface ImageKeeper {
  /** What lies there, and what of it a collection would remove now. */
  survey(): Promise<ImageSurvey>
  /** One at a time; who asks meanwhile gets the result of the one at work. Throws `unavailable` when the files can't be read. */
  collect(thorough: boolean): Promise<CollectionDone>
  space(): DiskSpace
  /** A build has failed while it pushed: what it left is no use to anybody. */
  pushFailed(repository: string): Promise<void>
  lastCollection(): CollectionDone | null
}

export interface ImageSurvey {
  readonly stored: StoredImages
  readonly needed: ReadonlySet<string>
  readonly space: DiskSpace
  /** What a thorough collection would remove. */
  readonly collection: Collection
}

export interface CollectionDone {
  readonly at: number
  readonly collection: Collection
  readonly freedBytes: number
  /** Linked to again while they were set aside. */
  readonly putBack: number
}

export interface ImageKeeperOptions {
  readonly files: ImageFiles
  /** Where they lie, for how much room there is. */
  readonly dir: string
  /** See `imagesNeeded`. */
  readonly needed: () => Promise<ImagesNeeded>
  readonly activity: PushActivity
  readonly clock: Clock
  readonly log: Logger
  /** How long a blob stays set aside before it is gone. */
  readonly asideMs?: number
}

interface Removed {
  readonly dropped: ReadonlySet<Digest>
  readonly putBack: number
}
const NONE_REMOVED: Removed = { dropped: new Set(), putBack: 0 }

/** Distribution looks whether a blob is there and links to it right after: a thousandth of this, if nothing hangs. */
const ASIDE_MS = 10_000
const LOOK_MS = 60_000
const PERIOD_MS = 6 * 3_600_000
/** When room is short, and a collection has just been of no use. */
const SHORT_PERIOD_MS = 15 * 60_000

export function createImageKeeper(options: ImageKeeperOptions): ImageKeeper {
  const { files, activity, clock, log } = options
  let running: Promise<CollectionDone> | null = null
  let last: CollectionDone | null = null

  async function survey(thorough: boolean): Promise<ImageSurvey> {
    const stored = await readAll(files)
    // After the files: what was pushed and released meanwhile is not in `stored`, or it is needed.
    const { needed, apps } = await options.needed()
    const names = stored.repositories.map(({ name }) => name)
    const collection = planCollection({
      now: clock.now(),
      stored,
      needed,
      apps,
      busy: activity.busy(names),
      thorough,
    })
    return { stored, needed, space: spaceOf(options.dir), collection }
  }

  async function collect(thorough: boolean): Promise<CollectionDone> {
    await finishLastTime()
    const isQuiet = activity.quietFromNow()
    const { collection } = await survey(thorough)
    const { manifests, layers, uploads, repositories, blobs } = collection
    // Nothing is awaited between a look and the deed that depends on it, so a push or a release that begins then begins after
    // it. One that came since the survey may need what the survey found of no use.
    const unlessUsed = (repository: string, deed: () => void) => {
      if (isQuiet(repository)) deed()
    }
    for (const { repository, id } of uploads) files.removeUpload(repository, id)
    for (const repository of repositories)
      unlessUsed(repository, () => files.removeRepository(repository))
    await files.dropRepositories()
    for (const { repository, digest, tags } of manifests)
      unlessUsed(repository, () => files.removeManifest(repository, digest, tags))
    for (const { repository, digest } of layers)
      unlessUsed(repository, () => files.removeLayer(repository, digest))
    const { dropped, putBack } = await removeBlobs(blobs.map(({ digest }) => digest))
    await files.removeEmptyFolders(activity.isIdle)
    const freed = [...uploads, ...blobs.filter(({ digest }) => dropped.has(digest))]
    const done = {
      at: clock.now(),
      collection,
      freedBytes: freed.reduce((sum, { bytes }) => sum + bytes, 0),
      putBack,
    }
    last = done
    const removed = manifests.length + uploads.length + repositories.length + blobs.length
    if (removed > 0)
      log.info('collected images', {
        bytes: done.freedBytes,
        manifests: manifests.length,
        uploads: uploads.length,
        repositories,
        blobs: blobs.length,
        putBack,
      })
    return done
  }

  async function removeBlobs(digests: readonly Digest[]): Promise<Removed> {
    const linked = await files.linked()
    const going = digests.filter((digest) => !linked.has(digest))
    if (going.length === 0) return NONE_REMOVED
    for (const digest of going) files.setAside(digest)
    await clock.sleep(options.asideMs ?? ASIDE_MS)
    return finishLastTime()
  }

  /** Of what is set aside, also by a process that was killed: what somebody has linked to meanwhile stays. */
  async function finishLastTime(): Promise<Removed> {
    await files.dropRepositories()
    const aside = await files.listAside()
    if (aside.length === 0) return NONE_REMOVED
    const linked = await files.linked()
    const dropped = new Set<Digest>()
    let putBack = 0
    for (const digest of aside)
      if (linked.has(digest)) {
        files.putBack(digest)
        putBack++
      } else {
        await files.dropAside(digest)
        dropped.add(digest)
      }
    return { dropped, putBack }
  }

  return {
    survey: () => survey(true),
    collect: (thorough) => {
      running ??= collect(thorough).finally(() => {
        running = null
      })
      return running
    },
    space: () => spaceOf(options.dir),
    pushFailed: async (repository) => {
      if (activity.isBusy(repository)) return
      const stored = await readAll(files)
      const found = stored.repositories.find(({ name }) => name === repository)
      for (const { id } of found?.uploads ?? [])
        if (!activity.isBusy(repository)) files.removeUpload(repository, id)
    },
    lastCollection: () => last,
  }
}

/** A server that has just started does not know who may be pushing. */
const FIRST_MS = 10 * 60_000

/** By age every six hours, and thoroughly as soon as room is short. */
export function startImageLap(
  keeper: ImageKeeper,
  deps: { readonly clock: Clock; readonly log: Logger },
): Loop {
  const { clock, log } = deps
  const startedAt = clock.now()
  return startLoop({
    name: 'images',
    periodMs: LOOK_MS,
    clock,
    log,
    lap: async () => {
      if (clock.now() - startedAt < FIRST_MS) return
      const short = diskState(keeper.space()) !== 'ok'
      const lastAt = keeper.lastCollection()?.at ?? Number.NEGATIVE_INFINITY
      if (clock.now() - lastAt < (short ? SHORT_PERIOD_MS : PERIOD_MS)) return
      await keeper.collect(short)
    },
  })
}

async function readAll(files: ImageFiles): Promise<StoredImages> {
  try {
    return await files.read()
  } catch (cause) {
    throw new PlatformError(
      'unavailable',
      `look through the image store: ${describeError(cause)}`,
      {
        cause,
        retry: 'later',
      },
    )
  }
}

export function spaceOf(path: string): DiskSpace {
  const { bsize, blocks, bavail, files, ffree } = statfsSync(path)
  return {
    path,
    bytes: blocks * bsize,
    freeBytes: bavail * bsize,
    inodes: files,
    freeInodes: ffree,
  }
}
