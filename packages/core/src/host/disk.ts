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

/** By the scarcer of bytes and inodes. It gets better only when there is clearly more room than it took to get worse. */
export function diskState(space: DiskSpace, before: DiskState = 'ok'): DiskState {
  const below = (limit: { readonly share: number; readonly bytes: number }, was: boolean) => {
    const share = limit.share * (was ? 1.25 : 1)
    const bytes = limit.bytes * (was ? 1.25 : 1)
    return (
      space.freeBytes < Math.min(bytes, space.bytes * share) ||
      (space.inodes > 0 && space.freeInodes < space.inodes * share)
    )
  }
  if (below(FULL, before === 'full')) return 'full'
  return below(LOW, before !== 'ok') ? 'low' : 'ok'
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
export function worstDisk(
  spaces: readonly (DiskSpace & { readonly state?: DiskState })[],
): HostDisk | null {
  const order: readonly DiskState[] = ['full', 'low', 'ok']
  const [worst] = spaces
    .map(({ path, bytes, freeBytes, ...rest }) => ({
      path,
      bytes,
      freeBytes,
      state: rest.state ?? diskState({ path, bytes, freeBytes, ...rest }),
    }))
    .sort(
      (a, b) =>
        order.indexOf(a.state) - order.indexOf(b.state) ||
        a.freeBytes / Math.max(1, a.bytes) - b.freeBytes / Math.max(1, b.bytes),
    )
  return worst ?? null
}

/** `/var/lib/roost has 0.2 of 40.0 GB left`. */
export function describeDisk(disk: Pick<HostDisk, 'path' | 'bytes' | 'freeBytes'>): string {
  return `${disk.path} has ${inUnit(disk.freeBytes, disk.bytes)} of ${formatBytes(disk.bytes)} left`
}

/** `1.2 GB`, `340 MB`, `12 kB`. */
export function formatBytes(bytes: number): string {
  const { unit, name } = unitOf(bytes)
  return `${inUnit(bytes, bytes)} ${unit === 1 ? 'bytes' : name}`
}

const UNITS = [
  { unit: 1e12, name: 'TB' },
  { unit: 1e9, name: 'GB' },
  { unit: 1e6, name: 'MB' },
  { unit: 1e3, name: 'kB' },
] as const

function unitOf(bytes: number): { readonly unit: number; readonly name: string } {
  return UNITS.find(({ unit }) => bytes >= unit) ?? { unit: 1, name: 'bytes' }
}

/** The number alone, in the unit of `scale`. */
function inUnit(bytes: number, scale: number): string {
  const value = bytes / unitOf(scale).unit
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1)
}
