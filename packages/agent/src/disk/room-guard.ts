import type { StoredKind } from '@roost/api'
import type { Clock } from '@roost/base'
import type { PullRoom } from '../image/puller.ts'
import type { DiskWatch } from './disk-watch.ts'

const PERIOD_MS = 500

/**
 * Watches a disk while something large is put on it, and ends that before the last of it is taken: what runs on the host must
 * not suffer from what comes.
 */
export function createRoomGuard(options: {
  readonly disks: DiskWatch
  readonly kind: StoredKind
  readonly clock: Clock
  /** Tries to make room; called at most once for each that would not fit. */
  readonly collect: () => Promise<void>
}): PullRoom {
  const { disks, kind, clock, collect } = options
  return {
    explain: (doing, error) => disks.explain(doing, error),
    async refusal(doing) {
      try {
        await disks.admit(doing, kind, 0)
        return null
      } catch (error) {
        return error as Error
      }
    },
    async watch(doing: string, bytes: number) {
      try {
        await disks.admit(doing, kind, bytes)
      } catch {
        await collect()
        await disks.admit(doing, kind, bytes)
      }
      const full = new AbortController()
      const ended = new AbortController()
      const watching = async () => {
        while (!ended.signal.aborted) {
          await clock.sleep(PERIOD_MS, ended.signal)
          if (ended.signal.aborted) return
          try {
            await disks.admit(doing, kind, 0)
          } catch (error) {
            full.abort(error)
            return
          }
        }
      }
      void watching()
      return { signal: full.signal, end: () => ended.abort() }
    },
  }
}
