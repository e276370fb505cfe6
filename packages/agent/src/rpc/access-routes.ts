import { agentExecBody, agentExecReply, type ProcessReply } from '@roost/api'
import {
  acceptSocket,
  createSessionPlaces,
  type Logger,
  PlatformError,
  SESSIONS_IN_ALL,
  SESSIONS_PER_MACHINE,
} from '@roost/base'
import type { MachineId } from '@roost/core'
import type { FastifyInstance } from 'fastify'
import { serveConnections } from '../exec/serve-port.ts'
import { serveProgram } from '../exec/serve-program.ts'
import type { Runtime } from '../runtime.ts'

export interface AccessRouteParts {
  readonly runtime: Pick<Runtime, 'exec' | 'openSession' | 'look'>
  /** Of a machine that this host has, in the order in which they are tried. */
  readonly addresses: (machine: MachineId) => readonly string[]
  readonly listening: (machine: MachineId) => Promise<readonly string[]>
  readonly processes: (machine: MachineId) => Promise<readonly ProcessReply[]>
  readonly region: string
  readonly log: Logger
}

type Params = { Params: { id: string } }

/**
 * Programs in machines, and connections to them: `POST …/exec` and `GET …/processes` at once, `…/session` and `…/port` as
 * WebSockets (see `session/frames.ts` of the API).
 */
export function registerAccessRoutes(app: FastifyInstance, parts: AccessRouteParts): void {
  const { runtime, region, log } = parts
  const places = createSessionPlaces({ perKey: SESSIONS_PER_MACHINE, all: SESSIONS_IN_ALL })

  app.post<Params>(
    '/agent/v1/machines/:id/exec',
    { bodyLimit: 16_000_000 },
    async (request, reply) => {
      const machine = machineOf(request.params.id)
      const body = agentExecBody.safeParse(request.body)
      if (!body.success)
        throw new PlatformError('invalid', `exec: ${body.error.issues[0]?.message}`)
      const gone = new AbortController()
      reply.raw.on('close', () => gone.abort())
      const { stdin, timeout_ms, output_bytes_max, ...program } = body.data
      const result = await places.use(machine, `machine ${machine}`, () =>
        runtime.exec(
          machine,
          {
            ...program,
            stdin: Buffer.from(stdin, 'base64'),
            timeoutMs: timeout_ms,
            outputBytesMax: output_bytes_max,
          },
          gone.signal,
        ),
      )
      return agentExecReply.parse({
        exit_code: result.exitCode,
        stdout: result.stdout.toString('base64'),
        stderr: result.stderr.toString('base64'),
        stdout_cut: result.stdoutCut,
        stderr_cut: result.stderrCut,
      })
    },
  )

  app.get<Params>('/agent/v1/machines/:id/processes', async (request) => {
    const machine = machineOf(request.params.id)
    await refuseUnlessRunning(machine)
    return parts.processes(machine)
  })

  app.get<Params>('/agent/v1/machines/:id/session', async (request, reply) => {
    const machine = machineOf(request.params.id)
    await places.use(machine, `machine ${machine}`, async () => {
      const socket = await acceptSocket(reply)
      await serveProgram(socket, { runtime, machine, region, log })
    })
    return reply
  })

  app.get<Params>('/agent/v1/machines/:id/port', async (request, reply) => {
    const machine = machineOf(request.params.id)
    await refuseUnlessRunning(machine)
    await places.use(machine, `machine ${machine}`, async () => {
      const socket = await acceptSocket(reply)
      await serveConnections(socket, {
        machine,
        region,
        addresses: parts.addresses(machine),
        listening: () => parts.listening(machine),
      })
    })
    return reply
  })

  async function refuseUnlessRunning(machine: MachineId): Promise<void> {
    const found = await runtime.look(machine)
    if (found === null)
      throw new PlatformError('not_found', `machine ${machine} is not on this host`)
    if (found.state !== 'running')
      throw new PlatformError(
        'precondition_failed',
        `machine ${machine} does not run; start it first: roost machine start ${machine}`,
      )
  }
}

function machineOf(id: string): MachineId {
  if (/^[0-9a-f]{14}$/.test(id)) return id as MachineId
  throw new PlatformError('not_found', 'machine not found')
}
