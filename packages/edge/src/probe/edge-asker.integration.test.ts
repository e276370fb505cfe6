import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createPeerClient, type PeerClient, silentLogger } from '@roost/base'
import type { Host, HostId } from '@roost/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createEdgeAsker } from './edge-asker.ts'
import { createEdgeClients } from './edge-clients.ts'
import { createEdgeEndpoint } from './edge-endpoint.ts'

/** Real certificates of one authority, and of another. */
const run = promisify(execFile)
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
let dir: string
interface Tls {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}
async function certificate(authority: string, uri: string): Promise<Tls> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: dir })
  const name = uri.replace(/\W+/g, '-') + authority
  const read = (end: string) => readFile(join(dir, end), 'utf8')
  await openssl('req', ...EC, '-subj', '/CN=x', '-keyout', `${name}.key`, '-out', `${name}.csr`)
  await writeFile(join(dir, `${name}.ext`), `subjectAltName=URI:${uri}`)
  await openssl(
    ...['x509', '-req', '-in', `${name}.csr`, '-CA', `${authority}.pem`, '-days', '2'],
    ...['-CAkey', `${authority}.key`, '-extfile', `${name}.ext`, '-out', `${name}.pem`],
  )
  return {
    ca: await read(`${authority}.pem`),
    certificate: await read(`${name}.pem`),
    key: await read(`${name}.key`),
  }
}
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'roost-asker-'))
  for (const name of ['ca', 'other'])
    await run(
      'openssl',
      [
        'req',
        '-x509',
        ...EC,
        '-subj',
        `/CN=${name}`,
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.pem`,
      ],
      { cwd: dir },
    )
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const host = {
  id: 'bbbbbbbbbbbbbb' as HostId,
  name: 'b',
  number: 2,
  publicAddress: '127.0.0.1',
} as Host
const reply = { host: host.id, region: 'iad', serving: true, round_trip_ms: { aaaaaaaaaaaaaa: 80 } }
const soon = () => AbortSignal.timeout(3000)

describe('edges ask each other', () => {
  test('only edges of the installation are told anything, and only the right one is believed', async () => {
    const listener = createEdgeEndpoint({
      tls: await certificate('ca', 'roost://edge/bbbbbbbbbbbbbb'),
      say: () => reply,
      numbers: { recent: () => [], page: async () => '# numbers\n' },
      access: {
        follow: ({ app }) =>
          async function* () {
            yield { left_out: app.length }
          },
      },
      log: silentLogger,
    })
    const [bound] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
    const urlOf = () => `https://127.0.0.1:${bound?.port}`
    const asker = (tls: Tls) => createEdgeAsker(createEdgeClients({ tls, urlOf }), 1)
    const edge = asker(await certificate('ca', 'roost://edge/aaaaaaaaaaaaaa'))
    const agent = asker(await certificate('ca', 'roost://agent/aaaaaaaaaaaaaa'))
    const stranger = asker(await certificate('other', 'roost://edge/aaaaaaaaaaaaaa'))
    try {
      expect(await edge.alive(host, soon())).toEqual(reply)
      await expect(agent.alive(host, soon())).rejects.toMatchObject({ code: 'forbidden' })
      await expect(stranger.alive(host, soon())).rejects.toMatchObject({ code: 'unavailable' })
      const url = urlOf()
      const expected = 'roost://edge/bbbbbbbbbbbbbb'
      const server = createPeerClient({
        url,
        tls: await certificate('ca', 'roost://server'),
        expect: expected,
      })
      const other = createPeerClient({
        url,
        tls: await certificate('ca', 'roost://edge/aaaaaaaaaaaaaa'),
        expect: expected,
      })
      const ask = (client: PeerClient) => client.json('GET', '/edge/v1/traffic?app=shop')
      expect(await ask(server)).toEqual({ minutes: 5, sources: [] })
      await expect(ask(other)).rejects.toMatchObject({ code: 'forbidden' })
      const listen = async (client: PeerClient) => {
        for await (const line of client.lines('GET', '/edge/v1/access?app=shop')) return line
        return null
      }
      expect(await listen(server)).toEqual({ left_out: 4 })
      await expect(listen(other)).rejects.toMatchObject({ code: 'forbidden' })
      await Promise.all([server.close(), other.close()])
      const impostor = { ...host, id: 'cccccccccccccc' as HostId }
      await expect(edge.alive(impostor, soon())).rejects.toMatchObject({ code: 'unavailable' })
    } finally {
      for (const one of [edge, agent, stranger])
        for (const id of ['bbbbbbbbbbbbbb', 'cccccccccccccc']) one.forget(id as HostId)
      await listener.close(100)
    }
  })

  test('a knock is answered by whoever accepts, and by nobody else', async () => {
    const server = createServer((socket) => socket.on('error', () => {}))
    const port = await new Promise<number>((resolve) =>
      server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
    )
    const tls = await certificate('ca', 'roost://edge/aaaaaaaaaaaaaa')
    const asker = createEdgeAsker(createEdgeClients({ tls }), port)
    await asker.knock(host, soon())
    await new Promise((resolve) => server.close(resolve))
    await expect(asker.knock(host, soon())).rejects.toThrow()
  })
})
