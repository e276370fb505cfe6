import {
  type FrameStream,
  type FrameStreams,
  frameStreams,
  type ProgramStart,
  STDERR,
  STDIN,
  STDOUT,
  sessionEvent,
} from '@roost/api'
import type { MessageSocket } from '@roost/base'
import type { CliContext, Screen } from '../cli-context.ts'
import { Failure } from '../failure/failure.ts'
import { apiErrorOf, openSocket } from '../session/open-socket.ts'

export interface MachineProgram {
  readonly app: string
  readonly machine: string
  readonly start: Omit<ProgramStart, 'terminal'>
  /** A terminal in the machine, as large as ours. */
  readonly terminal: boolean
}

/** Runs a program in a machine with our own input, output, terminal and Ctrl-C. Gives its exit code. */
export async function runProgram(context: CliContext, program: MachineProgram): Promise<number> {
  const session = await openProgram(context, program)
  const terminal = program.terminal ? rawTerminal(context, session.streams) : null
  const interrupted = terminal === null ? context.interrupted() : null
  const interrupt = () => void session.signal('SIGINT').catch(() => {})
  interrupted?.addEventListener('abort', interrupt, { once: true })
  try {
    void send(context, session.stdin, program.terminal)
    const [code] = await Promise.all([
      session.exit,
      show(session.stdout, context.stdout),
      show(session.stderr, context.stderr),
    ])
    return code
  } finally {
    interrupted?.removeEventListener('abort', interrupt)
    terminal?.leave()
    context.stdin.destroy()
    session.close()
  }
}

export interface ProgramSession {
  readonly streams: FrameStreams
  readonly stdin: FrameStream
  readonly stdout: FrameStream
  readonly stderr: FrameStream
  /** Rejects where the session breaks, or could not be begun. */
  readonly exit: Promise<number>
  signal(name: string): Promise<void>
  close(): void
}

/** A program in a machine, whose streams are for the caller to carry. */
export async function openProgram(
  context: CliContext,
  { app, machine, start, terminal }: MachineProgram,
): Promise<ProgramSession> {
  const socket = await openSocket(context, 'openProgram', { app, id: machine })
  const streams = frameStreams(socket)
  const [stdin, stdout, stderr] = [STDIN, STDOUT, STDERR].map((id) => streams.stream(id)) as [
    FrameStream,
    FrameStream,
    FrameStream,
  ]
  const exit = exitOf(socket, streams)
  exit.catch(() => {})
  const type = context.env['TERM'] || 'xterm'
  await streams.control({
    ...start,
    ...(terminal ? { terminal: { type, ...sizeOf(context.stdout) } } : {}),
  } satisfies ProgramStart)
  return {
    streams,
    stdin,
    stdout: withFailure(stdout, exit),
    stderr: withFailure(stderr, exit),
    exit,
    signal: (name) => streams.control({ signal: name }),
    close: () => streams.close(),
  }
}

/** Of a session that ended without a word, why its connection did. */
async function exitOf(socket: MessageSocket, streams: FrameStreams): Promise<number> {
  const ended: { code: number | null; failure: Error | null } = { code: null, failure: null }
  await streams
    .run({
      control(value) {
        const event = sessionEvent.safeParse(value).data
        if (event === undefined) return
        if ('exit' in event) ended.code = event.exit.code
        if ('error' in event)
          ended.failure = apiErrorOf('openProgram', event.error.code, event.error.message)
      },
    })
    .catch(() => {})
  if (ended.failure !== null) throw ended.failure
  if (ended.code !== null) return ended.code
  const { reason } = socket.closed
  throw new Failure('the session was cut', {
    why: `${reason instanceof Error ? reason.message : 'the connection to the server broke'}; what ran in the machine was ended`,
    exitCode: 3,
  })
}

/** A stream that breaks with its session says why that did. */
function withFailure(stream: FrameStream, exit: Promise<number>): FrameStream {
  async function* bytes() {
    try {
      yield* stream.bytes
    } catch (error) {
      await exit
      throw error
    }
  }
  return { ...stream, bytes: bytes() }
}

async function send(context: CliContext, to: FrameStream, terminal: boolean): Promise<void> {
  try {
    for await (const chunk of context.stdin) await to.write(chunk as Uint8Array)
    // A terminal has no end; its program is told by the key for it.
    if (terminal) await to.write(new Uint8Array([4]))
    else await to.end()
  } catch {
    // The session is over, and says so itself.
  }
}

export async function show(from: FrameStream, screen: Screen): Promise<void> {
  for await (const bytes of from.bytes) {
    const room = screen.write(bytes)
    if (room === false && screen.once)
      await new Promise<void>((resolve) => screen.once?.('drain', resolve))
  }
}

function sizeOf(screen: Screen) {
  return { columns: screen.columns ?? 80, rows: screen.rows ?? 24 }
}

/** Every key goes to the program, and so does each change of size. */
function rawTerminal(context: CliContext, streams: FrameStreams): { leave(): void } {
  const { stdin, stdout } = context
  const resize = () => void streams.control({ resize: sizeOf(stdout) }).catch(() => {})
  stdin.setRawMode?.(true)
  stdout.on?.('resize', resize)
  return {
    leave() {
      stdout.off?.('resize', resize)
      stdin.setRawMode?.(false)
    },
  }
}
