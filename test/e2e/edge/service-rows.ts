import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { REGIONS } from '../playground.ts'
import { eventually, run, start } from '../terminal.ts'
import { ask, clientOf, curl, handshake, hear, near, psql, speak } from './clients.ts'
import { differs, holds, holdsElsewhere, type Row } from './row.ts'
import { prepareFolder, type World } from './world.ts'

const KEEPER = 'packages/edge/src/certificate/keep-certificates.integration.test.ts'

const HTTP: readonly Row[] = [
  holds(
    'http',
    'HTTP on 80, to the app that the host name says, in the nearest region that has it',
    'curl',
    async (world) => {
      for (const region of REGIONS)
        expect(await ask(world, region, 'http://web/a?b=c')).toMatchObject({
          ...{ app: 'web', region, url: '/a?b=c', http: '1.1' },
        })
      expect((await curl(world, 'ams', `http://nobody.${world.domain}/`)).status).toBe(404)
    },
  ),
  holds(
    'request-headers',
    'The app is told `Fly-Client-IP`, `Fly-Region`, `Fly-Forwarded-Port`, `Fly-Request-Id`, `X-Forwarded-For`, `-Proto`, `-Port`, `-SSL` and `Via`, whatever the client says',
    'curl',
    async (world) => {
      const client = clientOf(world.place('iad').edge)
      const forged = [
        ...['fly-client-ip: 6.6.6.6', 'fly-region: xxx', 'fly-forwarded-port: 1'],
        ...['x-forwarded-proto: https', 'x-forwarded-for: 6.6.6.6'],
      ]
      const said = forged.flatMap((header) => ['-H', header])
      const { headers } = await ask(world, 'iad', 'http://web/', ...said)
      expect(headers).toMatchObject({
        ...{ 'fly-client-ip': client, 'fly-region': 'iad', 'fly-forwarded-port': '80' },
        ...{ 'x-forwarded-for': `6.6.6.6, ${client}`, 'x-forwarded-proto': 'http' },
        ...{ 'x-forwarded-port': '80', 'x-forwarded-ssl': 'off', via: '1.1 roost' },
      })
      expect(headers['fly-request-id']).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}-iad$/)
    },
  ),
  holds(
    'answer-headers',
    'Answers carry `Server`, `Via` and `Fly-Request-Id`',
    'curl',
    async (world) => {
      const { headers } = await curl(world, 'ams', 'http://web/')
      expect(headers).toMatchObject({ server: 'Roost', via: '1.1 roost' })
      expect(headers['fly-request-id']).toMatch(/-ams$/)
    },
  ),
  differs(
    'cache-status',
    'Answers carry `Fly-Cache-Status`',
    'there is no cache that it could speak of',
    'curl',
    async (world) => {
      const { headers } = await curl(world, 'ams', 'http://web/')
      expect(headers).not.toHaveProperty('fly-cache-status')
    },
  ),
  holds(
    'http2',
    'HTTP/2 in by TLS, HTTP/1.1 to the app; and HTTP/1.1 for who speaks nothing newer',
    'curl',
    async (world) => {
      for (const [flag, version] of [
        ['--http2', 'HTTP/2'],
        ['--http1.1', 'HTTP/1.1'],
      ] as const) {
        const answer = await curl(world, 'iad', 'https://web/', flag)
        expect([answer.version, answer.status]).toEqual([version, 200])
        const { http, headers } = JSON.parse(answer.body)
        expect(http).toBe('1.1')
        expect(headers).toMatchObject({ 'x-forwarded-proto': 'https', 'fly-forwarded-port': '443' })
      }
    },
  ),
  holds(
    'other-ports',
    'HTTP with and without TLS on any port; apps share a port by their names',
    'curl',
    async (world) => {
      for (const region of REGIONS) {
        expect(await ask(world, region, 'http://web:8080/')).toMatchObject({ app: 'web', region })
        expect(await ask(world, region, 'http://raw:8080/')).toMatchObject({
          ...{ app: 'raw', region: 'iad' },
        })
        const { app, headers } = await ask(world, region, 'https://web:8443/')
        expect([app, headers['fly-forwarded-port']]).toEqual(['web', '8443'])
      }
    },
  ),
  holds(
    'force-https',
    '`force_https`: 301 to the same path by HTTPS, on 80 and on any other port',
    'curl',
    async (world) => {
      for (const [url, target] of [
        ['http://raw/a?b=c', 'raw'],
        ['http://web:8081/a?b=c', 'web'],
      ] as const) {
        const { status, headers } = await curl(world, 'ams', url)
        expect([status, headers['location']]).toEqual([
          301,
          `https://${target}.${world.domain}/a?b=c`,
        ])
      }
    },
  ),
  holds(
    'h2-backend',
    '`h2_backend`: the app is spoken to in HTTP/2 without TLS, whatever the client speaks',
    'curl',
    async (world) => {
      expect((await ask(world, 'ams', 'http://web:50052/')).http).toBe('2.0')
      expect((await ask(world, 'ams', 'https://web:50051/', '--http2')).http).toBe('2.0')
    },
  ),
  holds(
    'grpc',
    'gRPC by `tls` and `http` with `h2_backend`: calls, streams, trailers',
    '@grpc/grpc-js',
    async (world) => {
      const asked = ['--name', world.hostname('web'), '--ca', world.ca]
      for (const region of REGIONS) {
        const me = `web ${region} one: `
        expect(await speak(world, region, 'grpc', 50051, ...asked)).toBe(
          ['one', 'a', 'b'].map((word) => `${me}${word}`).join(' / '),
        )
      }
    },
  ),
  holds(
    'grpc-in-tls',
    'gRPC by `tls` alone, with `alpn = ["h2"]`',
    '@grpc/grpc-js',
    async (world) => {
      const asked = ['--name', world.hostname('replay'), '--ca', world.ca]
      expect(await speak(world, 'syd', 'grpc', 50053, ...asked)).toMatch(
        /^replay (ams|iad) one: one \/ /,
      )
    },
  ),
  holds(
    'websocket',
    'WebSockets over HTTP/1.1, with and without TLS, closed as the app closes them',
    'ws',
    async (world) => {
      const asked = ['--name', world.hostname('web')]
      expect(await speak(world, 'syd', 'ws', 80, ...asked)).toBe('web syd one ping 1005')
      expect(await speak(world, 'iad', 'ws', 443, ...asked, '--ca', world.ca)).toBe(
        'web iad one ping 1005',
      )
    },
  ),
  holds(
    'websocket-over-http2',
    'WebSockets over HTTP/2 (RFC 8441), to an app that speaks HTTP/1.1',
    'node:http2',
    async (world) => {
      const asked = ['--name', world.hostname('web'), '--ca', world.ca]
      expect(await speak(world, 'iad', 'ws-h2', 443, ...asked)).toBe('200 web iad one ping')
    },
  ),
]

