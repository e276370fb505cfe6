import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { clientFor } from './connect.ts'
import { openSocket } from './open-socket.ts'

const folder = mkdtempSync(join(tmpdir(), 'roost-authorities-'))
const before = getCACertificates('default')
const closing: Server[] = []

beforeAll(() => {
  for (const name of ['own', 'known', 'neither']) found(name)
  setDefaultCACertificates([...before, pem('known')])
})
afterEach(async () => {
  for (const server of closing.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})
afterAll(() => {
  setDefaultCACertificates(before)
  rmSync(folder, { recursive: true })
})

test('the authority of the installation is enough: one connection, and what it sends is answered', async () => {
  const server = await serve('own')
  expect(await ask(server.url)).toEqual([])
  expect(await speak(server.url)).toBe('open')
  expect(server.heard).toEqual({ connections: 2, tokens: ['Bearer secret', 'Bearer secret'] })
})

test('an authority that the system knows is as good, and asked for after that of the installation', async () => {
  const server = await serve('known')
  expect(await ask(server.url)).toEqual([])
  expect(await speak(server.url)).toBe('open')
  expect(server.heard).toEqual({ connections: 4, tokens: ['Bearer secret', 'Bearer secret'] })
})

test('who has a certificate of neither hears nothing', async () => {
  const server = await serve('neither')
  const unreached = { name: 'ServerUnreached' }
  await expect(ask(server.url)).rejects.toMatchObject(unreached)
  await expect(speak(server.url)).rejects.toMatchObject(unreached)
  expect(server.heard.tokens).toEqual([])
})

function ask(url: string) {
  return clientFor({ url, ca: pem('own'), token: 'secret' }).listRegions({})
}

async function speak(url: string): Promise<string> {
  const env = {
    HOME: folder,
    ROOST_API_URL: url,
    ROOST_API_TOKEN: 'secret',
    ROOST_API_CA: join(folder, 'own.pem'),
  }
  const params = { app: 'shop' }
  const socket = await openSocket({ env }, 'openPort', params)
  socket.close()
  return 'open'
}

/** A server at 127.0.0.1 with a certificate by that authority, and what came to it. */
async function serve(authority: string) {
  const heard = { connections: 0, tokens: [] as (string | undefined)[] }
  const [key, cert] = [pem(`${authority}-key`), pem(`${authority}-server`)]
  const server = createServer({ key, cert: cert + pem(authority) }, (request, response) => {
    heard.tokens.push(request.headers.authorization)
    response.setHeader('content-type', 'application/json')
    response.end('[]')
  })
  const sockets = new WebSocketServer({ noServer: true })
  server.on('connection', () => heard.connections++)
  server.on('upgrade', (request, socket, head) => {
    heard.tokens.push(request.headers.authorization)
    sockets.handleUpgrade(request, socket, head, () => {})
  })
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(server)
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, heard }
}

function pem(name: string): string {
  return readFileSync(join(folder, `${name}.pem`), 'utf8')
}

/** An authority, and a certificate by it for 127.0.0.1. */
function found(name: string): void {
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
  const root = ['-keyout', 'root.key', '-out', `${name}.pem`, '-subj', `/CN=${name}`]
  openssl('req', '-x509', ...key, ...root)
  writeFileSync(join(folder, 'names'), 'subjectAltName=IP:127.0.0.1')
  const leaf = ['-keyout', `${name}-key.pem`, '-out', 'leaf.csr', '-subj', '/CN=server']
  openssl('req', ...key.slice(0, -2), ...leaf)
  const sign = ['-CA', `${name}.pem`, '-CAkey', 'root.key', '-CAcreateserial', '-days', '1']
  const out = ['-extfile', 'names', '-in', 'leaf.csr', '-out', `${name}-server.pem`]
  openssl('x509', '-req', ...sign, ...out)
}
