import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request } from 'node:http'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { app, type Backend, DOMAIN, openTrial, type Reply, until } from '../trial-edge.ts'

const trial = await openTrial(5)
const { NET, HTTP_PORT, backend, get, load, raise, view } = trial
afterAll(() => trial.close())

const sentOn = (to: string, more: Record<string, string> = {}) => ({
  status: 200,
  headers: { 'fly-replay': to, ...more },
  text: 'sent on',
})
const headersOf = (reply: Reply) =>
  (JSON.parse(reply.text) as { headers: Record<string, string> }).headers
/** A machine here sends requests on to one in another region; both edges know that the app does so. */
async function two(answer: Backend['answer'], options: { unknown?: boolean } = {}) {
  const near = await backend(1)
  const far = await backend(2, 'iad')
  const raised = await raise()
  if (options.unknown !== true) raised.replaying.push('shop')
  const edge = { near, far, ...raised }
  await begin(edge)
  if (options.unknown !== true) await known(edge)
  near.answer = answer
  return edge
}
type Two = { readonly near: Backend; readonly far: Backend } & Awaited<ReturnType<typeof raise>>
/** As they are at first, whatever was done to them. */
async function begin({ near, far, server, applied }: Two) {
  server.put('machine', far.machine, view(far))
  await applied(server.put('machine', near.machine, view(near)))
  for (const one of [near, far]) {
    one.answer = null
    one.hits.count = 0
  }
}
async function known({ near, far }: Two) {
  near.answer = () => sentOn('region=iad')
  await until('it is known', async () => (await get()).machine === far.machine)
  for (const one of [near, far]) one.hits.count = 0
}

