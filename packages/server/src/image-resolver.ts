import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { type Clock, describeError, PlatformError } from '@roost/base'
import type { RegistryTokens } from './registry/registry-tokens.ts'

/** An image that a machine may run. */
export interface ResolvedImage {
  /** The reference with the name under which hosts pull it: `registry.internal/shop:v3`, `docker.io/library/debian:bookworm-slim`. */
  readonly image: string
  /** `sha256:…` of the manifest, or of the index that lists one for each architecture. */
  readonly digest: string
}

/** What the server needs of the image store. Throws `image_not_found` for what isn't there. */
export interface ImageResolver {
  resolve(reference: string, signal?: AbortSignal): Promise<ResolvedImage>
  /** Whether it is there at all. Throws `unavailable` when it is not. */
  answers?(signal: AbortSignal): Promise<void>
}

/** An image reference in its parts. Exactly one of tag and digest decides; a digest goes before a tag. */
export interface ImageReference {
  readonly registry: string
  readonly repository: string
  readonly tag: string | null
  readonly digest: string | null
}

const HUB = 'docker.io'
const HUB_HOST = 'registry-1.docker.io'
const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ')
const OWN_TIMEOUT_MS = 5_000
const PUBLIC_TIMEOUT_MS = 10_000
const KNOWN_MAX = 1_000
const KNOWN_MS = 60_000
const REPLY_BYTES_MAX = 100_000

/** As docker reads it: `node` is `docker.io/library/node:latest`. Throws `invalid`. */
export function parseReference(text: string): ImageReference {
  const match =
    /^(?<name>[a-zA-Z0-9][a-zA-Z0-9._:/-]*?)(?::(?<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?<digest>sha256:[0-9a-f]{64}))?$/.exec(
      text,
    )
  const name = match?.groups?.['name'] ?? ''
  const slash = name.indexOf('/')
  const first = slash === -1 ? '' : name.slice(0, slash)
  const hasRegistry = /[.:]/.test(first) || first === 'localhost'
  const registry = hasRegistry ? first : HUB
  const path = hasRegistry ? name.slice(slash + 1) : name
  const repository = registry === HUB && !path.includes('/') ? `library/${path}` : path
  if (!match || !/^[a-z0-9]+([._/-]+[a-z0-9]+)*$/.test(repository))
    throw new PlatformError('invalid', `${text} is no image reference`)
  const digest = match.groups?.['digest'] ?? null
  const tag = match.groups?.['tag'] ?? null
  return { registry, repository, tag: tag ?? (digest === null ? 'latest' : null), digest }
}

/** The reference with the name under which hosts pull it. */
export function imageName({ registry, repository, tag, digest }: ImageReference): string {
  const name = `${registry}/${repository}`
  return `${name}${tag === null ? '' : `:${tag}`}${digest === null ? '' : `@${digest}`}`
}

/** Of the own image store. */
export function imageNotPushed(reference: ImageReference): PlatformError {
  return new PlatformError(
    'image_not_found',
    `image ${imageName(reference)} not found: nothing of that name was pushed`,
  )
}

/**
 * Asks the installation's own image store, by a token for that one repository; for other registries' names first its mirror,
 * where they lie as `docker.io/library/…`, then the registry itself.
 */
