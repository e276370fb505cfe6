import { execFile } from 'node:child_process'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect as connectH2, createServer as createH2Server } from 'node:http2'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import type { MachineId, MachinePort, MachineService, PortHandler } from '@roost/core'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { app, DOMAIN, openTrial, until, webService } from './trial-edge.ts'
import { callGrpc, serveGrpc } from './trial-grpc.ts'
import { fakePostgres } from './trial-postgres.ts'

const run = promisify(execFile)
const trial = await openTrial(3)
const { NET, HTTPS_PORT, pki, backend, get, raise, view, closers } = trial
const EDGE = `${NET}.1`
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

const port = (
  number: number,
  handlers: PortHandler[] = [],
  changes: Partial<MachinePort> = {},
) => ({
  port: number,
  handlers,
  force_https: false,
  ...changes,
})
const service = (
  internal_port: number,
  ports: readonly MachinePort[],
  protocol: MachineService['protocol'] = 'tcp',
) =>
  webService(internal_port, {
    ...{ ports, protocol },
    concurrency: { type: 'connections', soft_limit: 20, hard_limit: null },
  })

/** A machine's program that speaks TCP: it says its number at once, then all that it hears. */
async function speaker(number: number, at = 9000, region = 'ams') {
  const address = `${NET}.${150 + number}`
  const sockets = new Set<Socket>()
  const heard: Buffer[] = []
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => socket.destroy())
    socket.write(`I am ${number}\n`)
    socket.on('data', (chunk) => {
      heard.push(chunk)
      socket.write(chunk)
    })
  })
  await listen(server, at, address)
  return { machine: machineId(number), region, address, port: at, heard, sockets, server }
}
const machineId = (number: number) => number.toString(16).padStart(14, '0') as MachineId
async function listen(server: Server, at: number, address: string): Promise<void> {
  server.listen(at, address)
  await once(server, 'listening')
  closers.push(() => {
    server.close()
  })
}

/** What is heard until `enough` of it is there, or the other side ends. */
function hear(socket: Socket, enough: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    socket.setTimeout(10_000, () => socket.destroy(new Error(`heard only: ${text}`)))
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (enough.test(text)) resolve(text)
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(text))
  })
}
async function say(to: number, text = 'hello', enough = /hello/): Promise<string> {
  const socket = connect(to, EDGE)
  const heard = hear(socket, enough)
  socket.write(text)
  const all = await heard
  socket.destroy()
  return all
}
async function sayTls(
  to: number,
  options: { servername?: string; ALPNProtocols?: string[]; maxVersion?: 'TLSv1.2' },
  text = 'hello',
) {
  const ca = await readFile(join(pki, 'ca.pem'), 'utf8')
  const socket = connectTls({
    host: EDGE,
    port: to,
    ca,
    checkServerIdentity: () => undefined,
    ...options,
  })
  const heard = hear(socket, /hello/)
  socket.write(text)
  const all = await heard
  const found = {
    text: all,
    alpn: socket.alpnProtocol,
    name: socket.getPeerCertificate().subject?.CN,
  }
  socket.destroy()
  return found
}
/** HAProxy's certificate comes a moment after it. */
const secure = (to: number, options: Parameters<typeof sayTls>[1]) =>
  until('the certificate is there', () => sayTls(to, options).catch(() => null))

