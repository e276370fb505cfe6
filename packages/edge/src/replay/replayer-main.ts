import { existsSync } from 'node:fs'
import { type ReplayerOptions, startReplayer } from './replayer.ts'

/** What the program is told on its command line. */
export interface ReplayerStart extends ReplayerOptions {
  /** Ends as soon as this folder is gone: so is the host. */
  readonly runDir: string
}

const LOOK_MS = 2000
const IDLE_MS_MAX = 600_000
const END_MS_MAX = 5000

export async function runReplayer(start: ReplayerStart): Promise<void> {
  const replayer = await startReplayer(start)
  const timer = setInterval(() => {
    if (existsSync(start.runDir) && replayer.idleMs() < IDLE_MS_MAX) return
    clearInterval(timer)
    void replayer.close().then(() => process.exit(0))
    setTimeout(() => process.exit(0), END_MS_MAX)
  }, LOOK_MS)
}
