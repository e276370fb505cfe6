import type { KeyObject, X509Certificate } from 'node:crypto'
import { request } from 'node:https'
import { isIP } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { ApiError, createApiClient, type Fetch } from '@roost/api'
import { Failure } from '../failure/failure.ts'
import { readJoinTicket } from './join-token.ts'

const CONNECT_MS_MAX = 10_000

type JoinBody = Parameters<ReturnType<typeof createApiClient>['joinHost']>[0]['body']

/** Asks the server to let a host in. Nothing is sent before its certificate has been checked with the key in the ticket. */
export async function join(url: string, ticket: string, about: Omit<JoinBody, 'token'>) {
  const { secret, authority } = readJoinTicket(ticket)
  const api = createApiClient({ baseUrl: url, fetch: fetchFrom(url, authority) })
  return api.joinHost({ body: { ...about, token: secret } }).catch((cause: unknown) => {
    if (!(cause instanceof ApiError) || cause.code !== 'unauthorized') throw cause
    throw new Failure('the server does not let this host in', {
      why: cause.message,
      fix: 'run `roost up` on the first host again: it prints a new join token',
      cause,
    })
  })
}

function fetchFrom(serverUrl: string, authority: KeyObject): Fetch {
  return async (url, init) => {
    const socket = await connectChecked(serverUrl, authority)
    return new Promise((resolve, reject) => {
      const outgoing = request(
        url,
        {
          method: init.method,
          headers: {
            ...init.headers,
            'content-length': Buffer.byteLength(String(init.body ?? '')),
          },
          createConnection: () => socket,
          timeout: init.timeoutMs,
        },
        (incoming) => {
          const chunks: Buffer[] = []
          incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
          incoming.on('error', reject)
          incoming.on('end', () =>
            resolve({
              status: incoming.statusCode ?? 0,
              headers: { get: (name) => String(incoming.headers[name] ?? '') || null },
              body: null,
              text: async () => Buffer.concat(chunks).toString('utf8'),
            }),
          )
        },
      )
      outgoing.on('timeout', () => outgoing.destroy(new Error('no answer')))
      outgoing.on('error', reject)
      outgoing.end(init.body as string)
    })
  }
}

function connectChecked(serverUrl: string, authority: KeyObject): Promise<TLSSocket> {
  const { hostname, port } = new URL(serverUrl)
  const host = hostname.replace(/^\[|\]$/g, '')
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port: Number(port) || 443,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      // Checked below, with the one key that counts.
      rejectUnauthorized: false,
      timeout: CONNECT_MS_MAX,
    })
    const fail = (why: string, cause?: unknown) => {
      socket.destroy()
      reject(new Failure(`the server at ${serverUrl} can't be joined`, { why, cause }))
    }
    socket.on('timeout', () => fail('it does not answer'))
    socket.on('error', (cause) => fail(cause.message, cause))
    socket.on('secureConnect', () => {
      const problem = problemWith(socket.getPeerX509Certificate(), authority, host)
      if (problem !== null) return fail(problem)
      socket.setTimeout(0)
      socket.removeAllListeners('error')
      return resolve(socket)
    })
  })
}

function problemWith(
  certificate: X509Certificate | undefined,
  authority: KeyObject,
  host: string,
): string | null {
  if (certificate === undefined || !certificate.verify(authority))
    return 'its certificate is not of the installation that this join token is for'
  const now = Date.now()
  if (now < certificate.validFromDate.getTime() || now > certificate.validToDate.getTime())
    return `its certificate is not valid now; this machine's clock says ${new Date(now).toISOString()}`
  const named = isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)
  return named === undefined ? `its certificate is not for ${host}` : null
}
