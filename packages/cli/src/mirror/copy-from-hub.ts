import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { PlatformError } from '@roost/base'
import {
  addBlob,
  blobPath,
  buildLayout,
  type Descriptor,
  finishLayout,
  type ImageLayout,
  readImage,
} from './image-layout.ts'
import { createRegistryClient, type RegistryClient, readBody } from './registry-client.ts'

const MANIFESTS = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ')

export interface Upstream {
  /** `https://registry-1.docker.io`. */
  readonly url: string
  readonly ca?: string
}
export const DOCKER_HUB: Upstream = { url: 'https://registry-1.docker.io' }

/** Whether that registry answers at all, asked for at most three seconds. */
export async function isReachable(upstream: Upstream): Promise<boolean> {
  const client = createRegistryClient({ ...upstream, signal: AbortSignal.timeout(3000) })
  try {
    const reply = await client.request({ method: 'GET', path: '/v2/' })
    reply.resume()
    return reply.statusCode === 200 || reply.statusCode === 401
  } catch {
    return false
  }
}

/** The image for this machine's architecture as a layout in `dir`; what is there already is not fetched again. */
export async function copyFromHub(
  upstream: Upstream,
  image: { readonly repository: string; readonly tag: string },
  dir: string,
  signal?: AbortSignal,
): Promise<ImageLayout> {
  const client = await authorized(upstream, image.repository, signal)
  const { text, mediaType } = await fetchManifest(client, image.repository, image.tag)
  const kept = await readImage(dir)
  if (kept?.manifest.digest === digestOf(text)) return kept
  return buildLayout(dir, async (draft) => {
    const manifest = await addBlob(draft, mediaType, text)
    const document = JSON.parse(text) as { config: Descriptor; layers: Descriptor[] }
    for (const blob of [document.config, ...document.layers])
      await fetchBlob(client, image.repository, blob, draft)
    await finishLayout(draft, manifest)
  })
}

async function authorized(
  upstream: Upstream,
  repository: string,
  signal: AbortSignal | undefined,
): Promise<RegistryClient> {
  const anonymous = createRegistryClient({ ...upstream, signal })
  const reply = await anonymous.request({ method: 'GET', path: '/v2/' })
  reply.resume()
  const challenge = String(reply.headers['www-authenticate'] ?? '')
  const realm = /realm="([^"]+)"/.exec(challenge)?.[1]
  if (reply.statusCode !== 401 || realm === undefined) return anonymous
  const url = new URL(realm)
  const service = /service="([^"]+)"/.exec(challenge)?.[1]
  if (service !== undefined) url.searchParams.set('service', service)
  url.searchParams.set('scope', `repository:${repository}:pull`)
  const answer = await createRegistryClient({ ...upstream, url: url.origin, signal }).request({
    method: 'GET',
    path: `${url.pathname}${url.search}`,
  })
  const text = await readBody(answer)
  if (answer.statusCode !== 200)
    throw new PlatformError('unavailable', `token for ${repository} from ${url.host}`, {
      cause: new Error(`${answer.statusCode}: ${text.slice(0, 200)}`),
    })
  const { token } = JSON.parse(text) as { token: string }
  return createRegistryClient({ ...upstream, token, signal })
}

async function fetchManifest(
  client: RegistryClient,
  repository: string,
  reference: string,
): Promise<{ text: string; mediaType: string }> {
  const reply = await client.request({
    method: 'GET',
    path: `/v2/${repository}/manifests/${reference}`,
    headers: { accept: MANIFESTS },
  })
  const text = await readBody(reply)
  if (reply.statusCode !== 200)
    throw new PlatformError(
      reply.statusCode === 404 ? 'image_not_found' : 'unavailable',
      `fetch ${repository}:${reference}`,
      { cause: new Error(`${reply.statusCode}: ${text.slice(0, 200)}`) },
    )
  const document = JSON.parse(text) as {
    mediaType?: string
    manifests?: { digest: string; platform?: { os: string; architecture: string } }[]
  }
  if (document.manifests === undefined) {
    const sent = String(reply.headers['content-type'] ?? '').split(';')[0] ?? ''
    return { text, mediaType: document.mediaType ?? sent }
  }
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch
  const ours = document.manifests.find(
    ({ platform }) => platform?.os === 'linux' && platform.architecture === architecture,
  )
  if (ours === undefined)
    throw new PlatformError('image_unusable', `${repository}:${reference} for ${architecture}`)
  const found = await fetchManifest(client, repository, ours.digest)
  if (digestOf(found.text) !== ours.digest)
    throw new PlatformError('image_unusable', `${repository}@${ours.digest}: another checksum`)
  return found
}

async function fetchBlob(
  client: RegistryClient,
  repository: string,
  blob: Descriptor,
  dir: string,
): Promise<void> {
  const path = blobPath(dir, blob.digest)
  await mkdir(dirname(path), { recursive: true })
  let reply = await client.request({
    method: 'GET',
    path: `/v2/${repository}/blobs/${blob.digest}`,
  })
  for (let hops = 0; hops < 5 && reply.headers.location !== undefined; hops++) {
    reply.resume()
    reply = await client.request({ method: 'GET', path: reply.headers.location })
  }
  if (reply.statusCode !== 200)
    throw new PlatformError('unavailable', `fetch ${blob.digest} of ${repository}`, {
      cause: new Error(`status ${reply.statusCode}`),
    })
  const hash = createHash('sha256')
  const seen = new Transform({
    transform(chunk, _encoding, done) {
      hash.update(chunk)
      done(null, chunk)
    },
  })
  await pipeline(reply, seen, createWriteStream(`${path}.part`))
  const { size } = await stat(`${path}.part`)
  if (size !== blob.size || `sha256:${hash.digest('hex')}` !== blob.digest)
    throw new PlatformError('image_unusable', `${blob.digest} of ${repository}: another checksum`, {
      retry: 'later',
    })
  await rename(`${path}.part`, path)
}

function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}
