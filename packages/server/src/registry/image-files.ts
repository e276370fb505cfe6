import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest, StoredImages, StoredManifest, StoredRepository } from '@roost/core'

/**
 * The files of the image store, by distribution's layout (its documented storage format, version 2):
 *
 *     docker/registry/v2/blobs/sha256/ab/<hex>/data
 *     docker/registry/v2/repositories/<name>/_manifests/revisions/sha256/<hex>/link
 *                                           /_manifests/tags/<tag>/current/link
 *                                           /_layers/sha256/<hex>/link
 *                                           /_uploads/<id>/data
 *
 * Distribution reads and writes a blob only through a link of a repository. So a link may go at any time that nobody pushes to
 * its repository, and a blob as soon as no repository links to it. It keeps nothing of this in memory, as long as its
 * configuration has no cache of blob descriptors.
 */
export interface ImageFiles {
  read(): Promise<StoredImages>
  /** Done when it returns, as the next three: nothing else happens in this program meanwhile. */
  removeManifest(repository: string, digest: Digest, tags: readonly string[]): void
  removeLayer(repository: string, digest: Digest): void
  removeUpload(repository: string, id: string): void
  removeRepository(repository: string): void
  /** What was left of repositories that were removed. */
  dropRepositories(): Promise<void>
  /** Out of the store, but not gone: one that is linked to in this very moment can be put back. */
  setAside(digest: Digest): void
  /** What is set aside, also by a process that was killed. */
  listAside(): Promise<readonly Digest[]>
  putBack(digest: Digest): void
  dropAside(digest: Digest): Promise<void>
  /** Of blobs that are gone. Asks before each, and ends at the first no. */
  removeEmptyFolders(nobodyPushes: () => boolean): Promise<void>
  /** Of all repositories, as of now. */
  linked(): Promise<ReadonlySet<Digest>>
}

const ALGORITHM = 'sha256'
const INDEXES = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
])
const MANIFESTS = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
])
const MANIFEST_BYTES_MAX = 4_000_000
const DEPTH_MAX = 8

export function openImageFiles(rootDir: string): ImageFiles {
  const base = join(rootDir, 'docker', 'registry', 'v2')
  const blobsDir = join(base, 'blobs', ALGORITHM)
  const asideDir = join(rootDir, 'set-aside')
  const blobDir = (digest: Digest) => join(blobsDir, hexOf(digest).slice(0, 2), hexOf(digest))
  const repositoryDir = (name: string) => join(base, 'repositories', name)
  const tagsDir = (name: string) => join(repositoryDir(name), '_manifests', 'tags')
  // Made while there is room.
  mkdirSync(asideDir, { recursive: true, mode: 0o700 })

  async function repositoryNames(folder = join(base, 'repositories'), at = ''): Promise<string[]> {
    const names = await namesIn(folder)
    const own = names.some((name) => name.startsWith('_')) && at !== '' ? [at] : []
    if (at.split('/').length > DEPTH_MAX) return own
    const deeper = await Promise.all(
      names
        .filter((name) => !name.startsWith('_'))
        .map((name) => repositoryNames(join(folder, name), at === '' ? name : `${at}/${name}`)),
    )
    return [...own, ...deeper.flat()]
  }

  async function readRepository(name: string): Promise<StoredRepository> {
    const dir = repositoryDir(name)
    const tagged = new Map<Digest, string[]>()
    for (const tag of await namesIn(tagsDir(name))) {
      const digest = await readLink(join(tagsDir(name), tag, 'current', 'link'))
      if (digest !== null) tagged.set(digest, [...(tagged.get(digest) ?? []), tag])
    }
    const manifests: StoredManifest[] = []
    for (const { digest, at } of await linksIn(join(dir, '_manifests', 'revisions', ALGORITHM)))
      manifests.push({
        digest,
        pushedAt: at,
        tags: tagged.get(digest) ?? [],
        references: await referencesOf(join(blobDir(digest), 'data')),
      })
    const layers = await linksIn(join(dir, '_layers', ALGORITHM))
    const uploads = await Promise.all(
      (await namesIn(join(dir, '_uploads'))).map(async (id) => {
        const folder = await statIfThere(join(dir, '_uploads', id))
        const data = await statIfThere(join(dir, '_uploads', id, 'data'))
        return {
          id,
          bytes: (data?.blocks ?? 0) * 512,
          writtenAt: Math.max(folder?.mtimeMs ?? 0, data?.mtimeMs ?? 0),
        }
      }),
    )
    return {
      name,
      manifests,
      layers: layers.map(({ digest, at }) => ({ digest, linkedAt: at })),
      uploads,
    }
  }

  async function readBlobs(): Promise<Map<Digest, number>> {
    const blobs = new Map<Digest, number>()
    for (const prefix of await namesIn(blobsDir))
      for (const hex of await namesIn(join(blobsDir, prefix))) {
        const data = await statIfThere(join(blobsDir, prefix, hex, 'data'))
        if (isHex(hex) && data !== null) blobs.set(`${ALGORITHM}:${hex}`, data.size)
      }
    return blobs
  }

  return {
    async read() {
      // Blobs first: one that comes later is in nobody's way, one whose link comes later would seem to have none.
      const blobs = await readBlobs()
      const repositories: StoredRepository[] = []
      for (const name of await repositoryNames()) repositories.push(await readRepository(name))
      return { repositories, blobs }
    },
    removeManifest(repository, digest, tags) {
      // A tag without its manifest can't be pulled; a manifest without its tag can.
      for (const tag of tags)
        rmSync(join(tagsDir(repository), tag), { recursive: true, force: true })
      remove(join(repositoryDir(repository), '_manifests', 'revisions', ALGORITHM, hexOf(digest)))
    },
    removeLayer: (repository, digest) =>
      remove(join(repositoryDir(repository), '_layers', ALGORITHM, hexOf(digest))),
    removeUpload: (repository, id) => remove(join(repositoryDir(repository), '_uploads', id)),
    removeRepository(repository) {
      // Only its own folders: `shop/worker` lies inside of `shop`.
      for (const part of ['_manifests', '_layers', '_uploads']) {
        const from = join(repositoryDir(repository), part)
        if (existsSync(from)) renameSync(from, join(asideDir, `repository-${randomUUID()}`))
      }
      if (readdirSync(repositoryDir(repository)).length === 0) rmdirSync(repositoryDir(repository))
    },
    setAside(digest) {
      const aside = join(asideDir, hexOf(digest))
      const data = join(blobDir(digest), 'data')
      if (!existsSync(data) || existsSync(join(aside, 'data'))) return
      mkdirSync(aside, { recursive: true })
      // The folder stays: the end of an upload of the same bytes makes it if it has to, and then moves its file into it.
      renameSync(data, join(aside, 'data'))
    },
    async removeEmptyFolders(nobodyPushes) {
      for (const prefix of await namesIn(blobsDir))
        for (const hex of await namesIn(join(blobsDir, prefix))) {
          const folder = join(blobsDir, prefix, hex)
          if ((await namesIn(folder)).length > 0) continue
          if (!nobodyPushes()) return
          if (readdirSync(folder).length === 0) rmdirSync(folder)
        }
    },
    async dropRepositories() {
      for (const name of await namesIn(asideDir))
        if (!isHex(name)) await rm(join(asideDir, name), { recursive: true, force: true })
    },
    listAside: async () =>
      (await namesIn(asideDir)).filter(isHex).map((hex) => `${ALGORITHM}:${hex}`),
    putBack(digest) {
      const aside = join(asideDir, hexOf(digest))
      // Somebody may have pushed it anew meanwhile; an empty folder is what a push leaves that is not done yet.
      const there = existsSync(join(blobDir(digest), 'data'))
      if (there || !existsSync(join(aside, 'data'))) return remove(aside)
      mkdirSync(blobDir(digest), { recursive: true })
      renameSync(join(aside, 'data'), join(blobDir(digest), 'data'))
      remove(aside)
    },
    dropAside: (digest) => rm(join(asideDir, hexOf(digest)), { recursive: true, force: true }),
    async linked() {
      const digests = new Set<Digest>()
      for (const name of await repositoryNames())
        for (const part of [join('_manifests', 'revisions'), '_layers'])
          for (const hex of await namesIn(join(repositoryDir(name), part, ALGORITHM)))
            digests.add(`${ALGORITHM}:${hex}`)
      return digests
    },
  }
}

