import { Failure } from '../failure/failure.ts'

/** The work's result, or a Failure as soon as Ctrl-C is pressed, however long the work goes on. */
export async function untilInterrupted<T>(
  signal: AbortSignal,
  work: Promise<T>,
  what = 'cancelled',
): Promise<T> {
  const stopped = () => new Failure(what, { exitCode: 130 })
  if (signal.aborted) {
    work.catch(() => {})
    throw stopped()
  }
  let end = () => {}
  const interrupted = new Promise<never>((_, reject) => {
    const onAbort = () => reject(stopped())
    signal.addEventListener('abort', onAbort, { once: true })
    end = () => signal.removeEventListener('abort', onAbort)
  })
  try {
    return await Promise.race([work, interrupted])
  } finally {
    end()
  }
}
