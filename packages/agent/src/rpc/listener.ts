import { agentLogsQuery, ERRORS, type LogLine } from '@roost/api'
import {
  type Clock,
  createHttpListener,
  type HttpListener,
  type ListenerTls,
  type Logger,
  PlatformError,
  peerOf,
  sendLines,
} from '@roost/base'
import type { MachineId } from '@roost/core'
import type { LogKeeper } from '../log/machine-logs.ts'

const ALIVE_MS = 10_000

export interface AgentListenerOptions {
  /** Without it anybody may ask: for tests. */
  readonly tls?: ListenerTls
  readonly logs: Pick<LogKeeper, 'has' | 'readLogs'>
  readonly health: () => Promise<object>
  readonly clock: Clock
  readonly log: Logger
}

/** What the server may ask of a host, and nobody else: the mesh is not enough to be let in. */
export function createAgentListener(options: AgentListenerOptions): HttpListener {
  const { logs, clock, log, tls } = options
  const listener = createHttpListener({
    log,
    errors: ERRORS,
    ...(tls === undefined ? {} : { tls }),
  })
  const { app } = listener
  if (tls !== undefined)
    app.addHook('onRequest', async (request) => {
      if (peerOf(request) !== 'roost://server')
        throw new PlatformError('forbidden', 'only the server may ask this of a host')
    })

  app.get('/agent/v1/health', async () => options.health())

  app.get<{ Params: { id: string } }>('/agent/v1/machines/:id/logs', async (request, reply) => {
    const machine = request.params.id as MachineId
    const query = agentLogsQuery.safeParse(request.query)
    if (!query.success)
      throw new PlatformError('invalid', `logs: ${query.error.issues[0]?.message}`)
    if (!/^[0-9a-f]{14}$/.test(machine) || !logs.has(machine))
      throw new PlatformError('not_found', `machine ${machine} has said nothing on this host`)
    const { lines, follow, after, container } = query.data
    await sendLines(
      reply,
      (signal) =>
        follow === 'true'
          ? withSigns(logs, { machine, lines, after, container, signal }, clock)
          : logs.readLogs({ machine, lines, after, container, follow: false, signal }),
      { log },
    )
    return reply
  })
  return listener
}

/** What there was, `{}`, then what comes, with `{}` whenever nothing came for 10 s. */
async function* withSigns(
  logs: Pick<LogKeeper, 'readLogs'>,
  asked: Omit<Parameters<LogKeeper['readLogs']>[0], 'follow'>,
  clock: Clock,
): AsyncIterable<LogLine | Record<string, never>> {
  const lines = logs.readLogs({ ...asked, follow: true })[Symbol.asyncIterator]()
  let next = lines.next()
  try {
    for (;;) {
      const quiet = new AbortController()
      const silence = clock
        .sleep(ALIVE_MS, AbortSignal.any([quiet.signal, asked.signal]))
        .then(() => 'silence' as const)
      const came = await Promise.race([next, silence])
      quiet.abort()
      if (asked.signal.aborted) return
      if (came === 'silence') {
        yield {}
        continue
      }
      if (came.done) return
      yield came.value ?? {}
      next = lines.next()
    }
  } finally {
    void lines.return?.(undefined)
  }
}
