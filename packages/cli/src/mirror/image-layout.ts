import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { PlatformError } from '@roost/base'

/**
 * One image as an OCI layout on disk. Blobs are named by their checksum, so that a cache that was cut off or changed is
 * noticed before any of it is pushed.
 */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

export interface ImageLayout {
  readonly dir: string
  readonly manifest: Descriptor
  /** Configuration first, then layers from the bottom. */
  readonly blobs: readonly Descriptor[]
}

export interface Layer extends Descriptor {
  /** Checksum of the layer before compression. */
  readonly diffId: string
}

export interface ImageSettings {
  readonly env: readonly string[]
  readonly cmd: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly createdBy: string
}

export const MEDIA = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const

/** Compresses a TAR stream into the layout and says what it became. */
export async function addLayer(dir: string, tar: Readable): Promise<Layer> {
  const blobs = join(dir, 'blobs', 'sha256')
  await mkdir(blobs, { recursive: true })
  const part = join(blobs, `.part-${process.pid}-${Math.trunc(performance.now() * 1000)}`)
  const plain = createHash('sha256')
  const packed = createHash('sha256')
  await pipeline(
    tar,
    async function* (source: AsyncIterable<Buffer>) {
      for await (const chunk of source) {
        plain.update(chunk)
        yield chunk
      }
    },
    createGzip({ level: 6 }),
    async function* (source: AsyncIterable<Buffer>) {
      for await (const chunk of source) {
        packed.update(chunk)
        yield chunk
      }
    },
    createWriteStream(part),
  )
  const hex = packed.digest('hex')
  const { size } = await stat(part)
  await rename(part, join(blobs, hex))
  return {
    mediaType: MEDIA.layer,
    digest: `sha256:${hex}`,
    size,
    diffId: `sha256:${plain.digest('hex')}`,
  }
}

/** Writes configuration, manifest and index for layers that are already in the layout. */
export async function finishImage(
  dir: string,
  layers: readonly Layer[],
  settings: ImageSettings,
): Promise<void> {
  const created = new Date().toISOString()
  const config = await addBlob(
    dir,
    MEDIA.config,
    JSON.stringify({
      created,
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {
        Env: settings.env,
        Cmd: settings.cmd,
        ...(settings.entrypoint === undefined ? {} : { Entrypoint: settings.entrypoint }),
      },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: layers.map(() => ({ created, created_by: settings.createdBy })),
    }),
  )
  const manifest = await addBlob(
    dir,
    MEDIA.manifest,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config,
      layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
    }),
  )
  await finishLayout(dir, manifest)
}

/** Index and marker of an OCI layout whose one image has this manifest. */
export async function finishLayout(dir: string, manifest: Descriptor): Promise<void> {
  await writeFile(join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  await writeFile(
    join(dir, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [manifest] }),
  )
}

export async function addBlob(
  dir: string,
  mediaType: string,
  content: string | Buffer,
): Promise<Descriptor> {
  const bytes = Buffer.from(content)
  const hex = createHash('sha256').update(bytes).digest('hex')
  await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true })
  await writeFile(join(dir, 'blobs', 'sha256', hex), bytes)
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length }
}

export function blobPath(dir: string, digest: string): string {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1]
  if (hex === undefined) throw new PlatformError('image_unusable', `digest ${digest}`)
  return join(dir, 'blobs', 'sha256', hex)
}

/** Reads a layout and checks every blob; null when there is none or it is damaged. */
export async function readImage(dir: string): Promise<ImageLayout | null> {
  try {
    const index = JSON.parse(await readFile(join(dir, 'index.json'), 'utf8')) as {
      manifests: Descriptor[]
    }
    const manifest = index.manifests[0]
    if (manifest === undefined) return null
    const document = JSON.parse(await readFile(blobPath(dir, manifest.digest), 'utf8')) as {
      config: Descriptor
      layers: Descriptor[]
    }
    const blobs = [document.config, ...document.layers]
    for (const { digest } of [manifest, ...blobs])
      if ((await hashFile(blobPath(dir, digest))) !== digest) return null
    return { dir, manifest, blobs }
  } catch {
    return null
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
  return `sha256:${hash.digest('hex')}`
}

/** Makes a layout in a folder beside its final place and moves it there whole, or not at all. */
export async function buildLayout(
  dir: string,
  build: (draft: string) => Promise<void>,
): Promise<ImageLayout> {
  const draft = `${dir}.draft-${process.pid}`
  await rm(draft, { recursive: true, force: true })
  await mkdir(draft, { recursive: true })
  try {
    await build(draft)
    await rm(dir, { recursive: true, force: true })
    await rename(draft, dir).catch((error: NodeJS.ErrnoException) => {
      // Somebody else made the same in the meantime: theirs serves as well.
      if (error.code !== 'ENOTEMPTY') throw error
    })
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
  const image = await readImage(dir)
  if (image === null) throw new PlatformError('internal', `read ${dir} back after building it`)
  return image
}