export function createImageResolver(options: {
  readonly registry: { readonly name: string; readonly url: string }
  /** PEM of the authority that signed the store's certificate. */
  readonly ca: string
  readonly tokens: RegistryTokens
  readonly clock: Clock
}): ImageResolver {
  const { registry: own, ca, tokens, clock } = options
  /** A digest never means anything else, so that what was there a moment ago need not be asked for again. */
  const known = new Map<string, number>()

  async function askOwn(
    repository: string,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<string | null> {
    const { token } = await tokens.issue({
      subject: 'server',
      access: [{ repository, actions: ['pull'] }],
    })
    const reply = await ask(`${own.url}/v2/${repository}/manifests/${what}`, {
      method: 'HEAD',
      headers: { accept: ACCEPT, authorization: `Bearer ${token}` },
      ca,
      timeoutMs: OWN_TIMEOUT_MS,
      signal,
    }).catch((cause) => {
      throw new PlatformError('unavailable', 'the image store does not answer', {
        cause,
        retry: 'later',
      })
    })
    if (reply.status === 404) return null
    if (reply.status !== 200)
      throw new PlatformError(
        'unavailable',
        `the image store answers ${reply.status} for ${repository}`,
        { retry: 'later' },
      )
    return digestOf(reply.headers)
  }

  async function find(
    reference: ImageReference,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<string | null> {
    const { registry, repository } = reference
    if (registry === own.name) return askOwn(repository, what, signal)
    const mirrored = await askOwn(`${registry}/${repository}`, what, signal)
    return mirrored ?? askPublic(reference, what, signal)
  }

  return {
    async answers(signal) {
      const rest = { ca, timeoutMs: OWN_TIMEOUT_MS, signal }
      const reply = await ask(`${own.url}/v2/`, { method: 'GET', headers: {}, ...rest }).catch(
        (cause) => {
          throw new PlatformError('unavailable', `the image store at ${own.url} does not answer`, {
            cause,
            retry: 'later',
          })
        },
      )
      // Without a token it refuses, which is an answer.
      if (reply.status !== 401 && reply.status !== 200)
        throw new PlatformError(
          'unavailable',
          `the image store at ${own.url} answers ${reply.status}`,
        )
    },
    async resolve(text, signal) {
      const reference = parseReference(text)
      const { registry, repository, tag, digest } = reference
      const name = `${registry}/${repository}`
      const image = imageName(reference)
      const key = `${name}@${digest}`
      if (digest !== null && clock.now() < (known.get(key) ?? 0)) return { image, digest }
      const found = await find(reference, digest ?? tag ?? 'latest', signal)
      if (found === null)
        throw registry === own.name
          ? imageNotPushed(reference)
          : new PlatformError('image_not_found', `image ${image} not found`)
      if (known.size >= KNOWN_MAX) known.clear()
      known.set(`${name}@${found}`, clock.now() + KNOWN_MS)
      return { image, digest: found }
    },
  }
}

/** null: it has no such image, or shows it to nobody without a login. Throws `image_not_found` when it can't be asked. */
async function askPublic(
  { registry, repository }: ImageReference,
  what: string,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  const host = registry === HUB ? HUB_HOST : registry
  const url = `https://${host}/v2/${repository}/manifests/${what}`
  const head = (headers: Record<string, string>) =>
    ask(url, {
      method: 'HEAD',
      headers: { accept: ACCEPT, ...headers },
      timeoutMs: PUBLIC_TIMEOUT_MS,
      signal,
    })
  try {
    let reply = await head({})
    if (reply.status === 401) {
      const token = await anonymousToken(reply.headers['www-authenticate'], signal)
      if (token === null) return null
      reply = await head({ authorization: `Bearer ${token}` })
    }
    return reply.status === 200 ? digestOf(reply.headers) : null
  } catch (cause) {
    signal?.throwIfAborted()
    throw new PlatformError(
      'image_not_found',
      `image ${registry}/${repository}:${what} is not in the mirror, and ${registry} can not be reached (${describeError(cause)})`,
      { cause },
    )
  }
}

async function anonymousToken(
  challenge: string | undefined,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  const part = (name: string) => new RegExp(`${name}="([^"]*)"`).exec(challenge ?? '')?.[1]
  const realm = part('realm')
  if (realm === undefined || !realm.startsWith('https://')) return null
  const url = new URL(realm)
  for (const name of ['service', 'scope']) {
    const value = part(name)
    if (value !== undefined) url.searchParams.set(name, value)
  }
  const reply = await ask(url.href, {
    method: 'GET',
    headers: {},
    timeoutMs: PUBLIC_TIMEOUT_MS,
    signal,
  })
  if (reply.status !== 200) return null
  const body = JSON.parse(reply.text) as { token?: string; access_token?: string }
  return body.token ?? body.access_token ?? null
}

function digestOf(headers: IncomingHttpHeaders): string | null {
  const digest = headers['docker-content-digest']
  return typeof digest === 'string' && /^sha256:[0-9a-f]{64}$/.test(digest) ? digest : null
}

interface Ask {
  readonly method: 'GET' | 'HEAD'
  readonly headers: Record<string, string>
  readonly ca?: string
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
}

function ask(
  url: string,
  { method, headers, ca, timeoutMs, signal }: Ask,
): Promise<{ status: number; headers: IncomingHttpHeaders; text: string }> {
  const deadline = AbortSignal.timeout(timeoutMs)
  const either = signal === undefined ? deadline : AbortSignal.any([signal, deadline])
  return new Promise((resolve, reject) => {
    const fail = (error: Error) =>
      reject(deadline.aborted ? new Error(`no answer within ${timeoutMs / 1000} s`) : error)
    const send = url.startsWith('https:') ? httpsRequest : httpRequest
    const outgoing = send(
      url,
      { method, headers, signal: either, ...(ca === undefined ? {} : { ca }) },
      (reply) => {
        let text = ''
        reply.setEncoding('utf8')
        reply.on('data', (chunk: string) => {
          text += chunk
          if (text.length > REPLY_BYTES_MAX) reply.destroy(new Error('the reply is too long'))
        })
        reply.on('end', () =>
          resolve({ status: reply.statusCode ?? 0, headers: reply.headers, text }),
        )
        reply.on('error', fail)
      },
    )
    outgoing.on('error', fail)
    outgoing.end()
  })
}
