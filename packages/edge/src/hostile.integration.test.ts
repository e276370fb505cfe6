import { readdir, readFile } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { createRuntimeApi } from './haproxy/runtime-api.ts'
import { FILES_MAX, REPLAYED_MAX } from './haproxy/steer-config.ts'
import { FORGED_ID, h2Corpus, smugglingCorpus } from './hostile/trial-corpus.ts'
import {
  connectH2,
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  type H2Client,
  headerBlock,
} from './hostile/trial-h2.ts'
import { answerOf, type Recorder, startRecorder } from './hostile/trial-recorder.ts'
import { PatientSocket } from './replay/patient-socket.ts'
import { ASKING_MAX } from './replay/steer-requests.ts'
import { shareOf } from './share.ts'
import { app, DOMAIN, openTrial, until } from './trial-edge.ts'

const trial = await openTrial(9)
const { NET, HTTP_PORT, HTTPS_PORT, backend, closers, load, raise, view } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

/** Neighbours come from another address than those who mean harm. */
const HOSTILE = '127.66.66.66'
const recorder = (number: number, region = 'ams') =>
  startRecorder({ number, region, address: `${NET}.${100 + number}` }, closers)
const named = (name: string) => `${name}.${DOMAIN}`

interface Raw {
  /** Of the first answer. */
  status(): number | null
  closed(): boolean
  text(): string
  write(text: string): void
  end(): void
}

/** Says these bytes, and hears what comes. */
function say(text: string | Buffer, from = HOSTILE, port = HTTP_PORT): Raw {
  const socket = new PatientSocket()
  let heard = ''
  let closed = false
  socket.on('error', () => {})
  socket.on('close', () => {
    closed = true
  })
  socket.on('data', (chunk) => {
    heard += chunk.toString('latin1')
  })
  socket.connect({ host: `${NET}.1`, port, localAddress: from })
  socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
  return {
    status: () => {
      const [, status] =
        /^HTTP\/1\.[01] (\d{3})/.exec(heard.replace(/^(HTTP\/1\.1 1\d\d .*?\r\n\r\n)+/s, '')) ?? []
      return status === undefined ? null : Number(status)
    },
    closed: () => closed,
    text: () => heard,
    write: (more) => void (closed || socket.write(more)),
    end: () => socket.destroy(),
  }
}
const settled = (raw: Raw) => raw.closed() || raw.status() !== null
const get = (host: string, path: string, ...lines: readonly string[]) =>
  `GET ${path} HTTP/1.1\r\n${[`Host: ${host}`, ...lines, 'Connection: close'].join('\r\n')}\r\n\r\n`
async function ask(text: string, from = HOSTILE): Promise<Raw> {
  const raw = say(text, from)
  await until('it is answered', () => raw.closed())
  return raw
}

/** An edge with an app for each way that a request may take, and one of somebody else. */
async function allWays(options: { readonly maxConnections: number; readonly held?: boolean }) {
  const shop = await recorder(1)
  const kept = await recorder(2)
  const sent = await recorder(3)
  const target = await recorder(4, 'iad')
  const held = await recorder(5)
  const bank = await recorder(6)
  const raised = await raise(options)
  const { server, applied } = raised
  raised.replaying.push('kept', 'sent')
  for (const name of ['kept', 'sent', 'held']) server.put('app', name, app(name))
  server.put('app', 'bank', { ...app('bank'), organization: 'other' })
  const put = (of: Recorder, name: string, more = {}) =>
    server.put('machine', of.machine, view(of, { app: name, ...more }))
  put(shop, 'shop')
  put(kept, 'kept')
  put(sent, 'sent')
  put(target, 'sent')
  put(bank, 'bank')
  const coming = { kind: 'starting', stopsAt: null }
  await applied(
    options.held === true
      ? put(held, 'held', { state: 'starting', status: null, coming })
      : put(held, 'held'),
  )
  sent.answer = () => answerOf(200, '', ['fly-replay: region=iad'])
  await until('both are known to replay', async () => {
    const raw = await ask(get(named('sent'), '/known'))
    return raw.status() === 200 && target.seen.length > 0
  })
  for (const one of [shop, kept, sent, target, held, bank]) one.seen.length = 0
  return {
    ...{ shop, kept, sent, target, held, bank },
    ...raised,
    letGo: () => put(held, 'held', { coming: null }),
  }
}

