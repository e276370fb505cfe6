import 'reflect-metadata'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { webcrypto } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import type { WatchEvent } from '@roost/api'
import { createPeerClient, type PeerClient } from '@roost/base'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { trialHost } from './http/trial-host.ts'

/** The real server, its data on a file system of its own that is full for real. */
const MAIN = join(import.meta.dirname, 'main.ts')
const LIMIT = { timeout: 20_000, interval: 20 }
let folder: string
let disk: string
let config: string
let server: ChildProcess
const clients: PeerClient[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'server-disk-'))
  disk = join(folder, 'disk')
  mkdirSync(disk)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'server-disk', disk])
  config = join(folder, 'server.json')
  writeFileSync(
    config,
    JSON.stringify({
      dataDir: join(disk, 'data'),
      domain: 'roost.test',
      api: { addresses: ['127.0.0.1'], port: 0, hostnames: ['localhost'] },
      internal: { address: '127.0.0.1', port: 0 },
      internalUrl: 'https://127.0.0.1:4281',
      registry: { url: 'https://127.0.0.1:5000', tokenBundle: join(disk, 'bundle.pem') },
      tokenFile: join(disk, 'token'),
      logFile: join(folder, 'log'),
    }),
  )
})
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close()
  await end('SIGKILL')
  execFileSync('umount', [disk])
  rmSync(folder, { recursive: true })
})

async function end(signal: 'SIGKILL' | 'SIGTERM') {
  if (server.exitCode !== null || server.signalCode !== null) return
  server.kill(signal)
  await once(server, 'exit')
}

interface LogLine {
  readonly message: string
  readonly error?: string
  readonly api: readonly [string]
  readonly internal: readonly [string]
}
const logged = (): LogLine[] =>
  existsSync(join(folder, 'log'))
    ? readFileSync(join(folder, 'log'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
    : []

function launch(): void {
  rmSync(join(folder, 'log'), { force: true })
  server = spawn(process.execPath, [MAIN, '--config', config], { stdio: 'inherit' })
}

async function serving(): Promise<LogLine> {
  await expect.poll(() => logged().some((line) => line.message === 'serving'), LIMIT).toBe(true)
  return logged().find((line) => line.message === 'serving') as LogLine
}

/** Until not one byte more fits. */
function fill(): () => void {
  const name = join(disk, 'filler')
  const handle = openSync(name, 'w')
  for (const size of [65_536, 4_096, 1])
    try {
      for (;;) writeSync(handle, Buffer.alloc(size))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    }
  closeSync(handle)
  return () => rmSync(name)
}

function call(
  at: string,
  method: string,
  path: string,
  body?: object,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const ca = readFileSync(join(disk, 'data', 'ca.pem'), 'utf8')
  const token = readFileSync(join(disk, 'token'), 'utf8').trim()
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const asked = request(
      `https://${at}${path}`,
      { method, ca, headers, agent: false },
      (reply) => {
        let text = ''
        reply.on('data', (chunk) => {
          text += chunk
        })
        reply.on('end', () => resolve({ status: reply.statusCode ?? 0, body: JSON.parse(text) }))
      },
    )
    asked.on('error', reject)
    asked.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

async function keyAndRequest(): Promise<{ key: string; csr: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const csr = await x509.Pkcs10CertificateRequestGenerator.create(
    { name: 'CN=new', keys, signingAlgorithm: algorithm },
    webcrypto,
  )
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.toString('base64')}\n-----END PRIVATE KEY-----\n`
  return { key, csr: csr.toString('pem') }
}

/** A host that joined, by its agent's certificate. */
async function joined(at: LogLine): Promise<{ agent(internal: string): PeerClient }> {
  const { token } = (await call(at.api[0], 'POST', '/api/v1/hosts/join-tokens')).body
  const [agent, edge] = [await keyAndRequest(), await keyAndRequest()]
  const { status, body } = await call(at.api[0], 'POST', '/api/v1/hosts/join', {
    ...trialHost(),
    token,
    agent_csr: agent.csr,
    edge_csr: edge.csr,
  })
  expect(status).toBe(201)
  const tls = {
    ca: String(body['ca']),
    certificate: String(body['agent_certificate']),
    key: agent.key,
  }
  return {
    agent(internal) {
      const client = createPeerClient({ url: `https://${internal}`, tls, expect: 'roost://server' })
      clients.push(client)
      return client
    },
  }
}

