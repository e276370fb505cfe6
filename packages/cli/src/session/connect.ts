import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import {
  type ApiClient,
  type ByteStream,
  createApiClient,
  type Fetch,
  type FetchReply,
  SIGNS_HEADER,
  VERSION,
  VERSION_HEADER,
  versionDifference,
} from '@roost/api'
import type { Agent, Dispatcher } from 'undici'
import type { CliContext } from '../cli-context.ts'
import { UPDATE } from '../failure/explain.ts'
import { Failure, usage } from '../failure/failure.ts'
import { type Context, knownContext, readContexts } from './contexts.ts'
import { hintOfNewer } from './newer-hint.ts'

/** Which server is spoken to, as whom, and where that was said. */
export interface Server {
  readonly url: string
  readonly token: string
  readonly ca: string | null
  /** `ROOST_API_URL` or the name of a context. */
  readonly from: string
}

/**
 * `--context` goes before ROOST_API_URL, that before ROOST_CONTEXT, that before the context in use. A URL that a context knows
 * borrows its authority and token. FLY_API_TOKEN is never read: it is Fly's, and no other server's to see.
 */
export function chosenServer(context: Pick<CliContext, 'env'>): Server {
  const { env } = context
  const contexts = readContexts(env)
  const url = env['ROOST_API_URL']
  const stored = url
    ? contexts.all.find((one) => sameUrl(one.url, url))
    : env['ROOST_CONTEXT']
      ? knownContext(env['ROOST_CONTEXT'], env)
      : contexts.all.find((one) => one.name === contexts.current)
  const token = env['ROOST_API_TOKEN'] || stored?.token
  const at = url || stored?.url
  if (at === undefined)
    throw new Failure('no server is known', {
      why: 'ROOST_API_URL is not set and nobody has logged in here',
      fix: [
        'roost playground up --regions ams,iad,syd   # a server on this machine',
        'roost auth login URL',
      ],
      exitCode: 3,
      code: 'no_server',
    })
  if (token === undefined)
    throw new Failure(`there is no token for ${at}`, {
      why: url
        ? 'ROOST_API_URL names it, but ROOST_API_TOKEN is not set, and nobody has logged in to it here'
        : null,
      fix: [`roost auth login ${at} --token-file FILE`, 'or set ROOST_API_TOKEN'],
      exitCode: 4,
    })
  return {
    url: checkedUrl(at),
    token,
    ca: authority(env['ROOST_API_CA'], stored),
    from: url ? 'ROOST_API_URL' : (stored?.name ?? ''),
  }
}

export function connect(context: Pick<CliContext, 'env' | 'stderr'>): ApiClient {
  return clientFor(chosenServer(context), context)
}

type Known = Pick<Server, 'url' | 'ca'> & { readonly token?: string; readonly from?: string }

/** `context`: who is told, once a day, that the server is newer. */
export function clientFor(
  server: Known,
  context: Pick<CliContext, 'env' | 'stderr'> | null = null,
): ApiClient {
  return createApiClient({
    baseUrl: server.url,
    token: server.token,
    fetch: fetchFrom(server, (version) => heardVersion(server.url, version, context)),
    userAgent: `roost-cli/${VERSION}`,
    version: VERSION,
  })
}

function heardVersion(
  url: string,
  version: string | null,
  context: Pick<CliContext, 'env' | 'stderr'> | null,
): void {
  if (version === null) return
  const difference = versionDifference(VERSION, version)
  if (difference === 'incompatible')
    throw new Failure(`the server at ${url} is Roost ${version}, this command line is ${VERSION}`, {
      why: 'versions with different first numbers do not understand each other',
      fix: UPDATE,
      exitCode: 3,
      code: 'version_mismatch',
    })
  if (difference === 'newer' && context !== null) hintOfNewer(context, version)
}

/** What was thrown on the way to the server; the explanation names it, and where its URL is from. */
export class ServerUnreached extends Error {
  readonly serverUrl: string
  /** `ROOST_API_URL`, or `the context NAME`; null: it was typed. */
  readonly from: string | null
  /** By the server's clock, as far as that could be asked for; null: not known. */
  readonly serverTime: string | null
  constructor(
    serverUrl: string,
    cause: unknown,
    more: { readonly from?: string | null; readonly serverTime?: string | null } = {},
  ) {
    super(`reach ${serverUrl}`, { cause })
    this.name = 'ServerUnreached'
    this.serverUrl = serverUrl
    this.from = more.from ?? null
    this.serverTime = more.serverTime ?? null
  }
}

const CONNECT_TIMEOUT_MS = 10_000
const TIME_TIMEOUT_MS = 3_000
/** A build may be silent for long, and so may a log. Both are resumed or told when this is over. */
const SILENCE_MS_MAX = 30 * 60_000
/** Signs of life that a server promised and that don't come, before it is taken for gone. */
const SIGNS_MISSED_MAX = 3