type Ways = Awaited<ReturnType<typeof allWays>>
type Way = 'shop' | 'kept' | 'sent'
/** With those who see the requests that take this way. */
async function eachWay(
  { shop, kept, sent, target }: Ways,
  what: (name: Way, recorders: readonly Recorder[]) => Promise<void>,
): Promise<void> {
  const ways = [what('shop', [shop]), what('kept', [kept]), what('sent', [sent, target])]
  await Promise.all(ways)
}

/** Asks one after the other on kept connections, each with a path of its own, which the answer must repeat. */
function neighbour(host: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 4 })
  const wrong: string[] = []
  let asked = 0
  let slowest = 0
  const one = () =>
    new Promise<void>((done) => {
      asked += 1
      const path = `/neighbour/${asked}`
      const began = performance.now()
      const made = request({ host: `${NET}.1`, port: HTTP_PORT, path, headers: { host }, agent })
      made.setTimeout(5000, () => made.destroy(new Error('no answer')))
      made.on('response', (response) => {
        let text = ''
        response.on('data', (chunk) => {
          text += chunk
        })
        response.on('end', () => {
          slowest = Math.max(slowest, performance.now() - began)
          if (response.statusCode !== 200 || text !== JSON.stringify(path))
            wrong.push(`${path}: ${response.statusCode} ${text}`)
          done()
        })
      })
      made.on('error', (error) => {
        wrong.push(`${path}: ${error.message}`)
        done()
      })
      made.end()
    })
  closers.push(() => agent.destroy())
  return {
    wrong,
    slowestMs: () => slowest,
    some: (count: number) => Promise.all(Array.from({ length: count }, one)),
  }
}

