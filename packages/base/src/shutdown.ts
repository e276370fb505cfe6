import { flushCompileCache } from 'node:module'
import type { Logger } from './log.ts'

/** By then everything that a start needs is loaded. */
const LOADED_MS = 10_000

/**
 * Runs a program until SIGTERM or SIGINT, then its closers in reverse order, each with a deadline.
 * An uncaught error ends it with code 1: whoever keeps it running starts it again.
 */
export function untilShutdown(
  log: Logger,
  closers: readonly (() => Promise<void> | void)[],
  deadlineMs = 8000,
): void {
  // Compiled code is kept at a proper end only; programs that are killed should start quickly the next time too.
  setTimeout(flushCompileCache, LOADED_MS).unref()
  let closing = false
  const close = async (signal: string) => {
    if (closing) return
    closing = true
    log.info('stopping', { signal })
    setTimeout(() => process.exit(1), deadlineMs).unref()
    for (const closer of [...closers].reverse()) {
      try {
        await closer()
      } catch (error) {
        log.warn('while stopping', { error })
      }
    }
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
