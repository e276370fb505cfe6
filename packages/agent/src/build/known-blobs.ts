import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from '@roost/base'
import { layersBelow, storedImages, storedLayers } from './image-storage.ts'

const PULLED = 'pulled.json'
const COPY_MS = 10_000

/**
 * What buildah knows, for a push of `image`, of which blobs lie where: with it a layer is neither packed nor sent again. Of the
 * places that it knows it tries the five of last, and from a place of another app this one may take nothing. So every app has a
 * folder of its own with what it pushed, on top of what builds pulled: made anew when the image rests on something that was
 * pulled since.
 */
export async function knownBlobs(options: {
  readonly storageDir: string
  /** What buildah knows from pulls: by nothing but these. */
  readonly pulledDir: string
  readonly appDir: string
  /** Id. */
  readonly image: string
}): Promise<string> {
  const { pulledDir, appDir } = options
  const pulled = pulledLayers(options.storageDir, options.image)
  const known = new Set(readPulled(appDir))
  if (existsSync(appDir) && pulled.every((digest) => known.has(digest))) return appDir
  const next = `${appDir}.${options.image}`
  await rm(next, { recursive: true, force: true })
  await mkdir(next, { recursive: true, mode: 0o700 })
  for (const name of await readdir(pulledDir)) {
    const file = join(pulledDir, name)
    // buildah holds the same lock while it writes.
    const locked = ['flock', '--shared', '--timeout', '5', file] as const
    await runCommand([...locked, 'cp', file, join(next, name)], { timeoutMs: COPY_MS })
  }
  await writeFile(join(next, PULLED), JSON.stringify(pulled))
  await rm(appDir, { recursive: true, force: true })
  await rename(next, appDir)
  return appDir
}

/** Digests of what a registry sent. */
function pulledLayers(storageDir: string, id: string): readonly string[] {
  const top = storedImages(storageDir).find((image) => image.id === id)?.layer
  return [...layersBelow(top, storedLayers(storageDir))].flatMap((layer) => {
    const sent = layer['compressed-diff-digest']
    return sent === undefined || sent === layer['diff-digest'] ? [] : [sent]
  })
}

function readPulled(appDir: string): readonly string[] {
  try {
    return JSON.parse(readFileSync(join(appDir, PULLED), 'utf8')) as string[]
  } catch {
    return []
  }
}
