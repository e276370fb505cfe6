import { existsSync } from 'node:fs'
import { openStaticsPort, type StaticsPort } from '../statics/statics-port.ts'
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
  const port = start.statics === undefined ? null : keepStaticsPort(start.statics)
  const timer = setInterval(() => {
    if (existsSync(start.runDir) && replayer.idleMs() < IDLE_MS_MAX) return
    clearInterval(timer)
    port?.close()
    void replayer.close().then(() => process.exit(0))
    setTimeout(() => process.exit(0), END_MS_MAX)
  }, LOOK_MS)
}

/** The address may come later than we do. */
function keepStaticsPort(options: Parameters<typeof openStaticsPort>[0]): { close(): void } {
  let opened: StaticsPort | null = null
  let timer: NodeJS.Timeout | undefined
  let closed = false
  const attempt = async () => {
    opened = await openStaticsPort(options).catch(() => null)
    if (closed) await opened?.close()
    else if (opened === null) timer = setTimeout(attempt, LOOK_MS)
  }
  void attempt()
  return {
    close() {
      closed = true
      clearTimeout(timer)
      void opened?.close()
    },
  }
}
