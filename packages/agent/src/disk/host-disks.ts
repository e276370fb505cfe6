import { join } from 'node:path'
import type { AgentConfig, AgentUsage, StoredKind } from '@roost/api'
import { type Clock, type Logger, PlatformError, startLoop } from '@roost/base'
import { type HostDisk, worstDisk } from '@roost/core'
import type { ImageRoom } from '../containerd/image-room.ts'
import { staticsDirOf } from '../containerd/static-folders.ts'
import type { PullRoom } from '../image/puller.ts'
import { type CollectedCache, type Collector, startCollector } from './collector.ts'
import { createDiskWatch, type DiskWatch } from './disk-watch.ts'
import { createReserve, type Reserve } from './reserve.ts'
import { createRoomGuard } from './room-guard.ts'
import { createUsage } from './usage.ts'

/** The agent's view of its disks: how full they are, what is held back, what is collected and what takes room. */
export interface HostDisks {
  readonly disks: DiskWatch
  readonly reserves: readonly Reserve[]
  /** Guards what puts large things where this kind is kept. */
  room(kind: StoredKind): PullRoom
  /** Somebody had no room. */
  onFull(): void
  /** That decides whether machines are placed here; null before the first look. */
  worst(): HostDisk | null
  /** A lap of the collector now. */
  collect(): Promise<void>
  /** Throws `unavailable` until the agent has reached what it measures. */
  usage(): Promise<AgentUsage>
  startCollecting(parts: {
    readonly images: ImageRoom
    readonly cache: CollectedCache | null
    readonly isWanted: (name: string) => boolean
    readonly mayCollect: () => boolean
    readonly sweep: () => Promise<void>
  }): void
  stop(): Promise<void>
}

const LOOK_PERIOD_MS = 5_000
const COLLECT_MS_MAX = 15_000

export async function openHostDisks(options: {
  readonly config: Pick<
    AgentConfig,
    'hostId' | 'dataDir' | 'staticsDir' | 'runDir' | 'containerd' | 'builder' | 'logs'
  >
  readonly warnings?: () => readonly string[]
  readonly clock: Clock
  readonly log: Logger
}): Promise<HostDisks> {
  const { config, clock, log } = options
  const root = config.containerd.root ?? config.dataDir
  const disks = createDiskWatch({
    places: [
      { kind: 'images', path: root },
      { kind: 'snapshots', path: root },
      { kind: 'statics', path: staticsDirOf(config) },
      { kind: 'agent-database', path: config.dataDir },
      { kind: 'machine-files', path: join(config.runDir, 'machines') },
      { kind: 'logs', path: config.logs.dir },
      { kind: 'logs', path: join(config.dataDir, 'logs') },
      ...(config.builder === null
        ? []
        : [{ kind: 'build-cache' as const, path: config.builder.dataDir }]),
    ],
    now: () => clock.now(),
    log,
  })
  const first = await disks.look()
  const reserves = first
    .filter(({ holds }) => holds.includes('images') || holds.includes('agent-database'))
    .map(({ folder }) => createReserve(folder, log))
  let collector: Collector | null = null
  let usage: (() => Promise<AgentUsage>) | null = null

  const looking = startLoop({
    name: 'look at disks',
    periodMs: LOOK_PERIOD_MS,
    clock,
    log,
    lap: async () => {
      const before = new Map(disks.known().map(({ path, state }) => [path, state]))
      const now = await disks.look()
      if (now.some(({ path, state }) => state !== 'ok' && state !== before.get(path)))
        collector?.wake()
    },
  })

  return {
    disks,
    reserves,
    room: (kind) =>
      createRoomGuard({
        disks,
        kind,
        clock,
        collect: async () => {
          const late = new AbortController()
          await Promise.race([collector?.collect(), clock.sleep(COLLECT_MS_MAX, late.signal)])
          late.abort()
        },
      }),
    onFull: () => collector?.wake(),
    worst: () =>
      worstDisk(
        disks
          .known()
          .filter(({ holds }) => holds.some((kind) => kind !== 'logs' && kind !== 'build-cache')),
      ),
    async collect() {
      await collector?.collect()
    },
    async usage() {
      if (usage === null)
        throw new PlatformError('unavailable', 'the agent has not reached containerd yet', {
          retry: 'later',
        })
      return usage()
    },
    startCollecting({ images, cache, ...rest }) {
      collector = startCollector({ disks, reserves, images, cache, ...rest, clock, log })
      usage = createUsage({
        hostId: config.hostId,
        disks,
        images,
        cache,
        isWanted: rest.isWanted,
        collector,
        warnings: options.warnings ?? (() => []),
        clock,
        log,
      })
    },
    async stop() {
      await Promise.all([looking.stop(), collector?.stop()])
    },
  }
}
