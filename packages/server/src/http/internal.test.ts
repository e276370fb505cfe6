import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import type { RecordValues, WatchEvent } from '@roost/api'
import {
  createPeerClient,
  createRecordCache,
  follow,
  type HttpListener,
  type PeerClient,
  silentLogger,
  systemClock,
} from '@roost/base'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openAuthority } from '../authority/authority.ts'
import { type ControlPlane, createControlPlane, type Deps, memoryDeps } from '../control-plane.ts'
import { createInternalListener } from './internal.ts'
import { trialHost } from './trial-host.ts'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

let dataDir: string
let deps: Deps
let control: ControlPlane
let listener: HttpListener
let url: string
const clients: PeerClient[] = []

beforeEach(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'internal-'))
  const authority = await openAuthority({ dataDir, clock: systemClock })
  deps = memoryDeps({ clock: systemClock, change: { authority } })
  control = createControlPlane(deps)
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  const certificate = await authority.issueCertificate({ uris: ['roost://server'] })
  listener = createInternalListener(control, silentLogger, {
    ...certificate,
    clientCa: authority.ca,
  })
  const [bound] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
  url = `https://127.0.0.1:${bound?.port}`
})
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close()
  await listener.close(100)
  await deps.store.close()
  rmSync(dataDir, { recursive: true })
})

async function keyAndRequest(): Promise<{ key: string; csr: string }> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const csr = await x509.Pkcs10CertificateRequestGenerator.create(
    { name: 'CN=x', keys, signingAlgorithm: ALGORITHM },
    webcrypto,
  )
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.toString('base64')}\n-----END PRIVATE KEY-----\n`
  return { key, csr: csr.toString('pem') }
}

interface Joined {
  readonly host_id: string
  readonly ca: string
  readonly agent_certificate: string
  readonly edge_certificate: string
}

/** A host that joins as a real one does, and clients for its agent and edge. */
async function joinHost(name: string) {
  const { token } = (await control.call('createJoinToken')) as { token: string }
  const [agent, edge] = [await keyAndRequest(), await keyAndRequest()]
  const joined = (await control.call('joinHost', {
    caller: null,
    body: {
      ...trialHost(name),
      token,
      agent_csr: agent.csr,
      edge_csr: edge.csr,
    },
  })) as Joined
  const client = (certificate: string, key: string) => {
    const made = createPeerClient({
      url,
      tls: { ca: joined.ca, certificate, key },
      expect: 'roost://server',
    })
    clients.push(made)
    return made
  }
  return {
    id: joined.host_id,
    agent: client(joined.agent_certificate, agent.key),
    edge: client(joined.edge_certificate, edge.key),
  }
}

const failure = (work: Promise<unknown>) => work.then(() => null).catch((error: unknown) => error)

test('a host that has joined hears what concerns it, and goes on hearing', async () => {
  const host = await joinHost('ams-1')
  const cache = createRecordCache<RecordValues>({ file: ':memory:', log: silentLogger })
  const stop = new AbortController()
  const following = follow({
    connect: (since, signal) =>
      host.agent.lines<WatchEvent>('GET', `/internal/v1/watch?since=${since}`, { signal }),
    cache,
    onChange: () => {},
    clock: systemClock,
    log: silentLogger,
    signal: stop.signal,
  })
  await expect.poll(() => cache.list('host').map((one) => one.name)).toEqual(['ams-1'])
  await control.call('createApp', { body: { name: 'shop' } })
  await control.call('createMachine', {
    params: { app: 'shop' },
    body: { config: { image: 'registry.internal/shop' } },
  })
  await expect.poll(() => cache.list('assignment').map((one) => one.app)).toEqual(['shop'])
  expect(cache.list('machine')).toEqual([])
  expect(cache.get('settings', 'settings')?.domain).toBe('roost.test')
  stop.abort()
  await following
})

test('each program may say what is its own, by its certificate', async () => {
  const { id, agent, edge } = await joinHost('ams-1')
  expect(await agent.json('POST', '/internal/v1/statuses', { statuses: [] })).toEqual({
    ok: true,
    ahead: {},
  })
  expect(await failure(edge.json('POST', '/internal/v1/statuses', { statuses: [] }))).toMatchObject(
    { code: 'forbidden', message: 'only agents report statuses' },
  )
  await agent.json('POST', '/internal/v1/heartbeat', { applied: 3 })
  await edge.json('POST', '/internal/v1/heartbeat', { applied: 2, draining: [] })
  expect(deps.presence.edge(id as never)).toMatchObject({ applied: 2, draining: [] })
  const [host] = (await control.call('listHosts')) as { agent_seen_at: string | null }[]
  expect(host?.agent_seen_at).not.toBeNull()

  const token = { repository: 'shop', push: false }
  expect(await agent.json('POST', '/internal/v1/registry-token', token)).toMatchObject({
    token: 'registry-token',
  })
  expect(await failure(edge.json('POST', '/internal/v1/registry-token', token))).toMatchObject({
    code: 'forbidden',
  })
  expect(await failure(agent.json('POST', '/internal/v1/heartbeat', {}))).toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('applied'),
  })
})

test('an edge gets a certificate for the domain', async () => {
  const { agent, edge } = await joinHost('ams-1')
  const { csr } = await keyAndRequest()
  const reply = await edge.json<{ certificate: string }>('POST', '/internal/v1/edge-certificate', {
    csr,
  })
  const [own = ''] = reply.certificate.split(/(?<=-----END CERTIFICATE-----\n)/)
  const names = new x509.X509Certificate(own).getExtension(x509.SubjectAlternativeNameExtension)
  expect(names?.names.items.map((name) => name.value)).toEqual(['roost.test', '*.roost.test'])
  expect(await failure(agent.json('POST', '/internal/v1/edge-certificate', { csr }))).toMatchObject(
    { code: 'forbidden' },
  )
})

test('a host that was removed is told so', async () => {
  const { id, agent } = await joinHost('ams-1')
  await control.call('removeHost', { params: { host: id } })
  expect(await failure(agent.json('POST', '/internal/v1/heartbeat', { applied: 0 }))).toMatchObject(
    { code: 'forbidden', message: `host ${id} was removed` },
  )
  const reading = (async () => {
    for await (const _ of agent.lines('GET', '/internal/v1/watch'));
  })()
  expect(await failure(reading)).toMatchObject({ code: 'forbidden' })
})
