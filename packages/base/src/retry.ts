import type { Clock } from './clock.ts'
import { PlatformError } from './platform-error.ts'

/** Doubling pauses from `firstMs` to `lastMs`. No jitter inside: callers that need it add it from their own source. */
export function backoffMs(attempt: number, firstMs = 100, lastMs = 10_000): number {
  return Math.min(lastMs, firstMs * 2 ** Math.min(attempt, 20))
}

/** Tries until it works, the attempts are used up, the error says `never`, or the signal aborts. */
export async function retry<T>(
  clock: Clock,
  options: { attemptsMax: number; firstMs?: number; lastMs?: number; signal?: AbortSignal },
  attempt: () => Promise<T>,
): Promise<T> {
  for (let n = 0; ; n++) {
    try {
      return await attempt()
    } catch (error) {
      const never = error instanceof PlatformError && error.retry === 'never'
      if (never || n + 1 >= options.attemptsMax || options.signal?.aborted) throw error
      await clock.sleep(backoffMs(n, options.firstMs, options.lastMs), options.signal)
    }
  }
}
