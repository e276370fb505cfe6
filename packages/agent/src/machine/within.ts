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
  // Not `AbortSignal.any`, which costs more than most of what is waited for.
  const end = () => over.abort(signal.reason)
  if (signal.aborted) end()
  else signal.addEventListener('abort', end, { once: true })
  try {
    // Whichever of them comes second is nobody's business any more.
    return await new Promise<T>((resolve, reject) => {
      work(over.signal).then(resolve, reject)
      void clock.sleep(ms, over.signal).then(() => {
        if (over.signal.reason === OVER) return
        const why = signal.aborted ? 'it is no longer wanted' : `no end after ${ms} ms`
        reject(new PlatformError('timeout', doing, { cause: new Error(why), retry: 'later' }))
      })
    })
  } finally {
    signal.removeEventListener('abort', end)
    over.abort(OVER)
  }
}
