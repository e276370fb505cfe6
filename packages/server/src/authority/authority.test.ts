import 'reflect-metadata'
import { createPrivateKey, webcrypto, X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import {
  acceptSocket,
  createHttpListener,
  createPeerClient,
  openMessageSocket,
  peerOf,
  silentLogger,
  systemClock,
} from '@roost/base'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addressesAndNames, openAuthority } from './authority.ts'

let dataDir = ''
beforeAll(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'authority-'))
})
afterAll(() => rmSync(dataDir, { recursive: true }))

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

async function request(name = 'CN=whatever'): Promise<{ csr: string; key: string }> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const csr = await x509.Pkcs10CertificateRequestGenerator.create(
    { name, keys, signingAlgorithm: ALGORITHM },
    webcrypto,
  )
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })
  return { csr: csr.toString('pem'), key: key.export({ format: 'pem', type: 'pkcs8' }).toString() }
}

test('the authority outlives the program, and its key is for nobody else', async () => {
  const first = await openAuthority({ dataDir, clock: systemClock })
  const second = await openAuthority({ dataDir, clock: systemClock })
  expect(second.ca).toBe(first.ca)
  expect(statSync(join(dataDir, 'ca.key')).mode & 0o777).toBe(0o600)
  const { certificate } = await second.issueCertificate({ uris: ['roost://server'] })
  expect(new X509Certificate(certificate).verify(new X509Certificate(first.ca).publicKey)).toBe(
    true,
  )
})

test('a request gets the names that it is given, not those that it has', async () => {
  const authority = await openAuthority({ dataDir, clock: systemClock })
  const { csr } = await request('CN=roost://server')
  const certificate = new X509Certificate(
    await authority.signRequest(csr, { uris: ['roost://agent/00000000000001'], ips: ['10.0.0.1'] }),
  )
  expect(certificate.subjectAltName).toBe('URI:roost://agent/00000000000001, IP Address:10.0.0.1')
  await expect(authority.signRequest('nonsense', {})).rejects.toMatchObject({ code: 'invalid' })
})

test('a kept certificate changes with its names and with its age', async () => {
  const clock = { ...systemClock, now: () => now }
  let now = Date.now()
  const authority = await openAuthority({ dataDir, clock })
  const files = { certificate: join(dataDir, 'api.pem'), key: join(dataDir, 'api.key') }
  const keep = (names: readonly string[]) =>
    authority.keepCertificate(files, addressesAndNames(names))
  const first = await keep(['127.0.0.1', 'localhost', '::1'])
  expect(await keep(['127.0.0.1', '::1', 'localhost'])).toEqual(first)
  expect(readFileSync(files.certificate, 'utf8')).toBe(first.certificate)
  const second = await keep(['127.0.0.1'])
  expect(second.certificate).not.toBe(first.certificate)
  now += 300 * 86_400_000
  expect((await keep(['127.0.0.1'])).certificate).not.toBe(second.certificate)
})

test('each side knows who the other is, and strangers get nowhere', async () => {
  const authority = await openAuthority({ dataDir, clock: systemClock })
  const server = await authority.issueCertificate({ uris: ['roost://server'] })
  const listener = createHttpListener({
    log: silentLogger,
    errors: {},
    tls: { ...server, clientCa: authority.ca },
  })
  listener.app.get('/who', async (request) => ({ peer: peerOf(request) }))
  listener.app.get('/greet', async (request, reply) => {
    const peer = peerOf(request) ?? ''
    const socket = await acceptSocket(reply)
    await socket.send(Buffer.from(peer))
    socket.close()
    return reply
  })
  const [bound] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
  const { csr, key } = await request()
  const certificate = await authority.signRequest(csr, { uris: ['roost://agent/00000000000001'] })
  const url = `https://127.0.0.1:${bound?.port}`
  const agent = { ca: authority.ca, certificate, key }
  const ask = async (tls: typeof agent, expected: string) => {
    const client = createPeerClient({ url, tls, expect: expected })
    try {
      return await client.json('GET', '/who')
    } catch (error) {
      return error
    } finally {
      await client.close()
    }
  }

  const greet = async (expect: string) => {
    const { ca } = authority
    try {
      const socket = await openMessageSocket(`${url}/greet`, { ca, certificate, key, expect })
      for await (const message of socket.messages) return Buffer.from(message).toString()
      return null
    } catch (error) {
      return error
    }
  }

  expect(await greet('roost://server')).toBe('roost://agent/00000000000001')
  expect(await greet('roost://agent/00000000000002')).toMatchObject({ code: 'unavailable' })
  expect(await ask(agent, 'roost://server')).toEqual({ peer: 'roost://agent/00000000000001' })
  expect(await ask(agent, 'roost://agent/00000000000002')).toMatchObject({
    code: 'unavailable',
    cause: { message: `${url} is roost://server, not roost://agent/00000000000002` },
  })
  const otherDir = mkdtempSync(join(tmpdir(), 'authority-'))
  const other = await openAuthority({ dataDir: otherDir, clock: systemClock })
  const stranger = await other.issueCertificate({ uris: ['roost://agent/00000000000001'] })
  expect(await ask({ ca: authority.ca, ...stranger }, 'roost://server')).toMatchObject({
    code: 'unavailable',
  })
  expect(await ask({ ...agent, ca: other.ca }, 'roost://server')).toMatchObject({
    code: 'unavailable',
  })
  rmSync(otherDir, { recursive: true })
  await listener.close(100)
})
