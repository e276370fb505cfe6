import type { Clock } from '@roost/base'

/** For tests: everything runs that can. */
export const settled = () => new Promise<void>((resolve) => setImmediate(resolve))

/** For tests: time that goes on by `tick` alone, for one that sleeps: however long it wanted to, a tick wakes it. */
export function createTickingClock(tickMs: number) {
  let now = 0
  let wake = () => {}
  const clock: Clock = {
    now: () => now,
    sleep: (_ms, signal) =>
      new Promise((resolve) => {
        wake = resolve
        signal?.addEventListener('abort', () => resolve(), { once: true })
      }),
  }
  return {
    clock,
    elapsedMs: () => now,
    async tick() {
      await settled()
      now += tickMs
      wake()
      await settled()
    },
  }
}
