import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { PlatformError } from '@roost/base'
import { blobPath, type Descriptor, type ImageLayout } from './image-layout.ts'
import { type RegistryClient, readBody } from './registry-client.ts'

/** Brings an image into a repository under a tag: what is there already is not sent again. */
export async function pushImage(
  client: RegistryClient,
  image: ImageLayout,
  target: { readonly repository: string; readonly tag: string },
): Promise<{ sentBytes: number }> {
  const manifest = await readFile(blobPath(image.dir, image.manifest.digest), 'utf8')
  let sentBytes = 0
  for (const blob of image.blobs)
    sentBytes += await pushBlob(client, image.dir, blob, target.repository)
  const reply = await client.request({
    method: 'PUT',
    path: `/v2/${target.repository}/manifests/${target.tag}`,
    headers: { 'content-type': image.manifest.mediaType },
    body: manifest,
  })
  await expectStatus(reply, 201, `push ${target.repository}:${target.tag}`)
  return { sentBytes }
}

/** Digest of what a tag names; null when there is none. */
export async function tagDigest(
  client: RegistryClient,
  repository: string,
  tag: string,
): Promise<string | null> {
  const reply = await client.request({
    method: 'HEAD',
    path: `/v2/${repository}/manifests/${tag}`,
    headers: {
      accept: [
        'application/vnd.oci.image.manifest.v1+json',
        'application/vnd.docker.distribution.manifest.v2+json',
      ].join(', '),
    },
  })
  reply.resume()
  if (reply.statusCode === 404) return null
  if (reply.statusCode !== 200)
    throw new PlatformError('unavailable', `look up ${repository}:${tag}`, {
      cause: new Error(`status ${reply.statusCode}`),
    })
  return String(reply.headers['docker-content-digest'] ?? '') || null
}

async function pushBlob(
  client: RegistryClient,
  dir: string,
  blob: Descriptor,
  repository: string,
): Promise<number> {
  const doing = `push ${blob.digest.slice(0, 19)} to ${repository}`
  const known = await client.request({
    method: 'HEAD',
    path: `/v2/${repository}/blobs/${blob.digest}`,
  })
  known.resume()
  if (known.statusCode === 200) return 0
  const begun = await client.request({
    method: 'POST',
    path: `/v2/${repository}/blobs/uploads/`,
    headers: { 'content-type': 'application/octet-stream' },
    body: '',
  })
  await expectStatus(begun, 202, doing)
  const at = new URL(String(begun.headers.location), 'https://registry.internal')
  at.searchParams.set('digest', blob.digest)
  const done = await client.request({
    method: 'PUT',
    path: `${at.pathname}${at.search}`,
    headers: { 'content-type': 'application/octet-stream' },
    body: { file: blobPath(dir, blob.digest), size: blob.size },
  })
  await expectStatus(done, 201, doing)
  return blob.size
}

async function expectStatus(reply: IncomingMessage, status: number, doing: string): Promise<void> {
  const text = await readBody(reply)
  if (reply.statusCode === status) return
  throw new PlatformError(
    reply.statusCode === 401 || reply.statusCode === 403 ? 'forbidden' : 'unavailable',
    doing,
    { cause: new Error(`${reply.statusCode}: ${text.trim().slice(0, 300)}`), retry: 'later' },
  )
}