const OPTIONS: readonly Row[] = [
  holds('compress', '`http_options.compress`', 'curl', async (world) => {
    const { headers, body } = await curl(world, 'ams', 'http://web:8082/?pad=9000', '--compressed')
    expect(headers['content-encoding']).toBe('gzip')
    expect(JSON.parse(body).pad).toHaveLength(9000)
    const plain = await curl(world, 'ams', 'http://web:8080/?pad=9000', '--compressed')
    expect(plain.headers).not.toHaveProperty('content-encoding')
  }),
  holds(
    'response-headers',
    '`http_options.response.headers`: set, several of one name, and `false` to take one away',
    'curl',
    async (world) => {
      const { headers } = await curl(world, 'ams', 'http://web:8082/')
      expect(headers).toMatchObject({ 'x-frame-options': 'DENY', 'x-two': '1, 2' })
      expect(headers).not.toHaveProperty('date')
      expect((await curl(world, 'ams', 'http://web/')).headers).toHaveProperty('date')
    },
  ),
  holds(
    'pristine',
    '`http_options.response.pristine`: the edge adds nothing',
    'curl',
    async (world) => {
      const { headers } = await curl(world, 'ams', 'http://web:8082/')
      for (const name of ['server', 'via', 'fly-request-id'])
        expect(headers).not.toHaveProperty(name)
    },
  ),
  holds(
    'idle-timeout',
    '`http_options.idle_timeout`: who is silent for so long is given up, 504',
    'curl',
    async (world) => {
      const began = performance.now()
      const { status } = await curl(world, 'ams', 'http://web:8082/?ms=9000', '-d', 'x')
      expect(status).toBe(504)
      expect(performance.now() - began).toBeLessThan(6000)
    },
  ),
  differs(
    'headers-read-timeout',
    '`http_options.headers_read_timeout`',
    'refused by name: edges wait 10 s for the headers of a request',
    'curl',
    async (world) => {
      const port = { port: 80, handlers: ['http'], http_options: { headers_read_timeout: 5 } }
      const services = [{ protocol: 'tcp', internal_port: 8080, ports: [port] }]
      expect(await refusal(world, { services })).toContain('headers_read_timeout is not supported')
    },
  ),
  holds(
    'tls-versions',
    '`tls_options.versions`, for the app that asks and no other',
    'openssl s_client',
    async (world) => {
      const shake = (app: 'web' | 'replay', version: string) =>
        handshake(world, 'ams', 443, world.hostname(app), version)
      expect((await shake('replay', '-tls1_3')).verified).toBe('0 (ok)')
      expect((await shake('replay', '-tls1_2')).text).toMatch(/alert/)
      expect((await shake('web', '-tls1_2')).verified).toBe('0 (ok)')
    },
  ),
  holdsElsewhere(
    'tls-options-of-own-names',
    '`tls_options` hold under names of people’s own as well',
    KEEPER,
    'is shown as its app asks of handshakes, and nobody is cut off while that changes',
  ),
  differs(
    'tls-options-of-a-port',
    '`tls_options` for each port of an app',
    'they hold for the app’s names: of two TLS ports of one kind that ask for different things, one decides. HAProxy chooses them before it knows more than the name',
  ),
  differs(
    'tls-self-signed',
    '`tls_options.default_self_signed`',
    'taken and ignored: who asks for a name without a certificate is always shown one that is not for it',
    'openssl s_client',
    async (world) => {
      const { verified, text } = await handshake(world, 'ams', 443, 'nobody.example.com')
      expect(verified).toMatch(/hostname mismatch/i)
      expect(text).toContain('BEGIN CERTIFICATE')
    },
  ),
  holds(
    'statics',
    '`[[statics]]`: files of the image, served by the edge wherever a client is; what is none is the app’s',
    'curl',
    async (world) => {
      for (const region of REGIONS) {
        const url = 'http://raw:8080/assets'
        const file = await curl(world, region, `${url}/hello.txt?v=1`)
        expect([file.status, file.body, file.headers['content-type']]).toEqual([
          ...[200, 'from the image\n', 'text/plain; charset=utf-8'],
        ])
        expect(file.headers['cache-control']).toBeUndefined()
        const etag = file.headers['etag'] ?? ''
        const same = await curl(world, region, `${url}/hello.txt`, '-H', `if-none-match: ${etag}`)
        expect([same.status, same.body]).toEqual([304, ''])
        const part = await curl(world, region, `${url}/css/site.css`, '-r', '0-0')
        expect([part.status, part.body]).toEqual([206, 'p'])
        for (const path of ['/none.txt', '/', '/../assets/hello.txt'])
          expect(await ask(world, region, `${url}${path}`, '--path-as-is')).toMatchObject({
            app: 'raw',
          })
        const post = await ask(world, region, `${url}/hello.txt`, '-d', 'x')
        expect(post).toMatchObject({ method: 'POST', bytes: 1 })
        expect(Object.keys(post.headers).filter((name) => name.startsWith('roost'))).toEqual([])
      }
    },
  ),
  differs(
    'statics-bucket',
    '`tigris_bucket` and `index_document` of `[[statics]]`',
    'refused by name: files are served from the image, and asked for by their full path',
    'curl',
    async (world) => {
      const folder = { guest_path: '/public', url_prefix: '/assets' }
      for (const more of [{ tigris_bucket: 'b' }, { index_document: 'index.html' }])
        expect(await refusal(world, { statics: [{ ...folder, ...more }] })).toContain(
          `${Object.keys(more)[0]} is not supported`,
        )
    },
  ),
]

