import { readdir, readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { renewAt, whoseTurn } from '@roost/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DOMAIN, until } from '../trial-edge.ts'
import { raiseEdges, type TrialEdges } from './trial-edges.ts'
import { startPebble, type TrialAuthority } from './trial-pebble.ts'

const NET = `127.${130 + (process.pid % 60)}.${process.pid % 250}`
const DAY_MS = 86_400_000

let edges: TrialEdges
let pebble: TrialAuthority
let root = ''
beforeAll(async () => {
  edges = await raiseEdges({ net: NET, port: 19080 })
  pebble = await startPebble({
    address: `${NET}.50`,
    port: 19500,
    httpPort: edges.httpPort,
    tlsPort: edges.httpsPort,
    domain: DOMAIN,
    edges: edges.dnsAt,
  })
  edges.nameservers.list = [pebble.dns]
  await edges.start()
  edges.setAcme({ directory: pebble.directory, email: 'admin@example.com', ca: pebble.ca })
  root = await pebble.root()
})
afterAll(async () => {
  await edges?.close()
  await pebble?.close()
})

/** What each edge shows for a name, once all show the same that the authority signed; null until then. */
async function agreed(name: string, not = ''): Promise<string | null> {
  const shown = await Promise.all(
    edges.letters.map((edge) => edges.get({ edge, name, ca: root }).catch(() => null)),
  )
  const [first] = shown
  const same = shown.every(
    (one) => one?.status === 200 && one.fingerprint === first?.fingerprint && one.text === 'hello',
  )
  return same && first && first.fingerprint !== not ? first.fingerprint : null
}
const leadsHere = (name: string) => pebble.addresses.set(name, edges.addresses)
const workers = () => Promise.all(edges.letters.map((letter) => edges.workerOf(letter)))
const turnOf = (name: string) => {
  const id = whoseTurn(
    name,
    edges.edges.map(({ host }) => ({ id: host.id, alive: true })),
  )
  return edges.edges.find(({ host }) => host.id === id)?.letter ?? ''
}
const orders = (name: string) =>
  edges.server.reports.filter(({ failures }) => failures[name] === null).length

describe('a name of somebody’s own', () => {
  test.each(['http-01', 'tls-alpn-01', 'dns-01'] as const)(
    'has a certificate by %s, at every edge, without a reload',
    async (challenge) => {
      const before = await workers()
      const name = `${challenge}.example.com`
      leadsHere(name)
      if (challenge === 'dns-01') pebble.delegated.add(name)
      edges.server.hostname(name, { challenge })
      await until(`a certificate by ${challenge}`, () => agreed(name), 30_000)
      await until('the server knows it', () => edges.server.certificate(name))
      expect(Object.keys(edges.server.certificate(name)?.sealedKeys ?? {})).toHaveLength(3)
      expect(await workers()).toEqual(before)
      expect(orders(name)).toBe(1)
    },
  )

  test('may be a wildcard, which leads to the app with every name below it', async () => {
    pebble.delegated.add('wild.example.com')
    edges.server.hostname('*.wild.example.com')
    await until('a certificate for all names', () => agreed('any.wild.example.com'), 30_000)
    const asked = new Promise<number>((resolve, reject) => {
      const plain = request(
        {
          host: edges.addresses[0],
          port: edges.httpPort,
          headers: { host: 'other.wild.example.com' },
          agent: false,
        },
        (reply) => {
          reply.resume()
          resolve(reply.statusCode ?? 0)
        },
      )
      plain.on('error', reject)
      plain.end()
    })
    expect(await asked).toBe(301)
    await expect(edges.get({ edge: 'a', name: 'a.b.wild.example.com', ca: root })).rejects.toThrow()
  })

  test('whose DNS leads elsewhere fails, is told why, and works once somebody asks again', async () => {
    const name = 'late.example.com'
    pebble.addresses.set(name, [`${NET}.99`])
    edges.server.hostname(name, { challenge: 'http-01' })
    const failed = await until(
      'a failure',
      () => edges.server.reports.find(({ failures }) => failures[name])?.failures[name] ?? null,
      30_000,
    )
    expect(failed).toMatchObject({ count: 1, challenge: 'http-01' })
    leadsHere(name)
    edges.server.hostname(name, {
      challenge: 'http-01',
      failure: failed as never,
      askedAt: Date.now(),
    })
    await until('a certificate', () => agreed(name), 30_000)
  })

  test('is shown as its app asks of handshakes, and nobody is cut off while that changes', async () => {
    const [name, other] = ['http-01.example.com', 'dns-01.example.com']
    const workersBefore = await workers()
    const modern = { ca: root, ALPNProtocols: ['h2', 'http/1.1'] }
    const old = { ca: root, maxVersion: 'TLSv1.2' as const }
    const everywhere = (alpn: string) => async () => {
      const agreed = await Promise.all(
        edges.letters.flatMap((edge) =>
          [name, other].map((one) => edges.handshake(edge, one, modern).catch(() => null)),
        ),
      )
      return agreed.every((one) => one?.alpn === alpn)
    }
    await until('HTTP/2 is offered', everywhere('h2'))
    await edges.handshake('a', name, old)
    const load = edgesUnderLoad(name)
    edges.serve({ alpn: ['http/1.1'], versions: ['TLSv1.3'] })
    await until('it is not', everywhere('http/1.1'))
    for (const edge of edges.letters)
      await expect(edges.handshake(edge, name, old)).rejects.toThrow(/version|alert/i)
    // What is asked for holds for one that takes over, too: it reads the same from files.
    await edges.kill('b')
    await edges.start('b')
    expect((await edges.handshake('b', name, modern)).alpn).toBe('http/1.1')
    edges.serve({})
    await until('it is again', everywhere('h2'))
    await edges.handshake('c', other, old)
    while (load.sent() < 100) {
      edges.serve({ alpn: ['http/1.1'] })
      await until('it is not', everywhere('http/1.1'))
      edges.serve({})
      await until('it is again', everywhere('h2'))
    }
    await load.stop()
    expect(load.failures).toEqual([])
    expect(await workers()).toEqual(workersBefore)
  })

  test('is in no clear text on any disk', async () => {
    await until('all is written down', () => agreed('http-01.example.com'))
    for (const dir of edges.dataDirs)
      for (const file of await readdir(dir)) {
        if (file.startsWith('haproxy-certificate')) continue
        expect(await readFile(join(dir, file), 'latin1')).not.toContain('PRIVATE KEY')
      }
  })

  test('is served again after all is started anew, without server and authority', async () => {
    const before = await agreed('http-01.example.com')
    edges.server.setReachable(false)
    await edges.kill('b')
    await edges.start('b')
    const { fingerprint } = await until('edge b serves it', () =>
      edges.get({ edge: 'b', name: 'http-01.example.com', ca: root }).catch(() => null),
    )
    expect(fingerprint).toBe(before)
    edges.server.setReachable(true)
  })
})

/** As if it had been ordered so long ago that it is renewed in so many milliseconds. */
function ages(name: string, dueInMs: number): void {
  const known = edges.server.certificate(name)
  if (known === null) throw new Error(`no certificate for ${name}`)
  const now = Date.now()
  const life = { notBefore: now + dueInMs - 60 * DAY_MS, notAfter: now + dueInMs + 30 * DAY_MS }
  expect(renewAt(life)).toBe(now + dueInMs)
  edges.server.put('certificate', `${name}/acme`, { ...known, ...life, gotAt: known.gotAt + 1 })
}

describe('a certificate that is two thirds through its life', () => {
  test('is renewed by one edge, under load, and no request fails', async () => {
    const name = 'http-01.example.com'
    const before = await agreed(name)
    const workersBefore = await workers()
    const ordersBefore = orders(name)
    const load = edgesUnderLoad(name)
    ages(name, 0)
    await until('another certificate', () => agreed(name, before ?? ''), 40_000)
    const sent = load.sent()
    await until('load goes on after it', () => load.sent() > sent + 60)
    await load.stop()
    expect(load.failures).toEqual([])
    expect(load.seen.size).toBe(2)
    expect(load.sent()).toBeGreaterThan(100)
    expect(await workers()).toEqual(workersBefore)
    await until('the server has heard', () => orders(name) > ordersBefore)
    expect(orders(name)).toBe(ordersBefore + 1)
  })

  test('is renewed while the server is dead, and the server hears of it when it is back', async () => {
    const name = 'dns-01.example.com'
    const before = await until('it serves', () => agreed(name))
    ages(name, 4000)
    await until('edges have heard', () =>
      edges.edges.every(({ current }) => current?.status().applied !== 0),
    )
    edges.server.setReachable(false)
    const ordersBefore = orders(name)
    const next = await until('another certificate', () => agreed(name, before), 60_000)
    expect(orders(name)).toBe(ordersBefore)
    edges.server.setReachable(true)
    await until(
      'the server has it',
      () => edges.server.certificate(name)?.fingerprint === next.replaceAll(':', '').toLowerCase(),
      30_000,
    )
  })

  test('is renewed by another edge when the one whose turn it is dies in the midst of its order', async () => {
    const name = 'http-01.example.com'
    const before = await until('it serves', () => agreed(name))
    const first = turnOf(name)
    let reached = false
    edges.between.present = async (letter, signal) => {
      if (letter !== first) return
      reached = true
      // It never gets to say that the authority may look.
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
    }
    ages(name, 0)
    await until('an order is under way', () => reached, 30_000)
    await edges.kill(first)
    edges.between.present = null
    const others = edges.letters.filter((letter) => letter !== first)
    const next = await until(
      'the others serve another',
      async () => {
        const shown = await Promise.all(
          others.map((edge) => edges.get({ edge, name, ca: root }).catch(() => null)),
        )
        const [one, two] = shown
        return one && two && one.fingerprint === two.fingerprint && one.fingerprint !== before
          ? one.fingerprint
          : null
      },
      60_000,
    )
    await edges.start(first)
    await until(
      'and so does it, once it is back',
      async () => (await agreed(name)) === next,
      30_000,
    )
  })
})

/** New connections with each request, to all edges in turn. */
function edgesUnderLoad(name: string) {
  const failures: string[] = []
  const seen = new Set<string>()
  const pending = new Set<Promise<unknown>>()
  let sent = 0
  const timer = setInterval(() => {
    if (pending.size > 50) return
    const edge = edges.letters[sent++ % edges.letters.length] ?? 'a'
    const one = edges
      .get({ edge, name, ca: root })
      .then(({ status, fingerprint }) => {
        seen.add(fingerprint)
        if (status !== 200) failures.push(`${edge}: ${status}`)
      })
      .catch((error: Error) => failures.push(`${edge}: ${error.message}`))
      .finally(() => pending.delete(one))
    pending.add(one)
  }, 25)
  return {
    failures,
    seen,
    sent: () => sent,
    async stop() {
      clearInterval(timer)
      await Promise.all(pending)
    },
  }
}
