import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, createServer } from 'node:http'
import { connect as connectH2 } from 'node:http2'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { type MachineId, NO_TRAFFIC, quantileMs } from '@roost/core'
import { decode, encode } from 'dns-packet'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { askOnce, createRuntimeApi } from './haproxy/runtime-api.ts'
import { app, DOMAIN, openTrial, settingsWith, until } from './trial-edge.ts'

const run = promisify(execFile)
const trial = await openTrial()
const { NET, HTTP_PORT, HTTPS_PORT, pki, backend, silentBackend, get, load, raise, view } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

describe('an edge with a real HAProxy', () => {
  test('answers by name, sets what apps are told and lets no client set it', async () => {
    const one = await backend(1)
    const { server, applied } = await raise()
    server.put('app', 'empty', app('empty'))
    await applied(server.put('machine', one.machine, view(one)))

    const forged = {
      'fly-client-ip': '6.6.6.6',
      'Fly-Region': 'mars',
      'fly-request-id': 'mine',
      fly_client_ip: '6.6.6.6',
      'fly-forwarded-proto': 'https',
      'x-forwarded-for': '9.9.9.9',
      'x_forwarded-for': '6.6.6.6',
      'x-forwarded-proto': 'https',
      'x-forwarded-port': '443',
      via: '1.1 liar',
      'x-custom_name': 'kept',
    }
    const reply = await get({
      headers: forged,
      path: '/a/b?c=d',
      host: `SHOP.${DOMAIN.toUpperCase()}:${HTTP_PORT}`,
    })
    expect(reply.status).toBe(200)
    const seen = JSON.parse(reply.text) as { headers: Record<string, string>; url: string }
    expect(seen.url).toBe('/a/b?c=d')
    expect(seen.headers).toMatchObject({
      'fly-client-ip': '127.0.0.1',
      'fly-region': 'ams',
      'fly-forwarded-port': String(HTTP_PORT),
      'fly-forwarded-proto': 'http',
      'fly-forwarded-ssl': 'off',
      'x-forwarded-for': '9.9.9.9, 127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-port': String(HTTP_PORT),
      'x-forwarded-ssl': 'off',
      via: '1.1 roost',
      'x-custom_name': 'kept',
    })
    expect(Object.keys(seen.headers).filter((name) => /^(fly|x.forwarded).*_/.test(name))).toEqual(
      [],
    )
    const id = seen.headers['fly-request-id']
    expect(id).toMatch(/^[0-7][0-9A-F]{25}-ams$/)
    expect(reply.headers).toMatchObject({ 'fly-request-id': id, via: '1.1 roost', server: 'Roost' })
    // The machine's word is about its connection to the edge (Node: five seconds).
    expect(reply.headers['keep-alive']).toBe('timeout=90')
    expect((await get()).headers['fly-request-id']).not.toBe(id)

    const unknown = await get({ host: `nobody.${DOMAIN}` })
    expect([unknown.status, unknown.text]).toEqual([404, 'No app answers under this name.\n'])
    const idle = await get({ host: `empty.${DOMAIN}` })
    expect([idle.status, idle.headers['retry-after'], idle.text]).toEqual([
      503,
      '1',
      'No machine of this app can answer now.\n',
    ])
    expect(idle.headers['fly-request-id']).toMatch(/-ams$/)
  })

  test('speaks TLS with a certificate of the authority, HTTP/2 and WebSockets included', async () => {
    const one = await backend(1)
    const { server, applied, edge } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const ca = await readFile(join(pki, 'ca.pem'), 'utf8')
    const reply = await until('the certificate is there', () =>
      get({ tls: { ca } }).catch(() => null),
    )
    const { headers } = JSON.parse(reply.text) as { headers: Record<string, string> }
    expect(headers).toMatchObject({
      'fly-forwarded-proto': 'https',
      'x-forwarded-ssl': 'on',
      'fly-forwarded-port': String(HTTPS_PORT),
    })

    const session = connectH2(`https://${NET}.1:${HTTPS_PORT}`, {
      ca,
      servername: `shop.${DOMAIN}`,
    })
    const stream = session.request({ ':path': '/h2', ':authority': `shop.${DOMAIN}` })
    let text = ''
    stream.on('data', (chunk) => {
      text += chunk
    })
    await once(stream, 'end')
    session.close()
    expect(JSON.parse(text)).toMatchObject({ url: '/h2', headers: { via: '2.0 roost' } })

    // Who does not know the authority ends it in the midst of the handshake.
    // What it asks for by way of a name makes no second line.
    const forged = `x\nfailed SSL handshake failure|shop`
    for (const name of [forged, 'shop', 'nothing']) {
      const servername = `${name}.${DOMAIN}`
      await once(connectTls({ host: `${NET}.1`, port: HTTPS_PORT, servername }), 'error')
    }
    await until('handshakes are counted', async () => {
      const page = await edge.current.numbers().page()
      const count = (series: string) => Number(page.split(`${series} `)[1]?.split('\n')[0])
      const at = 'region="ams",host="host-ams-1"'
      return (
        count(`fly_edge_tls_handshake_time_seconds_count{${at},version="TLSv1.3"}`) > 0 &&
        count(`fly_edge_tls_handshake_errors{${at},servername="shop.${DOMAIN}"}`) === 1 &&
        count(`fly_edge_tls_handshake_errors{${at},servername=""}`) === 1
      )
    })

    for (const url of [`ws://${NET}.1:${HTTP_PORT}`, `wss://${NET}.1:${HTTPS_PORT}`]) {
      const secure = { ca, servername: `shop.${DOMAIN}` }
      const socket = new WebSocket(url, { headers: { host: `shop.${DOMAIN}` }, ...secure })
      await once(socket, 'open')
      socket.send('hello')
      const [data] = await once(socket, 'message')
      expect(String(data)).toBe(`${one.machine}:hello`)
      socket.close()
    }

    await applied(server.put('machine', one.machine, view(one, { forceHttps: true })))
    const moved = await get({ path: '/x?y=1' })
    expect([moved.status, moved.headers.location]).toEqual([
      301,
      `https://shop.${DOMAIN}:${HTTPS_PORT}/x?y=1`,
    ])
    expect(edge.current.status().serving).toBe(true)
  })

  test('machines come and go under load and no request fails; who leaves is reported until nobody uses it', async () => {
    const [one, two, three] = [await backend(1), await backend(2), await backend(3, 'ams', 3000)]
    const { server, applied, edge } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}`, {
      headers: { host: `shop.${DOMAIN}` },
    })
    await once(socket, 'open')

    const traffic = load(150)
    for (let round = 0; round < 8; round++) {
      await applied(server.put('machine', two.machine, view(two)))
      const hits = two.hits.count
      await until('the new one is used', () => two.hits.count > hits)
      await applied(server.put('machine', one.machine, view(one, { routed: false })))
      await until('its WebSocket is counted', () =>
        edge.current.status().draining.some((d) => d.machine === one.machine),
      )
      await applied(server.put('machine', one.machine, view(one)))
      await applied(server.put('machine', two.machine, null))
    }
    // A release on another port: both serve, then the old one goes.
    await applied(server.put('machine', three.machine, view(three)))
    await applied(server.put('machine', one.machine, view(one, { routed: false })))
    const quiet = one.hits.count
    await until('others answer', () => three.hits.count > 50)
    await until(
      'only the open WebSocket is left',
      () => edge.current.status().draining.find((d) => d.machine === one.machine)?.sessions === 1,
    )
    expect(one.hits.count).toBeLessThan(quiet + 10)
    socket.close()
    await until('nothing drains', () => edge.current.status().draining.length === 0)
    await until('and the server hears it', () => server.beats.at(-1)?.draining.length === 0)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    expect(traffic.sent()).toBeGreaterThan(100)
  })

  test('a machine that dies costs no request that may be repeated, and what is near takes over before what is far', async () => {
    const [near, far, further] = [
      await backend(1),
      await backend(2, 'iad'),
      await backend(3, 'syd'),
    ]
    const { server, applied } = await raise()
    // Entered from far to near: the order of arrival must not decide.
    await applied(server.put('machine', further.machine, view(further)))
    expect((await get()).machine).toBe(further.machine)
    await applied(server.put('machine', far.machine, view(far)))
    expect((await get()).machine).toBe(far.machine)
    await applied(server.put('machine', near.machine, view(near)))
    expect((await get()).machine).toBe(near.machine)

    const statuses: number[] = []
    const asking = { go: true }
    const clients = Array.from({ length: 5 }, async () => {
      const agent = new Agent({ keepAlive: true })
      while (asking.go)
        statuses.push((await get({ agent, path: '/?ms=10' }).catch(() => ({ status: 0 }))).status)
      agent.destroy()
    })
    await near.kill()
    await until('the next region answers', async () => (await get()).machine === far.machine)
    expect(further.hits.count).toBe(1)
    await far.kill()
    await until('the farthest answers', async () => (await get()).machine === further.machine)
    asking.go = false
    await Promise.all(clients)
    expect(statuses.filter((s) => s !== 200)).toEqual([])
    expect((await get({ method: 'POST' })).status).toBe(200)
  })

  test('the sole machine of a region is killed or goes dark under load: others answer, and nothing is done twice', async () => {
    for (const how of ['killed', 'dark'] as const) {
      const hidden = how === 'dark' ? await silentBackend(1) : null
      const near = hidden ?? (await backend(1))
      const far = await backend(2, 'iad')
      const { server, applied } = await raise()
      server.put('machine', near.machine, view(near))
      await applied(server.put('machine', far.machine, view(far)))
      const agent = new Agent({ keepAlive: true, maxSockets: 16 })
      const failed: string[] = []
      const posted: string[] = []
      const pending = new Set<Promise<void>>()
      let n = 0
      let slowest = 0
      const timer = setInterval(() => {
        const id = `${how}-${n++}`
        const method = n % 4 === 0 ? 'POST' : n % 4 === 1 ? 'HEAD' : 'GET'
        if (method === 'POST') posted.push(id)
        const from = performance.now()
        const path = `/?id=${id}&ms=${n % 5 === 0 ? 50 : 0}`
        const one = get({ method, path, ...(n % 8 < 4 ? { agent } : {}) })
          .then(
            ({ status }) => status !== 200 && failed.push(`${method} ${status}`),
            (error: Error) => failed.push(`${method} ${error.message}`),
          )
          .then(() => {
            slowest = Math.max(slowest, performance.now() - from)
            pending.delete(one)
          })
        pending.add(one)
      }, 10)
      await until('it runs', () => n > 100)
      if (hidden !== null) await hidden.fallSilent()
      else if ('kill' in near) await near.kill()
      await until('the other region answers', () => far.hits.count > 150)
      clearInterval(timer)
      await Promise.all(pending)
      agent.destroy()
      process.stdout.write(
        `${how}: slowest of ${n} ${Math.round(slowest)} ms, failed: ${failed.join(', ') || 'none'}\n`,
      )
      expect(failed.filter((what) => !what.startsWith('POST'))).toEqual([])
      // Those on their way when it happened. In the dark it is noticed later.
      expect(failed.length).toBeLessThan(how === 'killed' ? 5 : 60)
      const arrived = [...far.ids, ...('ids' in near ? near.ids : [])]
      for (const id of posted)
        expect(arrived.filter((other) => other === id).length).toBeLessThan(2)
      expect(slowest).toBeLessThan(how === 'killed' ? 5000 : 10_000)
      await trial.cleanUp()
    }
  })

  test('what may not be asked twice never is, and what may is asked of the next machine', async () => {
    const [one, two] = [await backend(1), await backend(2)]
    const { server, applied } = await raise()
    server.put('machine', two.machine, view(two))
    await applied(server.put('machine', one.machine, view(one)))
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
      for (const kept of [false, true]) {
        const id = `${method}-${kept}`
        if (kept) await get({ agent })
        const asked = get({ method, path: `/?drop&id=${id}`, ...(kept ? { agent } : {}) })
        // On a kept connection HAProxy leaves it to the client to ask again, by closing it.
        if (kept) await expect(asked).rejects.toThrow('socket hang up')
        else expect((await asked).status).toBe(502)
        const arrivals = one.dropped.count + two.dropped.count
        expect(arrivals).toBe(1)
        one.dropped.count = 0
        two.dropped.count = 0
      }
    expect((await get({ path: '/?drop' })).status).toBe(502)
    // Bounded: a request that kills what answers it must not kill everything.
    expect(one.dropped.count + two.dropped.count).toBe(4)
    agent.destroy()
  })

  test('a connection to a machine is not used again once apps may close it: nothing that was sent meets its closing', async () => {
    // Rested: between the answer and the next request, or the end of the connection.
    const rests: number[] = []
    const open = new Map<Socket, number | null>()
    const rested = (socket: Socket) => {
      const since = open.get(socket) ?? null
      if (since !== null) rests.push(performance.now() - since)
      open.set(socket, null)
    }
    const server = createServer((asked, answer) => {
      rested(asked.socket)
      const ms = Number(new URL(asked.url ?? '', 'http://x').searchParams.get('ms') ?? 0)
      answer.on('finish', () => open.set(asked.socket, performance.now()))
      asked.resume().on('end', () => setTimeout(() => answer.end('{}'), ms))
    })
    server.keepAliveTimeout = 60_000
    server.on('connection', (socket) =>
      socket.on('close', () => {
        rested(socket)
        open.delete(socket)
      }),
    )
    const address = `${NET}.150`
    server.listen(8080, address)
    await once(server, 'listening')
    const { server: control, applied } = await raise()
    const machine = '0000000000f001' as MachineId
    await applied(
      control.put('machine', machine, view({ machine, region: 'ams', address, port: 8080 })),
    )
    // Bursts over a steady trickle: what a burst opened lies idle afterwards.
    const trickle = load(20)
    for (let burst = 0; burst < 2; burst++) {
      await Promise.all(Array.from({ length: 40 }, () => get({ method: 'POST', path: '/?ms=50' })))
      await until('the burst is let go', () => open.size < 10, 20_000)
    }
    await trickle.stop()
    expect(trickle.failures).toEqual([])
    await until('all are let go', () => open.size === 0, 20_000)
    server.close()
    // Node closes after 5 s.
    expect(Math.max(...rests)).toBeLessThan(4500)
  })

  test('counts what it answers by app, machine and status, also what was held or had no answer', async () => {
    const [one, two] = [await backend(1), await backend(2)]
    const { server, edge, applied } = await raise()
    server.put('machine', two.machine, view(two))
    await applied(server.put('machine', one.machine, view(one)))
    for (let n = 0; n < 20; n++) await get({ path: '/?ms=20' })
    for (let n = 0; n < 3; n++) await get({ method: 'POST', path: '/?drop' })
    await get({ host: `nothing.${DOMAIN}` })
    const counted = (machine: string | null) =>
      edge.current
        .numbers()
        .recent('shop')
        .find((source) => source.machine === machine)
    const answers = (status: number) =>
      [one, two].reduce(
        (sum, { machine }) => sum + (counted(machine)?.traffic.responses[status] ?? 0),
        0,
      )
    await until('all is counted', () => answers(200) === 20 && answers(502) === 3)
    const { traffic } = counted(one.machine) ?? {}
    expect(quantileMs(traffic ?? NO_TRAFFIC, 0.5)).toBeGreaterThanOrEqual(20)
    expect(traffic?.bytesOut).toBeGreaterThan(1000)
    const page = await edge.current.numbers().page()
    const responses = (status: number) =>
      Number(
        new RegExp(
          `^fly_edge_http_responses_count\\{app="shop",region="ams",host="host-ams-1",status="${status}"\\} (\\d+)$`,
          'm',
        ).exec(page)?.[1],
      )
    expect([responses(200), responses(502)]).toEqual([20, 3])
    expect(page).toContain(
      `fly_app_http_responses_count{app="shop",region="ams",host="host-ams-1",instance="${one.machine}",status="200"}`,
    )
    // As HAProxy was looked at last, up to a second ago.
    expect(page).toMatch(
      new RegExp(
        `^fly_app_concurrency\\{app="shop",region="ams",host="host-ams-1",instance="${one.machine}"\\} \\d+$`,
        'm',
      ),
    )
    // Nobody is there any more: a request that can't wait for anybody is counted to no machine.
    server.put('machine', two.machine, view(two, { routed: false }))
    await applied(server.put('machine', one.machine, view(one, { routed: false })))
    expect((await get()).status).toBe(503)
    await until('it is counted', () => counted(null)?.traffic.responses[503] === 1)
  })

  test('counts every answer of many at once: who reads the log too slowly loses lines', async () => {
    const one = await backend(1)
    const { server, edge, applied } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const agent = new Agent({ keepAlive: true })
    for (let round = 0; round < 60; round++)
      await Promise.all(Array.from({ length: 10 }, () => get({ agent })))
    agent.destroy()
    await until('all are counted', () => {
      const [source] = edge.current.numbers().recent('shop')
      return source?.traffic.responses[200] === 600
    })
  })

  test('counts what it answered while the edge was away, and HAProxy rests until it is back', async () => {
    const one = await backend(1)
    const { server, edge, applied, files, start } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const answers = () =>
      edge.current
        .numbers()
        .recent('shop')
        .find(({ machine }) => machine === one.machine)?.traffic.responses[200] ?? 0
    await get()
    await until('the log is read', () => answers() === 1)
    await edge.current.close()
    const work = async () => {
      const activity = await askOnce(files.socket, 'show activity')
      return Number(/^stream_calls: (\d+)/m.exec(activity)?.[1])
    }
    const before = await work()
    for (let n = 0; n < 4; n++) await get({ path: '/?ms=250' })
    // A request takes some three steps. Asking for the reader without a pause took ten thousands a second.
    expect((await work()) - before).toBeLessThan(200)
    // More lines than one buffer of HAProxy holds.
    const agent = new Agent({ keepAlive: true })
    for (let n = 0; n < 40; n++) await Promise.all(Array.from({ length: 20 }, () => get({ agent })))
    agent.destroy()
    edge.current = await start()
    await until('all are counted', () => answers() === 804, 2000)
  })

  test('requests are told live to who listens and to nobody else, over a reload, with who answered those that were held', async () => {
    const one = await backend(1)
    const { server, edge, applied, files } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const api = createRuntimeApi({ path: files.socket, onLost: () => {} })
    trial.closers.push(() => api.disconnect())
    const map = async () => {
      // A connection from before a reload is to the worker of then.
      api.disconnect()
      const [shown = ''] = await api.send([`show map ${files.accessMap}`])
      return shown.split(' ').at(-1)
    }
    const listen = (query = false) => {
      const leave = new AbortController()
      const wish = { app: 'shop', machine: null, query }
      const lines = edge.current.access().follow(wish)(leave.signal)
      trial.closers.push(() => leave.abort())
      const next = async () => (await lines.next()).value
      /** Beats between them left out. */
      const request = async () => {
        for (let line = await next(); line; line = await next())
          if (line.request) return line.request
        throw new Error('it ended')
      }
      return { leave, next, request }
    }
    expect(await map()).toBe('')
    const plain = listen()
    expect(await plain.next()).toEqual({})
    const long = `/${'x'.repeat(600)}`
    await get({ path: '/a|b/c?token=secret', method: 'POST' })
    expect(await plain.request()).toMatchObject({
      ...{ region: 'ams', host: 'host-ams-1', client: '127.0.0.1', method: 'POST', status: 200 },
      ...{ path: '/a|b/c', machine: one.machine },
      request_id: expect.stringMatching(/^[0-7][0-9A-F]{25}-ams$/),
    })
    await get({ path: '/?ms=50' })
    const slow = await plain.request()
    expect(slow.duration_ms).toBeGreaterThanOrEqual(50)
    expect(slow.bytes_out).toBeGreaterThan(100)
    await get({ path: long })
    expect((await plain.request()).path).toBe(long.slice(0, 400))

    const full = listen(true)
    expect(await full.next()).toEqual({})
    await get({ path: '/?token=secret' })
    expect([(await full.request()).path, (await plain.request()).path]).toEqual([
      '/?token=secret',
      '/',
    ])

    const coming = { kind: 'replaced' as const, stopsAt: null }
    await applied(
      server.put('machine', one.machine, view(one, { state: 'starting', routed: false, coming })),
    )
    const waits = get({ path: '/held' })
    await applied(server.put('machine', one.machine, view(one)))
    expect((await waits).status).toBe(200)
    expect(await plain.request()).toMatchObject({ path: '/held', machine: one.machine })

    // More apps than there are slots for: another worker, which begins with an empty map.
    for (let n = 0; n < 30; n++) {
      server.put('app', `app${n}`, app(`app${n}`))
      const id = (100 + n).toString(16).padStart(14, '0') as MachineId
      server.put('machine', id, view({ ...one, machine: id }, { app: `app${n}` }))
    }
    await applied(server.revision())
    await until('it is told of again', async () => (await map().catch(() => '')) === 'query')
    await get({ path: '/later' })
    expect(await plain.request()).toMatchObject({ path: '/later' })
    plain.leave.abort()
    full.leave.abort()
    await until('nobody is told', async () => (await map()) === '')
  })

  test('a disk that is full keeps nobody from serving or being steered, and all is right when there is room', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'roost-edge-full-'))
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', dir])
    trial.closers.push(async () => {
      await run('umount', ['-l', dir])
      await rm(dir, { recursive: true })
    })
    const [one, two, three] = [await backend(1), await backend(2), await backend(3)]
    const { server, applied, edge, masterPid, files, start } = await raise({
      ...{ dir, pace: { saveAgainMs: 1000 } },
    })
    await applied(server.put('machine', one.machine, view(one)))
    await until('it is written down', async () =>
      (await readFile(files.config, 'utf8')).includes(one.machine),
    )
    await writeFile(join(dir, 'filler'), Buffer.alloc(8_000_000)).catch(() => {})
    server.put('machine', one.machine, null)
    await applied(server.put('machine', two.machine, view(two)))
    expect((await get()).machine).toBe(two.machine)
    // Started again from what was written before, it is brought to what is known now.
    process.kill(await masterPid(), 'SIGKILL')
    await until(
      'it serves again',
      async () => (await get().catch(() => null))?.machine === two.machine,
    )
    // A new edge knows what was written, and hears the rest.
    await edge.current.close()
    edge.current = await start()
    await applied(server.put('machine', three.machine, view(three)))
    server.put('machine', two.machine, null)
    await until('it is steered', async () => (await get()).machine === three.machine)

    await rm(join(dir, 'filler'))
    await until(
      'the files are right',
      async () => (await readFile(files.config, 'utf8')).includes(three.machine),
      15_000,
    )
    server.put('settings', 'settings', settingsWith('198.18.3.0/24'))
    await applied(server.revision())
    server.setReachable(false)
    await edge.current.close()
    edge.current = await start()
    await until('it knows the latest', () => edge.current.status().applied === server.revision())
  })

  test('when the own region is down, all machines of the nearest one share the work', async () => {
    const [near, a, b] = [await backend(1), await backend(2, 'iad'), await backend(3, 'iad')]
    const { server, applied } = await raise()
    server.put('machine', near.machine, view(near))
    server.put('machine', a.machine, view(a))
    await applied(server.put('machine', b.machine, view(b)))
    await near.kill()
    await get()
    await until('both work', async () => {
      const [hitsA, hitsB] = [a.hits.count, b.hits.count]
      await Promise.all(Array.from({ length: 10 }, () => get({ path: '/?ms=20' })))
      return Math.min(a.hits.count - hitsA, b.hits.count - hitsB) >= 4
    })
    const again = await backend(1)
    await until('the own region serves alone again', async () => {
      const before = a.hits.count + b.hits.count
      const replies = await Promise.all(Array.from({ length: 10 }, () => get()))
      return (
        replies.every((r) => r.machine === again.machine) && a.hits.count + b.hits.count === before
      )
    })
  })

  test('a restart of the edge disturbs nobody; a HAProxy that was killed is back within 2 s', async () => {
    const one = await backend(1)
    const two = await backend(2)
    const { server, applied, edge, start, files, masterPid } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}`, {
      headers: { host: `shop.${DOMAIN}` },
    })
    await once(socket, 'open')
    const pid = await masterPid()

    const traffic = load(100)
    // As after kill -9: HAProxy stays as it is, and no server can be reached.
    await edge.current.close().catch(() => {})
    expect(await masterPid()).toBe(pid)
    server.setReachable(false)
    edge.current = await start()
    await until('the running HAProxy was adopted', () => edge.current.status().applied > 0)
    expect(await masterPid()).toBe(pid)
    server.setReachable(true)
    await applied(server.put('machine', two.machine, view(two)))
    await until('it is steered again', () => two.hits.count > 0)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    socket.send('still')
    expect(String((await once(socket, 'message'))[0])).toBe(`${one.machine}:still`)
    socket.terminate()

    for (const who of ['worker', 'master'] as const) {
      const master = await masterPid()
      const children = await readFile(`/proc/${master}/task/${master}/children`, 'utf8')
      const from = Date.now()
      process.kill(who === 'master' ? master : Number(children.trim().split(' ')[0]), 'SIGKILL')
      // The next request may still meet the dying one; no connection is refused.
      await until(
        'it serves again',
        async () =>
          (await masterPid().catch(() => master)) !== master && (await get()).status === 200,
        2000,
      )
      expect(Date.now() - from).toBeLessThan(2000)
    }
    await until('the files for the next start know the latest', async () =>
      (await readFile(files.config, 'utf8')).includes(two.machine),
    )
  })

  test('a bad record is refused, its last good version and all others go on, also over a restart without a server', async () => {
    const [one, two] = [await backend(1), await backend(2)]
    const { server, applied, edge, start } = await raise()
    server.put('app', 'blog', app('blog'))
    server.put('machine', one.machine, view(one))
    await applied(server.put('machine', two.machine, view(two, { app: 'blog' })))
    server.put('machine', one.machine, { ...view(one), privateIpv4: '1.1.1.1; shutdown sessions' })
    server.put('app', 'evil', { ...app('evil'), name: 'x y\nadd server' })
    server.put('host', 'c'.repeat(14), 'garbage')
    await applied(server.put('machine', two.machine, view(two, { app: 'blog', hard: 7 })))
    expect((await get()).machine).toBe(one.machine)
    expect((await get({ host: `blog.${DOMAIN}` })).machine).toBe(two.machine)

    server.setReachable(false)
    await edge.current.close()
    edge.current = await start()
    await until('it serves from what it knows', () => edge.current.status().applied > 0)
    expect((await get()).machine).toBe(one.machine)
    expect((await get({ host: `blog.${DOMAIN}` })).machine).toBe(two.machine)
  })

  test('more apps than slots: the pool grows by a reload that loses nothing', async () => {
    const one = await backend(1)
    const { server, applied, edge } = await raise({ slots: 2 })
    await applied(server.put('machine', one.machine, view(one)))
    const socket = new WebSocket(`ws://${NET}.1:${HTTP_PORT}`, {
      headers: { host: `shop.${DOMAIN}` },
    })
    await once(socket, 'open')
    const traffic = load(100)
    let last = 0
    for (let n = 0; n < 9; n++) {
      server.put('app', `app-${n}`, app(`app-${n}`))
      const machine = (100 + n).toString(16).padStart(14, '0') as MachineId
      last = server.put('machine', machine, view(one, { app: `app-${n}`, id: machine }))
    }
    await applied(last)
    for (let n = 0; n < 9; n++) expect((await get({ host: `app-${n}.${DOMAIN}` })).status).toBe(200)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    // The WebSocket is with the old worker now, and counts until it ends.
    await applied(server.put('machine', one.machine, null))
    await until('it is counted', () =>
      edge.current.status().draining.some((d) => d.machine === one.machine && d.sessions === 1),
    )
    socket.send('x')
    expect(String((await once(socket, 'message'))[0])).toBe(`${one.machine}:x`)
    socket.terminate()
  })

  test('a machine that falls silent is left within seconds, also by those who wait for its answer', async () => {
    const hidden = await silentBackend(1)
    const far = await backend(2, 'iad')
    const { server, applied } = await raise()
    server.put('machine', hidden.machine, view(hidden))
    await applied(server.put('machine', far.machine, view(far)))
    const agent = new Agent({ keepAlive: true })
    await until('it serves', async () => (await get({ agent })).machine === hidden.machine)
    const inside = get({ agent, path: '/?ms=1000' })
    await until('it works on it', async () => (await get({ path: '/inside' })).text.includes(':1,'))
    await hidden.fallSilent()
    const from = Date.now()
    const replies = await Promise.all([inside, ...Array.from({ length: 5 }, () => get())])
    expect(replies.map((r) => [r.status, r.machine])).toEqual(replies.map(() => [200, far.machine]))
    expect(Date.now() - from).toBeLessThan(8000)
    agent.destroy()
  })

  test('its DNS gives each client the nearest living edge', async () => {
    const { edge, dead } = await raise()
    const ask = (subnet: string, name = `shop.${DOMAIN}`) =>
      new Promise<{ address: unknown; scope: unknown }>((resolve, reject) => {
        const socket = createSocket('udp4')
        const timer = setTimeout(() => reject(new Error('no answer')), 3000)
        socket.on('message', (message) => {
          clearTimeout(timer)
          socket.close()
          const packet = decode(message)
          const [answer] = packet.answers ?? []
          const opt = packet.additionals?.find((r) => r.type === 'OPT')
          resolve({
            address: answer?.type === 'A' ? answer.data : null,
            scope:
              opt?.type === 'OPT'
                ? (opt.options[0] as { scopePrefixLength?: number })?.scopePrefixLength
                : null,
          })
        })
        const query = encode({
          type: 'query',
          id: 7,
          questions: [{ type: 'A', name }],
          additionals: [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: 1232,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [{ code: 8, family: 1, sourcePrefixLength: 24, ip: subnet }],
            },
          ],
        })
        socket.send(query, edge.current.ports().dns ?? 0, `${NET}.1`)
      })
    await until('it serves', () => edge.current.status().applied > 0 && edge.current.ports().dns)
    expect(await ask('198.18.2.0')).toEqual({ address: '198.18.2.1', scope: 24 })
    expect((await ask('10.1.1.0')).address).toBe('198.18.1.1')
    dead.add('iad')
    await until(
      'the dead one is withdrawn',
      async () => (await ask('198.18.2.0')).address === '198.18.1.1',
      5000,
    )
    dead.delete('iad')
    await until('it is back', async () => (await ask('198.18.2.0')).address === '198.18.2.1', 5000)
  })
})
