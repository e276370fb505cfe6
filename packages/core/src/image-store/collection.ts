import type { Instant } from '../id.ts'

/** `sha256:…`. */
export type Digest = string

/** A manifest, or an index of manifests, as the image store has it. */
export interface StoredManifest {
  readonly digest: Digest
  readonly pushedAt: Instant
  readonly tags: readonly string[]
  /** What it consists of: configuration and layers, or the manifests of an index. null: it can't be read. */
  readonly references: readonly Digest[] | null
}

export interface StoredRepository {
  /** `shop`; mirrored ones are called `docker.io/library/debian`. */
  readonly name: string
  readonly manifests: readonly StoredManifest[]
  /** Blobs that can be pulled from it, whatever refers to them. */
  readonly layers: readonly { readonly digest: Digest; readonly linkedAt: Instant }[]
  /** Uploads that were begun and neither finished nor cancelled. */
  readonly uploads: readonly {
    readonly id: string
    readonly bytes: number
    readonly writtenAt: Instant
  }[]
}

/** Everything that lies in the image store. */
export interface StoredImages {
  readonly repositories: readonly StoredRepository[]
  readonly blobs: ReadonlyMap<Digest, number>
}

export interface CollectionFacts {
  readonly now: Instant
  readonly stored: StoredImages
  /** `shop@sha256:…`: what machines run and releases may return to. */
  readonly needed: ReadonlySet<string>
  readonly apps: ReadonlySet<string>
  /** Repositories that somebody may be pushing to, or has just asked for: nothing of them goes. */
  readonly busy: ReadonlySet<string>
  /** Room is short, or a person asked: what could be of use some day goes too. */
  readonly thorough: boolean
}

/** What goes, in the order in which it must. Everything that it does not name stays. */
export interface Collection {
  readonly uploads: readonly {
    readonly repository: string
    readonly id: string
    readonly bytes: number
  }[]
  /** Whole repositories, of apps that are gone. */
  readonly repositories: readonly string[]
  readonly manifests: readonly {
    readonly repository: string
    readonly digest: Digest
    readonly tags: readonly string[]
    readonly why: string
  }[]
  /** Links by which a blob can be pulled from a repository none of whose manifests needs it any more. */
  readonly layers: readonly { readonly repository: string; readonly digest: Digest }[]
  /** Nothing will link to them when all of the above is gone. */
  readonly blobs: readonly { readonly digest: Digest; readonly bytes: number }[]
  /** Repositories that were left alone because they are busy, or hold what can't be read. */
  readonly passedOver: readonly { readonly repository: string; readonly why: string }[]
}

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
/** Whatever was pushed later may be about to be released. */
const FRESH_MS = HOUR_MS
/** A layer that was just uploaded, whose manifest is still to come. */
const LAYER_FRESH_MS = HOUR_MS
/** Nobody pauses for so long between two pieces of a layer. */
const UPLOAD_IDLE_MS = 10 * MINUTE_MS
/** Even where somebody may still hold a token. */
const UPLOAD_ABANDONED_MS = DAY_MS
/** Of images that no release has: how many of an app stay, and for how long. */
const SPARE_IMAGES = 5
const SPARE_MS = 7 * DAY_MS
/** Of mirrored images whose tag has moved on. */
const UNTAGGED_MIRROR_MS = 30 * DAY_MS

/**
 * What of the image store may go. Kept are: what is needed; every tagged image of the mirror; what is fresh or in a busy
 * repository; and a few images that were never released.
 */
export function planCollection(facts: CollectionFacts): Collection {
  const { stored, busy } = facts
  const passedOver: { repository: string; why: string }[] = []
  const repositories: string[] = []
  const manifests: Collection['manifests'][number][] = []
  const layers: Collection['layers'][number][] = []
  const linked = new Set<Digest>()

  for (const repository of stored.repositories) {
    const { name } = repository
    if (busy.has(name)) passedOver.push({ repository: name, why: 'somebody may be pushing to it' })
    else if (repository.manifests.some((manifest) => manifest.references === null))
      passedOver.push({ repository: name, why: 'one of its manifests can not be read' })
    if (passedOver.at(-1)?.repository === name) {
      for (const digest of linksOf(repository)) linked.add(digest)
      continue
    }
    if (isAbandoned(facts, repository)) {
      repositories.push(name)
      continue
    }
    const going = unneeded(facts, repository)
    manifests.push(...going)
    const gone = new Set(going.map(({ digest }) => digest))
    const left = repository.manifests.filter(({ digest }) => !gone.has(digest))
    const wanted = new Set(left.flatMap(({ references }) => references ?? []))
    for (const { digest } of left) linked.add(digest)
    for (const { digest, linkedAt } of repository.layers) {
      if (
        wanted.has(digest) ||
        facts.now - linkedAt < (facts.thorough ? UPLOAD_IDLE_MS : LAYER_FRESH_MS)
      )
        linked.add(digest)
      else layers.push({ repository: name, digest })
    }
  }
  return {
    uploads: staleUploads(facts),
    repositories,
    manifests,
    layers,
    blobs: [...stored.blobs].flatMap(([digest, bytes]) =>
      linked.has(digest) ? [] : [{ digest, bytes }],
    ),
    passedOver,
  }
}

