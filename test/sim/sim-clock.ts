import type { Clock } from '../../packages/base/src/index.ts'

/**
 * Simulated time: a queue of timers, and nothing happens between two of them but what the first one caused. No real timer
 * is ever set, so a minute costs what happens in it.
 */
export interface SimClock extends Clock {
  /** Goes to the next timer and lets everything happen that it causes. False: there is none before `until`. */
  step(until: number): Promise<boolean>
}

interface Timer {
  readonly at: number
  readonly order: number
  fire: (() => void) | null
}

export function createSimClock(startAt: number): SimClock {
  const queue: Timer[] = []
  let now = startAt
  let order = 0

  return {
    now: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) {
          resolve()
          return
        }
        const timer: Timer = { at: now + Math.max(0, ms), order: order++, fire: null }
        const done = () => {
          if (timer.fire === null) return
          timer.fire = null
          signal?.removeEventListener('abort', done)
          resolve()
        }
        timer.fire = done
        signal?.addEventListener('abort', done, { once: true })
        push(queue, timer)
      }),
    async step(until) {
      for (;;) {
        const first = queue[0]
        if (first === undefined || first.at > until) {
          now = Math.max(now, until)
          return false
        }
        pop(queue)
        // Ended before its time: nothing happens at it.
        if (first.fire === null) continue
        now = Math.max(now, first.at)
        first.fire()
        await settle()
        return true
      }
    },
  }
}

/** Every promise that can go on has gone on: the queue of microtasks is empty when an immediate runs. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}

/** A binary heap. */
function push(heap: Timer[], timer: Timer): void {
  let n = heap.length
  heap.push(timer)
  while (n > 0) {
    const up = (n - 1) >> 1
    const parent = heap[up] as Timer
    if (!before(timer, parent)) break
    heap[n] = parent
    n = up
  }
  heap[n] = timer
}

function pop(heap: Timer[]): void {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let n = 0
  for (;;) {
    const left = 2 * n + 1
    if (left >= heap.length) break
    const right = left + 1
    const [l, r] = [heap[left] as Timer, heap[right]]
    const child = r !== undefined && before(r, l) ? right : left
    if (!before(heap[child] as Timer, last)) break
    heap[n] = heap[child] as Timer
    n = child
  }
  heap[n] = last
}
