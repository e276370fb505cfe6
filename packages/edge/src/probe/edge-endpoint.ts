import {
  type EdgeAliveReply,
  type EdgeTrafficReply,
  ERRORS,
  edgeAccessQuery,
  edgeTrafficQuery,
} from '@roost/api'
import {
  createHttpListener,
  type HttpListener,
  type Logger,
  PlatformError,
  peerOf,
  sendLines,
} from '@roost/base'
import type { FastifyRequest } from 'fastify'
import type { AccessLog } from '../numbers/access-log.ts'
import { type Numbers, RECENT_MINUTES } from '../numbers/numbers.ts'

/** Answers the probes of other edges, and the server's questions. Nobody else is told anything. */
export function createEdgeEndpoint(options: {
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string }
  readonly say: () => EdgeAliveReply
  readonly numbers: Pick<Numbers, 'recent' | 'page'>
  readonly access: Pick<AccessLog, 'follow'>
  readonly log: Logger
}): HttpListener {
  const { ca, certificate, key } = options.tls
  const { numbers, access, log } = options
  const { app, ...listener } = createHttpListener({
    log,
    tls: { certificate, key, clientCa: ca },
    errors: ERRORS,
  })
  app.get('/edge/v1/alive', async (request) => {
    const peer = peerOf(request)
    if (!peer?.startsWith('roost://edge/') && peer !== 'roost://server')
      throw new PlatformError('forbidden', 'this is for edges alone')
    return options.say()
  })
  app.get('/edge/v1/traffic', async (request): Promise<EdgeTrafficReply> => {
    refuseOthers(request)
    const query = edgeTrafficQuery.safeParse(request.query)
    if (!query.success) throw new PlatformError('invalid', 'app: which one?')
    return {
      minutes: RECENT_MINUTES,
      sources: numbers.recent(query.data.app).map(({ machine, concurrency, traffic }) => ({
        machine,
        concurrency,
        responses: traffic.responses,
        bytes_in: traffic.bytesIn,
        bytes_out: traffic.bytesOut,
        durations: [...traffic.durations],
      })),
    }
  })
  app.get('/edge/v1/access', async (request, reply) => {
    refuseOthers(request)
    const query = edgeAccessQuery.safeParse(request.query)
    if (!query.success) throw new PlatformError('invalid', 'app: which one?')
    const { app: name, machine = null, query: asked } = query.data
    await sendLines(reply, access.follow({ app: name, machine, query: asked === 'true' }), { log })
    return reply
  })
  app.get('/edge/v1/metrics', async (request, reply) => {
    refuseOthers(request)
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(await numbers.page())
  })
  return { app, ...listener }
}

function refuseOthers(request: FastifyRequest): void {
  if (peerOf(request) !== 'roost://server')
    throw new PlatformError('forbidden', 'this is for the server alone')
}
