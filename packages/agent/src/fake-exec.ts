import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Clock, PlatformError } from '@roost/base'
import { EXEC_SIGNALS, type ExecRequest, type ExecSession } from './exec/exec-session.ts'

interface Running {
  readonly words: readonly string[]
  readonly stdin: PassThrough
  readonly stdout: PassThrough
  readonly stderr: PassThrough
  readonly killed: AbortSignal
  readonly clock: Clock
}

/** What the programs of a fake machine do; each gives its exit code. Others are not found. */
const PROGRAMS: Readonly<Record<string, (running: Running) => Promise<number> | number>> = {
  true: () => 0,
  false: () => 1,
  echo({ words, stdout }) {
    stdout.write(`${words.join(' ')}\n`)
    return 0
  },
  async cat({ stdin, stdout, killed }) {
    await pipeline(stdin, stdout, { signal: killed, end: false })
    return 0
  },
  async sleep({ words, clock, killed }) {
    await clock.sleep(Number(words[0]) * 1000, killed)
    return 0
  },
}

/** A program in a fake machine: it ends by itself, by a signal, by `close`, or when `machineEnded` aborts. */
export function startFakeProgram(
  { command, terminal }: ExecRequest,
  clock: Clock,
  machineEnded: AbortSignal,
): ExecSession {
  const [name = '', ...words] = command
  if (name === '') throw new PlatformError('invalid', 'command: it is empty')
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() }
  const killing = new AbortController()
  const state = { code: null as number | null }
  const kill = (number: number) => {
    state.code ??= 128 + number
    killing.abort()
  }
  machineEnded.addEventListener('abort', () => kill(9), { once: true })
  if (machineEnded.aborted) kill(9)
  const run = async () => {
    const program = PROGRAMS[name]
    if (program === undefined) {
      const output = terminal === undefined ? streams.stderr : streams.stdout
      output.write(`[FATAL tini (7)] exec ${name} failed: No such file or directory\n`)
      return 127
    }
    return program({ ...streams, words, clock, killed: killing.signal })
  }
  const exit = run()
    .catch(() => 1)
    .then((code) => state.code ?? code)
  void exit.then(() => {
    streams.stdout.end()
    streams.stderr.end()
    streams.stdin.destroy()
  })
  for (const stream of Object.values(streams)) stream.on('error', () => {})
  return {
    ...streams,
    exit,
    resize: async () => {},
    signal: async (wanted) => {
      const number = EXEC_SIGNALS[wanted]
      if (number === undefined)
        throw new PlatformError(
          'invalid',
          `signal: ${wanted} is not one of ${Object.keys(EXEC_SIGNALS).join(', ')}`,
        )
      if (wanted !== 'SIGWINCH' && wanted !== 'SIGCONT') kill(number)
    },
    close: async () => {
      kill(9)
      await exit
      for (const stream of Object.values(streams)) stream.destroy()
    },
  }
}
