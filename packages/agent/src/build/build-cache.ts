import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, type Logger, runCommand } from '@roost/base'
import type { CacheFact, Instant } from '@roost/core'
import { layersBelow, type StoredImage, storedImages, storedLayers } from './image-storage.ts'

/** What makes builds faster and takes room: results of steps, base images, folders of `--mount=type=cache`. */
export interface BuildCache {
  /** A line of a build's output: it may name a result that was made or used. */
  heard(line: string): void
  /** Remembers what the builds so far used. */
  noteUse(app: string): void
  entries(): Promise<readonly CacheFact[]>
  /** In this order; only while no build runs. Returns those that are gone. */
  remove(names: readonly string[]): Promise<readonly string[]>
}

interface Used {
  images: Record<string, Instant>
  apps: Record<string, Instant>
}

const FOLDER = 'folder of '
const LAYER = 'layer '
/** `--> Using cache 1a2b…`, `--> 1a2b…`. */
const RESULT = /^--> (?:Using cache )?([0-9a-f]{11,64})$/
const HEARD_MAX = 5000
const SIZE_TTL_MS = 600_000
const SIZE_MS = 60_000

export function openBuildCache(options: {
  readonly dataDir: string
  readonly storageDir: string
  readonly cachesDir: string
  /** `buildah rmi`. */
  readonly removeImages: (ids: readonly string[]) => Promise<void>
  readonly clock: Clock
  readonly log: Logger
}): BuildCache {
  const { storageDir, cachesDir, clock, log } = options
  const usedFile = join(options.dataDir, 'used.json')
  const heard = new Set<string>()
  const sizes = new Map<string, { readonly bytes: number; readonly at: number }>()

  function readUsed(): Used {
    try {
      return JSON.parse(readFileSync(usedFile, 'utf8')) as Used
    } catch {
      return { images: {}, apps: {} }
    }
  }

  function writeUsed(used: Used): void {
    try {
      writeFileSync(`${usedFile}.next`, JSON.stringify(used), { mode: 0o600 })
      renameSync(`${usedFile}.next`, usedFile)
    } catch (error) {
      log.warn('remember what builds used', { error })
    }
  }

  async function folderBytes(path: string): Promise<number> {
    const known = sizes.get(path)
    if (known !== undefined && clock.now() - known.at < SIZE_TTL_MS) return known.bytes
    const { stdout } = await runCommand(['du', '-s', '-B1', path], { timeoutMs: SIZE_MS })
    const bytes = Number(stdout.split('\t')[0]) || 0
    sizes.set(path, { bytes, at: clock.now() })
    return bytes
  }

  /** Results that share their uppermost layer are one entry: they go together or not at all. */
  function layerEntries(used: Used): CacheFact[] {
    const images = storedImages(storageDir)
    const layers = storedLayers(storageDir)
    const tops = new Map<string, StoredImage[]>()
    for (const image of images) {
      if (image.layer === undefined) continue
      tops.set(image.layer, [...(tops.get(image.layer) ?? []), image])
    }
    const usedAt = (image: StoredImage) =>
      Math.max(
        Date.parse(image.created ?? '') || 0,
        Date.parse(layers.get(image.layer ?? '')?.created ?? '') || 0,
        ...Object.entries(used.images)
          .filter(([prefix]) => image.id.startsWith(prefix))
          .map(([, at]) => at),
      )
    return [...tops].map(([top, group]) => {
      let bytes = 0
      let parent: string | null = null
      for (const layer of layersBelow(top, layers)) {
        if (layer.id !== top && tops.has(layer.id)) {
          parent = layer.id
          break
        }
        bytes += layer['diff-size'] ?? 0
      }
      return {
        name: `${LAYER}${top}`,
        bytes,
        usedAt: Math.max(...group.map(usedAt)),
        parent: parent === null ? null : `${LAYER}${parent}`,
      }
    })
  }

  async function folderEntries(used: Used): Promise<CacheFact[]> {
    if (!existsSync(cachesDir)) return []
    return Promise.all(
      readdirSync(cachesDir).map(async (app) => {
        const path = join(cachesDir, app)
        return {
          name: `${FOLDER}${app}`,
          bytes: await folderBytes(path),
          usedAt: used.apps[app] ?? statSync(path).mtimeMs,
          parent: null,
        }
      }),
    )
  }

  function imagesOf(top: string): string[] {
    return storedImages(storageDir)
      .filter(({ layer }) => layer === top)
      .map(({ id }) => id)
  }

  return {
    heard(line) {
      const id = RESULT.exec(line.trim())?.[1]
      if (id !== undefined && heard.size < HEARD_MAX) heard.add(id)
    },
    noteUse(app) {
      const now = clock.now()
      const used = readUsed()
      used.apps[app] = now
      for (const id of heard) used.images[id] = now
      heard.clear()
      writeUsed(used)
      sizes.clear()
    },
    async entries() {
      const used = readUsed()
      return [...layerEntries(used), ...(await folderEntries(used))]
    },
    async remove(names) {
      const gone: string[] = []
      for (const name of names) {
        try {
          if (name.startsWith(FOLDER)) {
            const app = name.slice(FOLDER.length)
            await rm(join(cachesDir, app), { recursive: true, force: true })
            sizes.delete(join(cachesDir, app))
            gone.push(name)
            continue
          }
          const top = name.slice(LAYER.length)
          const ids = imagesOf(top)
          if (ids.length > 0) await options.removeImages(ids)
          if (imagesOf(top).length === 0) gone.push(name)
        } catch (error) {
          log.warn('remove from the build cache', { name, error })
        }
      }
      forget(names)
      return gone
    },
  }

  function forget(names: readonly string[]): void {
    const used = readUsed()
    const ids = storedImages(storageDir).map(({ id }) => id)
    for (const prefix of Object.keys(used.images))
      if (!ids.some((id) => id.startsWith(prefix))) delete used.images[prefix]
    for (const name of names)
      if (name.startsWith(FOLDER)) delete used.apps[name.slice(FOLDER.length)]
    writeUsed(used)
  }
}