/** How much of the store would be free after it, uploads included. */
export function bytesOf(collection: Collection): number {
  const all = [...collection.uploads, ...collection.blobs]
  return all.reduce((sum, { bytes }) => sum + bytes, 0)
}

function linksOf(repository: StoredRepository): Digest[] {
  return [...repository.manifests, ...repository.layers].map(({ digest }) => digest)
}

function isMirror(name: string): boolean {
  return name.includes('/')
}

/** Of an app that is gone. */
function isAbandoned(
  { now, apps, needed }: CollectionFacts,
  repository: StoredRepository,
): boolean {
  const { name, manifests, layers, uploads } = repository
  if (isMirror(name) || apps.has(name)) return false
  if (manifests.some(({ digest }) => needed.has(`${name}@${digest}`))) return false
  const touched = [
    ...manifests.map(({ pushedAt }) => pushedAt),
    ...layers.map(({ linkedAt }) => linkedAt),
    ...uploads.map(({ writtenAt }) => writtenAt),
  ]
  return touched.every((at) => now - at >= FRESH_MS)
}

function unneeded(
  facts: CollectionFacts,
  repository: StoredRepository,
): Collection['manifests'][number][] {
  const { now, thorough } = facts
  const { name, manifests } = repository
  const kept = new Set(
    manifests
      .filter(({ digest }) => facts.needed.has(`${name}@${digest}`))
      .map(({ digest }) => digest),
  )
  const spare = manifests
    .filter(({ digest }) => !kept.has(digest))
    .sort((a, b) => b.pushedAt - a.pushedAt)
  const reasons = new Map<Digest, string>()
  for (const [rank, { digest, pushedAt, tags }] of spare.entries()) {
    const why = isMirror(name)
      ? whyNotMirrored(now - pushedAt, tags, thorough)
      : whyNotSpare(now - pushedAt, rank, thorough)
    if (why === null) kept.add(digest)
    else reasons.set(digest, why)
  }
  // What an index that stays lists stays too.
  const byDigest = new Map(manifests.map((manifest) => [manifest.digest, manifest]))
  for (const digest of kept)
    for (const child of byDigest.get(digest)?.references ?? [])
      if (byDigest.has(child)) kept.add(child)
  return spare.flatMap(({ digest, tags }) => {
    const why = reasons.get(digest)
    return why === undefined || kept.has(digest) ? [] : [{ repository: name, digest, tags, why }]
  })
}

/** null: it stays. */
function whyNotSpare(ageMs: number, rank: number, thorough: boolean): string | null {
  if (ageMs < FRESH_MS) return null
  if (thorough) return 'no release that may be returned to has it'
  if (ageMs >= SPARE_MS) return `no release has it, and it is older than ${SPARE_MS / DAY_MS} days`
  if (rank >= SPARE_IMAGES) return `no release has it, and ${SPARE_IMAGES} newer ones are kept`
  return null
}

function whyNotMirrored(ageMs: number, tags: readonly string[], thorough: boolean): string | null {
  if (tags.length > 0) return null
  const limitMs = thorough ? DAY_MS : UNTAGGED_MIRROR_MS
  return ageMs < limitMs ? null : 'its tag names a newer image'
}

function staleUploads({ now, stored, busy }: CollectionFacts): Collection['uploads'] {
  return stored.repositories.flatMap(({ name, uploads }) => {
    const limitMs = busy.has(name) ? UPLOAD_ABANDONED_MS : UPLOAD_IDLE_MS
    return uploads
      .filter(({ writtenAt }) => now - writtenAt >= limitMs)
      .map(({ id, bytes }) => ({ repository: name, id, bytes }))
  })
}
