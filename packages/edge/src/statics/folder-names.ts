/** Names of the files of a folder; null: nobody could tell. What is in a folder never changes, so it is asked once. */
export interface FolderNames {
  /** `key`: of folder and whom to ask. */
  find(key: string, ask: () => Promise<Iterable<string>>): Promise<ReadonlySet<string> | null>
}

const LISTS_MAX = 100
/** One that could not be had is not asked for in each request. */
const AGAIN_MS = 1000

export function createFolderNames(): FolderNames {
  const known = new Map<string, { names: Promise<ReadonlySet<string> | null>; until: number }>()
  return {
    find(key, ask) {
      const found = known.get(key)
      if (found !== undefined && performance.now() < found.until) return found.names
      known.delete(key)
      for (const oldest of known.keys()) if (known.size >= LISTS_MAX) known.delete(oldest)
      const names = ask().then(
        (list) => new Set(list),
        () => null,
      )
      const made = { names, until: Number.POSITIVE_INFINITY }
      known.set(key, made)
      void names.then((had) => {
        if (had === null) made.until = performance.now() + AGAIN_MS
      })
      return names
    },
  }
}