describe('services of every kind', () => {
  test('plain TCP on a port and on a range, whoever speaks first, without a reload; who owns no port gets nothing', async () => {
    const [one, two] = [await speaker(1), await speaker(2)]
    const { server, applied, files } = await raise()
    await until('HAProxy runs', () => applied(1))
    const pid = await readFile(files.pid, 'utf8')
    const services = [service(9000, [port(2525), port(20_000, [], { end_port: 20_100 })])]
    await applied(server.put('machine', one.machine, view(one, { services })))
    expect(await until('it is led there', () => say(2525).catch(() => null))).toBe('I am 1\nhello')
    for (const to of [20_000, 20_050, 20_100]) expect(await say(to)).toBe('I am 1\nhello')
    await expect(say(20_101)).rejects.toThrow('ECONNREFUSED')

    // Another app asks for the same port: the older has it. One that leaves gives it away.
    server.put('app', 'mail', { ...app('mail'), createdAt: 5 })
    await applied(server.put('machine', two.machine, view(two, { app: 'mail', services })))
    expect(await say(2525)).toBe('I am 1\nhello')
    await applied(server.put('machine', one.machine, null))
    await until('the other has it', async () =>
      (await say(2525).catch(() => '')).includes('I am 2'),
    )
    await applied(server.put('machine', two.machine, null))
    await until('nobody has it', () =>
      say(2525).then(
        (text) => text === '',
        () => true,
      ),
    )
    expect(await readFile(files.pid, 'utf8')).toBe(pid)
  })

  test('a connection outlives what happens to others, drains, and one that nobody can take waits', async () => {
    const [one, two] = [await speaker(1), await speaker(2)]
    const { server, applied, edge } = await raise()
    const services = [service(9000, [port(2525)])]
    await applied(server.put('machine', one.machine, view(one, { services })))
    await until('it is led there', () => say(2525).catch(() => null))
    const long = connect(2525, EDGE)
    await hear(long, /I am 1/)
    await applied(server.put('machine', two.machine, view(two, { services })))
    await applied(server.put('machine', one.machine, view(one, { services, routed: false })))
    expect(await say(2525)).toBe('I am 2\nhello')
    await until('it is counted', () =>
      edge.current.status().draining.some((d) => d.machine === one.machine && d.sessions === 1),
    )
    const still = hear(long, /still/)
    long.write('still')
    expect(await still).toContain('still')
    long.destroy()

    const coming = { kind: 'replaced' as const, stopsAt: null }
    await applied(server.put('machine', one.machine, null))
    await applied(
      server.put(
        'machine',
        two.machine,
        view(two, { services, state: 'starting', routed: false, coming }),
      ),
    )
    const waits = say(2525)
    let answered = false
    void waits.then(() => {
      answered = true
    })
    await until('it waits', async () => (await sessionsAt(2525)) > 0)
    expect(answered).toBe(false)
    await applied(server.put('machine', two.machine, view(two, { services })))
    expect(await waits).toBe('I am 2\nhello')
  })

  test('the app is told who came, in both versions of the PROXY protocol', async () => {
    const one = await speaker(1)
    const { server, applied } = await raise()
    const services = [
      service(9000, [
        port(2525, ['proxy_proto']),
        port(2526, ['proxy_proto'], { proxy_proto_options: { version: 'v2' } }),
      ]),
    ]
    await applied(server.put('machine', one.machine, view(one, { services })))
    const first = await until('it is led there', () => say(2525).catch(() => null))
    expect(first).toMatch(new RegExp(`PROXY TCP4 127\\.0\\.0\\.1 ${EDGE} \\d+ 2525\\r\\nhello$`))
    one.heard.length = 0
    expect(await say(2526)).toContain('hello')
    const heard = Buffer.concat(one.heard)
    const at = heard.indexOf(Buffer.from('0d0a0d0a000d0a515549540a', 'hex'))
    const header = heard.subarray(heard.lastIndexOf(Buffer.from('0d0a0d0a000d0a515549540a', 'hex')))
    expect(at).toBeGreaterThan(-1)
    expect([header[12], [...header.subarray(16, 20)], header.readUInt16BE(26)]).toEqual([
      0x21,
      [127, 0, 0, 1],
      2526,
    ])
  })

  test('checks say nothing to an app that is told who came, also after a death of HAProxy', async () => {
    const one = await speaker(1)
    const { server, applied, files, masterPid } = await raise()
    const v2 = { proxy_proto_options: { version: 'v2' as const } }
    const services = [service(9000, [port(2525, ['proxy_proto']), port(2526, ['proxy_proto'], v2)])]
    await applied(server.put('machine', one.machine, view(one, { services })))
    const served = () =>
      until('both are led there', async () => {
        const texts = await Promise.all([say(2525), say(2526)]).catch(() => [''])
        return texts.every((text) => text.includes('hello'))
      })
    await served()
    await until('what it is started from is written', async () =>
      (await readFile(files.config, 'utf8')).includes('send-proxy-v2'),
    )
    process.kill(await masterPid(), 'SIGKILL')
    await served()
    for (let n = 0; n < 5; n++) {
      const closed = once(one.server, 'close')
      one.server.close()
      for (const socket of one.sockets) socket.destroy()
      await closed
      // The first may meet the closing.
      const waits = until('somebody answers', async () => {
        const text = await say(2526).catch(() => '')
        return text.includes('hello') ? text : null
      })
      await until('it waits', async () => (await sessionsAt(2526)) > 0)
      await listen(one.server, one.port, one.address)
      // What brings it back is a check.
      expect(await waits).toContain('hello')
    }
    const heard = Buffer.concat(one.heard).toString('latin1')
    expect(heard).not.toContain('PROXY UNKNOWN')
    // The second version's word for the same.
    expect(heard).not.toContain('\r\n\r\n\0\r\nQUIT\n\x20')
  })

  test('TLS ends here and bytes go on; several apps share a port by name, ALPN and versions are as they asked', async () => {
    const [one, two] = [await speaker(1), await speaker(2)]
    const { server, applied } = await raise()
    const asked = port(8883, ['tls'], { tls_options: { alpn: ['mqtt'], versions: ['TLSv1.3'] } })
    server.put('app', 'mail', { ...app('mail'), createdAt: 5 })
    await applied(
      server.put('machine', one.machine, view(one, { services: [service(9000, [asked])] })),
    )
    const shop = { servername: `shop.${DOMAIN}`, ALPNProtocols: ['mqtt'] }
    expect(await secure(8883, shop)).toMatchObject({ text: 'I am 1\nhello', alpn: 'mqtt' })
    // Alone on its port, it gets all.
    expect((await sayTls(8883, {})).text).toBe('I am 1\nhello')
    await applied(
      server.put(
        'machine',
        two.machine,
        view(two, { app: 'mail', services: [service(9000, [port(8883, ['tls'])])] }),
      ),
    )
    expect((await sayTls(8883, shop)).text).toBe('I am 1\nhello')
    expect((await sayTls(8883, { servername: `mail.${DOMAIN}` })).text).toBe('I am 2\nhello')
    expect((await sayTls(8883, {}).catch(() => ({ text: '' }))).text).toBe('')
    await expect(sayTls(8883, { ...shop, maxVersion: 'TLSv1.2' })).rejects.toThrow(/version|alert/i)
    expect((await sayTls(8883, { servername: `mail.${DOMAIN}`, maxVersion: 'TLSv1.2' })).text).toBe(
      'I am 2\nhello',
    )
    await applied(
      server.put(
        'machine',
        one.machine,
        view(one, { services: [service(9000, [port(8883, ['tls'])])] }),
      ),
    )
    await until('what it asked is forgotten', () =>
      sayTls(8883, { servername: `shop.${DOMAIN}`, maxVersion: 'TLSv1.2' }).catch(() => null),
    )
  })

  test('on 443 an app may end TLS by itself, or have what is inside as it is; all others notice nothing', async () => {
    const [web, raw, inside] = [await backend(1), await speaker(2), await speaker(3)]
    const { server, applied } = await raise()
    for (const [n, name] of ['raw', 'inside'].entries())
      server.put('app', name, { ...app(name), createdAt: n + 5 })
    await applied(server.put('machine', web.machine, view(web)))
    const ca = await readFile(join(pki, 'ca.pem'), 'utf8')
    await until('the certificate is there', () => get({ tls: { ca } }).catch(() => null))
    const own = createTlsServer(
      { key: await readFile(join(pki, 'edge.key')), cert: await readFile(join(pki, 'edge.pem')) },
      (socket) => socket.on('error', () => socket.destroy()).pipe(socket),
    )
    own.listen(9443, raw.address)
    await once(own, 'listening')
    closers.push(() => {
      own.close()
    })
    const kept = connectH2(`https://${EDGE}:${HTTPS_PORT}`, { ca, servername: `shop.${DOMAIN}` })
    closers.push(() => kept.destroy())
    const traffic = trial.load(50)
    server.put(
      'machine',
      raw.machine,
      view({ ...raw, port: 9443 }, { app: 'raw', services: [service(9443, [port(443)])] }),
    )
    const asked = port(443, ['tls'], { tls_options: { alpn: ['h2'] } })
    await applied(
      server.put(
        'machine',
        inside.machine,
        view(inside, { app: 'inside', services: [service(9000, [asked])] }),
      ),
    )
    const mine = await until('it is led there', async () => {
      const found = await sayTls(HTTPS_PORT, { servername: `raw.${DOMAIN}` }).catch(() => null)
      return found?.text === 'hello' ? found : null
    })
    expect(mine.name).toBe('edge')
    expect(
      await sayTls(HTTPS_PORT, { servername: `inside.${DOMAIN}`, ALPNProtocols: ['h2'] }),
    ).toMatchObject({ text: 'I am 3\nhello', alpn: 'h2' })
    // The others come by the same door now, and the app hears the same of them.
    const { headers } = JSON.parse((await get({ tls: { ca } })).text) as {
      headers: Record<string, string>
    }
    expect(headers).toMatchObject({
      'fly-client-ip': '127.0.0.1',
      'fly-forwarded-port': String(HTTPS_PORT),
      'x-forwarded-proto': 'https',
    })
    const stream = kept.request({ ':path': '/', ':authority': `shop.${DOMAIN}` })
    const [reply] = await once(stream, 'response')
    expect(reply[':status']).toBe(200)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
  })

  test('Postgres: psql with TLS reaches its app, by name where two share the port; without TLS it is told why not', async () => {
    const { server, applied } = await raise()
    for (const [n, name] of ['shop', 'blog'].entries()) {
      const address = `${NET}.${150 + n}`
      await listen(fakePostgres(name), 5432, address)
      server.put('app', name, { ...app(name), createdAt: n })
      const at = { machine: machineId(n + 1), region: 'ams', address, port: 5432 }
      const services = [service(5432, [port(15_432, ['pg_tls'])])]
      await applied(server.put('machine', at.machine, view(at, { app: name, services })))
    }
    const psql = (name: string, mode: string) =>
      run('psql', [
        `host=${name}.${DOMAIN} hostaddr=${EDGE} port=15432 sslmode=${mode} dbname=a user=b connect_timeout=5`,
        ...['-Atc', 'select who'],
      ])
    const asked = await until('it is led there', () => psql('shop', 'require').catch(() => null))
    expect(asked.stdout).toBe('shop\n')
    expect((await psql('blog', 'require')).stdout).toBe('blog\n')
    await expect(psql('blog', 'disable')).rejects.toThrow('this port wants TLS')
    const { stdout } = await run('sh', [
      '-c',
      `openssl s_client -starttls postgres -connect ${EDGE}:15432 -servername shop.${DOMAIN} -brief < /dev/null 2>&1`,
    ])
    expect(stdout).toContain('CONNECTION ESTABLISHED')
  })

  test('HTTP on other ports: by host and port, with and without TLS, HTTPS forced where it is asked for', async () => {
    const [one, two] = [await backend(1), await backend(2, 'ams', 3000)]
    const { server, applied } = await raise()
    server.put('app', 'blog', { ...app('blog'), createdAt: 5 })
    const on = (at: number, forced = false) =>
      service(at, [port(8080, ['http'], { force_https: forced }), port(8443, ['tls', 'http'])])
    server.put('machine', one.machine, view(one, { services: [on(8080)] }))
    await applied(
      server.put('machine', two.machine, view(two, { app: 'blog', services: [on(3000, true)] })),
    )
    const curl = async (url: string, ...more: string[]) => {
      const { stdout } = await run('curl', [
        ...['-sk', '--max-time', '10', '-w', '\n%{http_code} %{redirect_url}', '--connect-to'],
        ...[`::${EDGE}:`, ...more, url],
      ])
      return stdout
    }
    const heard = await until('it is led there', () =>
      curl(`http://shop.${DOMAIN}:8080/a`).catch(() => null),
    )
    expect(heard).toContain(one.machine)
    expect(heard).toContain('"fly-forwarded-port":"8080"')
    expect(await curl(`https://shop.${DOMAIN}:8443/a`)).toContain(one.machine)
    expect(await curl(`https://blog.${DOMAIN}:8443/a`, '--http2')).toContain(two.machine)
    expect(await curl(`http://blog.${DOMAIN}:8080/a?b`)).toContain(
      `301 https://blog.${DOMAIN}:${HTTPS_PORT}/a?b`,
    )
    expect(await curl(`http://nobody.${DOMAIN}:8080/`)).toContain('404')
  })

  test('requests that come to another port wait as well', async () => {
    const one = await backend(1)
    const { server, applied } = await raise()
    const services = [service(8080, [port(8080, ['http'])])]
    await applied(server.put('machine', one.machine, view(one, { services })))
    const ask = () =>
      run('curl', ['-s', '--max-time', '20', '-H', `host: shop.${DOMAIN}`, `http://${EDGE}:8080/`])
    await until('it is led there', () => ask().catch(() => null))
    const coming = { kind: 'replaced' as const, stopsAt: null }
    await applied(
      server.put(
        'machine',
        one.machine,
        view(one, { services, state: 'starting', routed: false, coming }),
      ),
    )
    const waits = ask()
    await until('it waits', async () => (await sessionsAt(8080)) > 0)
    await applied(server.put('machine', one.machine, view(one, { services })))
    expect((await waits).stdout).toContain(one.machine)
  })

  test('what is not HTTP is counted by app and machine, while it is open and when it has ended; HTTP on other ports as anywhere', async () => {
    const [one, web, raw] = [await speaker(1), await backend(2), await speaker(3)]
    const { server, applied, edge } = await raise()
    for (const [n, name] of ['web', 'raw'].entries())
      server.put('app', name, { ...app(name), createdAt: n + 5 })
    const pgPort = 15_433
    const services = [service(9000, [port(2525), port(8883, ['tls']), port(pgPort, ['pg_tls'])])]
    server.put('machine', one.machine, view(one, { services }))
    const http = [port(80, ['http']), port(443, ['tls', 'http']), port(8080, ['http'])]
    await applied(
      server.put(
        'machine',
        web.machine,
        view(web, { app: 'web', services: [service(8080, http)] }),
      ),
    )
    const value = async (name: string, labels: string) => {
      const page = await edge.current.numbers().page()
      const line = page.split('\n').find((text) => text.startsWith(`${name}{${labels}`))
      return Number(line?.split(' ').at(-1) ?? 0)
    }
    const shop = (name: string) => value(name, 'app="shop"')
    const ofOne = `app="shop",region="ams",host="host-ams-1",instance="${one.machine}"`
    const settled = async (open: number) => {
      const [came, went] = [
        await shop('fly_app_tcp_connects_count'),
        await shop('fly_app_tcp_disconnects_count'),
      ]
      return came > 0 && came - went === open ? came : null
    }

    expect(await until('it is led there', () => say(2525).catch(() => null))).toBe('I am 1\nhello')
    const before = await until('it has ended', () => settled(0))
    expect(await shop('roost_app_tcp_data_in')).toBeGreaterThanOrEqual('hello'.length)
    const long = connect(2525, EDGE)
    await hear(long, /I am 1/)
    expect(await until('it is open', () => settled(1))).toBe(before + 1)
    await until('it is a session', async () => (await value('fly_app_concurrency', ofOne)) === 1)
    long.destroy()
    expect(await until('it has ended', () => settled(0))).toBe(before + 1)
    expect(await shop('fly_edge_tcp_connects_count')).toBe(before + 1)
    expect(await shop('fly_edge_tcp_disconnects_count')).toBe(before + 1)
    expect(await value('roost_app_tcp_connection_seconds_count', ofOne)).toBe(before + 1)

    const out = await shop('roost_app_tcp_data_out')
    await secure(8883, { servername: `shop.${DOMAIN}` })
    await until('TLS is counted', async () => ((await settled(0)) ?? 0) > before + 1)
    // What was inside, not what TLS made of it.
    expect((await shop('roost_app_tcp_data_out')) - out).toBe('I am 1\nhello'.length)
    const afterTls = await until('all have ended', () => settled(0))
    await run('sh', [
      '-c',
      `openssl s_client -starttls postgres -connect ${EDGE}:${pgPort} -servername shop.${DOMAIN} -brief < /dev/null 2>&1`,
    ])
    await until('Postgres is counted', async () => (await settled(0)) === afterTls + 1)

    const own = createTlsServer(
      { key: await readFile(join(pki, 'edge.key')), cert: await readFile(join(pki, 'edge.pem')) },
      (socket) => socket.on('error', () => socket.destroy()).pipe(socket),
    )
    own.listen(9443, raw.address)
    await once(own, 'listening')
    closers.push(() => {
      own.close()
    })
    const at = view({ ...raw, port: 9443 }, { app: 'raw', services: [service(9443, [port(443)])] })
    await applied(server.put('machine', raw.machine, at))
    await until('it is led there', async () => {
      const found = await sayTls(HTTPS_PORT, { servername: `raw.${DOMAIN}` }).catch(() => null)
      return found?.text === 'hello'
    })
    await until('what is passed on as it comes is counted', async () => {
      const came = await value('fly_app_tcp_connects_count', 'app="raw"')
      return came > 0 && came === (await value('fly_app_tcp_disconnects_count', 'app="raw"'))
    })

    // Others come to 443 by the same door: their requests are counted, and no connections.
    const ca = await readFile(join(pki, 'ca.pem'), 'utf8')
    expect((await get({ tls: { ca }, host: `web.${DOMAIN}` })).status).toBe(200)
    const asked = ['-s', '--max-time', '10', '-H', `host: web.${DOMAIN}`, `http://${EDGE}:8080/`]
    expect((await run('curl', asked)).stdout).toContain(web.machine)
    await until(
      'HTTP on any port is counted by status',
      async () =>
        (await value(
          'fly_edge_http_responses_count',
          'app="web",region="ams",host="host-ams-1",status="200"',
        )) === 2,
    )
    expect(
      await value(
        'fly_app_http_responses_count',
        `app="web",region="ams",host="host-ams-1",instance="${web.machine}",status="200"`,
      ),
    ).toBe(2)
    expect(await value('fly_edge_tcp_connects_count', 'app="web"')).toBe(0)
  })

  test('an app that speaks HTTP/2 without TLS gets it, from whoever comes with what', async () => {
    const address = `${NET}.160`
    const server2 = createH2Server((asked, answer) =>
      answer.end(JSON.stringify({ version: asked.httpVersion, machine: 'h2' })),
    )
    server2.listen(8080, address)
    await once(server2, 'listening')
    closers.push(() => {
      server2.close()
    })
    const { server, applied } = await raise()
    const h2 = { http_options: { h2_backend: true } }
    const at = { machine: machineId(9), region: 'ams', address, port: 8080 }
    const services = [service(8080, [port(80, ['http'], h2), port(443, ['tls', 'http'], h2)])]
    await applied(server.put('machine', at.machine, view(at, { services })))
    expect(JSON.parse((await get()).text)).toMatchObject({ version: '2.0' })
    // It speaks as usual from the next release on: other entries under the same address.
    const one = await backend(10)
    const plain = { ...view(one), id: at.machine }
    await applied(server.put('machine', at.machine, plain))
    await until('the new one answers', async () => (await get()).machine === one.machine)
  })

  test('gRPC: calls and streams, by HTTP or by TLS alone', async () => {
    const ca = await readFile(join(pki, 'ca.pem'))
    const { server, applied } = await raise()
    server.put('app', 'raw', { ...app('raw'), createdAt: 5 })
    for (const [n, name] of ['shop', 'raw'].entries()) {
      const address = `${NET}.${161 + n}`
      const stop = await serveGrpc(`${address}:50051`, name)
      closers.push(stop)
      const at = { machine: machineId(30 + n), region: 'ams', address, port: 50_051 }
      const asked =
        name === 'shop'
          ? port(443, ['tls', 'http'], { http_options: { h2_backend: true } })
          : port(443, ['tls'], { tls_options: { alpn: ['h2'] } })
      const services = [service(50_051, [asked])]
      await applied(server.put('machine', at.machine, view(at, { app: name, services })))
    }
    for (const name of ['shop', 'raw']) {
      const to = { address: `${EDGE}:${HTTPS_PORT}`, authority: `${name}.${DOMAIN}`, ca }
      const answers = await until('it answers', () => callGrpc(to).catch(() => null))
      expect(answers).toEqual([`${name}: one`, `${name}: a`, `${name}: b`])
    }
  })

  test('a HAProxy that is killed, or another edge, goes on with all of it', async () => {
    const one = await speaker(1)
    const { server, applied, edge, start, masterPid } = await raise()
    const tls = port(8883, ['tls'], { tls_options: { alpn: ['mqtt'] } })
    const services = [service(9000, [port(2525), tls])]
    await applied(server.put('machine', one.machine, view(one, { services })))
    const shop = { servername: `shop.${DOMAIN}`, ALPNProtocols: ['mqtt'] }
    await secure(8883, shop)
    const all = async () => [await say(2525), await sayTls(8883, shop)] as const
    const expected = ['I am 1\nhello', expect.objectContaining({ alpn: 'mqtt' })]
    process.kill(await masterPid(), 'SIGKILL')
    // Who comes in the moment of its death is cut.
    const again = () => all().then(([text, tls]) => (text && tls.text ? [text, tls] : null))
    expect(await until('it serves again', () => again().catch(() => null))).toEqual(expected)
    server.setReachable(false)
    await edge.current.close()
    expect(await all()).toEqual(expected)
    edge.current = await start()
    await until('it knows', () => edge.current.status().applied > 0)
    expect(await all()).toEqual(expected)
    // More services than there are slots for: a reload that nobody notices.
    const long = connect(2525, EDGE)
    await hear(long, /I am 1/)
    server.setReachable(true)
    const many = Array.from({ length: 30 }, (_, n) => port(21_000 + n))
    const pid = await masterPid()
    await applied(
      server.put(
        'machine',
        one.machine,
        view(one, { services: [...services, service(9000, many)] }),
      ),
    )
    await until('the last is served', async () => (await say(21_029).catch(() => '')) !== '')
    expect(await all()).toEqual(expected)
    const still = hear(long, /still/)
    long.write('still')
    expect(await still).toContain('still')
    long.destroy()
    expect(await masterPid()).toBe(pid)
  })

  test('answers are compressed, dressed and left alone as the app asked, and others are not touched', async () => {
    const [one, two] = [await backend(1), await backend(2)]
    const { server, applied } = await raise()
    server.put('app', 'blog', { ...app('blog'), createdAt: 5 })
    const asked = {
      http_options: {
        compress: true,
        idle_timeout: 1,
        response: {
          headers: { 'x-frame-options': 'DENY; a, "b"', 'x-two': ['1', '2'], date: false as const },
          pristine: true,
        },
      },
    }
    await applied(server.put('machine', two.machine, view(two, { app: 'blog' })))
    await applied(server.put('machine', one.machine, view(one)))
    const traffic = trial.load(50)
    // The app moves to a slot of another kind while requests come.
    const services = [service(8080, [port(80, ['http'], asked), port(443, ['tls', 'http'], asked)])]
    await applied(server.put('machine', one.machine, view(one, { services })))
    const { headers, body } = await until('it is so', async () => {
      const found = await raw(`shop.${DOMAIN}`)
      return found.headers['x-frame-options'] === undefined ? null : found
    })
    await traffic.stop()
    expect(traffic.failures).toEqual([])
    expect(headers['x-frame-options']).toBe('DENY; a, "b"')
    expect(headers['x-two']).toBe('1, 2')
    for (const name of ['date', 'server', 'via', 'fly-request-id'])
      expect(headers).not.toHaveProperty(name)
    expect(headers['content-encoding']).toBe('gzip')
    expect(gunzipSync(body).toString()).toContain(one.machine)
    const slow = await get({ path: '/?ms=5000', method: 'POST' })
    expect(slow.status).toBe(504)

    const other = await raw(`blog.${DOMAIN}`)
    expect(other.headers).toMatchObject({ server: 'Roost', via: '1.1 roost' })
    expect(other.headers).not.toHaveProperty('content-encoding')
  })

  test('a WebSocket over HTTP/2 reaches an app that knows only HTTP/1.1', async () => {
    const one = await backend(1)
    const { server, applied } = await raise()
    await applied(server.put('machine', one.machine, view(one)))
    const ca = await readFile(join(pki, 'ca.pem'), 'utf8')
    await until('the certificate is there', () => get({ tls: { ca } }).catch(() => null))
    const session = connectH2(`https://${EDGE}:${HTTPS_PORT}`, { ca, servername: `shop.${DOMAIN}` })
    await once(session, 'remoteSettings')
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'https',
      ':path': '/',
      ':authority': `shop.${DOMAIN}`,
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    })
    const [headers] = await once(stream, 'response')
    expect(headers[':status']).toBe(200)
    // A masked text frame: "hi", its mask all zeros.
    stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]))
    const [frame] = (await once(stream, 'data')) as [Buffer]
    expect(frame.subarray(2).toString()).toBe(`${one.machine}:hi`)
    session.destroy()
  })

  test('UDP reaches one machine for each client, and another as soon as that one leaves', async () => {
    const heard: Record<string, string[]> = { a: [], b: [] }
    const at = await Promise.all(
      ['a', 'b'].map(async (name, n) => {
        const address = `${NET}.${170 + n}`
        const socket = createSocket('udp4')
        socket.on('message', (message, from) => {
          heard[name]?.push(String(message))
          socket.send(`${name} heard ${message}`, from.port, from.address)
        })
        socket.bind(5060, address)
        await once(socket, 'listening')
        closers.push(() => {
          socket.close()
        })
        return { machine: machineId(20 + n), region: 'ams', address, port: 5060 }
      }),
    )
    const { server, applied } = await raise()
    const services = [service(5060, [port(15_060)], 'udp')]
    const put = (n: number) => {
      const one = at[n]
      if (one === undefined) throw new Error('no such machine')
      return applied(server.put('machine', one.machine, view(one, { services })))
    }
    await put(0)
    const client = createSocket('udp4')
    closers.push(() => {
      client.close()
    })
    expect(await until('it is led there', () => ask(client, 'x').catch(() => null))).toBe(
      'a heard x',
    )
    await put(1)
    // Who talks already stays where he is.
    for (let n = 0; n < 10; n++) expect(await ask(client, `${n}`)).toBe(`a heard ${n}`)
    await until('new ones go to both', async () => {
      const other = createSocket('udp4')
      const answer = await ask(other, 'y').finally(() => other.close())
      return answer.startsWith('b')
    })
    await applied(server.put('machine', at[0]?.machine ?? '', null))
    await until('he is with the other', async () =>
      (await ask(client, 'z').catch(() => '')).startsWith('b'),
    )
    await applied(server.put('machine', at[1]?.machine ?? '', null))
    await until('nobody answers', () =>
      ask(client, 'z').then(
        () => false,
        () => true,
      ),
    )
  })
})

