import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** An image in the files of containers/storage, which buildah keeps images in. */
export interface StoredImage {
  readonly id: string
  /** The uppermost. */
  readonly layer?: string
  readonly created?: string
}

export interface StoredLayer {
  readonly id: string
  readonly parent?: string
  readonly created?: string
  readonly 'diff-size'?: number
  readonly 'diff-digest'?: string
  /** Of what a registry sent; of a layer that was made here, the same as `diff-digest`. */
  readonly 'compressed-diff-digest'?: string
}

/** None where the file can't be read. */
export function storedImages(storageDir: string): readonly StoredImage[] {
  return readList(join(storageDir, 'overlay-images', 'images.json'))
}

/** By their ids. */
export function storedLayers(storageDir: string): ReadonlyMap<string, StoredLayer> {
  const layers = readList<StoredLayer>(join(storageDir, 'overlay-layers', 'layers.json'))
  return new Map(layers.map((layer) => [layer.id, layer]))
}

/** From the uppermost layer of an image down to the lowest. */
export function* layersBelow(
  top: string | undefined,
  layers: ReadonlyMap<string, StoredLayer>,
): Generator<StoredLayer> {
  let at = top === undefined ? undefined : layers.get(top)
  for (let n = 0; at !== undefined && n < LAYERS_MAX; n++) {
    yield at
    at = at.parent === undefined ? undefined : layers.get(at.parent)
  }
}

const LAYERS_MAX = 1000

function readList<T>(file: string): readonly T[] {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T[]
  } catch {
    return []
  }
}
