/** At most so many at once; the others wait in the order in which they came. */
export interface Slots {
  use<T>(work: () => Promise<T>): Promise<T>
}

export function createSlots(max: number): Slots {
  const waiting: (() => void)[] = []
  let free = max
  return {
    async use(work) {
      if (free > 0) free--
      else await new Promise<void>((resolve) => waiting.push(resolve))
      try {
        return await work()
      } finally {
        const next = waiting.shift()
        if (next) next()
        else free++
      }
    },
  }
}
