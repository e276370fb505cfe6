import type { RecordValues } from '@roost/api'
import {
  backoffMs,
  type Clock,
  follow,
  type Logger,
  type RecordCache,
  startLoop,
} from '@roost/base'
import type { HostDisk, MachineId, MachineStatus } from '@roost/core'
import type { ControlPlane } from '../control-plane.ts'
import { within } from './within.ts'

/** The agent's side of its talk with the server: hears records, tells statuses, says that it lives. */
export interface ControlPlaneLink {
  /** To be told until the server has acknowledged it or a later one of the same machine. */
  report(status: MachineStatus): void
  stop(): Promise<void>
}

export interface FollowControlPlaneOptions {
  readonly controlPlane: ControlPlane
  readonly cache: RecordCache<RecordValues>
  readonly clock: Clock
  readonly log: Logger
  /**
   * The cache has something new, or something from before at the start. Not called while nothing was ever heard, so that
   * nobody takes an empty cache for an empty world.
   */
  readonly onRecords: () => void
  /** All statuses as they are now: told again after each loss of the connection, whatever was acknowledged. */
  readonly statuses: () => readonly MachineStatus[]
  /** The server has heard a later status of it, with that sequence: what is told from now on must go beyond. */
  readonly onAhead?: (id: MachineId, sequence: number) => void
  /** The host's fullest file system; absent or null: not known. */
  readonly disk?: () => HostDisk | null
}

const BEAT_PERIOD_MS = 2_000
const REPORT_PERIOD_MS = 60_000
const CALL_MS_MAX = 5_000
const STATUSES_PER_REPORT_MAX = 500

export function followControlPlane(options: FollowControlPlaneOptions): ControlPlaneLink {
  const { controlPlane, cache, clock, log } = options
  const stopping = new AbortController()
  /** The latest of each machine: bounded by the machines of this host. */
  const unacknowledged = new Map<MachineId, MachineStatus>()
  let failures = 0

  /** With a limit of its own, since a call into a partition may hang. */
  const call = <T>(doing: string, work: (signal: AbortSignal) => Promise<T>) =>
    within({ clock, ms: CALL_MS_MAX, signal: stopping.signal }, doing, work)

  const reporting = startLoop({
    name: 'report statuses',
    periodMs: REPORT_PERIOD_MS,
    clock,
    log,
    lap: async (signal) => {
      while (unacknowledged.size > 0 && !signal.aborted) {
        const batch = [...unacknowledged.values()].slice(0, STATUSES_PER_REPORT_MAX)
        try {
          const heard = await call('report statuses', (signal) =>
            controlPlane.report(batch, signal),
          )
          failures = 0
          for (const { id, sequence } of batch)
            if (unacknowledged.get(id)?.sequence === sequence) unacknowledged.delete(id)
          for (const { id, sequence } of batch) {
            const last = heard?.ahead?.[id] ?? 0
            if (last > sequence) options.onAhead?.(id, last)
          }
        } catch (error) {
          if (failures === 0) log.warn('not heard by the server', { error })
          await clock.sleep(backoffMs(failures++, 200, 5000), signal)
        }
      }
    },
  })

  let silent = false
  const beating = startLoop({
    name: 'heartbeat',
    periodMs: BEAT_PERIOD_MS,
    clock,
    log,
    lap: async () => {
      try {
        const disk = options.disk?.() ?? null
        const beat = { applied: cache.revision(), draining: [], disk }
        await call('heartbeat', (signal) => controlPlane.heartbeat(beat, signal))
        silent = false
      } catch (error) {
        if (!silent) log.warn('not heard by the server', { error })
        silent = true
      }
    },
  })

  const tell = (statuses: readonly MachineStatus[]) => {
    for (const status of statuses) unacknowledged.set(status.id, status)
    if (statuses.length > 0) reporting.wake()
  }
  if (cache.revision() > 0) options.onRecords()
  const following = follow({
    connect: (since, signal) => controlPlane.watch(since, signal),
    cache,
    onChange: options.onRecords,
    onConnection: (connected) => {
      if (!connected) return
      tell(options.statuses())
      beating.wake()
    },
    clock,
    log,
    signal: stopping.signal,
  })

  return {
    report: (status) => tell([status]),
    async stop() {
      stopping.abort()
      await Promise.all([following, reporting.stop(), beating.stop()])
    },
  }
}
