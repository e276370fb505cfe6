import {
  certificateReportBody,
  ERRORS,
  edgeCertificateBody,
  heartbeatBody,
  type Peer,
  registryTokenBody,
  statusesBody,
  watchQuery,
} from '@roost/api'
import {
  createHttpListener,
  type HttpListener,
  type ListenerTls,
  type Logger,
  PlatformError,
  peerOf,
  sendLines,
} from '@roost/base'
import type { Draining, HostId, MachineStatus } from '@roost/core'
import type { FastifyRequest } from 'fastify'
import type { z } from 'zod'
import type { ControlPlane } from '../control-plane.ts'

/** What agents and edges call, over mTLS: their certificate says who they are, and so what they hear and may say. */
export function createInternalListener(
  control: ControlPlane,
  log: Logger,
  tls?: ListenerTls,
): HttpListener {
  const listener = createHttpListener({
    log,
    errors: ERRORS,
    bodyBytesMax: 16_000_000,
    ...(tls === undefined ? {} : { tls }),
  })
  const { app } = listener

  app.get('/internal/v1/watch', async (request, reply) => {
    const peer = peerFrom(request)
    const { since } = checked(watchQuery, request.query)
    await control.refuseUnknown(peer)
    await sendLines(reply, (signal) => control.watch(peer, since, signal), { log })
    return reply
  })

  app.post('/internal/v1/statuses', async (request) => {
    const peer = peerFrom(request)
    if (peer.program !== 'agent')
      throw new PlatformError('forbidden', 'only agents report statuses')
    const { statuses } = checked(statusesBody, request.body)
    return { ok: true, ahead: await control.report(peer.host, statuses as MachineStatus[]) }
  })

  app.post('/internal/v1/heartbeat', async (request) => {
    const peer = peerFrom(request)
    const beat = checked(heartbeatBody, request.body)
    await control.heartbeat(peer, {
      applied: beat.applied,
      draining: beat.draining as readonly Draining[],
      disk: beat.disk,
      program: beat.program,
    })
    return { ok: true }
  })

  app.post('/internal/v1/registry-token', async (request) => {
    const peer = peerFrom(request)
    if (peer.program !== 'agent') throw new PlatformError('forbidden', 'only agents pull images')
    return control.registryToken(peer.host, checked(registryTokenBody, request.body))
  })

  app.post('/internal/v1/edge-certificate', async (request) => {
    const peer = peerFrom(request)
    if (peer.program !== 'edge')
      throw new PlatformError('forbidden', 'only edges answer for the domain')
    const { csr } = checked(edgeCertificateBody, request.body)
    return control.edgeCertificate(peer, csr)
  })

  app.post('/internal/v1/certificates', async (request) => {
    const peer = peerFrom(request)
    if (peer.program !== 'edge') throw new PlatformError('forbidden', 'only edges order them')
    await control.certificateReport(peer, checked(certificateReportBody, request.body))
    return { ok: true }
  })

  return listener
}

export type HostPeer = Exclude<Peer, { readonly program: 'server' }>

function peerFrom(request: FastifyRequest): HostPeer {
  const match = /^roost:\/\/(agent|edge)\/([0-9a-f]+)$/.exec(peerOf(request) ?? '')
  if (match === null)
    throw new PlatformError('forbidden', 'this is for agents and edges, by their certificates')
  return { program: match[1] as 'agent' | 'edge', host: match[2] as HostId }
}

function checked<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new PlatformError('invalid', `${issue?.path.join('.')}: ${issue?.message}`)
}
