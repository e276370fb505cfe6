import type { Readable, Writable } from 'node:stream'
import {
  type FrameStream,
  frameStreams,
  type ProgramStart,
  programStart,
  STDERR,
  STDIN,
  STDOUT,
  sessionRequest,
} from '@roost/api'
import { describeError, drained, type Logger, type MessageSocket, PlatformError } from '@roost/base'
import type { MachineId } from '@roost/core'
import type { Runtime } from '../runtime.ts'
import type { ExecSession } from './exec-session.ts'

const START_MS = 30_000

/** Runs the program that the first frame asks for, until it ends or the caller goes: then nothing of it is left. */
export async function serveProgram(
  socket: MessageSocket,
  parts: {
    readonly runtime: Pick<Runtime, 'openSession'>
    readonly machine: MachineId
    readonly region: string
    readonly log: Logger
  },
): Promise<void> {
  const { runtime, machine, region, log } = parts
  const streams = frameStreams(socket)
  const [stdin, stdout, stderr] = [STDIN, STDOUT, STDERR].map((id) => streams.stream(id)) as [
    FrameStream,
    FrameStream,
    FrameStream,
  ]
  const state: { session: ExecSession | null; start: ((start: ProgramStart) => void) | null } = {
    session: null,
    start: null,
  }
  const asked = new Promise<ProgramStart>((resolve, reject) => {
    const late = () => reject(new PlatformError('timeout', 'no program was named in time'))
    const timer = setTimeout(late, START_MS)
    state.start = (start) => {
      clearTimeout(timer)
      resolve(start)
    }
    socket.closed.addEventListener('abort', () => clearTimeout(timer), { once: true })
  })
  asked.catch(() => {})
  const reading = streams.run({
    control(value) {
      const start = state.start
      state.start = null
      if (start !== null) return start(programStart.parse(value))
      const { session } = state
      if (session === null) return
      const request = sessionRequest.parse(value)
      const done =
        'resize' in request ? session.resize(request.resize) : session.signal(request.signal)
      done.catch((error: unknown) => log.info('session', { machine, error }))
    },
  })
  const gone = reading.catch(() => {}).then(() => 'gone' as const)
  try {
    const start = await Promise.race([asked, gone])
    if (start === 'gone') return
    const session = await runtime.openSession(machine, start, socket.closed)
    state.session = session
    await streams.control({ started: { machine, region } })
    void feed(stdin, session.stdin)
    const said = Promise.all([
      tell(session.stdout, stdout),
      tell(session.stderr, stderr),
      session.exit,
    ])
    said.catch(() => {})
    const ended = await Promise.race([said, gone])
    if (ended === 'gone') return
    await streams.control({ exit: { code: ended[2] } })
  } catch (error) {
    if (socket.closed.aborted) return
    const code = error instanceof PlatformError ? error.code : 'internal'
    await streams.control({ error: { code, message: describeError(error) } }).catch(() => {})
  } finally {
    await state.session?.close()
    streams.close()
    await gone
  }
}

/** To a program that may not read it, or not all. */
async function feed(from: FrameStream, to: Writable): Promise<void> {
  try {
    for await (const bytes of from.bytes) if (to.writable && !to.write(bytes)) await drained(to)
    to.end()
  } catch {
    // The caller left, or the program did: either ends the session.
  }
}

async function tell(from: Readable, to: FrameStream): Promise<void> {
  for await (const chunk of from) await to.write(chunk as Buffer)
  await to.end()
}
