import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { connect as tlsConnect } from 'node:tls'
import { PlatformError, retry, systemClock } from '@roost/base'

/** A registry that speaks the distribution API, with a bearer token where it asks for one. */
export interface RegistryClient {
  /** Fails on a network error only, after three tries where asking twice changes nothing: the caller looks at the status. The body must be read or thrown away. */
  request(call: RegistryCall): Promise<IncomingMessage>
}

export interface RegistryCall {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH'
  /** `/v2/…`, or a whole URL where the registry sent one. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** Text, or a file that is streamed. */
  readonly body?: string | { readonly file: string; readonly size: number }
}

export interface RegistryClientOptions {
  readonly url: string
  /** PEM of the authority that signed its certificate; absent: the well-known ones. */
  readonly ca?: string | undefined
  /** Sent as bearer token. */
  readonly token?: string | undefined
  /** File of a network namespace to connect from: a registry on a mesh is not reachable from everywhere. */
  readonly netns?: string | undefined
  readonly signal?: AbortSignal | undefined
  /** Without a byte for as long, a request is given up. Default 30 s. */
  readonly idleMs?: number
}

/** A registry that is just coming up may end a connection without a word: what changes nothing is asked again. */
const TRIES_MAX = 3

export function createRegistryClient(options: RegistryClientOptions): RegistryClient {
  const { signal } = options
  const once = createAsker(options)
  return {
    request: (call) =>
      retry(
        systemClock,
        {
          attemptsMax: call.method === 'GET' || call.method === 'HEAD' ? TRIES_MAX : 1,
          firstMs: 300,
          ...(signal === undefined ? {} : { signal }),
        },
        () => once.request(call),
      ),
  }
}

function createAsker(options: RegistryClientOptions): RegistryClient {
  return {
    async request(call) {
      const url = new URL(call.path, options.url)
      const headers: Record<string, string> = { ...call.headers }
      // A redirect to a blob store must not be shown our token.
      if (options.token !== undefined && url.origin === new URL(options.url).origin)
        headers['authorization'] = `Bearer ${options.token}`
      if (typeof call.body === 'string')
        headers['content-length'] = String(Buffer.byteLength(call.body))
      if (typeof call.body === 'object') headers['content-length'] = String(call.body.size)
      const secure = url.protocol === 'https:'
      const idleMs = options.idleMs ?? 30_000
      try {
        const outgoing = (secure ? httpsRequest : httpRequest)(url, {
          method: call.method,
          headers,
          timeout: idleMs,
          ...(options.ca === undefined ? {} : { ca: options.ca }),
          ...(options.signal === undefined ? {} : { signal: options.signal }),
          ...(options.netns === undefined
            ? { agent: false }
            : // Only without an agent is this asked for.
              { createConnection: () => connectFrom(options.netns ?? '', url, options.ca) }),
        })
        outgoing.on('timeout', () =>
          outgoing.destroy(new Error(`no byte for ${idleMs} ms from ${url.host}`)),
        )
        const reply = new Promise<IncomingMessage>((resolve, reject) => {
          outgoing.once('response', resolve)
          outgoing.once('error', reject)
        })
        if (typeof call.body === 'object') {
          const sent = pipeline(createReadStream(call.body.file), outgoing)
          // An early refusal ends the upload; the reply says why.
          await Promise.race([sent, reply])
          sent.catch(() => {})
        } else outgoing.end(call.body)
        return await reply
      } catch (cause) {
        throw new PlatformError('unavailable', `${call.method} ${url.origin}${url.pathname}`, {
          cause,
          retry: 'later',
        })
      }
    },
  }
}

/** Opens a connection from another network namespace: a small program there copies bytes between it and us. */
function connectFrom(netns: string, url: URL, ca: string | undefined): Duplex {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  const child = spawn('nsenter', [`--net=${netns}`, 'busybox', 'nc', host, port], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const wire = Duplex.from({ readable: child.stdout, writable: child.stdin })
  const said: Buffer[] = []
  child.stderr.on('data', (chunk: Buffer) => said.length < 8 && said.push(chunk))
  child.on('error', (error) => wire.destroy(error))
  child.on('close', () => {
    const text = Buffer.concat(said).toString('utf8').trim()
    if (text !== '') wire.destroy(new Error(text))
  })
  wire.on('close', () => child.kill('SIGKILL'))
  wire.on('error', () => {})
  if (url.protocol !== 'https:') return wire
  const secured = tlsConnect({ socket: wire, host, ...(ca === undefined ? {} : { ca }) })
  secured.on('close', () => wire.destroy())
  wire.on('close', () => secured.destroy())
  return secured
}

/** Whole body, at most 8 MB. */
export async function readBody(reply: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of reply as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > 8_000_000) throw new PlatformError('image_unusable', 'reply of a registry over 8 MB')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Asks Roost for a token, as `docker login` would. */
export async function registryTokenFor(options: {
  readonly apiUrl: string
  readonly ca?: string | undefined
  readonly apiToken: string
  readonly repository: string
  readonly actions: readonly string[]
  readonly signal?: AbortSignal | undefined
}): Promise<string> {
  const client = createRegistryClient({
    url: options.apiUrl,
    ca: options.ca,
    signal: options.signal,
    idleMs: 10_000,
  })
  const query = new URLSearchParams({
    service: 'registry.internal',
    scope: `repository:${options.repository}:${options.actions.join(',')}`,
  })
  const reply = await client.request({
    method: 'GET',
    path: `/api/v1/registry/token?${query}`,
    headers: {
      authorization: `Basic ${Buffer.from(`roost:${options.apiToken}`).toString('base64')}`,
    },
  })
  const text = await readBody(reply)
  if (reply.statusCode !== 200)
    throw new PlatformError(
      reply.statusCode === 401 ? 'unauthorized' : 'unavailable',
      `token for ${options.repository}`,
      { cause: new Error(`${reply.statusCode}: ${text.slice(0, 300)}`) },
    )
  return (JSON.parse(text) as { token: string }).token
}
