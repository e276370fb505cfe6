import type { Instant } from '../id.ts'
import type { Removal } from './images-to-remove.ts'

/** A thing that only makes builds faster: the result of a step, a base image, a folder of `--mount=type=cache`. */
export interface CacheFact {
  readonly name: string
  readonly bytes: number
  /** By a build; or when it was made. */
  readonly usedAt: Instant
  /** What it is made on top of; that can't go before it. null: of nothing that is kept. */
  readonly parent: string | null
}

const DAY = 86_400_000
const UNUSED_MS = 14 * DAY
/** More than this of a disk is not given to caches. */
const BYTES_MAX = 20_000_000_000
const SHARE_MAX = 0.25

export function cacheBytesMax(diskBytes: number): number {
  return Math.min(BYTES_MAX, diskBytes * SHARE_MAX)
}

/**
 * What goes, in an order in which it can go: unused for long; then, from the longest unused on, what is over the bound; then
 * what is needed for `bytesToFree`. Only to be asked, and carried out, while no build runs.
 */
export function cacheToRemove(facts: {
  readonly entries: readonly CacheFact[]
  readonly now: Instant
  readonly bytesMax: number
  readonly bytesToFree: number
}): readonly Removal[] {
  const { now, bytesMax, bytesToFree } = facts
  const removals: Removal[] = []
  let kept = facts.entries.reduce((sum, { bytes }) => sum + bytes, 0)
  let freed = 0
  for (const { name, bytes, usedAt } of inOrder(facts.entries)) {
    const why =
      now - usedAt > UNUSED_MS
        ? `unused for ${Math.floor((now - usedAt) / DAY)} days`
        : kept > bytesMax
          ? 'the caches of builds are over their bound'
          : freed < bytesToFree
            ? 'the disk is nearly full'
            : null
    if (why === null) break
    removals.push({ name, bytes, why })
    kept -= bytes
    freed += bytes
  }
  return removals
}

/** Longest unused first, and nothing before what is made on top of it: that its use was a use of what is below it too. */
function inOrder(entries: readonly CacheFact[]): CacheFact[] {
  const byName = new Map(entries.map((entry) => [entry.name, entry]))
  const usedAt = new Map(entries.map((entry) => [entry.name, entry.usedAt]))
  const depth = new Map<string, number>()
  for (const entry of entries) {
    const seen = new Set<string>()
    for (let at: CacheFact | undefined = entry; at !== undefined && !seen.has(at.name); ) {
      seen.add(at.name)
      usedAt.set(at.name, Math.max(usedAt.get(at.name) ?? 0, entry.usedAt))
      at = at.parent === null ? undefined : byName.get(at.parent)
    }
    depth.set(entry.name, seen.size)
  }
  return entries
    .map((entry) => ({ ...entry, usedAt: usedAt.get(entry.name) ?? entry.usedAt }))
    .sort(
      (a, b) =>
        a.usedAt - b.usedAt ||
        (depth.get(b.name) ?? 0) - (depth.get(a.name) ?? 0) ||
        (a.name < b.name ? -1 : 1),
    )
}