function ask(client: UdpSocket, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      client.removeAllListeners('message')
      reject(new Error('no answer'))
    }, 1000)
    client.once('message', (message) => {
      clearTimeout(late)
      resolve(String(message))
    })
    client.send(text, 15_060, EDGE)
  })
}

/** Connections from here to a public port. */
async function sessionsAt(to: number): Promise<number> {
  const { stdout } = await run('ss', ['-Htn', 'dst', `${EDGE}:${to}`])
  return stdout.split('\n').filter((line) => line !== '').length
}

async function raw(host: string): Promise<{ headers: Record<string, string>; body: Buffer }> {
  const { stdout } = await run(
    'curl',
    [
      ...['-si', '--max-time', '10', '-H', `host: ${host}`, '-H', 'accept-encoding: gzip'],
      `http://${EDGE}:${trial.HTTP_PORT}/`,
    ],
    { encoding: 'buffer' },
  )
  const end = stdout.indexOf('\r\n\r\n')
  const headers: Record<string, string> = {}
  for (const line of stdout.subarray(0, end).toString().split('\r\n').slice(1)) {
    const [name = '', ...value] = line.split(': ')
    const key = name.toLowerCase()
    headers[key] =
      headers[key] === undefined ? value.join(': ') : `${headers[key]}, ${value.join(': ')}`
  }
  return { headers, body: stdout.subarray(end + 4) }
}
