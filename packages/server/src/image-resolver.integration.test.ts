import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@roost/base'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { openAuthority } from './authority/authority.ts'
import { createImageResolver, type ImageResolver } from './image-resolver.ts'
import { openRegistryTokens, type RegistryTokens } from './registry/registry-tokens.ts'

/** Against the real image store, with a certificate of our authority and our tokens. */
let folder: string
let registry: ChildProcess
let ca: string
let url: string
let tokens: RegistryTokens
let resolver: ImageResolver

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'image-resolver-'))
  const at = (name: string) => join(folder, name)
  const authority = await openAuthority({ dataDir: at('authority'), clock: systemClock })
  await authority.keepCertificate(
    { certificate: at('tls.pem'), key: at('tls.key') },
    { uris: ['roost://registry'], ips: ['127.0.0.1'] },
  )
  tokens = await openRegistryTokens({
    dataDir: at('tokens'),
    bundleFile: at('bundle.pem'),
    clock: systemClock,
  })
  ca = authority.ca
  const port = await freePort()
  url = `https://127.0.0.1:${port}`
  mkdirSync(at('images'))
  const config = {
    version: '0.1',
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: at('images') } },
    http: { addr: `127.0.0.1:${port}`, tls: { certificate: at('tls.pem'), key: at('tls.key') } },
    auth: {
      token: {
        realm: 'https://127.0.0.1:1/token',
        service: 'registry.internal',
        issuer: 'roost',
        rootcertbundle: at('bundle.pem'),
      },
    },
  }
  writeFileSync(at('config.yml'), JSON.stringify(config))
  registry = spawn('/usr/bin/docker-registry', ['serve', at('config.yml')], { stdio: 'ignore' })
  await vi.waitFor(async () => expect((await send('GET', '/v2/')).status).toBe(401), {
    timeout: 20_000,
    interval: 50,
  })
  resolver = createImageResolver({
    registry: { name: 'registry.internal', url },
    ca,
    tokens,
    clock: systemClock,
  })
})
afterAll(async () => {
  registry.kill('SIGKILL')
  if (registry.exitCode === null && registry.signalCode === null) await once(registry, 'exit')
  rmSync(folder, { recursive: true, force: true })
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

function send(
  method: string,
  path: string,
  options: { token?: string; body?: string; type?: string } = {},
): Promise<{ status: number; location: string }> {
  const { token, body, type = 'application/octet-stream' } = options
  const headers = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'content-type': type, 'content-length': body.length }),
  }
  return new Promise((resolve, reject) => {
    const sent = request(new URL(path, url), { method, ca, headers, agent: false }, (reply) => {
      reply.resume()
      reply.on('end', () =>
        resolve({ status: reply.statusCode ?? 0, location: reply.headers.location ?? '' }),
      )
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`

/** The smallest image there is: no layers. Returns the digest of its manifest. */
async function push(repository: string, tag: string): Promise<string> {
  const { token } = await tokens.issue({
    subject: 'test',
    access: [{ repository, actions: ['pull', 'push'] }],
  })
  const config = JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: {}, for: repository })
  const { location } = await send('POST', `/v2/${repository}/blobs/uploads/`, { token })
  const blob = new URL(location, url)
  blob.searchParams.set('digest', digestOf(config))
  expect((await send('PUT', blob.href, { token, body: config })).status).toBe(201)
  const type = 'application/vnd.docker.distribution.manifest.v2+json'
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: type,
    config: {
      mediaType: 'application/vnd.docker.container.image.v1+json',
      size: config.length,
      digest: digestOf(config),
    },
    layers: [],
  })
  const path = `/v2/${repository}/manifests/${tag}`
  expect((await send('PUT', path, { token, body: manifest, type })).status).toBe(201)
  return digestOf(manifest)
}

test('what was pushed is found by tag and by digest, a mirrored one by its public name', async () => {
  const shop = await push('shop', 'v1')
  const image = 'registry.internal/shop:v1'
  expect(await resolver.resolve(image)).toEqual({ image, digest: shop })
  const pinned = `registry.internal/shop@${shop}`
  expect(await resolver.resolve(pinned)).toEqual({ image: pinned, digest: shop })
  const debian = await push('docker.io/library/debian', 'bookworm-slim')
  expect(await resolver.resolve('debian:bookworm-slim')).toEqual({
    image: 'docker.io/library/debian:bookworm-slim',
    digest: debian,
  })
})

test('what was not pushed is not found', async () => {
  for (const name of ['registry.internal/none:v1', 'registry.internal/shop:none'])
    await expect(resolver.resolve(name)).rejects.toMatchObject({ code: 'image_not_found' })
})
