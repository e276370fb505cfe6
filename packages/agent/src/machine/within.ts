import { type Clock, PlatformError } from '@roost/base'

/** One reason for all: an error of its own for each would cost its stack. */
const OVER = new Error('over')

/**
 * Waits for `work` at most `ms`, and not beyond the end of the program. What it gave up may still go on: its signal has
 * aborted then, and who called looks again.
 */
export async function within<T>(
  limit: { readonly clock: Clock; readonly ms: number; readonly signal: AbortSignal },
  doing: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { clock, ms, signal } = limit
  const over = new AbortController()
  const either = AbortSignal.any([over.signal, signal])
  const late = clock.sleep(ms, either).then(() => {
    const why = signal.aborted ? 'it is no longer wanted' : `no end after ${ms} ms`
    throw new PlatformError('timeout', doing, { cause: new Error(why), retry: 'later' })
  })
  const working = work(either)
  // Whichever of them comes second is nobody's business any more.
  late.catch(() => {})
  working.catch(() => {})
  try {
    return await Promise.race([working, late])
  } finally {
    over.abort(OVER)
  }
}