const BYTES: readonly Row[] = [
  holds('tcp', 'TCP on any port, whoever speaks first', 'node:net', async (world) => {
    for (const region of REGIONS)
      expect(await speak(world, region, 'tcp', 9000)).toBe('raw iad one tcp / ping')
  }),
  holds(
    'port-range',
    '`start_port` and `end_port`, and nothing beside them',
    'node:net',
    async (world) => {
      for (const region of REGIONS) {
        expect(await speak(world, region, 'tcp', 9009)).toBe('raw iad one tcp / ping')
        expect(await speak(world, region, 'tcp', 9010)).toMatch(/^failed: .*ECONNREFUSED/)
      }
    },
  ),
  holds(
    'tls',
    '`tls`: the edge ends it, the app gets the bytes; ALPN as the app asks; apps share a port by their names',
    'openssl s_client',
    async (world) => {
      const name = world.hostname('raw')
      const { verified, text } = await handshake(world, 'syd', 8883, name, '-alpn', 'x,mqtt')
      expect(verified).toBe('0 (ok)')
      expect(text).toContain('ALPN protocol: mqtt')
      for (const region of REGIONS) {
        const say = (app: 'web' | 'raw', ...more: string[]) => {
          const asked = ['--ca', world.ca, '--name', world.hostname(app), ...more]
          return speak(world, region, 'tls', 8883, ...asked)
        }
        expect(await say('raw', '--alpn', 'mqtt')).toBe('raw iad one tcp / ping mqtt')
        expect(await say('web')).toBe(`web ${region} one tcp / ping false`)
      }
    },
  ),
  holds(
    'tls-passthrough',
    'TLS as it comes, to the app that the name in the handshake says; all others on 443 notice nothing',
    'openssl s_client',
    async (world) => {
      const own = join(world.folder('raw'), 'own.pem')
      const name = world.hostname('raw')
      const shown = await handshake(world, 'ams', 443, name, '-CAfile', own)
      expect([shown.verified, shown.subject]).toEqual(['0 (ok)', `CN = ${name}`])
      expect((await handshake(world, 'ams', 443, name)).verified).not.toBe('0 (ok)')
      expect(await speak(world, 'ams', 'tls', 443, '--ca', own, '--name', name)).toMatch(
        /^raw iad one own tls \/ ping/,
      )
      expect((await ask(world, 'ams', 'https://web/')).headers['fly-client-ip']).toBe(
        clientOf(world.place('ams').edge),
      )
    },
  ),
  holds(
    'pg-tls',
    '`pg_tls`: Postgres clients with TLS, which check the name; apps share the port by their names',
    'psql',
    async (world) => {
      expect((await psql(world, 'ams', 'raw', 'verify-full')).stdout).toBe('raw iad one\n')
      expect((await psql(world, 'syd', 'web', 'verify-full')).stdout).toBe('web syd one\n')
      const refused = await psql(world, 'ams', 'raw', 'disable')
      expect([refused.code, refused.stderr]).toEqual([
        2,
        expect.stringContaining('this port wants TLS'),
      ])
    },
  ),
  holds('proxy-proto-v1', '`proxy_proto`: the app is told who came', 'node:net', async (world) => {
    for (const region of REGIONS) {
      const { edge } = world.place(region)
      expect(await speak(world, region, 'tcp', 2525)).toMatch(
        new RegExp(`^raw iad one PROXY TCP4 ${clientOf(edge)} ${edge} \\d+ 2525$`),
      )
    }
  }),
  holds('proxy-proto-v2', '`proxy_proto_options.version = "v2"`', 'node:net', async (world) => {
    const { edge } = world.place('ams')
    expect(await speak(world, 'ams', 'tcp', 2526)).toMatch(
      new RegExp(`^raw iad one PROXY v2 ${clientOf(edge)} ${edge} \\d+ 2526$`),
    )
  }),
  holds(
    'proxy-proto-forged',
    'A PROXY header that a client sends reaches an app on plain TCP, and passes for nobody’s where the edge sends one',
    'haproxy',
    throughHaproxy,
  ),
  holds(
    'udp',
    'UDP, by `fly-global-services`, on one port and on a range',
    'node:dgram',
    async (world) => {
      const client = clientOf(world.place('iad').edge)
      expect(await speak(world, 'iad', 'udp', 5060)).toBe(`raw iad one 5060 ${client} ping`)
      for (const port of [5070, 5071])
        expect(await speak(world, 'iad', 'udp', port)).toBe(`raw iad one ${port} ${client} ping`)
    },
  ),
  differs(
    'udp-from-afar',
    'UDP that came to another region carries its sender’s address',
    'it carries that of the edge that it came to, by which the answer goes back',
    'node:dgram',
    async (world) => {
      expect(await speak(world, 'ams', 'udp', 5060)).toMatch(
        /^raw iad one 5060 10\.210\.\d+\.1 ping$/,
      )
    },
  ),
  differs(
    'own-address',
    'Any port for any app, by an address of its own',
    'an edge has one address: what tells its visitors apart by name is shared, of all else a port belongs to one app, and who comes second is told whose it is',
    'roost',
    async (world) => {
      const folder = world.folder('rival')
      await prepareFolder(folder, 'raw', world.domain)
      const refused = await world.terminal.roost(
        ['launch', '--yes', '--copy-config', '--name', 'rival', '--regions', 'ams'],
        { cwd: folder },
      )
      expect(refused.code).not.toBe(0)
      expect(refused.stderr).toMatch(/port \d+(-\d+)? belongs to the app raw: choose another/)
    },
  ),
]

