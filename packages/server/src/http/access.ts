import { agentExecReply, encodeFrame, portStart, processReply, type SessionReply } from '@roost/api'
import {
  createSessionPlaces,
  type MessageSocket,
  PlatformError,
  SESSIONS_IN_ALL,
  SESSIONS_PER_MACHINE,
} from '@roost/base'
import {
  type AppName,
  decide,
  joinCommand,
  lineOf,
  type MachineId,
  namedMachines,
  type SessionEnd,
  type SessionRecord,
  splitCommand,
} from '@roost/core'
import { z } from 'zod'
import type { Deps } from '../deps.ts'
import type { NewSession, SessionLog } from '../session/record-sessions.ts'
import { relayConnections } from '../session/relay-port.ts'
import { firstFrame, parseStart, relay, tellError } from '../session/relay-program.ts'
import { namedTarget, runningTarget, type Target } from '../session/target.ts'
import { listSessions } from '../store/sessions.ts'
import { listTokens } from '../store/tokens.ts'
import { appOrThrow } from './apps.ts'
import type { Call, Caller, Handlers } from './handler.ts'
import { machineOrThrow } from './machines.ts'

const EXEC_SECONDS = 60
const OUTPUT_BYTES_MAX = 1_000_000
/** For the way there and back, beside the program's own time. */
const SLACK_MS = 20_000

type AccessRoutes = 'execMachine' | 'listProcesses' | 'openProgram' | 'openPort' | 'listSessions'

/** Into machines: programs, connections, and who did what when. */
export function accessHandlers(deps: Deps, sessions: SessionLog): Pick<Handlers, AccessRoutes> {
  const { store, clock } = deps
  const places = createSessionPlaces({ perKey: SESSIONS_PER_MACHINE, all: SESSIONS_IN_ALL })
  const target = (params: { readonly app: string; readonly id: string }) =>
    store.read(async (reader) => runningTarget(reader, await machineOrThrow(reader, params)))
  const agentPath = ({ machine }: Target, verb: string) =>
    `/agent/v1/machines/${machine.assignment.id}/${verb}`
  const recorded = async (session: NewSession, work: () => Promise<SessionEnd>) => {
    const open = await sessions.begin(session)
    const end: { value: SessionEnd } = { value: { ...NOTHING, reason: 'it failed' } }
    try {
      end.value = await work()
    } catch (error) {
      if (error instanceof PlatformError)
        end.value = { ...NOTHING, reason: error.message.slice(0, 300) }
      throw error
    } finally {
      await open.end(end.value)
    }
  }

  return {
    execMachine: async ({ params, body, caller, signal }) => {
      const command = commandOf(body)
      const found = await target(params)
      const { id } = found.machine.assignment
      const timeoutMs = Math.ceil((body.timeout || EXEC_SECONDS) * 1000)
      const program = {
        command: [...command],
        ...(body.container ? { container: body.container } : {}),
        ...(body.user ? { user: body.user } : {}),
      }
      const stdin = Buffer.from(body.stdin ?? '')
      const session = sessionOf(params.app, id, 'exec', caller, program)
      const reply: { value: z.output<typeof agentExecReply> | null } = { value: null }
      await places.use(id, `machine ${id}`, () =>
        recorded(session, async () => {
          const answer = await deps.agent(found.host).json(
            'POST',
            agentPath(found, 'exec'),
            {
              ...program,
              stdin: stdin.toString('base64'),
              timeout_ms: timeoutMs,
              output_bytes_max: OUTPUT_BYTES_MAX,
            },
            { signal, timeoutMs: timeoutMs + SLACK_MS },
          )
          const value = agentExecReply.parse(answer)
          reply.value = value
          return {
            exitCode: value.exit_code,
            reason: value.exit_code === null ? 'its time was over' : null,
            bytesIn: stdin.length,
            bytesOut: bytesOf(value.stdout) + bytesOf(value.stderr),
            connections: 0,
          }
        }),
      )
      return execReplyOf(reply.value, timeoutMs)
    },

    listProcesses: async ({ params, query, signal }) => {
      const found = await target(params)
      const answer = await deps
        .agent(found.host)
        .json('GET', agentPath(found, 'processes'), undefined, { signal })
      const processes = z.array(processReply).parse(answer)
      const { sort_by: by = 'pid', order = 'asc' } = query
      const sign = order === 'asc' ? 1 : -1
      return [...processes].sort((a, b) => (a[by] < b[by] ? -sign : a[by] > b[by] ? sign : 0))
    },

    openProgram: async ({ params, caller }) => {
      const found = await target(params)
      const { id } = found.machine.assignment
      return ended((client) =>
        places.use(id, `machine ${id}`, async () => {
          const messages = client.messages[Symbol.asyncIterator]()
          const { message, value } = await firstFrame(messages)
          const start = parseStart(value)
          const session = sessionOf(params.app, id, 'program', caller, start)
          await recorded(session, async () => {
            const path = agentPath(found, 'session')
            const agent = await deps.agentSocket(found.host, path, client.closed)
            await agent.send(message)
            return relay(client, messages, agent)
          })
        }),
      )
    },

    openPort: async ({ params, caller }) => {
      const line = await store.read(async (reader) => {
        await appOrThrow(reader, params.app)
        return caller.token === undefined ? null : lineOf(await listTokens(reader), caller.token)
      })
      return ended((client) =>
        places.use(`proxy ${line}`, `token ${caller.name}, with those of its line,`, async () => {
          const messages = client.messages[Symbol.asyncIterator]()
          const { message, value } = await firstFrame(messages)
          const start = portStart.parse(value)
          const find = async () => {
            refuseOtherApp(caller, start.host, params.app, clock.now())
            return store.read((reader) => namedTarget(reader, { app: params.app, ...start }))
          }
          const first = await find()
          const session: NewSession = {
            ...sessionOf(first.machine.assignment.app, null, 'proxy', caller, { command: [] }),
            command: `${start.host ?? first.machine.assignment.app}:${start.port}`,
          }
          await recorded(session, async () => {
            const { id, region } = first.machine.assignment
            const started = { started: { machine: id, region } }
            await client.send(encodeFrame({ kind: 'control', value: started }))
            return relayConnections(client, messages, async () => {
              const found = await find()
              return {
                machine: found.machine.assignment.id,
                open: async () => {
                  const path = agentPath(found, 'port')
                  const agent = await deps.agentSocket(found.host, path, client.closed)
                  await agent.send(message)
                  return agent
                },
              }
            })
          })
        }),
      )
    },

    listSessions: ({ params, query }) =>
      store.read(async (reader) => {
        const app = await appOrThrow(reader, params.app)
        const asked = { ...query, app: app.name, since: app.createdAt }
        const found = await listSessions(reader, asked)
        return found.map(sessionReplyOf)
      }),
  }
}