function remove(path: string): void {
  rmSync(path, { recursive: true, force: true })
}

/** Never anything that could lead elsewhere. */
function hexOf(digest: Digest): string {
  const hex = digest.slice(ALGORITHM.length + 1)
  if (!isHex(hex)) throw new Error(`${digest} is no digest`)
  return hex
}

function isHex(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (isAbsent(error)) return []
    throw error
  })
}

/** Anything but its absence is thrown: what can't be looked at must not be taken for something that nobody needs. */
async function statIfThere(path: string) {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (isAbsent(error)) return null
    throw error
  })
}

function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR'
}

async function linksIn(folder: string): Promise<{ digest: Digest; at: number }[]> {
  const links = await Promise.all(
    (await namesIn(folder)).filter(isHex).map(async (hex) => {
      const found = await statIfThere(join(folder, hex, 'link'))
      return found === null ? [] : [{ digest: `${ALGORITHM}:${hex}`, at: found.mtimeMs }]
    }),
  )
  return links.flat()
}

async function readLink(file: string): Promise<Digest | null> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (isAbsent(error)) return ''
    throw error
  })
  const digest = text.trim()
  return digest.startsWith(`${ALGORITHM}:`) && isHex(digest.slice(ALGORITHM.length + 1))
    ? digest
    : null
}

/** null for what is no manifest that we know: nobody may conclude from it that something is not needed. */
async function referencesOf(file: string): Promise<Digest[] | null> {
  try {
    if ((await stat(file)).size > MANIFEST_BYTES_MAX) return null
    const { mediaType, config, layers, manifests } = JSON.parse(await readFile(file, 'utf8')) as {
      mediaType?: string
      config?: { digest: string }
      layers?: { digest: string }[]
      manifests?: { digest: string }[]
    }
    // OCI leaves the media type out where the kind is clear.
    if (manifests !== undefined && (mediaType === undefined || INDEXES.has(mediaType)))
      return manifests.map(({ digest }) => digest)
    if (config === undefined || layers === undefined) return null
    if (mediaType !== undefined && !MANIFESTS.has(mediaType)) return null
    return [config, ...layers].map(({ digest }) => digest)
  } catch (error) {
    // It can't be pulled, so nothing is needed for its sake.
    return isAbsent(error) ? [] : null
  }
}
