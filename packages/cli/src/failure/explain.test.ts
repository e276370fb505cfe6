import 'reflect-metadata'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startTrialServer, type TrialServer, trialTerminal } from '../session/trial-server.ts'

let folder = ''
const open: { close(): unknown }[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-explain-'))
})
afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
  rmSync(folder, { recursive: true, force: true })
})

const DAY_MS = 86_400_000
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** A TLS server with its own authority; `from` and `to` are days from now in which its certificate is valid. */
async function tlsServer(from: number, to: number, options: { name?: string; date?: Date } = {}) {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=trial',
    notBefore: new Date(Date.now() + from * DAY_MS),
    notAfter: new Date(Date.now() + to * DAY_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.SubjectAlternativeNameExtension([
        options.name === undefined
          ? { type: 'ip', value: '127.0.0.1' }
          : { type: 'dns', value: options.name },
      ]),
      new x509.BasicConstraintsExtension(true, 1, true),
    ],
  })
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey))
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.toString('base64')}\n-----END PRIVATE KEY-----\n`
  const pem = certificate.toString('pem')
  const seen: (string | undefined)[] = []
  const server = createServer({ key, cert: pem }, (request, reply) => {
    seen.push(request.headers.authorization)
    reply.setHeader('date', (options.date ?? new Date()).toUTCString())
    reply.end('{}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  open.push({ close: () => server.close().closeAllConnections() })
  const ca = join(folder, 'ca.pem')
  writeFileSync(ca, pem)
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, ca, seen }
}

const ask = (url: string, env: Record<string, string> = {}) =>
  trialTerminal({
    cwd: folder,
    env: { ROOST_API_URL: url, ROOST_API_TOKEN: 'token', ...env },
  }).run('regions')

describe('a server that is not reached: which one, from where, and what is wrong', () => {
  test('nothing listens there', async () => {
    const { code, err } = await ask('https://127.0.0.1:9')
    expect(code).toBe(3)
    expect(err).toContain('Error: no server listens at https://127.0.0.1:9\n')
    expect(err).toContain('The URL is from ROOST_API_URL.')
  })

  test('a name that DNS does not know', async () => {
    const { code, err } = await ask('https://roost.invalid:4280')
    expect(code).toBe(3)
    expect(err).toMatch(/Error: the name roost\.invalid is not known\n {2}DNS (knows|does not)/)
  })

  test('the context that names it is said', async () => {
    const config = join(folder, '.config/roost')
    const context = { url: 'https://127.0.0.1:9', token: 't', ca: null }
    const terminal = trialTerminal({ cwd: folder })
    const { mkdirSync } = await import('node:fs')
    mkdirSync(config, { recursive: true })
    writeFileSync(
      join(config, 'config.json'),
      JSON.stringify({ version: 1, current: 'home', contexts: { home: context } }),
    )
    expect((await terminal.run('regions')).err).toContain('The URL is from the context home.')
  })

  test('an authority that is not known', async () => {
    const { url } = await tlsServer(-1, 1)
    const { code, err } = await ask(url)
    expect(code).toBe(3)
    expect(err).toContain(
      `the certificate of ${url} is signed by an authority that is not known here`,
    )
    expect(err).toContain(`Try: roost auth login ${url} --ca FILE`)
  })

  test('a certificate for another name', async () => {
    const { url, ca } = await tlsServer(-1, 1, { name: 'other.example' })
    const { code, err } = await ask(url, { ROOST_API_CA: ca })
    expect(code).toBe(3)
    expect(err).toContain(`${url} has a certificate for another name`)
  })

  test('a certificate that is not valid yet since our clock is behind: by how much, and the token stays here', async () => {
    const date = new Date(Date.now() + 3 * DAY_MS)
    const { url, ca, seen } = await tlsServer(2, 9, { date })
    const { code, err } = await ask(url, { ROOST_API_CA: ca })
    expect(code).toBe(3)
    expect(err).toContain(`the certificate of ${url} is not valid yet by the clock of this machine`)
    expect(err).toContain("The clock of this machine is 3 days behind the server's")
    expect(err).toContain('Try: timedatectl set-ntp true')
    expect(seen).toEqual([undefined])
  })

  test('a certificate that has expired though the clocks agree', async () => {
    const { url, ca } = await tlsServer(-9, -1)
    const { code, err } = await ask(url, { ROOST_API_CA: ca })
    expect(code).toBe(3)
    expect(err).toContain(`the certificate of ${url} has expired by the clock of this machine`)
    expect(err).toContain('Try: roost up   # on the server: renews it')
    expect(err).not.toContain('The clock of this machine is')
  })

  test('something that speaks no TLS', async () => {
    const plain = createTcpServer((socket) => socket.end('220 smtp\r\n'))
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve))
    open.push(plain)
    const url = `https://127.0.0.1:${(plain.address() as AddressInfo).port}`
    const { code, err } = await ask(url)
    expect(code).toBe(3)
    expect(err).toContain(`what listens at ${url} does not speak TLS`)
  })

  test('something that speaks no HTTP', async () => {
    const plain = createTcpServer((socket) => socket.end('220 smtp\r\n'))
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve))
    open.push(plain)
    const { port } = plain.address() as AddressInfo
    expect((await ask(`http://127.0.0.1:${port}`)).err).toContain('is no Roost server')
  })
})

