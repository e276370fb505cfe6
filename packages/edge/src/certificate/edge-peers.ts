import {
  edgeCertificatesBody,
  orderLeaseBody,
  orderLeaseReply,
  type Presented,
  presentBody,
} from '@roost/api'
import { type HttpListener, PlatformError, peerOf } from '@roost/base'
import type { Certificate, Host, HostId } from '@roost/core'
import type { FastifyRequest } from 'fastify'
import type { z } from 'zod'
import type { EdgeClients } from '../probe/edge-clients.ts'

/** What edges say to each other about certificates; the server is not needed for any of it. */
export interface EdgePeers {
  /** Its word that we alone order this name, for a while; or who else has it. */
  lease(
    host: Host,
    hostname: string,
    end: boolean,
    signal: AbortSignal,
  ): Promise<HostId | 'granted'>
  /** Resolves once it can be found there. */
  present(host: Host, what: Presented, signal: AbortSignal): Promise<void>
  tell(host: Host, certificates: readonly Certificate[], signal: AbortSignal): Promise<void>
}

/** Far edges are a third of a second away, and have to make HAProxy show it. */
const ASK_MS_MAX = 5_000

export function createEdgePeers(clients: EdgeClients): EdgePeers {
  const post = (host: Host, path: string, body: object, signal: AbortSignal) =>
    clients.of(host).json<unknown>('POST', path, body, { signal, timeoutMs: ASK_MS_MAX })
  return {
    async lease(host, hostname, end, signal) {
      const reply = await post(host, '/edge/v1/lease', { hostname, end }, signal)
      const { granted, by } = orderLeaseReply.parse(reply)
      return granted ? 'granted' : (by as HostId)
    },
    present: async (host, what, signal) => {
      await post(host, '/edge/v1/challenge', what, signal)
    },
    tell: async (host, certificates, signal) => {
      await post(host, '/edge/v1/certificates', { certificates }, signal)
    },
  }
}

/** The other end. */
export interface PeerDesk {
  lease(from: HostId, hostname: string, end: boolean): HostId | 'granted'
  present(what: Presented): Promise<void>
  heard(certificates: readonly Certificate[]): void
}

export function addPeerRoutes(listener: HttpListener, desk: PeerDesk): void {
  const { app } = listener
  app.post('/edge/v1/lease', async (request) => {
    const from = edgeOf(request)
    const { hostname, end } = checked(orderLeaseBody, request.body)
    const by = desk.lease(from, hostname, end)
    return { granted: by === 'granted', by: by === 'granted' ? from : by }
  })
  app.post('/edge/v1/challenge', async (request) => {
    edgeOf(request)
    await desk.present(checked(presentBody, request.body))
    return { ok: true }
  })
  app.post('/edge/v1/certificates', async (request) => {
    edgeOf(request)
    desk.heard(checked(edgeCertificatesBody, request.body).certificates)
    return { ok: true }
  })
}

function edgeOf(request: FastifyRequest): HostId {
  const match = /^roost:\/\/edge\/([0-9a-f]+)$/.exec(peerOf(request) ?? '')
  if (match === null) throw new PlatformError('forbidden', 'this is for edges alone')
  return match[1] as HostId
}

function checked<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new PlatformError('invalid', `${issue?.path.join('.')}: ${issue?.message}`)
}
