import { spawn } from 'node:child_process'
import { request } from 'node:http'
import { basename, join } from 'node:path'
import { type Clock, type Logger, startLoop } from '@roost/base'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { ATTACH_HEADER } from './replayer.ts'
import type { ReplayerStart } from './replayer-main.ts'

/** Keeps a replayer running while there are apps that need one, and stays on the line with it; it lives on when we end. */
export interface ReplayerProcess {
  /** Whether one is there, within that time. */
  ready(limitMs: number): Promise<boolean>
  /** `end`: and it with us. */
  stop(end: boolean): Promise<void>
}

const LOOK_MS = 500
/** Time for a start before another one is tried. */
const START_MS = 3000
const ATTACH_MS_MAX = 2000

export function startReplayerProcess(options: {
  readonly start: ReplayerStart
  readonly wanted: () => boolean
  readonly clock: Clock
  readonly log: Logger
}): ReplayerProcess {
  const { start, clock, log } = options
  let line: { readonly pid: number; end(): void } | null = null
  let startedAt = Number.NEGATIVE_INFINITY
  let told = ''

  function attach(): Promise<typeof line> {
    return new Promise((resolve) => {
      const asked = request({
        socketPath: abstractPath(start.replaySocket),
        agent: false,
        headers: { [ATTACH_HEADER]: '1' },
      })
      const late = setTimeout(() => asked.destroy(), ATTACH_MS_MAX)
      asked.once('response', (response) => {
        clearTimeout(late)
        response.resume()
        const made = { pid: Number(response.headers['roost-pid']), end: () => asked.destroy() }
        response.once('close', () => {
          if (line === made) line = null
          loop.wake()
        })
        response.on('error', () => {})
        resolve(made)
      })
      asked.once('error', () => {
        clearTimeout(late)
        resolve(null)
      })
      asked.end()
    })
  }

  async function lap(signal: AbortSignal): Promise<void> {
    if (line !== null || !options.wanted()) return
    line = await attach()
    if (signal.aborted) line?.end()
    if (line !== null || signal.aborted) return
    if (performance.now() - startedAt < START_MS) return
    startedAt = performance.now()
    const child = spawn(process.execPath, [...program(), '--replayer', JSON.stringify(start)], {
      detached: true,
      stdio: 'ignore',
      cwd: '/',
    })
    child.on('error', (error) => {
      if (told !== error.message) log.error('the replayer can not be started', { error })
      told = error.message
    })
    child.on('exit', (code) => {
      if (code !== 0) log.warn('the replayer ended', { code })
    })
    child.unref()
  }

  const loop = startLoop({ name: 'replayer', periodMs: LOOK_MS, clock, log, lap })
  return {
    async ready(limitMs) {
      const deadline = performance.now() + limitMs
      while (line === null && performance.now() < deadline) {
        loop.wake()
        await clock.sleep(30)
      }
      return line !== null
    },
    async stop(end) {
      await loop.stop()
      const was = line
      line = null
      was?.end()
      if (!end || was === null) return
      try {
        process.kill(was.pid, 'SIGTERM')
      } catch {
        // It is gone already.
      }
    },
  }
}

/** The edge's own program, bundled or not, with what Node was told about its memory; in tests, which are none, its source. */
function program(): readonly string[] {
  const own = process.argv[1] ?? ''
  return /^(main\.ts|edge\.mjs)$/.test(basename(own))
    ? [...process.execArgv, own]
    : [join(import.meta.dirname, '..', 'main.ts')]
}
