import { flushCompileCache } from 'node:module'
import type { Logger } from './log.ts'

/** By then everything that a start needs is loaded. */
const LOADED_MS = 10_000
const DEADLINE_MS = 8000
/** One closer that hangs must leave time for the others: the database is the last. */
const CLOSER_MS_MAX = 5000

/**
 * Runs a program until SIGTERM or SIGINT, then its closers one after another in reverse order, each with a deadline, all of
 * them with another. A second signal ends it at once. An uncaught error is logged and ends it with code 1: whoever keeps it
 * running starts it again.
 */
export function untilShutdown(
  log: Logger,
  closers: readonly (() => Promise<void> | void)[],
  deadlineMs = DEADLINE_MS,
): void {
  // Compiled code is kept at a proper end only; programs that are killed should start quickly the next time too.
  setTimeout(flushCompileCache, LOADED_MS).unref()
  let closing = false
  const close = async (signal: string) => {
    if (closing) {
      log.warn('told to stop once more: ending at once', { signal })
      process.exit(1)
    }
    closing = true
    log.info('stopping', { signal })
    setTimeout(() => {
      log.warn('not stopped in time: ending at once', { deadlineMs })
      process.exit(1)
    }, deadlineMs)
    for (const closer of [...closers].reverse()) {
      try {
        await endsWithin(closer, Math.min(CLOSER_MS_MAX, deadlineMs / 2))
      } catch (error) {
        log.warn('while stopping', { error })
      }
    }
    log.info('stopped')
    process.exit(0)
  }
  process.on('SIGTERM', () => void close('SIGTERM'))
  process.on('SIGINT', () => void close('SIGINT'))
  const crash = (error: unknown) => {
    log.error('uncaught', { error, stack: error instanceof Error ? error.stack : undefined })
    process.exit(1)
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)
}

async function endsWithin(closer: () => Promise<void> | void, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${ms} ms`)), ms)
  })
  try {
    await Promise.race([closer(), late])
  } finally {
    clearTimeout(timer)
  }
}
