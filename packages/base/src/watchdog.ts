import { Worker } from 'node:worker_threads'
import type { Logger } from './log.ts'

/** What the thread is told when it starts. */
export interface WatchdogThread {
  /** Counts up as long as the event loop turns. */
  readonly beats: SharedArrayBuffer
  readonly program: string
  readonly logFile: string | undefined
  readonly stackAfterMs: number
  readonly spinMsMax: number
  readonly blockedMsMax: number
}

export interface WatchdogOptions {
  readonly program: string
  readonly log: Logger
  /** Of the program's own log; without it the thread writes to standard error. */
  readonly logFile?: string | undefined
  /** A stall that is longer is logged. Default 200 ms. */
  readonly stallMs?: number
  /** A stall that is longer is logged with the functions that were running, once for each stall. Default 1 s. */
  readonly stackAfterMs?: number
  /** Computing for longer without a turn of the event loop ends the process. Default 20 s. */
  readonly spinMsMax?: number
  /** The same for one that waits, mostly for a disk: a new process would wait for it too. Default 2 min. */
  readonly blockedMsMax?: number
}

const BEAT_MS = 50
/** One line for all stalls of that time. */
const QUIET_MS = 5000

/**
 * Watches that the event loop turns. Stalls are logged; one that does not end ends the process with SIGKILL, so that its
 * keeper starts it anew. Who decides that is a thread that goes on during a stall, and that counts only time in which it was
 * itself run on time: a process that was frozen, stopped or debugged, or whose machine slept, has not stalled.
 */
export function startWatchdog(options: WatchdogOptions): { stop(): Promise<void> } {
  const { program, log, logFile, stallMs = 200 } = options
  const beats = new SharedArrayBuffer(4)
  const counter = new Int32Array(beats)
  let at = performance.now()
  let cpu = process.threadCpuUsage()
  let saidAt = -QUIET_MS
  let unsaid = { stalls: 0, longestMs: 0 }

  const timer = setInterval(() => {
    Atomics.add(counter, 0, 1)
    const now = performance.now()
    const usage = process.threadCpuUsage()
    const ms = Math.round(now - at - BEAT_MS)
    const cpuMs = Math.round((usage.user + usage.system - cpu.user - cpu.system) / 1000)
    at = now
    cpu = usage
    if (ms < stallMs) return
    if (now - saidAt < QUIET_MS) {
      unsaid = { stalls: unsaid.stalls + 1, longestMs: Math.max(unsaid.longestMs, ms) }
      return
    }
    const busy = cpuMs >= ms / 4
    const message = busy ? 'the event loop stalled' : 'the event loop was held up, computing little'
    log.warn(message, { ms, cpuMs, ...(unsaid.stalls === 0 ? {} : { before: unsaid }) })
    unsaid = { stalls: 0, longestMs: 0 }
    saidAt = now
  }, BEAT_MS).unref()

  const workerData: WatchdogThread = {
    beats,
    program,
    logFile,
    stackAfterMs: options.stackAfterMs ?? 1000,
    spinMsMax: options.spinMsMax ?? 20_000,
    blockedMsMax: options.blockedMsMax ?? 120_000,
  }
  // Beside this file, be it a source or a part of a bundle.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'mjs'
  const thread = new Worker(new URL(`./watchdog-thread.${extension}`, import.meta.url), {
    workerData,
    name: 'watchdog',
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 },
  })
  thread.unref()
  // A program without a watchdog is better than none.
  thread.on('error', (error) => log.error('the watchdog ended', { error }))
  return {
    stop: async () => {
      clearInterval(timer)
      await thread.terminate()
    },
  }
}
