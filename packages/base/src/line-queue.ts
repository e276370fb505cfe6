/**
 * A queue between several writers and one reader, bounded in items and in what they weigh. A writer either waits while it is full
 * (`push`) or is told so (`offer`); the reader waits while it is empty.
 */
export interface LineQueue<T> {
  /** Resolves when there was room. False once the queue was closed: nothing is taken any more. */
  push(item: T): Promise<boolean>
  /** False when there is no room just now, or the queue was closed. */
  offer(item: T): boolean
  /** The next item; null when the queue was closed and is empty. */
  pull(): Promise<T | null>
  close(): void
}

export function createLineQueue<T>(
  lengthMax: number,
  weight: { readonly of: (item: T) => number; readonly max: number } = { of: () => 0, max: 1 },
): LineQueue<T> {
  const items: T[] = []
  let held = 0
  let closed = false
  let wakeReader: (() => void) | null = null
  let waiting: (() => void)[] = []

  const isFull = () => items.length >= lengthMax || held >= weight.max
  const take = (item: T) => {
    items.push(item)
    held += weight.of(item)
    wakeReader?.()
    wakeReader = null
  }
  const wakeAll = () => {
    wakeReader?.()
    wakeReader = null
    const writers = waiting
    waiting = []
    for (const wake of writers) wake()
  }
  return {
    async push(item) {
      while (!closed && isFull()) await new Promise<void>((resolve) => waiting.push(resolve))
      if (closed) return false
      take(item)
      return true
    },
    offer(item) {
      if (closed || isFull()) return false
      take(item)
      return true
    },
    async pull() {
      while (items.length === 0 && !closed)
        await new Promise<void>((resolve) => {
          wakeReader = resolve
        })
      const item = items.shift()
      if (item !== undefined) held -= weight.of(item)
      waiting.shift()?.()
      return item ?? null
    },
    close() {
      closed = true
      wakeAll()
    },
  }
}
