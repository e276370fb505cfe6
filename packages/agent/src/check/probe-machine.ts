import { type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { createConnection } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import type { CheckSpec } from '@roost/core'

export interface ProbeResult {
  readonly passing: boolean
  /** What a person is shown. */
  readonly output: string
  /** Nobody listens on the port. */
  readonly refused?: boolean
}

/** One run of a check. When `signal` aborts it lets go of its connection; what it returns then is not looked at. */
export type Probe = (spec: CheckSpec, address: string, signal: AbortSignal) => Promise<ProbeResult>

/** By connecting to the machine's private address, as an edge would. */
export const probeMachine: Probe = (spec, address, signal) =>
  spec.type === 'http' ? probeHttp(spec, address, signal) : probeTcp(spec, address, signal)

/** The same over a connection that leads there in another way. */
export function probeHttpOver(
  spec: CheckSpec,
  open: () => Duplex,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return probeHttp(spec, '127.0.0.1', signal, open)
}

/** Read of a body, for its first words; the rest is not waited for. */
const BODY_BYTES_MAX = 1024
const BODY_MS_MAX = 250
const BODY_CHARS_SHOWN = 160

function probeTcp(spec: CheckSpec, address: string, signal: AbortSignal): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port: spec.port, signal })
    socket.once('connect', () => {
      resolve({ passing: true, output: 'Success' })
      socket.destroy()
    })
    socket.on('error', (error) => resolve(failure(error)))
  })
}

/** Any 2xx passes; redirects are not followed. */
function probeHttp(
  spec: CheckSpec,
  address: string,
  signal: AbortSignal,
  open?: () => Duplex,
): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const tls = spec.protocol === 'https'
    const secured = {
      rejectUnauthorized: spec.tls_skip_verify !== true,
      ...(spec.tls_server_name ? { servername: spec.tls_server_name } : {}),
    }
    // With an agent, also none of its own, Node would connect by itself.
    const connection =
      open === undefined
        ? { agent: false as const }
        : {
            createConnection: () => (tls ? connectTls({ socket: open(), ...secured }) : open()),
          }
    let answered = false
    const headers: Record<string, string | string[]> = { 'user-agent': 'roost-check' }
    for (const { name, values } of spec.headers ?? []) headers[name.toLowerCase()] = [...values]
    // A host is one, and not a list.
    if (Array.isArray(headers['host'])) headers['host'] = headers['host'][0] ?? ''
    const asked = (tls ? requestHttps : requestHttp)(
      {
        host: address,
        port: spec.port,
        method: spec.method ?? 'GET',
        path: spec.path ?? '/',
        headers,
        signal,
        ...(tls ? secured : {}),
        ...connection,
      },
      (reply) => {
        answered = true
        const status = reply.statusCode ?? 0
        const line = `${status} ${reply.statusMessage ?? ''}`.trim()
        void beginningOf(reply).then((body) => {
          asked.destroy()
          const said = body === '' ? '' : `: ${body}`
          const where = status >= 300 && status < 400 ? redirect(reply) : ''
          resolve({ passing: status >= 200 && status < 300, output: `${line}${where}${said}` })
        })
      },
    )
    asked.on('error', (error) => {
      // Who has answered may cut the connection in the middle of the body: the status is known.
      if (!answered || signal.aborted) resolve(failure(error))
    })
    asked.end()
  })
}

function redirect(reply: IncomingMessage): string {
  const { location } = reply.headers
  const to = location === undefined ? '' : ` to ${location.slice(0, 100)}`
  return `${to} (a check follows no redirect: name the path that answers with 2xx)`
}

/** What has come of a body by the time that a person could be shown something. Bounded in bytes and in time. */
function beginningOf(reply: IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const done = () => {
      clearTimeout(late)
      const text = Buffer.concat(chunks).subarray(0, BODY_BYTES_MAX).toString('utf8')
      resolve(printable(text).slice(0, BODY_CHARS_SHOWN))
    }
    const late = setTimeout(done, BODY_MS_MAX)
    reply.on('data', (chunk: Buffer) => {
      if (bytes >= BODY_BYTES_MAX) return
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes >= BODY_BYTES_MAX) done()
    })
    reply.once('end', done)
    reply.once('close', done)
    reply.on('error', done)
  })
}

function printable(text: string): string {
  return text
    .replace(/[^\P{C}\n\t]/gu, '')
    .replace(/\s+/g, ' ')
    .trim()
}

function failure(error: Error & { readonly code?: string }): ProbeResult {
  const { code = '' } = error
  const output = WORDS[code] ?? (code.startsWith('HPE_') ? 'the answer is not HTTP' : error.message)
  return { passing: false, output, ...(code === 'ECONNREFUSED' ? { refused: true } : {}) }
}

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was closed without an answer',
  EPIPE: 'the connection was closed without an answer',
  EHOSTUNREACH: 'the machine has no network',
  ENETUNREACH: 'the machine has no network',
  ETIMEDOUT: 'no answer',
  EPROTO: 'the port does not speak TLS',
  ERR_SSL_WRONG_VERSION_NUMBER: 'the port does not speak TLS',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'the port does not speak TLS',
  DEPTH_ZERO_SELF_SIGNED_CERT:
    'the certificate is signed by itself: set tls_skip_verify = true to accept it',
  SELF_SIGNED_CERT_IN_CHAIN:
    'the certificate is of an unknown authority: set tls_skip_verify = true to accept it',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'the certificate is of an unknown authority: set tls_skip_verify = true to accept it',
  CERT_HAS_EXPIRED: 'the certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID:
    'the certificate is for another name: set tls_server_name to one that it has',
}
