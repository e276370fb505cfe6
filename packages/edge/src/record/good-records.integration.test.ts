import { request } from 'node:http'
import type { MachineView } from '@roost/api'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { raiseEdges, type TrialEdges } from '../certificate/trial-edges.ts'
import { app, DOMAIN, host, settingsWith, until } from '../trial-edge.ts'

const NET = `127.${190 + (process.pid % 60)}.${process.pid % 250}`
const id = (n: number) => n.toString(16).padStart(14, '0') as MachineView['id']

let edges: TrialEdges
beforeAll(async () => {
  edges = await raiseEdges({ net: NET, port: 19180 })
  await edges.start()
})
afterAll(() => edges?.close())

function get(address: string, name: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { host: `${name}.${DOMAIN}` }
    const asked = request(
      { host: address, port: edges.httpPort, headers, agent: false, timeout: 5000 },
      (reply) => {
        let text = ''
        reply.on('data', (chunk: Buffer) => {
          text += chunk.toString()
        })
        reply.on('error', reject)
        reply.on('end', () => resolve(`${reply.statusCode} ${text.trim()}`))
      },
    )
    asked.on('timeout', () => asked.destroy(new Error('no reply')))
    asked.on('error', reject)
    asked.end()
  })
}
/** What each edge answers for each of these apps. */
const answers = (names: readonly string[]) =>
  Promise.all(
    edges.addresses.flatMap((address) =>
      names.map((name) => get(address, name).catch((error: Error) => error.message)),
    ),
  )
const served = async (names: readonly string[]) =>
  (await answers(names)).every((answer) => answer === '200 hello')

test('records that are malformed or of a version to come: every edge goes on with all apps and says which it refuses', async () => {
  const { server } = edges
  const shop = server.get<MachineView>('machine', id(1)) as MachineView
  const machine = (n: number, name: string): MachineView => ({
    ...{ ...shop, id: id(n), app: name },
    services: shop.services.map((service) => ({
      ...service,
      ports: service.ports.map((one) => ({ ...one, force_https: false })),
    })),
  })
  const before = ['blog', 'wiki', 'docs']
  for (const [n, name] of before.entries()) {
    server.put('app', name, app(name))
    server.put('machine', id(10 + n), machine(10 + n, name))
  }
  await until('all edges serve', () => served(before))

  const [first, second] = [machine(10, 'blog'), machine(11, 'wiki')]
  const third = { ...machine(12, 'docs'), routed: false }
  const [service] = first.services
  // Of versions to come: services by their names, another protocol, several domains, a kind of record that nobody here knows.
  server.put('machine', id(10), { ...first, services: { web: service } })
  server.put('machine', id(11), {
    ...second,
    services: second.services.map((one) => ({ ...one, protocol: 'quic' })),
  })
  server.put('settings', 'settings', { ...settingsWith('198.18.2.0/24'), domain: [DOMAIN] })
  server.put('gateway', 'west', { listens: 'everywhere' })
  // More fields than are known are no reason to refuse anything.
  server.put('app', 'docs', { ...app('docs'), colour: 'green', release: 2 })
  // Malformed.
  server.put('machine', id(12), { ...third, privateIpv4: '10.0.0.1 weight 256' })
  server.put('app', 'wiki', 'garbage')
  server.put('host', 'd'.repeat(14), { ...host('d', 'ams', 9), number: '9; quit' })
  // What is good goes on changing.
  server.put('app', 'news', app('news'))
  server.put('machine', id(13), machine(13, 'news'))
  const all = [...before, 'news']
  const good = all.flatMap(() => edges.letters.map(() => '200 hello'))
  await until('the new app is served', () => served(['news']))
  expect(await answers(all)).toEqual(good)

  const refused = [
    'settings settings: domain is ["roost.test"]',
    'host dddddddddddddd: number is "9; quit"',
    'app wiki: it is "garbage"',
    'machine 0000000000000a: services is {"web":',
    'machine 0000000000000b: a service is {"protocol":"quic"',
    'machine 0000000000000c: privateIpv4 is "10.0.0.1 weight 256"',
  ]
  const namesAll = (records: readonly string[]) =>
    records.length === refused.length &&
    refused.every((text) => records.some((record) => record.startsWith(text)))
  for (const edge of edges.edges) {
    await until(`edge ${edge.letter} tells the server`, () => namesAll(edge.refused))
    for (const text of refused)
      expect(edge.logged.filter((line) => line.includes(text))).toHaveLength(1)
  }

  // Started anew without a server, one still serves what was good last.
  server.setReachable(false)
  await edges.kill('b')
  await edges.start('b')
  expect(await answers(all)).toEqual(good)
  server.setReachable(true)

  // Good again, each is as it says now: `docs` has no machine that is to serve.
  server.put('settings', 'settings', settingsWith('198.18.2.0/24'))
  server.put('host', 'd'.repeat(14), null)
  server.put('app', 'wiki', app('wiki'))
  server.put('machine', id(10), first)
  server.put('machine', id(11), second)
  server.put('machine', id(12), third)
  for (const edge of edges.edges)
    await until(`edge ${edge.letter} refuses nothing`, () => edge.refused.length === 0)
  await until('the new version holds everywhere', async () =>
    (await answers(['docs'])).every((answer) => answer.startsWith('503')),
  )
  expect(await served(['blog', 'wiki', 'news'])).toBe(true)
})
