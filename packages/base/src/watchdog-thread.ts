import { readFileSync } from 'node:fs'
import { Session } from 'node:inspector'
import { workerData } from 'node:worker_threads'
import { createLogger } from './log.ts'
import type { WatchdogThread } from './watchdog.ts'

/** Runs as a thread of its own: see watchdog.ts. */

const PERIOD_MS = 250
const STACK_MS_MAX = 5000
const FRAMES_MAX = 6

const options = workerData as WatchdogThread
const counter = new Int32Array(options.beats)
const log = createLogger({ program: options.program, file: options.logFile })
watch()

function watch(): void {
  let seen = 0
  let at = performance.now()
  let stalledMs = 0
  /** How much of it the main thread computed, or would have if there had been a processor for it. */
  let computingMs = 0

  setInterval(() => {
    const beats = Atomics.load(counter, 0)
    const now = performance.now()
    const tookMs = now - at
    at = now
    if (beats !== seen) {
      seen = beats
      stalledMs = 0
      computingMs = 0
      return
    }
    const state = stateOfMainThread()
    // Late ourselves: the whole process did not run. Traced: somebody looks at it.
    if (tookMs > 3 * PERIOD_MS || /[tT]/.test(state)) return
    const before = stalledMs
    stalledMs += tookMs
    if (state === 'R') computingMs += tookMs
    if (before < options.stackAfterMs && stalledMs >= options.stackAfterMs) sayWhatRuns()
    const spins = computingMs >= stalledMs / 2
    if (stalledMs < (spins ? options.spinMsMax : options.blockedMsMax)) return
    log.error('the event loop does not turn any more: ending this process', {
      ms: Math.round(stalledMs),
      computingMs: Math.round(computingMs),
    })
    process.kill(process.pid, 'SIGKILL')
  }, PERIOD_MS)
}

function stateOfMainThread(): string {
  const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
}

/** The inspector can interrupt a computation, tell where it is, and let it go on. What waits in the kernel tells nothing. */
function sayWhatRuns(): void {
  const session = new Session()
  const leave = () => {
    clearTimeout(timer)
    session.disconnect()
  }
  const timer = setTimeout(leave, STACK_MS_MAX)
  try {
    session.connectToMainThread()
    session.on('Debugger.paused', ({ params }) => {
      const running = params.callFrames
        .slice(0, FRAMES_MAX)
        .map(({ functionName, url, location }) =>
          `${functionName || '(anonymous)'} ${url}:${location.lineNumber + 1}`.trim(),
        )
      leave()
      log.warn('the event loop stalls', { running })
    })
    session.post('Debugger.enable')
    session.post('Debugger.pause')
  } catch (error) {
    leave()
    log.info('the event loop stalls; where is not known', { error })
  }
}
