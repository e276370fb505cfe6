import type { Instant } from '../id.ts'

/** An image that a host has unpacked. */
export interface StoredImageFact {
  readonly name: string
  /** Of one app: `registry.internal/shop`. */
  readonly repository: string
  /** Snapshots it is made of. Several images may share some. */
  readonly layers: readonly { readonly id: string; readonly bytes: number }[]
  /** When a machine here was last seen that has it, or when it was pulled. */
  readonly usedAt: Instant
  /** A container has it, a machine is wanted that needs it, or something is being made of it at this moment. */
  readonly inUse: boolean
}

export interface Removal {
  readonly name: string
  /** That it frees: what others share stays. */
  readonly bytes: number
  /** For a person: `unused for 31 days`. */
  readonly why: string
}

/** Unused images of one app that stay for a return to an earlier release, while there is room. */
export const SPARE_IMAGES = 3
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
/** A release pulls before its machines are seen; the decision may be older than the assignment. */
const YOUNG_MS = 2 * MINUTE
const SURPLUS_MS = HOUR
const SPARE_MS = 30 * DAY

/**
 * Which images go, in this order: those beyond the last few of their app and those that nobody used for long; then, while
 * `bytesToFree` is not reached, the unused ones from the oldest on. What is in use never goes.
 */
export function imagesToRemove(facts: {
  readonly images: readonly StoredImageFact[]
  readonly now: Instant
  /** 0: there is room. */
  readonly bytesToFree: number
}): readonly Removal[] {
  const { images, now, bytesToFree } = facts
  const users = new Map<string, number>()
  for (const { layers } of images)
    for (const { id } of layers) users.set(id, (users.get(id) ?? 0) + 1)
  const age = (image: StoredImageFact) => now - image.usedAt
  // One from the future was pulled before a clock was set back: its age is not known, so it protects nothing.
  const unused = images
    .filter((image) => !image.inUse && !(age(image) >= 0 && age(image) < YOUNG_MS))
    .sort((a, b) => a.usedAt - b.usedAt || (a.name < b.name ? -1 : 1))
  const removed = new Set<string>()
  const removals: Removal[] = []
  const remove = (image: StoredImageFact, why: string) => {
    let bytes = 0
    for (const layer of image.layers) {
      const left = (users.get(layer.id) ?? 1) - 1
      users.set(layer.id, left)
      if (left === 0) bytes += layer.bytes
    }
    removed.add(image.name)
    removals.push({ name: image.name, bytes, why })
  }

  for (const image of unused) {
    if (age(image) > SPARE_MS) remove(image, `unused for ${Math.floor(age(image) / DAY)} days`)
    else if (age(image) > SURPLUS_MS && newerUnused(image, unused) >= SPARE_IMAGES)
      remove(image, `not one of the last ${SPARE_IMAGES} unused images of its app`)
  }
  let freed = removals.reduce((sum, { bytes }) => sum + bytes, 0)
  for (const image of unused) {
    if (freed >= bytesToFree) break
    if (removed.has(image.name)) continue
    remove(image, 'unused, and the disk is nearly full')
    freed += removals.at(-1)?.bytes ?? 0
  }
  return removals
}

function newerUnused(image: StoredImageFact, oldestFirst: readonly StoredImageFact[]): number {
  return oldestFirst
    .slice(oldestFirst.indexOf(image) + 1)
    .filter(({ repository }) => repository === image.repository).length
}

/** What would go if the disk were low now: bytes that nothing in use needs. */
export function freeableImages(images: readonly StoredImageFact[]): {
  readonly bytes: number
  readonly count: number
} {
  const needed = new Set(
    images.filter(({ inUse }) => inUse).flatMap(({ layers }) => layers.map(({ id }) => id)),
  )
  const free = new Map(
    images
      .filter(({ inUse }) => !inUse)
      .flatMap(({ layers }) => layers)
      .filter(({ id }) => !needed.has(id))
      .map(({ id, bytes }) => [id, bytes]),
  )
  return {
    bytes: [...free.values()].reduce((sum, bytes) => sum + bytes, 0),
    count: images.filter(({ inUse }) => !inUse).length,
  }
}