describe('requests whose end is not where it seems', () => {
  /** What a machine saw was seen by the edge as a request, and has one end. */
  function check(of: Recorder, name: string): void {
    expect(of.odd, name).toEqual([])
    const ids = of.seen.map((seen) => seen.of('fly-request-id'))
    expect(
      ids.filter(
        (id) => id.length !== 1 || id[0] === FORGED_ID || !/^[0-9A-F]{26}-ams$/.test(id[0] ?? ''),
      ),
      name,
    ).toEqual([])
    for (const seen of of.seen) {
      expect(seen.of('fly-client-ip'), seen.target).toHaveLength(1)
      expect(seen.of('fly-client-ip')[0], seen.target).toMatch(/^127\./)
      // What would have the next one drop what edges say.
      expect(
        seen.of('connection').filter((value) => /fly|forwarded|length|encoding|host/i.test(value)),
        seen.target,
      ).toEqual([])
      expect(
        seen.of('upgrade').filter((value) => /h2c/i.test(value)),
        seen.target,
      ).toEqual([])
    }
  }

  /** Who is to be answered is, then all go, and `beside` meets nothing of it. Returns what each of them got. */
  async function seenOut(raws: readonly Raw[], beside: ReturnType<typeof neighbour>) {
    const deadline = performance.now() + 1500
    await until(
      'all that are answered are',
      () => raws.every(settled) || performance.now() > deadline,
    )
    await beside.some(40)
    for (const raw of raws) raw.end()
    await beside.some(40)
    expect(beside.wrong).toEqual([])
    return raws.map((raw) => raw.status() ?? (raw.closed() ? 'closed' : 'waits'))
  }

  test('are refused, or passed on so that nobody can be of another opinion, on all ways', async () => {
    const edge = await allWays({ maxConnections: 4000, held: true })
    const counts: string[] = []
    const heldAttacks = smugglingCorpus(named('held'), '/held')
    // Side by side: to find out who is never answered takes a while.
    await eachWay(edge, async (name, recorders) => {
      const host = named(name)
      const beside = neighbour(host)
      await beside.some(8)
      const attacks = smugglingCorpus(host, `/${name}`)
      const raws = attacks.map(({ text }) => say(text))
      await beside.some(40)
      const statuses = await seenOut(raws, beside)
      for (const one of recorders) check(one, name)
      counts.push(`${name}: ${tally(statuses)}`)
      if (process.env['ROOST_TEST_LOG'])
        for (const [n, status] of statuses.entries())
          process.stdout.write(`${status} ${attacks[n]?.name}\n`)
      // Some get through, or nothing was tried; a neighbour had a connection after them.
      const hostile = new Set(
        recorders[0]?.seen
          .filter(({ target }) => target.startsWith(`/${name}/`))
          .map(({ connection }) => connection),
      )
      expect(hostile.size, name).toBeGreaterThan(3)
    })
    // Who says its name last, or in the target, asked for it: then it alone is meant.
    check(edge.bank, 'bank')
    for (const seen of edge.bank.seen) expect(seen.of('host')).toEqual([named('bank')])

    // While they are held, they wait, or are refused.
    const raws = heldAttacks.map(({ text }) => say(text))
    const beside = neighbour(named('held'))
    const waiting = beside.some(20)
    await until(
      'those that are refused are',
      () => raws.filter((raw) => raw.status() === 400).length > 50,
    )
    expect(edge.held.seen).toEqual([])
    await edge.applied(edge.letGo())
    await waiting
    counts.push(`held: ${tally(await seenOut(raws, beside))}`)
    check(edge.held, 'held')
    process.stdout.write(`${counts.join('\n')}\n`)
  })

  test('by HTTP/2 as well', async () => {
    const edge = await allWays({ maxConnections: 4000 })
    await eachWay(edge, async (name, recorders) => {
      const beside = neighbour(named(name))
      const attacks = h2Corpus(named(name), `/${name}`)
      const clients = await Promise.all(
        attacks.map(async ({ headers, body }) => {
          const client = await connectH2(h2At(named(name)))
          const last = body === undefined ? END_STREAM : 0
          client.socket.write(frame(FRAME.headers, END_HEADERS | last, 1, headerBlock(headers)))
          if (body !== undefined)
            client.socket.write(frame(FRAME.data, END_STREAM, 1, Buffer.from(body, 'latin1')))
          return client
        }),
      )
      const outcome = ({ answers, ended }: H2Client) =>
        answers.get(1) ?? (ended.closed || ended.goaway ? 'closed' : 'waits')
      const deadline = performance.now() + 1500
      await until(
        'all that are answered are',
        () => clients.every((one) => outcome(one) !== 'waits') || performance.now() > deadline,
      )
      await beside.some(40)
      for (const { socket } of clients) socket.destroy()
      expect(beside.wrong).toEqual([])
      for (const one of recorders) check(one, name)
      const outcomes = clients.map(outcome)
      if (process.env['ROOST_TEST_LOG'])
        for (const [n, status] of outcomes.entries())
          process.stdout.write(`${status} ${attacks[n]?.name}\n`)
      process.stdout.write(`HTTP/2, ${name}: ${tally(outcomes)}\n`)
      expect(outcomes.filter((one) => one === 200).length).toBeGreaterThan(3)
    })
    expect(edge.bank.seen).toEqual([])
  })
})

const h2At = (servername: string, localAddress = HOSTILE) => ({
  ...{ host: `${NET}.1`, port: HTTPS_PORT, servername, localAddress },
})
function tally(outcomes: readonly (number | string)[]): string {
  const counts = new Map<number | string, number>()
  for (const one of outcomes) counts.set(one, (counts.get(one) ?? 0) + 1)
  return [...counts].map(([one, count]) => `${count} × ${one}`).join(', ')
}