function fetchFrom(server: Known, heard: (version: string | null) => void): Fetch {
  const { url: serverUrl, ca } = server
  const from =
    server.from === undefined
      ? null
      : server.from === 'ROOST_API_URL'
        ? server.from
        : `the context ${server.from}`
  const lost = (cause: unknown, serverTime: string | null = null) =>
    new ServerUnreached(serverUrl, cause, { from, serverTime })
  const state: { agent: Agent | null } = { agent: null }
  return async (url, init) => {
    const { Agent, connectorFor, request } = await import('./send-request.ts')
    state.agent ??= new Agent({ connect: connectorFor(ca, CONNECT_TIMEOUT_MS) })
    const signal = init.signal as AbortSignal | undefined
    const sent = init.body === undefined ? null : outgoing(init.body)
    try {
      const reply = await request(url, {
        method: init.method as 'GET',
        headers: init.headers,
        body: sent?.body ?? null,
        dispatcher: state.agent,
        headersTimeout: init.timeoutMs ?? SILENCE_MS_MAX,
        bodyTimeout: init.timeoutMs ?? SILENCE_MS_MAX,
        ...(signal === undefined ? {} : { signal }),
      })
      const answer = replyOf(reply, lost, signal)
      // A refusal says more than we know.
      if (answer.status !== 426) {
        try {
          heard(answer.headers.get(VERSION_HEADER))
        } catch (error) {
          reply.body.on('error', () => {}).destroy()
          throw error
        }
      }
      return answer
    } catch (cause) {
      if (signal?.aborted || (cause instanceof Error && cause.name === 'Failure')) throw cause
      const failure = sent?.failure()
      if (failure !== undefined) throw failure
      throw lost(cause, isOfTime(cause) ? await timeOf(serverUrl) : null)
    }
  }
}

function isOfTime(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  return code === 'CERT_NOT_YET_VALID' || code === 'CERT_HAS_EXPIRED'
}

/** What time it is at a server whose certificate can't be believed: nothing secret is sent there, and nothing else is read. */
async function timeOf(url: string): Promise<string | null> {
  const { Agent, request } = await import('./send-request.ts')
  const dispatcher = new Agent({ connect: { timeout: TIME_TIMEOUT_MS, rejectUnauthorized: false } })
  try {
    const reply = await request(`${url}/api/v1/health`, {
      dispatcher,
      headersTimeout: TIME_TIMEOUT_MS,
    })
    reply.body.on('error', () => {}).destroy()
    const { date } = reply.headers
    return typeof date === 'string' ? date : null
  } catch {
    return null
  } finally {
    await dispatcher.destroy()
  }
}

/** What goes wrong while a body is made is no fault of the connection. */
function outgoing(body: string | ByteStream): { body: string | Readable; failure(): unknown } {
  if (typeof body === 'string') return { body, failure: () => undefined }
  const state: { failure: unknown } = { failure: undefined }
  const watched = async function* () {
    try {
      yield* body
    } catch (error) {
      state.failure = error
      throw error
    }
  }
  return {
    body: Readable.from(watched(), { objectMode: false }),
    failure: () => state.failure,
  }
}

function replyOf(
  reply: Dispatcher.ResponseData,
  unreached: (cause: unknown) => ServerUnreached,
  signal: AbortSignal | undefined,
): FetchReply {
  const lost = (cause: unknown) => (signal?.aborted ? cause : unreached(cause))
  const header = (name: string) => {
    const value = reply.headers[name.toLowerCase()]
    return Array.isArray(value) ? (value[0] ?? null) : (value ?? null)
  }
  // Servers before these signs say nothing of them: their silence means nothing.
  const silenceMs = Number(header(SIGNS_HEADER) ?? 0) * 1000 * SIGNS_MISSED_MAX
  const giveUp = () =>
    reply.body.destroy(new Error(`the server has said nothing for ${silenceMs / 1000} s`))
  return {
    status: reply.statusCode,
    headers: { get: header },
    text: () =>
      reply.body.text().catch((cause) => {
        throw lost(cause)
      }),
    body: {
      getReader() {
        const chunks = reply.body[Symbol.asyncIterator]()
        return {
          read: async () => {
            const silence = silenceMs > 0 ? setTimeout(giveUp, silenceMs) : undefined
            try {
              const { done, value } = await chunks.next()
              return done ? { done: true } : { done: false, value: value as Uint8Array }
            } catch (cause) {
              throw lost(cause)
            } finally {
              clearTimeout(silence)
            }
          },
          cancel: async () => {
            reply.body.on('error', () => {}).destroy()
          },
        }
      },
    },
  }
}

function authority(path: string | undefined, stored: Context | undefined): string | null {
  if (path === undefined || path === '') return stored?.ca ?? null
  return readAuthority(path, 'ROOST_API_CA')
}

/** `said`: what named the file, for the complaint. */
export function readAuthority(path: string, said: string): string {
  try {
    const pem = readFileSync(path, 'utf8')
    if (!pem.includes('-----BEGIN CERTIFICATE-----'))
      throw new Error('there is no certificate in PEM in it')
    return pem
  } catch (cause) {
    throw new Failure(`${said} names ${path}, which can't be used`, {
      why: cause instanceof Error ? cause.message : String(cause),
      exitCode: 2,
      cause,
    })
  }
}

/** As the server is called everywhere: without a slash at its end. */
export function checkedUrl(url: string): string {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
    throw usage(`"${url}" is no URL of a server: it looks like https://203.0.113.7:4280`)
  const { protocol, hostname } = new URL(url)
  if (protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname))
    throw usage(`${url} would send the token for all to read`, url.replace(/^http:/i, 'https:'))
  return url.replace(/\/+$/, '')
}

function sameUrl(a: string, b: string): boolean {
  return a.replace(/\/+$/, '') === b.replace(/\/+$/, '')
}