const NOTHING: SessionEnd = {
  exitCode: null,
  reason: null,
  bytesIn: 0,
  bytesOut: 0,
  connections: 0,
}

/** A session that could not be begun, or broke, is told why. */
function ended(
  serve: (client: MessageSocket) => Promise<void>,
): (client: MessageSocket) => Promise<void> {
  return async (client) => {
    try {
      await serve(client)
    } catch (error) {
      await tellError(client, error)
    }
  }
}

function commandOf(body: Call<'execMachine'>['body']): readonly string[] {
  if (body.container && body.machine)
    throw new PlatformError('invalid', 'machine: it excludes container')
  const words = body.command ?? []
  if (words.length > 0 && body.cmd) throw new PlatformError('invalid', 'cmd: it excludes command')
  const split = words.length > 0 ? words : splitCommand(body.cmd ?? '')
  if (split === null) throw new PlatformError('invalid', 'cmd: a quote is not closed')
  if (split.length === 0) throw new PlatformError('invalid', 'cmd: it is empty')
  return split
}

function sessionOf(
  app: string,
  machine: MachineId | null,
  kind: SessionRecord['kind'],
  caller: Caller,
  start: {
    readonly command: readonly string[]
    readonly container?: string | undefined
    readonly user?: string | undefined
    readonly terminal?: object | undefined
  },
): NewSession {
  return {
    app: app as AppName,
    machine,
    container: start.container ?? null,
    kind,
    token: caller.name,
    tokenId: caller.token ?? null,
    user: start.user ?? null,
    command: joinCommand(start.command),
    terminal: start.terminal !== undefined,
  }
}

/** A name may be of another app than the one that the route was asked for. Whether that is there, only who may go there learns. */
function refuseOtherApp(caller: Caller, host: string | undefined, app: string, now: number): void {
  const other = host === undefined ? null : (namedMachines(host)?.app ?? null)
  if (other === null || other === app) return
  const wish = { action: 'machine:connect', app: other as AppName } as const
  const decision = decide(caller.policy, wish, now)
  if (decision.kind === 'denied') throw new PlatformError('forbidden', decision.why)
}

const bytesOf = (base64: string) => Buffer.byteLength(base64, 'base64')

function execReplyOf(value: z.output<typeof agentExecReply> | null, timeoutMs: number) {
  if (value === null || value.exit_code === null)
    throw new PlatformError(
      'timeout',
      `the command did not end within ${timeoutMs / 1000} s, and was killed with all that it had started`,
    )
  const [stdout = '', stderr = ''] = [value.stdout, value.stderr].map((text) =>
    Buffer.from(text, 'base64').toString('utf8'),
  )
  const notes = [
    ['stdout', value.stdout_cut] as const,
    ['stderr', value.stderr_cut] as const,
  ].flatMap(([name, cut]) =>
    cut === 0
      ? []
      : [`roost: ${name} is cut after ${OUTPUT_BYTES_MAX} bytes, ${cut} more were left away\n`],
  )
  const gap = stderr === '' || stderr.endsWith('\n') ? '' : '\n'
  return {
    exit_code: value.exit_code,
    stdout,
    stderr: notes.length === 0 ? stderr : `${stderr}${gap}${notes.join('')}`,
    stdout_cut: value.stdout_cut,
    stderr_cut: value.stderr_cut,
  }
}

function sessionReplyOf(session: SessionRecord): SessionReply {
  const at = (time: number) => new Date(time).toISOString()
  return {
    id: session.id,
    app: session.app,
    machine: session.machine,
    container: session.container,
    kind: session.kind,
    token: session.token,
    token_id: session.tokenId,
    user: session.user,
    command: session.command,
    terminal: session.terminal,
    begun_at: at(session.begunAt),
    ended_at: session.endedAt === null ? null : at(session.endedAt),
    exit_code: session.exitCode,
    reason: session.reason,
    bytes_in: session.bytesIn,
    bytes_out: session.bytesOut,
    connections: session.connections,
  }
}
