import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { PlatformError } from '@roost/base'

/** A repository at one registry, spoken to by the distribution protocol. */
export interface RegistryRepository {
  /** For messages: `docker.io/library/debian`. */
  readonly name: string
  /** `https://10.210.4.1:5000`. */
  readonly url: string
  /** Path of the repository at that registry. */
  readonly path: string
  /** PEM of the authority that signed its certificate; null: the public ones. */
  readonly ca: string | null
  /** A token to begin with; null: ask for one without a name, when told to. */
  readonly token: ((signal: AbortSignal) => Promise<string>) | null
}

const HEADERS_TIMEOUT_MS = 15_000
const IDLE_TIMEOUT_MS = 30_000
const REDIRECTS_MAX = 5
const MANIFEST_BYTES_MAX = 4_000_000

export const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]

/** One pull's conversation with a registry: it keeps the token that it got. */
export class RegistryClient {
  readonly repository: RegistryRepository
  #token: string | null = null

  constructor(repository: RegistryRepository) {
    this.repository = repository
  }

  /** Undefined where the registry has no such manifest, or doesn't show it to us. */
  async manifest(
    digest: string,
    signal: AbortSignal,
  ): Promise<{ mediaType: string; body: Buffer } | undefined> {
    const reply = await this.#get(
      `manifests/${digest}`,
      { accept: MANIFEST_TYPES.join(', ') },
      signal,
    )
    if (reply.statusCode !== 200) {
      reply.destroy()
      if ([401, 403, 404].includes(reply.statusCode ?? 0)) return undefined
      throw this.#refused(`manifest ${digest}`, reply)
    }
    const body = await readAll(reply, MANIFEST_BYTES_MAX)
    const mediaType = String(reply.headers['content-type'] ?? '').split(';')[0] ?? ''
    return { mediaType, body }
  }

  /** The blob's bytes from `offset` on. */
  async blob(digest: string, offset: number, signal: AbortSignal): Promise<IncomingMessage> {
    const reply = await this.#get(
      `blobs/${digest}`,
      offset > 0 ? { range: `bytes=${offset}-` } : {},
      signal,
    )
    if (reply.statusCode === 206 && offset > 0) return reply
    if (reply.statusCode !== 200) {
      reply.destroy()
      throw this.#refused(`blob ${digest}`, reply)
    }
    if (offset > 0) await skip(reply, offset)
    return reply
  }

  async #get(
    what: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { repository } = this
    const url = new URL(`/v2/${repository.path}/${what}`, repository.url)
    if (this.#token === null && repository.token) this.#token = await repository.token(signal)
    const first = await this.#send(url, headers, signal)
    if (first.statusCode !== 401) return first
    const challenge = first.headers['www-authenticate']
    first.destroy()
    this.#token = repository.token
      ? await repository.token(signal)
      : await this.#anonymousToken(challenge, signal)
    return this.#send(url, headers, signal)
  }

  async #send(
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    let at = url
    for (let n = 0; n <= REDIRECTS_MAX; n++) {
      // Blobs are often elsewhere; that place must not see our token.
      const authorization =
        this.#token !== null && at.origin === url.origin
          ? { authorization: `Bearer ${this.#token}` }
          : {}
      const reply = await this.#open(at, { ...headers, ...authorization }, signal)
      const location = reply.headers.location
      if (![301, 302, 303, 307, 308].includes(reply.statusCode ?? 0) || !location) return reply
      reply.destroy()
      at = new URL(location, at)
    }
    throw new PlatformError('unavailable', `registry ${this.repository.name}`, {
      cause: new Error(`more than ${REDIRECTS_MAX} redirects`),
      retry: 'later',
    })
  }

  #open(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> {
    const { ca, name } = this.repository
    return new Promise((resolve, reject) => {
      const open = url.protocol === 'https:' ? httpsRequest : httpRequest
      const request = open(url, {
        headers,
        signal,
        timeout: IDLE_TIMEOUT_MS,
        ...(ca === null ? {} : { ca }),
      })
      const late = setTimeout(
        () => request.destroy(new Error(`no answer within ${HEADERS_TIMEOUT_MS} ms`)),
        HEADERS_TIMEOUT_MS,
      )
      request.on('timeout', () => request.destroy(new Error('the connection went silent')))
      request.on('error', (cause) => {
        clearTimeout(late)
        reject(
          new PlatformError('unavailable', `registry ${name} at ${url.host}`, {
            cause,
            retry: 'later',
          }),
        )
      })
      request.on('response', (reply) => {
        clearTimeout(late)
        resolve(reply)
      })
      request.end()
    })
  }

  /** Public registries want a token too, and give one to anybody. */
  async #anonymousToken(
    challenge: string | undefined,
    signal: AbortSignal,
  ): Promise<string | null> {
    const parameters = parseChallenge(challenge)
    if (!parameters?.['realm']) return null
    const realm = new URL(parameters['realm'])
    if (parameters['service']) realm.searchParams.set('service', parameters['service'])
    realm.searchParams.set(
      'scope',
      parameters['scope'] ?? `repository:${this.repository.path}:pull`,
    )
    const reply = await this.#open(realm, { accept: 'application/json' }, signal)
    if (reply.statusCode !== 200) {
      reply.destroy()
      return null
    }
    const body = JSON.parse((await readAll(reply, 1_000_000)).toString('utf8')) as {
      token?: string
      access_token?: string
    }
    return body.token ?? body.access_token ?? null
  }

  #refused(what: string, reply: IncomingMessage): PlatformError {
    return new PlatformError('unavailable', `${this.repository.name}: ${what}`, {
      cause: new Error(`the registry answered ${reply.statusCode}`),
      retry: 'later',
    })
  }
}

/** `Bearer realm="…",service="…",scope="…"`. */
export function parseChallenge(header: string | undefined): Record<string, string> | null {
  const match = /^Bearer\s+(.*)$/i.exec(header ?? '')
  if (!match?.[1]) return null
  return Object.fromEntries(
    [...match[1].matchAll(/(\w+)="([^"]*)"/g)].map((m) => [(m[1] ?? '').toLowerCase(), m[2] ?? '']),
  )
}

async function readAll(reply: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of reply as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bytesMax) throw new Error(`the registry's answer is above ${bytesMax} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** For registries that know no ranges. */
async function skip(reply: IncomingMessage, bytes: number): Promise<void> {
  let left = bytes
  while (left > 0) {
    const chunk = reply.read() as Buffer | null
    if (chunk === null) {
      if (reply.readableEnded || reply.destroyed) return
      await new Promise((resolve) => {
        reply.once('readable', resolve)
        reply.once('close', resolve)
      })
      continue
    }
    if (chunk.length > left) reply.unshift(chunk.subarray(left))
    left -= Math.min(left, chunk.length)
  }
}