async function firstWatch(client: PeerClient): Promise<string[]> {
  const heard: string[] = []
  const stop = new AbortController()
  for await (const event of client.lines<WatchEvent>('GET', '/internal/v1/watch?since=0', {
    signal: stop.signal,
  })) {
    heard.push(event.type === 'record' ? `${event.kind} ${event.id}` : event.type)
    if (event.type === 'synced') break
  }
  stop.abort()
  return heard
}

const create = (at: LogLine, name: string) =>
  call(at.api[0], 'POST', '/v1/apps', { app_name: name, org_slug: 'personal' })

test('a server on a full disk reads, is heard, refuses what it can not keep, starts again, and goes on when there is room', async () => {
  launch()
  const first = await serving()
  expect((await create(first, 'shop')).status).toBe(201)
  const host = await joined(first)
  const agent = host.agent(first.internal[0])
  await agent.json('POST', '/internal/v1/heartbeat', { applied: 1 })

  const makeRoom = fill()
  // Whatever still fits into the pages that there are: some time nothing does.
  const refusedIn = async (at: LogLine) => {
    for (let n = 0; n < 2000; n++) {
      const reply = await create(at, `filler-${n}`)
      if (reply.status === 201 || reply.status === 422) continue
      expect(reply.status).toBe(507)
      expect(reply.body).toMatchObject({
        code: 'disk_full',
        error: expect.stringMatching(/roost\.db: the file system of .* is full .*roost doctor/),
      })
      return `filler-${n}`
    }
    throw new Error('nothing was refused')
  }
  const refused = await refusedIn(first)
  const listed = await call(first.api[0], 'GET', '/v1/apps')
  expect(listed.status).toBe(200)
  expect(JSON.stringify(listed.body)).toContain('"shop"')
  expect(JSON.stringify(listed.body)).not.toContain(`"${refused}"`)
  await agent.json('POST', '/internal/v1/heartbeat', { applied: 1 })
  expect(await firstWatch(agent)).toContain('app shop')
  const asked = await agent.json<{ token: string }>('POST', '/internal/v1/registry-token', {
    repository: 'shop',
    push: false,
  })
  expect(asked.token).toMatch(/^ey/)

  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    await end(signal)
    launch()
    const again = await serving()
    expect((await call(again.api[0], 'GET', '/v1/apps')).status).toBe(200)
    // Its first word after a start is one that would be written down.
    const heard = host.agent(again.internal[0])
    await heard.json('POST', '/internal/v1/heartbeat', { applied: 1 })
    expect(await firstWatch(heard)).toContain('app shop')
    await refusedIn(again)
    // It stays up, and does not fill its log with the same complaint either.
    expect(server.exitCode).toBeNull()
    expect(logged().filter((line) => line.message.startsWith('lap of')).length).toBeLessThan(6)
  }

  makeRoom()
  const last = logged().find((line) => line.message === 'serving') as LogLine
  expect((await call(last.api[0], 'GET', '/api/v1/health')).status).toBe(200)
  expect((await create(last, 'after')).status).toBe(201)
})

test('a first start on a full disk says so and waits for room', async () => {
  const makeRoom = fill()
  launch()
  await expect
    .poll(
      () => logged().find((line) => line.message === 'can not start, and waits for room'),
      LIMIT,
    )
    .toMatchObject({ error: expect.stringContaining('is full') })
  expect(server.exitCode).toBeNull()
  makeRoom()
  await serving()
})