describe('headers that only edges set', () => {
  test('never arrive as a client wrote them, and lead nobody to a machine of somebody else', async () => {
    const edge = await allWays({ maxConnections: 1000 })
    const { bank } = edge
    const forged = [
      'fly-replay-src: instance=x;region=ams;t=1;state=forged',
      'Fly-Replay-Failed: forged',
      'fly-replay-cache-status: forged',
      'fly-preferred-instance-unavailable: forged',
      'Fly-Client-IP: 6.6.6.6',
      'FLY-CLIENT-IP: 6.6.6.7',
      'fly_client_ip: 6.6.6.6',
      'Fly_Forwarded_Proto: forged',
      'Fly-Forwarded-Port: 6666',
      'Fly-Forwarded-Proto: forged',
      'Fly-Forwarded-Ssl: forged',
      'Fly-Forwarded-For: 6.6.6.6',
      'X-Forwarded-For: 6.6.6.6',
      'X_Forwarded_For: 6.6.6.6',
      'X-Forwarded-Port: 6666',
      'X-Forwarded-Proto: forged',
      'X-Forwarded-Ssl: forged',
      'Fly-Region: forged',
      'Fly-Request-Id: forged',
      'Via: forged',
      `roost-host: ${named('bank')}`,
      'Roost-Slot: s0',
      `roost-server: ${bank.machine}.a0`,
      `roost-answered: ${bank.machine}.a0`,
      'roost-attach: 1',
      'roost-pid: 1',
    ]
    for (const [name, of] of [
      ['shop', edge.shop],
      ['kept', edge.kept],
      ['sent', edge.target],
    ] as const) {
      const raw = await ask(get(named(name), '/forged', ...forged))
      expect(raw.status(), name).toBe(200)
      expect(raw.text(), name).not.toMatch(/^(roost-|fly-replay)/im)
      const seen = of.seen.find(({ target }) => target === '/forged')
      const value = (header: string) => seen?.of(header)
      expect(value('fly-client-ip')).toEqual([HOSTILE])
      expect(value('x-forwarded-for')?.at(-1)).toBe(HOSTILE)
      expect(value('fly-request-id')?.[0]).toMatch(/^[0-9A-F]{26}-ams$/)
      expect([value('fly-region'), value('via')]).toEqual([['ams'], ['1.1 roost']])
      for (const header of ['fly-forwarded-', 'x-forwarded-'])
        expect(['port', 'proto', 'ssl'].map((part) => value(`${header}${part}`))).toEqual([
          [`${HTTP_PORT}`],
          ['http'],
          ['off'],
        ])
      const left = seen?.headers.filter(
        ([key, text]) => /forged|6\.6\.6|^6666$/.test(text) && key !== 'x-forwarded-for',
      )
      expect(left).toEqual([])
      const told = seen?.headers
        .map(([key]) => key)
        .filter((key) => /^roost|replay|_|unavailable/.test(key))
      expect(told).toEqual(name === 'sent' ? ['fly-replay-src'] : [])
    }

    // The machine of another owner, by all that chooses one.
    const host = named('shop')
    for (const name of ['shop', 'kept', 'sent'])
      for (const header of [
        'fly-force-instance-id',
        'fly-prefer-instance-id',
        'fly-replay',
        'fly-replay-cache',
        'cookie',
      ]) {
        const raw = await ask(
          get(
            named(name),
            '/',
            `${header}: ${header === 'fly-replay' ? 'instance=' : ''}${bank.machine}`,
            'fly-replay-cache-control: skip',
          ),
        )
        expect(raw.status(), `${name} ${header}`).toBe(
          header === 'fly-force-instance-id' ? 503 : 200,
        )
      }
    await ask(`GET http://${named('bank')}/ HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
    await ask(
      `GET / HTTP/1.1\r\nHost: ${host}\r\nHost: ${named('bank')}\r\nConnection: close\r\n\r\n`,
    )
    for (const answer of [
      ['fly-replay: app=bank'],
      [`fly-replay: instance=${bank.machine}`],
      [`fly-replay: prefer_instance=${bank.machine};app=bank`],
      [`fly-replay: app=bank;fallback=force_self`],
    ]) {
      edge.kept.answer = (seen) =>
        seen.of('fly-replay-failed').length > 0 ? null : answerOf(200, '', answer)
      const raw = await ask(get(named('kept'), '/to-the-bank'))
      expect(raw.status(), `${answer}`).toBe(`${answer}`.includes('fallback') ? 200 : 503)
    }
    expect(bank.seen).toEqual([])

    // Each sends to the other.
    edge.kept.seen.length = 0
    edge.sent.seen.length = 0
    edge.kept.answer = () => answerOf(200, '', ['fly-replay: app=sent;region=ams'])
    edge.sent.answer = () => answerOf(200, '', ['fly-replay: app=kept'])
    const looped = await ask(get(named('kept'), '/loop'))
    expect(looped.status()).toBe(502)
    expect(looped.text()).toMatch(/The request was sent on more than 3 times\.\n/)
    expect([edge.kept.seen.length, edge.sent.seen.length]).toEqual([2, 2])
  })
})

describe('a storm of replays', () => {
  test('takes a bounded share of memory, what is too much gets a 503, and a neighbour does not feel it', async () => {
    const [near, far, shop] = [await backend(1), await backend(2, 'iad'), await backend(3)]
    const { server, applied, replaying, config } = await raise({ maxConnections: 4000 })
    server.put('app', 'storm', app('storm'))
    replaying.push('storm')
    server.put('machine', shop.machine, view(shop))
    server.put('machine', far.machine, view(far, { app: 'storm' }))
    await applied(server.put('machine', near.machine, view(near, { app: 'storm' })))
    near.answer = (asked) => {
      const times = Number(/state=(\d)/.exec(`${asked.headers['fly-replay-src']}`)?.[1] ?? 0)
      return times === 3
        ? { text: 'arrived' }
        : { headers: { 'fly-replay': `elsewhere=true;state=${times + 1}` } }
    }
    far.answer = near.answer
    const body = Buffer.alloc(1_048_576)
    const send = () =>
      new Promise<string>((done) => {
        const made = request({
          ...{
            host: `${NET}.1`,
            port: HTTP_PORT,
            method: 'POST',
            agent: false,
            localAddress: HOSTILE,
          },
          headers: { host: named('storm'), 'content-length': body.length },
        })
        made.on('response', (response) => {
          let text = ''
          response.on('data', (chunk) => {
            text += chunk
          })
          response.on('end', () =>
            done(`${response.statusCode} ${response.headers['retry-after'] ?? '-'} ${text}`),
          )
        })
        made.on('error', (error) => done(error.message))
        made.end(body)
      })
    await until('it is known to replay', async () => (await send()).startsWith('200'))

    const traffic = load(40)
    const outcomes = await Promise.all(Array.from({ length: 120 }, send))
    await traffic.stop()
    const memory = await peakMemoryMb(config.runDir)
    process.stdout.write(
      `storm: ${tally(outcomes)}; replayer ${memory} MB; neighbour ${traffic.sent()} requests, slowest ${traffic.slowest.ms} ms\n`,
    )
    const good = outcomes.filter((one) => one === '200 - arrived').length
    const refused = outcomes.filter(
      (one) => one === '503 1 The edge keeps too many requests to send this one on now.\n',
    ).length
    expect(good + refused).toBe(120)
    expect(good).toBeGreaterThan(5)
    expect(refused).toBeGreaterThan(0)
    expect(memory).toBeLessThan(350)
    expect(traffic.failures).toEqual([])
    expect(traffic.slowest.ms).toBeLessThan(10_000)
  })
})

describe('headers that are too many or too large', () => {
  test('are refused with a reason and counted, both ways, and nobody else notices', async () => {
    const edge = await allWays({ maxConnections: 1000 })
    const beside = neighbour(named('held'))
    const large = 'x'.repeat(65_536)
    const many = Array.from({ length: 1000 }, (_, n) => `x-${n}: y`)
    for (const name of ['shop', 'kept', 'sent']) {
      const host = named(name)
      const waiting = beside.some(20)
      const raws = [
        get(host, '/', `x: ${large}`),
        get(host, '/', `x: ${'x'.repeat(1_048_576)}`),
        get(host, '/', ...many),
        get(host, `/${large}`),
        get(host, '/', `cookie: ${large}`),
        get(host, '/', `${large}: x`),
        get(`${large}.${DOMAIN}`, '/'),
      ].map((text) => say(text))
      await until('all are refused', () => raws.every((raw) => raw.closed()))
      expect(raws.map((raw) => raw.status())).toEqual(raws.map(() => 400))
      expect((await ask(get(host, '/fits', `cookie: ${'x'.repeat(12_000)}`))).status()).toBe(200)
      await waiting

      const client = await connectH2(h2At(host))
      const block = headerBlock([
        ...[[':method', 'GET'] as const, [':scheme', 'https'] as const],
        ...[[':authority', host] as const, [':path', '/h2'] as const, ['x', large] as const],
      ])
      const parts = Array.from({ length: Math.ceil(block.length / 16_000) }, (_, n) =>
        block.subarray(n * 16_000, (n + 1) * 16_000),
      )
      for (const [n, part] of parts.entries()) {
        const type = n === 0 ? FRAME.headers : FRAME.continuation
        const flags = (n === 0 ? END_STREAM : 0) | (n === parts.length - 1 ? END_HEADERS : 0)
        client.socket.write(frame(type, flags, 1, part))
      }
      await until(
        'it is refused',
        () => client.answers.get(1) !== undefined || client.ended.goaway || client.ended.closed,
      )
      expect(client.answers.get(1)).not.toBe(200)
      client.socket.destroy()

      const [of, path] = [
        name === 'shop' ? edge.shop : name === 'kept' ? edge.kept : edge.target,
        '/answers',
      ]
      for (const headers of [[`x: ${large}`], many]) {
        of.answer = ({ target }) => (target === path ? answerOf(200, '', headers) : null)
        const raw = await ask(get(host, path))
        expect([name, raw.status()]).toEqual([name, 502])
        expect(raw.text()).toMatch(/the headers of its answer/)
      }
    }
    await beside.some(20)
    expect(beside.wrong).toEqual([])
    for (const { seen } of [edge.shop, edge.kept, edge.target])
      expect(new Set(seen.map(({ target }) => target))).toEqual(new Set(['/fits', '/answers']))
    await until('they are counted', async () => {
      const page = await edge.edge.current.numbers().page()
      return (
        Number(/^fly_edge_http_responses_count\{app="",.*status="400"\} (\d+)/m.exec(page)?.[1]) >=
        21
      )
    })
  })
})

describe('clients that take their time, or none', () => {
  test('have a bounded share, and everybody else is served at all times', async () => {
    const limit = 300
    const shop = await backend(1)
    const { server, applied, masterPid } = await raise({
      ...{ maxConnections: 4 * limit, pace: { requestMs: 5000 } },
    })
    await applied(server.put('machine', shop.machine, view(shop)))
    const worker = async () => {
      const master = await masterPid()
      return (await readFile(`/proc/${master}/task/${master}/children`, 'utf8')).trim()
    }
    const pid = await worker()
    const traffic = load(40)
    const began = performance.now()
    const from = (n: number) => `127.66.66.${n}`
    const many = (count: number, n: number, text: string | Buffer, port = HTTP_PORT) =>
      Array.from({ length: count }, () => say(text, from(n), port))
    const open = (raws: readonly Raw[]) => raws.filter((raw) => !raw.closed()).length

    const idle = many(800, 1, '')
    const heads = many(limit, 2, `GET / HTTP/1.1\r\nHost: ${named('shop')}\r\nX: `)
    const bodies = many(
      400,
      3,
      `POST / HTTP/1.1\r\nHost: ${named('shop')}\r\nContent-Length: 1000\r\n\r\n`,
    )
    const hello = Buffer.from('1603010200010001fc0303', 'hex')
    const handshakes = many(400, 4, hello, HTTPS_PORT)
    const all = [idle, heads, bodies, handshakes]
    const drip = setInterval(() => {
      for (const raw of [...heads, ...bodies]) raw.write('x')
    }, 1000)
    closers.push(() => {
      clearInterval(drip)
      for (const raw of all.flat()) raw.end()
    })
    await until('nobody has more than a share', () => all.every((raws) => open(raws) <= limit))
    for (const raws of all) expect(open(raws)).toBeGreaterThan(limit / 2)

    // HTTP/2: requests that are taken back at once, headers without an end, and much to answer for nothing.
    const request = (path: string): Buffer =>
      headerBlock([
        [':method', 'GET'],
        [':scheme', 'https'],
        [':authority', named('shop')],
        [':path', path],
      ])
    const flood = async (
      n: number,
      frames: (n: number) => Buffer,
      count: number,
      first: Buffer = Buffer.alloc(0),
    ) => {
      const client = await connectH2(h2At(named('shop'), from(n)))
      client.socket.pause()
      client.socket.write(first)
      client.socket.write(Buffer.concat(Array.from({ length: count }, (_, k) => frames(k))))
      closers.push(() => client.socket.destroy())
      return client
    }
    const nothing = Buffer.alloc(0)
    const endless = frame(FRAME.headers, END_STREAM, 1, request('/endless'))
    const floods = await Promise.all([
      flood(
        5,
        (k) =>
          Buffer.concat([
            frame(FRAME.headers, END_HEADERS | END_STREAM, 2 * k + 1, request('/reset')),
            frame(FRAME.reset, 0, 2 * k + 1, Buffer.from([0, 0, 0, 8])),
          ]),
        5000,
      ),
      flood(
        6,
        () => frame(FRAME.continuation, 0, 1, headerBlock([['x', 'y'.repeat(100)]])),
        5000,
        endless,
      ),
      flood(7, () => frame(FRAME.continuation, 0, 1, nothing), 50_000, endless),
      flood(8, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)), 50_000),
      flood(9, () => frame(FRAME.settings, 0, 0, nothing), 50_000),
    ])
    for (const { socket } of floods) socket.resume()
    const [, continued, empty] = floods

    // Answers that nobody takes: no more at once than connections.
    const stalled = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const client = await connectH2({ ...h2At(named('shop'), from(10)), settings: [[4, 0]] })
        closers.push(() => client.socket.destroy())
        for (let k = 0; k < 100; k++)
          client.socket.write(
            frame(FRAME.headers, END_HEADERS | END_STREAM, 2 * k + 1, request('/stalled')),
          )
        return client
      }),
    )
    const answers = () => stalled.flatMap(({ answers }) => [...answers.values()])
    await until('all are answered', () => answers().length === 400)
    expect(answers().filter((one) => one === 200)).toHaveLength(limit)
    expect(answers().filter((one) => one === 429)).toHaveLength(400 - limit)
    for (const { socket } of stalled) socket.destroy()
    const again = async () => {
      const client = await connectH2(h2At(named('shop'), from(10)))
      client.socket.write(frame(FRAME.headers, END_HEADERS | END_STREAM, 1, request('/')))
      await until('it is answered', () => client.answers.has(1))
      client.socket.destroy()
      return client.answers.get(1)
    }
    await until('who lets go is served again', async () => (await again()) === 200)

    await until(
      'those who never come to a request are ended',
      () =>
        open(idle) + open(heads) === 0 &&
        [continued, empty].every((one) => one?.ended.goaway || one?.ended.closed),
      15_000,
    )
    expect(performance.now() - began).toBeLessThan(15_000)
    expect(heads.map((raw) => raw.status()).every((status) => status === 408)).toBe(true)
    expect(open(bodies)).toBeLessThanOrEqual(limit)
    await traffic.stop()
    const memory = Math.round(
      Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024,
    )
    process.stdout.write(
      `slow clients: neighbour ${traffic.sent()} requests, slowest ${traffic.slowest.ms} ms; HAProxy ${memory} MB\n`,
    )
    expect(await worker()).toBe(pid)
    expect(memory).toBeLessThan(200)
    expect(traffic.failures).toEqual([])
    expect(traffic.slowest.ms).toBeLessThan(3000)
  })
})

describe('clients of one app that take their time', () => {
  const MB = 1_048_576
  const SLOW = '/?ms=60000'
  const NO_FILE = '/assets/none?ms=60000'
  const FROM = [1, 2, 3, 4].map((n) => `127.66.66.${n}`)
  const TOO_MANY = 'Too many requests of this app are under way.\n'

  /** Two apps on the longer ways; both have what may be files, and one machine that sends on what is at `/sent`, to itself. */
  async function twoApps() {
    const [slow, bank, coming] = [await backend(1), await backend(2), await backend(3)]
    const raised = await raise({ maxConnections: 4000 })
    const { server, applied, replaying } = raised
    const files = { guest_path: '/public', url_prefix: '/assets' }
    for (const [name, of] of [
      ['slow', slow],
      ['bank', bank],
    ] as const) {
      replaying.push(name)
      server.put('app', name, app(name))
      const statics = { image: `sha256:${'a'.repeat(64)}`, folders: [files] }
      server.put('machine', of.machine, view(of, { app: name, statics }))
      of.answer = ({ url, headers }) =>
        url === '/sent' && headers['fly-replay-src'] === undefined
          ? { headers: { 'fly-replay': `instance=${of.machine}` } }
          : null
    }
    const start = { state: 'starting', status: null, coming: { kind: 'starting', stopsAt: null } }
    await applied(
      server.put('machine', coming.machine, view(coming, { app: 'slow', ...start } as never)),
    )
    const asked = async (name: string, path: string, headers: Record<string, string> = {}) => {
      const began = performance.now()
      const { status, machine } = await trial.get({ host: named(name), path, headers })
      return { status, machine, ms: performance.now() - began }
    }
    for (const name of ['slow', 'bank'])
      await until(
        'it takes the longer way',
        async () => (await asked(name, '/sent')).status === 200,
      )
    const crowd = (count: number, text: string) => {
      const raws = Array.from({ length: count }, (_, n) => say(text, FROM[n % FROM.length]))
      closers.push(() => {
        for (const raw of raws) raw.end()
      })
      return raws
    }
    /** Of somebody who has nothing to do with it. */
    const isServed = async (path: string, headers: Record<string, string> = {}) => {
      const { status, machine, ms } = await asked('bank', path, headers)
      expect([path, status, machine]).toEqual([path, 200, bank.machine])
      // In a queue with the others it would be for 5 s.
      expect(ms).toBeLessThan(4500)
    }
    return { slow, bank, coming, asked, crowd, isServed, ...raised }
  }

  test('have its share of the longer ways, and those of another are answered at once', async () => {
    const { slow, asked, crowd, isServed, files } = await twoApps()
    const raws = [
      ...crowd(shareOf(REPLAYED_MAX) + 50, get(named('slow'), SLOW)),
      ...crowd(FILES_MAX + 50, get(named('slow'), NO_FILE)),
    ]
    const refused = () => raws.filter((raw) => raw.closed())
    await until(
      'each is at work or refused',
      () => slow.busy.now + refused().length === raws.length,
      30_000,
    )
    for (const path of ['/', '/sent', '/assets/none']) await isServed(path)
    expect(slow.busy.now).toBe(shareOf(REPLAYED_MAX) + shareOf(FILES_MAX))
    for (const raw of refused()) {
      expect(raw.text()).toMatch(/^HTTP\/1\.1 503 (.*\r\n)*retry-after: 1\r\n/)
      expect(raw.text().endsWith(`\r\n\r\n${TOO_MANY}`)).toBe(true)
    }

    for (const raw of raws) raw.end()
    const api = createRuntimeApi({ path: files.socket, onLost: () => {} })
    closers.push(() => api.disconnect())
    await until('nobody has any of it', async () => {
      const tables = await api.send(['show table replay', 'show table files'])
      expect(tables.join()).toMatch(/ conn_cur=/)
      return !/ conn_cur=[1-9]/.test(tables.join())
    })
    expect((await asked('slow', '/')).status).toBe(200)
  })

  test('have its share of the bodies that are kept, and those of another may still be sent on', async () => {
    const { slow, bank, crowd } = await twoApps()
    const post = (name: string, path: string) =>
      `POST ${path} HTTP/1.1\r\nHost: ${named(name)}\r\nContent-Length: ${MB}\r\nConnection: close\r\n\r\n${'x'.repeat(MB)}`
    const raws = crowd(70, post('slow', SLOW))
    await until('all arrived', () => slow.bytes.count === 70 * MB, 30_000)
    const sent = await ask(post('bank', '/sent'))
    expect(sent.status()).toBe(200)
    expect(bank.bytes.count).toBe(2 * MB)
    const own = await ask(post('slow', '/sent'))
    expect([own.status(), own.text()]).toEqual([
      ...[503, expect.stringContaining('The edge keeps too many requests')],
    ])
    for (const raw of raws) raw.end()
    await until('there is room again', async () => {
      const raw = await ask(post('slow', '/sent'))
      return raw.status() === 200
    })
  })

  test('wait in its share of those who ask for a machine, and those of another get theirs', async () => {
    const { slow, bank, coming, asked, crowd, isServed, server, applied } = await twoApps()
    const forced = (machine: string) => ({ 'fly-force-instance-id': machine })
    const text = get(named('slow'), '/', `fly-force-instance-id: ${coming.machine}`)
    const raws = crowd(ASKING_MAX + 100, text)
    await isServed('/', forced(bank.machine))
    await until(
      'many wait',
      () => raws.filter((raw) => !raw.closed()).length === shareOf(ASKING_MAX),
      30_000,
    )
    await isServed('/', forced(bank.machine))
    expect((await asked('slow', '/', forced(slow.machine))).machine).toBe(slow.machine)
    for (const raw of raws) raw.end()
    const asking: { raw: Raw; from: number }[] = []
    // Who may not is told so at once.
    const waiting = await until('one may wait again', () => {
      asking.push(...crowd(1, text).map((raw) => ({ raw, from: performance.now() })))
      return asking.find(({ raw, from }) => !settled(raw) && performance.now() - from > 2000)?.raw
    })
    await applied(server.put('machine', coming.machine, view(coming, { app: 'slow' })))
    await until('it is answered', () => waiting.status() === 200)
  })
})

async function peakMemoryMb(runDir: string): Promise<number> {
  for (const pid of await readdir('/proc')) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (!line.includes('--replayer') || !line.includes(runDir)) continue
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    return Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024)
  }
  throw new Error('no replayer runs')
}
