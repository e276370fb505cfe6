import type { Readable } from 'node:stream'

/** All that a command may touch of the process around it: tests give their own. */
export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly stdin: Readable & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown }
  readonly stdout: Screen
  readonly stderr: Screen
  /** Aborts at the first Ctrl-C. A command that never asks for it just ends there, as programs do. */
  interrupted(): AbortSignal
}

/** The streams of the process are one; what a test gives may know less. */
export interface Screen {
  /** false: it is full, and says `drain` when there is room again. */
  write(text: string | Uint8Array): unknown
  readonly isTTY?: boolean
  readonly columns?: number
  readonly rows?: number
  once?(event: 'drain', heard: () => void): unknown
  on?(event: 'resize', heard: () => void): unknown
  off?(event: 'resize', heard: () => void): unknown
}

export function processContext(): CliContext {
  const state: { interrupted: AbortController | null } = { interrupted: null }
  process.on('SIGINT', () => {
    // Who presses twice does not want to wait for the good manners.
    if (state.interrupted === null || state.interrupted.signal.aborted) process.exit(130)
    state.interrupted.abort()
  })
  return {
    env: process.env,
    cwd: process.cwd(),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    interrupted() {
      state.interrupted ??= new AbortController()
      return state.interrupted.signal
    },
  }
}
