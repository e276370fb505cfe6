import type { Instant } from '@roost/core'

/** Time as an argument: programs get `systemClock`, the simulator its own. */
export interface Clock {
  now(): Instant
  /** Resolves after `ms`, or at once when `signal` aborts (a normal ending, not an error). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
}
