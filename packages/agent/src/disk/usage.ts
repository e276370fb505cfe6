import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { AgentUsage, StoredKind } from '@roost/api'
import type { Clock, Logger } from '@roost/base'
import { freeableImages } from '@roost/core'
import type { ImageRoom, RoomTaken } from '../containerd/image-room.ts'
import type { CollectedCache, Collector } from './collector.ts'
import type { DiskWatch } from './disk-watch.ts'

/** Measuring walks through what machines wrote. */
const FRESH_MS = 60_000
const REFUSALS_MS = 3_600_000
const FILES_MAX = 100_000

type Kind = AgentUsage['kinds'][number]

/** What takes room on this host. */
export function createUsage(options: {
  readonly hostId: string
  readonly disks: DiskWatch
  readonly images: Pick<ImageRoom, 'list' | 'imagesTaken' | 'machinesTaken'>
  readonly cache: Pick<CollectedCache, 'entries'> | null
  readonly isWanted: (name: string) => boolean
  readonly collector: Pick<Collector, 'last'>
  readonly warnings: () => readonly string[]
  readonly clock: Clock
  readonly log: Logger
}): () => Promise<AgentUsage> {
  const { disks, images, cache, collector, clock, log } = options
  let measured: { readonly at: number; readonly kinds: Promise<readonly Kind[]> } | null = null

  async function measure(): Promise<readonly Kind[]> {
    const kinds: Kind[] = []
    for (const { kind, path } of disks.places) {
      try {
        const { taken, free } = await takenBy(kind, path)
        kinds.push({
          kind,
          path,
          file_system: disks.spaceOf(kind)?.path ?? path,
          bytes: taken.bytes,
          count: taken.count,
          oldest_at: taken.oldestAt === null ? null : new Date(taken.oldestAt).toISOString(),
          freeable_bytes: free.bytes,
          freeable_count: free.count,
        })
      } catch (error) {
        // One engine that does not answer leaves the rest to be told.
        log.warn('measure what takes room', { kind, error })
      }
    }
    return kinds
  }

  async function takenBy(
    kind: StoredKind,
    path: string,
  ): Promise<{ taken: RoomTaken; free: { bytes: number; count: number } }> {
    const nothing = { bytes: 0, count: 0 }
    switch (kind) {
      case 'images':
        return {
          taken: await images.imagesTaken(),
          free: freeableImages(await images.list(options.isWanted)),
        }
      case 'snapshots':
        return { taken: await images.machinesTaken(), free: nothing }
      case 'build-cache': {
        const entries = (await cache?.entries()) ?? []
        const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0)
        const times = entries.map(({ usedAt }) => usedAt)
        const taken = { bytes, count: entries.length, oldestAt: least(times) }
        return { taken, free: { bytes, count: entries.length } }
      }
      case 'agent-database':
        return { taken: await filesIn(path, (name) => /^[^/]*\.sqlite/.test(name)), free: nothing }
      default:
        return { taken: await filesIn(path), free: nothing }
    }
  }

  return async () => {
    await disks.look()
    const now = clock.now()
    if (measured === null || now - measured.at >= FRESH_MS || now < measured.at)
      measured = { at: now, kinds: measure() }
    const { at, kinds } = measured
    return {
      host: options.hostId,
      measured_at: new Date(at).toISOString(),
      file_systems: disks.known().map((space) => ({
        path: space.path,
        bytes: space.bytes,
        free_bytes: space.freeBytes,
        inodes: space.inodes,
        free_inodes: space.freeInodes,
        state: space.state,
        holds: [...space.holds],
      })),
      kinds: [...(await kinds)],
      last_collection: collector.last(),
      refused: disks
        .refusals()
        .filter((refusal) => now - refusal.at < REFUSALS_MS)
        .map((refusal) => ({ ...refusal, at: new Date(refusal.at).toISOString() })),
      warnings: [...options.warnings()],
    }
  }
}

/** Files below a folder of ours: few, and small ones. */
async function filesIn(
  folder: string,
  counts: (name: string) => boolean = () => true,
): Promise<RoomTaken> {
  let bytes = 0
  let count = 0
  const times: number[] = []
  const names = await readdir(folder, { recursive: true }).catch(() => [])
  for (const name of names.filter(counts).slice(0, FILES_MAX)) {
    const found = await stat(join(folder, name)).catch(() => null)
    if (found === null || !found.isFile()) continue
    bytes += found.blocks * 512
    count++
    times.push(found.mtimeMs)
  }
  return { bytes, count, oldestAt: least(times) }
}

function least(times: readonly number[]): number | null {
  return times.length === 0 ? null : Math.round(times.reduce((a, b) => Math.min(a, b)))
}
