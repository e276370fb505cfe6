/** A file system as `statfs` tells it. `freeBytes`: what is left for ordinary users. No inodes counted: both are 0. */
export interface DiskSpace {
  /** Where it is mounted. */
  readonly path: string
  readonly bytes: number
  readonly freeBytes: number
  readonly inodes: number
  readonly freeInodes: number
}

/**
 * `low`: what can go is collected, and new machines are placed elsewhere where there is an elsewhere. `full`: nothing new is
 * placed, pulled or built here; what runs runs on.
 */
export type DiskState = 'ok' | 'low' | 'full'

/** Of a host's fullest file system, as its agent last said. */
export interface HostDisk {
  readonly state: DiskState
  readonly path: string
  readonly bytes: number
  readonly freeBytes: number
}

const GB = 1_000_000_000
/** Free shares below which a disk is low or full; on large disks the bytes decide: nobody needs 10 % of 20 TB free. */
const LOW = { share: 0.1, bytes: 10 * GB }
const FULL = { share: 0.02, bytes: 1 * GB }

/** By the scarcer of bytes and inodes. */
export function diskState(space: DiskSpace): DiskState {
  const below = (limit: { readonly share: number; readonly bytes: number }) =>
    space.freeBytes < Math.min(limit.bytes, space.bytes * limit.share) ||
    (space.inodes > 0 && space.freeInodes < space.inodes * limit.share)
  return below(FULL) ? 'full' : below(LOW) ? 'low' : 'ok'
}

/** Bytes that have to be freed until a disk is no longer `low`, with something to spare; 0 when it is not. */
export function bytesToFree(space: DiskSpace): number {
  if (diskState(space) === 'ok') return 0
  const wanted = Math.min(LOW.bytes, space.bytes * LOW.share) * 1.5
  // Where inodes are scarce, bytes don't tell how much must go.
  const short = Math.ceil(wanted - space.freeBytes)
  return short > 0 ? short : Number.POSITIVE_INFINITY
}

/** The one that a host's placement is decided by; null of none. */
export function worstDisk(spaces: readonly DiskSpace[]): HostDisk | null {
  const order: readonly DiskState[] = ['full', 'low', 'ok']
  const [worst] = spaces
    .map(({ path, bytes, freeBytes, ...inodes }) => ({
      path,
      bytes,
      freeBytes,
      state: diskState({ path, bytes, freeBytes, ...inodes }),
    }))
    .sort(
      (a, b) =>
        order.indexOf(a.state) - order.indexOf(b.state) ||
        a.freeBytes / Math.max(1, a.bytes) - b.freeBytes / Math.max(1, b.bytes),
    )
  return worst ?? null
}
