import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttp, type RequestListener, type Server } from 'node:http'
import { createServer as createHttps } from 'node:https'
import {
  type AddressInfo,
  createConnection,
  createServer as createTcp,
  type Server as TcpServer,
} from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CheckSpec } from '@roost/core'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { probeHttpOver, probeMachine } from './probe-machine.ts'

const open: { servers: TcpServer[]; dir: string } = { servers: [], dir: '' }
const tls = { key: '', cert: '' }

beforeAll(() => {
  open.dir = mkdtempSync(join(tmpdir(), 'roost-probe-'))
  const [key, cert] = [join(open.dir, 'key.pem'), join(open.dir, 'cert.pem')]
  const what =
    '-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=shop.test'
  execFileSync(
    'openssl',
    [
      'req',
      ...what.split(' '),
      '-addext',
      'subjectAltName=DNS:shop.test',
      '-keyout',
      key,
      '-out',
      cert,
    ],
    { stdio: 'ignore' },
  )
  tls.key = readFileSync(key, 'utf8')
  tls.cert = readFileSync(cert, 'utf8')
})
afterEach(() => {
  for (const server of open.servers.splice(0)) {
    server.close()
    if ('closeAllConnections' in server) (server as Server).closeAllConnections()
  }
})
afterAll(() => rmSync(open.dir, { recursive: true }))

async function listen(server: TcpServer): Promise<number> {
  open.servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}
const http = (listener: RequestListener) => listen(createHttp(listener))
const https = (listener: RequestListener) => listen(createHttps(tls, listener))

const NEVER = new AbortController().signal
const specOf = (port: number, spec: Partial<CheckSpec>): CheckSpec => ({
  name: 'up',
  type: 'http',
  port,
  interval_ms: 1000,
  timeout_ms: 1000,
  grace_period_ms: 0,
  ...spec,
})
function probe(port: number, spec: Partial<CheckSpec> = {}, signal = NEVER) {
  return probeMachine(specOf(port, spec), '127.0.0.1', signal)
}

test('says the status and the first words of the body, in one line', async () => {
  const port = await http((_, reply) => {
    reply.writeHead(500).end('<h1>\n  no\u0007 database\u001b[31m</h1>')
  })
  expect(await probe(port)).toEqual({
    passing: false,
    output: '500 Internal Server Error: <h1> no database[31m</h1>',
  })
})

test('sends method, path and headers', async () => {
  const port = await http((request, reply) => {
    const { method, url, headers } = request
    reply.end(`${method} ${url} ${headers.host} ${headers['x-a']} ${headers['user-agent']}`)
  })
  const headers = [
    { name: 'Host', values: ['shop.example'] },
    { name: 'X-A', values: ['1', '2'] },
  ]
  expect(await probe(port, { method: 'POST', path: '/up?x=1', headers })).toEqual({
    passing: true,
    output: '200 OK: POST /up?x=1 shop.example 1, 2 roost-check',
  })
})

test('a redirect is no success, and its place is said', async () => {
  const port = await http((_, reply) => {
    reply.writeHead(301, { location: 'https://shop.example/' }).end()
  })
  expect(await probe(port)).toEqual({
    passing: false,
    output:
      '301 Moved Permanently to https://shop.example/ (a check follows no redirect: name the path that answers with 2xx)',
  })
})

test('a body without end costs a kilobyte and no time, and one that does not come is not waited for', async () => {
  const closed = { count: 0 }
  const port = await http((request, reply) => {
    reply.on('close', () => closed.count++)
    reply.writeHead(200)
    if (request.url === '/silent') {
      reply.flushHeaders()
      return
    }
    const more = () => {
      while (!reply.destroyed && reply.write('x'.repeat(10_000)));
      reply.once('drain', more)
    }
    more()
  })
  expect((await probe(port)).output).toBe(`200 OK: ${'x'.repeat(160)}`)
  expect(await probe(port, { path: '/silent' })).toEqual({ passing: true, output: '200 OK' })
  await vi.waitFor(() => expect(closed.count).toBe(2), { timeout: 5000 })
})

test('https: the certificate is looked at, unless it is said not to', async () => {
  const port = await https((_, reply) => reply.end('secure'))
  const secure = { protocol: 'https' } as const
  expect((await probe(port, secure)).output).toMatch(/^the certificate is signed by itself/)
  expect(await probe(port, { ...secure, tls_skip_verify: true })).toEqual({
    passing: true,
    output: '200 OK: secure',
  })
})

test('over a connection that leads elsewhere, nothing else is connected to', async () => {
  const plain = await http((_, reply) => reply.end('by another way'))
  const secure = await https((_, reply) => reply.end('secretly'))
  const over = (there: number, spec: Partial<CheckSpec> = {}) =>
    probeHttpOver(
      specOf(1, spec),
      () => createConnection({ host: '127.0.0.1', port: there }),
      NEVER,
    )
  expect(await over(plain)).toEqual({ passing: true, output: '200 OK: by another way' })
  expect(await over(secure, { protocol: 'https', tls_skip_verify: true })).toEqual({
    passing: true,
    output: '200 OK: secretly',
  })
})

test('what is no HTTP, no TLS or no listener is said in words', async () => {
  const mute = await listen(createTcp((socket) => socket.on('error', () => {}).end('SSH-2.0\r\n')))
  expect(await probe(mute)).toEqual({ passing: false, output: 'the answer is not HTTP' })
  expect(await probe(mute, { protocol: 'https' })).toEqual({
    passing: false,
    output: 'the port does not speak TLS',
  })
  expect(await probe(mute, { type: 'tcp' })).toEqual({ passing: true, output: 'Success' })
  const closes = await listen(createTcp((socket) => socket.destroy()))
  expect(await probe(closes)).toEqual({
    passing: false,
    output: 'the connection was closed without an answer',
  })
  const [server] = open.servers.splice(open.servers.length - 1)
  await new Promise((resolve) => server?.close(resolve))
  const refused = { passing: false, output: 'connection refused', refused: true }
  expect(await probe(closes)).toEqual(refused)
  expect(await probe(closes, { type: 'tcp' })).toEqual(refused)
})

test('a run that is given up lets go of its connection', async () => {
  const sockets = { open: 0 }
  const port = await listen(
    createTcp((socket) => {
      sockets.open++
      socket.on('error', () => {})
      socket.on('close', () => sockets.open--)
      socket.resume()
    }),
  )
  const over = new AbortController()
  const runs = Array.from({ length: 50 }, () => probe(port, {}, over.signal))
  await vi.waitFor(() => expect(sockets.open).toBe(50), { timeout: 5000 })
  over.abort()
  for (const { passing } of await Promise.all(runs)) expect(passing).toBe(false)
  await vi.waitFor(() => expect(sockets.open).toBe(0), { timeout: 5000 })
})