const ADDRESSES: readonly Row[] = [
  differs(
    'anycast',
    'One address that is nearest everywhere',
    'each host has its own: the DNS of the installation tells every client that of the nearest edge that lives',
    'dig',
    async (world) => {
      for (const region of REGIONS) {
        const visited = await near(world, region, [
          'dig',
          '+short',
          `@${world.dns}`,
          world.hostname('web'),
        ])
        expect(visited.stdout.split('\n')[0]).toBe(world.place(region).edge)
      }
    },
  ),
  differs(
    'flycast',
    'Private addresses of an app that edges answer (`<app>.flycast`)',
    'edges answer on the public address of their hosts alone',
  ),
]

export const SERVICES: readonly Row[] = [...HTTP, ...OPTIONS, ...BYTES, ...ADDRESSES]

/** Why the server takes no machine with this in its configuration. */
async function refusal(world: World, config: object): Promise<string> {
  const { url, token } = world.server
  const { stdout } = await run([
    ...['curl', '-sS', '-m', '10', '--cacert', world.ca, '-H', `authorization: Bearer ${token}`],
    ...['-H', 'content-type: application/json'],
    ...['-d', JSON.stringify({ region: 'iad', config: { image: 'raw', ...config } })],
    `${url}/v1/apps/raw/machines`,
  ])
  return (JSON.parse(stdout) as { error: string }).error
}

