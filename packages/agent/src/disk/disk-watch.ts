import { stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { StoredKind } from '@roost/api'
import { describeError, type Logger, PlatformError } from '@roost/base'
import { type DiskSpace, type DiskState, describeDisk, diskState, worstDisk } from '@roost/core'
import { isNoSpace } from './no-space.ts'

/** What is kept where. The folder must exist. */
export interface DiskPlace {
  readonly kind: StoredKind
  readonly path: string
}

export interface WatchedSpace extends DiskSpace {
  readonly state: DiskState
  readonly holds: readonly StoredKind[]
  /** First of the folders that were asked for on it. */
  readonly folder: string
}

/** The file systems of a host, as they were when last looked at. */
export interface DiskWatch {
  readonly places: readonly DiskPlace[]
  look(): Promise<readonly WatchedSpace[]>
  /** Of the last look; empty before the first. */
  known(): readonly WatchedSpace[]
  /** Of the last look, where something of this kind is kept. */
  spaceOf(kind: StoredKind): WatchedSpace | null
  /**
   * `error` as `disk_full` that names the file system, where it says that there was no room; else as it was. `retry` is
   * `later`: room comes again.
   */
  explain(doing: string, error: unknown): Promise<unknown>
  /** Throws `disk_full` when less than `bytes` are left beside the last few per cent where this kind is kept. */
  admit(doing: string, kind: StoredKind, bytes: number): Promise<void>
  /** The last refusals, newest first. */
  refusals(): readonly { readonly at: number; readonly what: string; readonly path: string }[]
}

const REFUSALS_MAX = 20

export function createDiskWatch(options: {
  readonly places: readonly DiskPlace[]
  readonly now: () => number
  readonly log: Logger
}): DiskWatch {
  const { places, now, log } = options
  let known: readonly WatchedSpace[] = []
  const refusals: { at: number; what: string; path: string }[] = []

  async function look(): Promise<readonly WatchedSpace[]> {
    const before = known
    const byDevice = new Map<number, { holds: StoredKind[]; path: string; folder: string }>()
    for (const { kind, path } of places) {
      const device = await stat(path).then(
        ({ dev }) => dev,
        () => null,
      )
      if (device === null) continue
      const entry = byDevice.get(device)
      if (entry === undefined)
        byDevice.set(device, { holds: [kind], path: await mountPoint(path, device), folder: path })
      else if (!entry.holds.includes(kind)) entry.holds.push(kind)
    }
    known = await Promise.all(
      [...byDevice.values()].map(async ({ holds, path, folder }) => {
        const { bsize, blocks, bavail, files, ffree } = await statfs(folder)
        const space = {
          path,
          bytes: blocks * bsize,
          freeBytes: bavail * bsize,
          inodes: files,
          freeInodes: ffree,
        }
        const was = before.find((one) => one.path === path)?.state
        const state = diskState(space, was)
        if (state !== (was ?? 'ok'))
          log.warn(`disk is ${state}`, { disk: describeDisk(space), holds })
        return { ...space, state, holds, folder }
      }),
    )
    return known
  }

  function refuse(doing: string, space: DiskSpace, cause: unknown): PlatformError {
    refusals.unshift({ at: now(), what: doing, path: space.path })
    refusals.length = Math.min(refusals.length, REFUSALS_MAX)
    const inodes =
      space.inodes > 0 && space.freeInodes < space.inodes * 0.02
        ? `, and ${space.freeInodes} of ${space.inodes} inodes`
        : ''
    return new PlatformError(
      'disk_full',
      `${doing}: the disk is full: ${describeDisk(space)}${inodes}; it is tried again when there is room; what takes it: roost doctor`,
      { cause, retry: 'later' },
    )
  }

  return {
    places,
    look,
    known: () => known,
    spaceOf: (kind) => known.find(({ holds }) => holds.includes(kind)) ?? null,
    async explain(doing, error) {
      if (!isNoSpace(error)) return error
      // It says so already, unless it only knows that much.
      if (error instanceof PlatformError && error.code === 'disk_full' && error.cause === undefined)
        return error
      const spaces = await look().catch(() => known)
      const worst = worstDisk(spaces)
      if (worst === null) return error
      log.warn('no room', { doing, error: describeError(error) })
      const space = spaces.find(({ path }) => path === worst.path)
      return space === undefined ? error : refuse(doing, space, undefined)
    },
    async admit(doing, kind, bytes) {
      await look()
      const space = known.find(({ holds }) => holds.includes(kind))
      if (space === undefined) return
      const after = { ...space, freeBytes: space.freeBytes - bytes }
      if (diskState(after) !== 'full') return
      throw refuse(doing, space, undefined)
    },
    refusals: () => refusals,
  }
}

async function mountPoint(path: string, device: number): Promise<string> {
  let at = path
  for (;;) {
    const up = dirname(at)
    if (up === at || (await stat(up)).dev !== device) return at
    at = up
  }
}
