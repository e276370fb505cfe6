import type { AgentUsage } from '@roost/api'
import { type Clock, type Logger, type Loop, startLoop } from '@roost/base'
import {
  bytesToFree,
  type CacheFact,
  cacheBytesMax,
  cacheToRemove,
  formatBytes,
  type Instant,
  imagesToRemove,
  type Removal,
  type StoredImageFact,
} from '@roost/core'
import type { DiskWatch } from './disk-watch.ts'
import { type Reserve, withReserve } from './reserve.ts'

/** Images as the collector needs them; by containerd. */
export interface CollectedImages {
  list(isWanted: (name: string) => boolean): Promise<readonly StoredImageFact[]>
  imagesOfContainers(): Promise<ReadonlySet<string>>
  touch(names: readonly string[], now: Instant): Promise<void>
  remove(name: string): Promise<void>
  abortDownloads(now: Instant, idleMs: number): Promise<number>
}

/** What builds keep; by buildah. */
export interface CollectedCache {
  /** Runs `work` while no build does; those that come wait. False: builds run, and nothing was done. */
  whileIdle(work: () => Promise<void>): Promise<boolean>
  entries(): Promise<readonly CacheFact[]>
  /** In this order. Returns those that are gone. */
  remove(names: readonly string[]): Promise<readonly string[]>
}

export interface Collector {
  /** A lap soon. */
  wake(): void
  /** A lap now, or the one that runs: returns when it is over. */
  collect(): Promise<void>
  last(): AgentUsage['last_collection']
  stop(): Promise<void>
}

const PERIOD_MS = 60_000
const PAUSE_MS = 5_000
/** Not much at a time: other deeds wait for the same disk and for containerd's lock. */
const IMAGES_PER_LAP = 10
const CACHE_PER_LAP = 50
const DOWNLOAD_IDLE_MS = 3_600_000
const TOUCH_PERIOD_MS = 3_600_000
const WHY_MAX = 20

/**
 * Keeps a host's disks from filling up with what nobody uses. What goes is decided in core; each thing is looked at once
 * more just before it goes.
 */
export function startCollector(options: {
  readonly disks: DiskWatch
  readonly reserves: readonly Reserve[]
  readonly images: CollectedImages
  readonly cache: CollectedCache | null
  /** An image that a machine here is to run. Asked again before each removal. */
  readonly isWanted: (name: string) => boolean
  /** False until the agent knows what is wanted here: until then nothing goes. */
  readonly mayCollect: () => boolean
  /** What failed deeds left of machines that nobody knows. */
  readonly sweep: () => Promise<void>
  readonly clock: Clock
  readonly log: Logger
  readonly periodMs?: number
}): Collector {
  const { disks, reserves, images, cache, isWanted, mayCollect, clock, log } = options
  let last: AgentUsage['last_collection'] = null
  let running: Promise<void> | null = null
  let endedAt = Number.NEGATIVE_INFINITY

  async function lap(): Promise<void> {
    await disks.look()
    if (mayCollect()) await removeUnused()
    for (const reserve of reserves)
      await reserve.refill().catch((error: unknown) => log.warn('hold room back', { error }))
  }

  async function removeUnused(): Promise<void> {
    const freed: (Removal & { readonly what: string })[] = []
    const step = async (what: string, work: () => Promise<readonly Removal[]>) => {
      try {
        for (const removal of await work()) freed.push({ ...removal, what })
      } catch (error) {
        log.warn(`collect ${what}`, { error })
      }
    }
    await step('left over', async () => {
      await options.sweep()
      return []
    })
    await step('download', collectDownloads)
    await step('image', collectImages)
    await step('build cache', collectCache)
    if (freed.length > 0) note(freed)
    await disks.look()
  }

  async function collectDownloads(): Promise<readonly Removal[]> {
    const bytes = await images.abortDownloads(clock.now(), DOWNLOAD_IDLE_MS)
    if (bytes === 0) return []
    return [{ name: 'broken off', bytes, why: 'nobody went on with it for an hour' }]
  }

  async function collectImages(): Promise<readonly Removal[]> {
    const now = clock.now()
    const all = await images.list(isWanted)
    const stale = all.filter(
      ({ inUse, usedAt }) => inUse && Math.abs(now - usedAt) > TOUCH_PERIOD_MS,
    )
    await images.touch(
      stale.map(({ name }) => name),
      now,
    )
    const space = disks.spaceOf('images')
    const removals = imagesToRemove({
      images: all,
      now,
      bytesToFree: space === null ? 0 : bytesToFree(space),
    }).slice(0, IMAGES_PER_LAP)
    const done: Removal[] = []
    for (const removal of removals) {
      const used = await images.imagesOfContainers()
      // Between this look and the removal nobody else has a turn who could want it.
      if (used.has(removal.name) || isWanted(removal.name)) continue
      await withReserve(reserves, () => images.remove(removal.name))
      done.push(removal)
    }
    return done
  }

  async function collectCache(): Promise<readonly Removal[]> {
    if (cache === null) return []
    const done: Removal[] = []
    await cache.whileIdle(async () => {
      // Images may have made room just now.
      await disks.look()
      const space = disks.spaceOf('build-cache')
      if (space === null) return
      const removals = cacheToRemove({
        entries: await cache.entries(),
        now: clock.now(),
        bytesMax: cacheBytesMax(space.bytes),
        bytesToFree: bytesToFree(space),
      }).slice(0, CACHE_PER_LAP)
      if (removals.length === 0) return
      const gone = new Set(await cache.remove(removals.map(({ name }) => name)))
      done.push(...removals.filter(({ name }) => gone.has(name)))
    })
    return done
  }

  function note(freed: readonly (Removal & { readonly what: string })[]): void {
    const bytes = freed.reduce((sum, one) => sum + one.bytes, 0)
    const why = [...freed]
      .sort((a, b) => b.bytes - a.bytes)
      .slice(0, WHY_MAX)
      .map(({ what, name, bytes, why }) => `${what} ${name}: ${formatBytes(bytes)}, ${why}`)
    last = {
      at: new Date(clock.now()).toISOString(),
      freed_bytes: bytes,
      removed: freed.length,
      why,
    }
    log.info('collected', { freed: formatBytes(bytes), removed: freed.length, why })
  }

  /** One at a time. */
  function collect(): Promise<void> {
    running ??= lap().finally(() => {
      running = null
      endedAt = clock.now()
    })
    return running
  }

  const loop: Loop = startLoop({
    name: 'collect',
    periodMs: options.periodMs ?? PERIOD_MS,
    clock,
    log,
    lap: async (signal) => {
      // Whoever has no room wakes us, again and again.
      const pause = endedAt + PAUSE_MS - clock.now()
      if (pause > 0 && pause <= PAUSE_MS) await clock.sleep(pause, signal)
      if (!signal.aborted) await collect()
    },
  })
  return {
    wake: () => loop.wake(),
    collect,
    last: () => last,
    stop: () => loop.stop(),
  }
}
