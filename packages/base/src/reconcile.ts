import type { Clock } from './clock.ts'
import type { Logger } from './log.ts'
import { describeError } from './platform-error.ts'

/**
 * The loop that every reconciler runs: wake by signal or by period, do one lap, again. A lap gets no argument that says
 * what changed, so there is one code path for news, for restarts and for lost news. A lap that throws is logged and the
 * next one is the retry. At most one lap at a time.
 */
export interface Loop {
  /** Something may have changed: lap soon. Many wakes make one lap. */
  wake(): void
  /** Ends after the lap that runs now. */
  stop(): Promise<void>
}

/** A lap that fails in the same way again and again is told of this often. */
const SAME_FAILURE_MS = 60_000

/** One reason for all: an error of its own for each wake would cost its stack. */
const WOKEN = new Error('woken')

export function startLoop(options: {
  readonly name: string
  readonly periodMs: number
  readonly clock: Clock
  readonly log: Logger
  readonly lap: (signal: AbortSignal) => Promise<void>
}): Loop {
  const stopping = new AbortController()
  let woken = new AbortController()
  let pending = true
  let said: { readonly text: string; readonly at: number; readonly unsaid: number } | null = null

  const tell = (error: unknown) => {
    const text = describeError(error)
    const now = options.clock.now()
    if (said?.text === text && now - said.at < SAME_FAILURE_MS) {
      said = { ...said, unsaid: said.unsaid + 1 }
      return
    }
    const again = said?.text === text && said.unsaid > 0 ? { times: said.unsaid + 1 } : {}
    options.log.warn(`lap of ${options.name} failed`, { error, ...again })
    said = { text, at: now, unsaid: 0 }
  }

  const run = async () => {
    while (!stopping.signal.aborted) {
      if (!pending) await options.clock.sleep(options.periodMs, woken.signal)
      if (stopping.signal.aborted) return
      woken = new AbortController()
      pending = false
      try {
        await options.lap(stopping.signal)
      } catch (error) {
        if (stopping.signal.aborted) return
        tell(error)
        await options.clock.sleep(Math.min(1000, options.periodMs), stopping.signal)
      }
    }
  }
  const ended = run()
  return {
    wake: () => {
      pending = true
      woken.abort(WOKEN)
    },
    stop: async () => {
      stopping.abort()
      woken.abort(WOKEN)
      await ended
    },
  }
}
