import { LRUCache } from 'lru-cache'

/** Names of the files of a folder; null: nobody could tell. What is in a folder never changes, so it is asked once. */
export interface FolderNames {
  /** `key`: of folder and whom to ask. */
  find(key: string, ask: () => Promise<Iterable<string>>): Promise<ReadonlySet<string> | null>
}

const BYTES_MAX = 32 * 1_048_576
/** Of a name in a set. */
const NAME_BYTES = 100
/** One that could not be had is not asked for in each request. */
const AGAIN_MS = 1000

export function createFolderNames(): FolderNames {
  const known = new LRUCache<string, ReadonlySet<string>>({ maxSize: BYTES_MAX })
  const asked = new Map<string, Promise<ReadonlySet<string> | null>>()
  const silent = new LRUCache<string, true>({ max: 1000, ttl: AGAIN_MS })

  async function get(
    key: string,
    ask: () => Promise<Iterable<string>>,
  ): Promise<ReadonlySet<string> | null> {
    try {
      const names = new Set(await ask())
      let size = NAME_BYTES
      for (const name of names) size += NAME_BYTES + 2 * name.length
      known.set(key, names, { size })
      return names
    } catch {
      silent.set(key, true)
      return null
    } finally {
      asked.delete(key)
    }
  }

  return {
    async find(key, ask) {
      const names = known.get(key)
      if (names !== undefined) return names
      if (silent.has(key)) return null
      const made = asked.get(key) ?? get(key, ask)
      asked.set(key, made)
      return made
    },
  }
}