async function serverWith(headers: Record<string, string>, status = 200): Promise<TrialServer> {
  const server = await startTrialServer({
    listRegions: () =>
      status === 200
        ? { value: [] }
        : { refusal: { status, code: 'unauthorized', error: 'this token expired at X' } },
    headers,
  })
  open.push(server)
  return server
}

describe('clocks that are apart', () => {
  test.each([
    [-3 * DAY_MS, "3 days ahead of the server's"],
    [90 * 60_000, "90 minutes behind the server's"],
  ])('%i ms: said with a token that is refused', async (offMs, text) => {
    const { url } = await serverWith({ date: new Date(Date.now() + offMs).toUTCString() }, 401)
    const { code, err } = await ask(url)
    expect(code).toBe(4)
    expect(err).toContain(text)
  })

  test('some seconds are not worth a word', async () => {
    const { url } = await serverWith({ date: new Date(Date.now() + 20_000).toUTCString() }, 401)
    expect((await ask(url)).err).not.toContain('clock')
  })
})

describe('versions', () => {
  test('a server of another major version is refused with both versions and the command', async () => {
    const server = await serverWith({ 'roost-version': '7.1.0' })
    const { code, err } = await ask(server.url)
    expect(code).toBe(3)
    expect(err).toContain(`the server at ${server.url} is Roost 7.1.0, this command line is 0.1.0`)
    expect(err).toContain('Try: git pull && make setup')
    expect(server.calls[0]?.headers['roost-version']).toBe('0.1.0')
  })

  test('a newer minor version is hinted at once a day', async () => {
    const { url } = await serverWith({ 'roost-version': '0.4.2' })
    const first = await ask(url)
    expect(first.code).toBe(0)
    expect(first.err).toBe(
      'Note: the server is Roost 0.4.2, this command line 0.1.0; git pull && make setup brings it up to date\n',
    )
    expect((await ask(url)).err).toBe('')
    const file = join(folder, '.config/roost/hinted.json')
    const { at } = JSON.parse(readFileSync(file, 'utf8'))
    writeFileSync(file, JSON.stringify({ at: at - 25 * 3_600_000 }))
    expect((await ask(url)).err).toContain('Note:')
    writeFileSync(file, JSON.stringify({ at: at + 900 * DAY_MS }))
    expect((await ask(url)).err).toContain('Note:')
    writeFileSync(file, '{')
    expect((await ask(url)).err).toContain('Note:')
  })

  test.each(['0.1.7', '0.1.0', 'nonsense'])('of %s nothing is said', async (version) => {
    const { url } = await serverWith({ 'roost-version': version })
    expect((await ask(url)).err).toBe('')
  })
})