async function throughHaproxy(world: World): Promise<void> {
  const { edge, netns } = world.place('ams')
  const file = join(world.home, 'haproxy.cfg')
  const listen = (at: number, port: number) =>
    `listen l${port}\n  bind 127.0.0.1:${at}\n  server edge ${edge}:${port} send-proxy-v2\n`
  writeFileSync(
    file,
    `defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
${listen(7001, 2527)}${listen(7002, 2525)}`,
  )
  const haproxy = start([
    'nsenter',
    `--net=/run/netns/${netns}`,
    '--',
    'haproxy',
    '-db',
    '-f',
    file,
  ])
  try {
    const say = async (port: number) => {
      const heard = await hear(world, 'ams', 'tcp', port, '--to', '127.0.0.1')
      return Object.keys(heard.answers)[0] ?? ''
    }
    await eventually('HAProxy listens', 10_000, async () => (await say(7001)) !== '')
    expect(await say(7001)).toMatch(/^raw iad one PROXY v2 127\.0\.0\.1 127\.0\.0\.1 \d+ 7001$/)
    expect(await say(7002)).toMatch(
      new RegExp(`^raw iad one PROXY TCP4 ${clientOf(edge)} ${edge} \\d+ 2525$`),
    )
  } finally {
    process.kill(haproxy.pid)
    await haproxy.ended
  }
}