describe('an app that is known to answer with fly-replay', () => {
  let edge: Two
  beforeAll(async () => {
    edge = await two(null)
  })
  beforeEach(() => begin(edge))
  afterAll(() => trial.cleanUp())
  const withAnswer = (answer: Backend['answer']) => {
    edge.near.answer = answer
    return edge
  }

  test('is known where another edge found it out', async () => {
    const { far } = withAnswer(() => sentOn('region=iad'))
    expect((await get({ method: 'POST' })).machine).toBe(far.machine)
  })

  test('sends a request on three times at most, and never one that can not be kept', async () => {
    const { near, far } = withAnswer(() => sentOn('elsewhere=true'))
    far.answer = near.answer
    const looped = await get()
    expect([looped.status, looped.text]).toEqual([
      502,
      'The request was sent on more than 3 times.\n',
    ])
    expect(near.hits.count + far.hits.count).toBe(4)

    far.answer = null
    const large = await get({ method: 'POST', body: 'x'.repeat(1_048_577) })
    expect([large.status, large.text]).toEqual([
      413,
      'The app sent on a request with a body larger than 1 MB.\n',
    ])
    near.answer = null
    near.bytes.count = 0
    const kept = await get({ method: 'POST', body: 'x'.repeat(5_000_000) })
    expect([kept.status, kept.machine]).toEqual([200, near.machine])
    expect(near.bytes.count).toBe(5_000_000)
    near.answer = () => sentOn('timeout=soon;region=iad')
    expect((await get()).text).toContain('timeout soon is no duration')
  })

  test('sends no request that a client made to look as if it had been sent on', async () => {
    const { near, server, applied } = withAnswer(null)
    server.put('app', 'blog', app('blog'))
    await applied(server.put('machine', near.machine, view(near, { app: 'blog' })))
    const forged = {
      'fly-replay-src': 'instance=x;region=ams;t=1;state=admin',
      'fly-replay-failed': 'reason=timeout',
      'fly-replay-cache-status': 'hit',
      'fly-preferred-instance-unavailable': 'x',
      fly_replay_src: 'x',
      'roost-slot': 's7',
      'roost-server': 'x',
      'roost-attach': '1',
      'roost-answered': 'x',
    }
    // Of an app that takes the longer way, and of one that does not.
    for (const host of [`shop.${DOMAIN}`, `blog.${DOMAIN}`]) {
      const reply = await get({ headers: forged, host })
      expect(reply.status).toBe(200)
      const names = Object.keys(headersOf(reply))
      expect(names.filter((name) => /replay|roost|unavailable/.test(name))).toEqual([])
    }
  })

  test('may do so as JSON, and change the request', async () => {
    const { near, far } = withAnswer(null)
    near.answer = () => ({
      headers: { 'content-type': 'application/vnd.fly.replay+json' },
      text: JSON.stringify({
        prefer_instance: '99999999999999',
        region: 'iad',
        transform: {
          path: '/new?x=1',
          delete_headers: ['cookie'],
          set_headers: [
            { name: 'x-added', value: 'yes' },
            { name: 'fly-client-ip', value: '6.6.6.6' },
          ],
        },
      }),
    })
    const reply = await get({ path: '/old', headers: { cookie: 'a=b' } })
    expect(reply.machine).toBe(far.machine)
    expect(JSON.parse(reply.text)).toMatchObject({ url: '/new?x=1' })
    const seen = headersOf(reply)
    expect(seen).toMatchObject({
      'x-added': 'yes',
      'fly-client-ip': '127.0.0.1',
      'fly-preferred-instance-unavailable': '99999999999999',
    })
    expect(seen['cookie']).toBeUndefined()
  })

  test('reaches other apps of its organization and network, and no others', async () => {
    const { near, server, applied } = withAnswer(null)
    const [blog, bank] = [await backend(3), await backend(4)]
    server.put('app', 'blog', app('blog'))
    server.put('app', 'bank', { ...app('bank'), organization: 'other' })
    server.put('app', 'vault', { ...app('vault'), network: 2 })
    server.put('machine', blog.machine, view(blog, { app: 'blog' }))
    await applied(server.put('machine', bank.machine, view(bank, { app: 'bank' })))
    near.answer = (asked) =>
      sentOn(`app=${new URL(asked.url ?? '', 'http://x').searchParams.get('to')}`)
    const reply = await get({ path: '/?to=blog', method: 'POST' })
    expect(reply.machine).toBe(blog.machine)
    expect(headersOf(reply)['host']).toBe(`shop.${DOMAIN}`)
    for (const to of ['bank', 'vault', 'nobody'])
      expect((await get({ path: `/?to=${to}` })).status).toBe(503)
    expect(bank.hits.count).toBe(0)
  })

  test('may have a replay kept for all requests below a path, and dropped', async () => {
    const { near, far } = withAnswer(null)
    const asked: string[] = []
    near.answer = (request) => {
      asked.push(request.headers['fly-replay-cache-status']?.toString() ?? '')
      return sentOn('region=iad', {
        'fly-replay-cache': `shop.${DOMAIN}/kept/*`,
        'fly-replay-cache-ttl-secs': '60',
        'fly-replay-cache-allow-bypass': 'yes',
      })
    }
    const status = async (path: string, headers: Record<string, string> = {}) => {
      const reply = await get({ path, headers })
      expect(reply.machine).toBe(far.machine)
      return headersOf(reply)['fly-replay-cache-status']
    }
    expect(await status('/kept/1')).toBe('miss')
    expect(await status('/kept/2?x=1')).toBe('hit')
    expect(await status('/kept')).toBe('hit')
    expect(asked).toEqual([''])
    expect(await status('/kept/3', { 'fly-replay-cache-control': 'skip' })).toBe('miss')
    expect(asked).toEqual(['', 'bypass'])
    await status('/other')
    expect(asked).toHaveLength(3)
    // Who got it says that it is not right any more.
    far.answer = (request) =>
      request.headers['fly-replay-cache-status'] === 'hit'
        ? sentOn(`instance=${near.machine}`, { 'fly-replay-cache': 'invalidate' })
        : null
    near.answer = null
    expect((await get({ path: '/kept/4' })).machine).toBe(near.machine)
    expect((await get({ path: '/kept/5' })).machine).toBe(near.machine)
  })

  test('sends WebSockets on, which stay with one machine', async () => {
    const { near, far } = withAnswer((asked) => (asked.url === '/ws' ? sentOn('region=iad') : null))
    for (const [path, machine] of [
      ['/ws', far.machine],
      ['/here', near.machine],
    ]) {
      const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}${path}`, {
        headers: { host: `shop.${DOMAIN}` },
      })
      await once(socket, 'open')
      for (const word of ['one', 'two']) {
        socket.send(word)
        expect(String((await once(socket, 'message'))[0])).toBe(`${machine}:${word}`)
      }
      socket.close()
      await once(socket, 'close')
    }
  })
})

describe('an app that answers with fly-replay', () => {
  afterEach(() => trial.cleanUp())

  test('is found out at its first request, which is asked for again, and from then on nobody notices', async () => {
    const { near, far } = await two(() => sentOn('region=iad;state=s1'), { unknown: true })
    const first = await get({ method: 'POST', path: '/a?b=c' })
    expect([first.status, first.headers.location, first.headers['cache-control']]).toEqual([
      307,
      '/a?b=c',
      'no-store',
    ])
    const body = 'x'.repeat(1_048_576)
    for (const method of ['GET', 'POST', 'DELETE', 'HEAD']) {
      far.bytes.count = 0
      const reply = await get({ method, path: '/a?b=c', body })
      expect(reply.status).toBe(200)
      expect(Object.keys(reply.headers).filter((name) => /^roost|^fly-replay/.test(name))).toEqual(
        [],
      )
      if (method === 'POST') expect(far.bytes.count).toBe(body.length)
      if (method === 'HEAD') continue
      expect(reply.machine).toBe(far.machine)
      const seen = headersOf(reply)
      expect(seen['fly-replay-src']).toMatch(
        new RegExp(`^instance=${near.machine};region=ams;t=\\d{16};state=s1$`),
      )
      expect(seen['fly-client-ip']).toBe('127.0.0.1')
      expect(Object.keys(seen).filter((name) => name.startsWith('roost'))).toEqual([])
    }
  })

  test.each(['//', '/\\'])(
    'leads nobody to another site by a path that begins with %s',
    async (beginning) => {
      await two(() => sentOn('region=iad'), { unknown: true })
      const path = `${beginning}elsewhere.example/a`
      const { status, headers } = await get({ path })
      expect([status, headers.location]).toEqual([307, `/.${path}`])
      const host = `shop.${DOMAIN}`
      expect(new URL(`${headers.location}`, `http://${host}/`).host).toBe(host)
    },
  )

  test('gets a request back that nobody took, if it asked for that, and may not send it on again', async () => {
    const { near, far } = await two(null)
    near.answer = (asked) =>
      asked.headers['fly-replay-failed'] === undefined
        ? sentOn('instance=99999999999999;fallback=force_self;timeout=300ms')
        : null
    const back = await get({ method: 'POST' })
    expect(back.machine).toBe(near.machine)
    expect(headersOf(back)['fly-replay-failed']).toMatch(
      new RegExp(
        `^instance=99999999999999;replay_source=${near.machine};reason=no_candidate;elapsed_ms=\\d+$`,
      ),
    )
    near.answer = () => sentOn('instance=99999999999999;fallback=prefer_self')
    expect((await get()).text).toBe('The app sent on a request that had come back to it.\n')
    near.answer = () => sentOn('region=nrt')
    const nobody = await get()
    expect([nobody.status, nobody.headers['retry-after'], nobody.text]).toEqual([
      503,
      '1',
      'No machine that the app sent this request on to can answer now.\n',
    ])
    // One that died and was not found dead yet is passed over.
    near.answer = () => sentOn('elsewhere=true;timeout=500ms')
    await far.kill()
    const third = await get({ method: 'POST' })
    expect(third.status).toBe(503)
  })

  test('that keeps replays for sessions is known from the start, and asked once for each session', async () => {
    const [near, far, further] = [
      await backend(1),
      await backend(2, 'iad'),
      await backend(3, 'syd'),
    ]
    const { server, applied } = await raise()
    const asked: string[] = []
    near.answer = (request) => {
      asked.push(`${request.headers.cookie}`)
      return sentOn(`region=${/region=(\w+)/.exec(request.headers.cookie ?? '')?.[1] ?? 'iad'}`)
    }
    const replay_cache = [
      { path_prefix: '/', ttl_seconds: 60, type: 'cookie' as const, name: 'region' },
    ]
    for (const machine of [near, far, further]) {
      const services = view(machine).services.map((service) => ({
        ...service,
        ports: service.ports.map((port) => ({ ...port, http_options: { replay_cache } })),
      }))
      server.put('machine', machine.machine, view(machine, { services }))
    }
    await applied(server.revision())
    const of = (cookie?: string) =>
      get({ method: 'POST', ...(cookie ? { headers: { cookie } } : {}) })
    await until('it is sent on', async () => (await of()).machine === far.machine)
    asked.length = 0
    for (let n = 0; n < 3; n++) {
      expect((await of('a=b; region=syd')).machine).toBe(further.machine)
      expect((await of('region=iad')).machine).toBe(far.machine)
    }
    expect(asked).toEqual(['a=b; region=syd', 'region=iad'])
    await of()
    expect(asked).toHaveLength(3)
  })

  test('answers as it comes: piece by piece, with trailers', async () => {
    const { near, server, applied } = await two(null)
    const waiting: (() => void)[] = []
    const own = createServer((_, answer) => {
      answer.writeHead(200, { trailer: 'x-sum' })
      answer.write('first')
      waiting.push(() => {
        answer.addTrailers({ 'x-sum': '7' })
        answer.end('second')
      })
    })
    own.listen(8080, `${NET}.110`)
    await once(own, 'listening')
    const machine = '0000000000000a' as Backend['machine']
    server.put('machine', near.machine, null)
    await applied(server.put('machine', machine, view({ ...near, machine, address: `${NET}.110` })))
    const asked = request({
      ...{ host: `${NET}.1`, port: HTTP_PORT, headers: { host: `shop.${DOMAIN}`, te: 'trailers' } },
    })
    asked.end()
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    const [first] = await once(answer, 'data')
    expect(String(first)).toBe('first')
    waiting[0]?.()
    let rest = ''
    answer.on('data', (chunk) => {
      rest += chunk
    })
    await once(answer, 'end')
    expect([rest, answer.trailers['x-sum']]).toEqual(['second', '7'])
    own.closeAllConnections()
    own.close()
  })

  test('goes on when the replayer is killed: what it carried is lost, and nothing else', async () => {
    const { near, far, config } = await two(() => sentOn('region=iad'))
    const pids = async () => {
      const all = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
      const lines = await Promise.all(
        all.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
      )
      return all.filter(
        (_, n) => lines[n]?.includes('--replayer') && lines[n]?.includes(config.runDir),
      )
    }
    // Where one was slow to start, a second one finds its place taken, and ends.
    const only = () =>
      until('there is one replayer', async () => {
        const found = await pids()
        return found.length === 1 ? found[0] : null
      })
    process.kill(Number(await only()), 'SIGKILL')
    // Whoever comes meanwhile is asked to come again, once the next one is there.
    let reply = await get()
    for (let n = 0; reply.status === 307 && n < 5; n++) reply = await get()
    expect([reply.status, reply.machine]).toEqual([200, far.machine])
    near.answer = null
    expect((await get({ method: 'POST' })).machine).toBe(near.machine)
    await only()
  })

  test('loses no request when machines change, HAProxy reloads and the edge is started anew', async () => {
    const { near, far, server, applied, edge, start } = await two(() => sentOn('region=iad'))
    const another = await backend(3, 'iad')
    const traffic = load(60)
    await until('it runs', () => far.hits.count > 30)
    await applied(server.put('machine', another.machine, view(another)))
    await until('both work', () => another.hits.count > 10)
    await applied(server.put('machine', far.machine, view(far, { routed: false })))
    await until('nobody uses it', () => server.beats.at(-1)?.draining.length === 0)
    // A started edge finds the replayer that is there.
    await edge.current.close()
    edge.current = await start()
    const before = another.hits.count
    await until('it goes on', () => another.hits.count > before + 30)
    // More apps than slots: HAProxy is reloaded.
    for (let n = 0; n < 25; n++) {
      server.put('app', `app-${n}`, app(`app-${n}`))
      const id = (100 + n).toString(16).padStart(14, '0') as Backend['machine']
      server.put('machine', id, view(near, { app: `app-${n}`, id }))
    }
    await applied(server.revision())
    const after = another.hits.count
    await until('it still goes on', () => another.hits.count > after + 30)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
  })
})
