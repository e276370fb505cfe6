/** A queue between several writers and one reader: a writer waits while it is full, the reader while it is empty. */
export interface LineQueue<T> {
  /** Resolves when there was room. False once the queue was closed: nothing is taken any more. */
  push(item: T): Promise<boolean>
  /** The next item; null when the queue was closed and is empty. */
  pull(): Promise<T | null>
  close(): void
}

export function createLineQueue<T>(lengthMax: number): LineQueue<T> {
  const items: T[] = []
  let closed = false
  let wakeReader: (() => void) | null = null
  let waiting: (() => void)[] = []

  const wakeAll = () => {
    wakeReader?.()
    wakeReader = null
    const writers = waiting
    waiting = []
    for (const wake of writers) wake()
  }
  return {
    async push(item) {
      while (!closed && items.length >= lengthMax)
        await new Promise<void>((resolve) => waiting.push(resolve))
      if (closed) return false
      items.push(item)
      wakeReader?.()
      wakeReader = null
      return true
    },
    async pull() {
      while (items.length === 0 && !closed)
        await new Promise<void>((resolve) => {
          wakeReader = resolve
        })
      const item = items.shift()
      waiting.shift()?.()
      return item ?? null
    },
    close() {
      closed = true
      wakeAll()
    },
  }
}
