import { createSocket, type Socket } from 'node:dgram'
import { Resolver as Client } from 'node:dns/promises'
import { silentLogger } from '@roost/base'
import * as dns from 'dns-packet'
import { afterEach, expect, test } from 'vitest'
import { edgesFor, type Resolver, startResolver } from './resolver.ts'

/** On loopback addresses of its own: 127.77.0.53 is the resolver, 127.77.N.1 the edge of the Nth region. */
const config = {
  address: '127.77.0.53',
  domain: 'apps.test',
  edges: [
    { region: 'ams', address: '127.77.1.1' },
    { region: 'iad', address: '127.77.2.1' },
  ],
  clientNetworks: [
    { region: 'ams', cidr: '127.77.1.0/24' },
    { region: 'iad', cidr: '127.77.2.0/24' },
  ],
  upstream: [],
}
const open: (Socket | Resolver)[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
})

/** Answers every question for an address with its own, and keeps what it was told of the client. */
async function edge(address: string): Promise<string[]> {
  const clients: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (message, from) => {
    const query = dns.decode(message)
    const options = query.additionals?.flatMap((record) =>
      record.type === 'OPT' ? (record.options as unknown as { ip: string }[]) : [],
    )
    clients.push(options?.[0]?.ip ?? 'nobody')
    const name = query.questions?.[0]?.name ?? ''
    const answers = [{ type: 'A', name, ttl: 5, data: address }] as const
    const { id = 0, questions = [] } = query
    socket.send(
      dns.encode({
        type: 'response',
        id,
        flags: dns.AUTHORITATIVE_ANSWER,
        questions,
        answers: [...answers],
      }),
      from.port,
      from.address,
    )
  })
  await new Promise<void>((resolve) => socket.bind(53, address, resolve))
  open.push(socket)
  return clients
}

function clientAt(address: string): Client {
  const client = new Client({ timeout: 3000, tries: 1 })
  client.setServers([config.address])
  client.setLocalAddress(address)
  return client
}

test('the edge of the client’s region is asked, and told who asks', async () => {
  const [ams, iad] = [await edge('127.77.1.1'), await edge('127.77.2.1')]
  open.push(await startResolver(config, silentLogger))
  expect(await clientAt('127.77.2.100').resolve4('shop.apps.test')).toEqual(['127.77.2.1'])
  expect([ams, iad]).toEqual([[], ['127.77.2.100']])
})

test('a dead edge costs one wait, then it is left alone for a while', async () => {
  await edge('127.77.2.1')
  open.push(await startResolver(config, silentLogger))
  const client = clientAt('127.77.1.100')
  const lookMs = async () => {
    const begin = performance.now()
    expect(await client.resolve4('shop.apps.test')).toEqual(['127.77.2.1'])
    return performance.now() - begin
  }
  expect(await lookMs()).toBeGreaterThan(350)
  expect(await lookMs()).toBeLessThan(350)
})

test('with no edge left, and for names of others with nobody to ask, it says that it failed', async () => {
  open.push(await startResolver(config, silentLogger))
  const client = clientAt('127.77.1.100')
  await expect(client.resolve4('shop.apps.test')).rejects.toMatchObject({ code: 'ESERVFAIL' })
  await expect(client.resolve4('example.com')).rejects.toMatchObject({ code: 'ESERVFAIL' })
})

test('clients of no known network get the edges in their order', () => {
  expect(edgesFor(config, '192.0.2.1')).toEqual(['127.77.1.1', '127.77.2.1'])
  expect(edgesFor(config, '127.77.2.9')).toEqual(['127.77.2.1', '127.77.1.1'])
})
