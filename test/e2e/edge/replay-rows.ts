import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { eventually } from '../terminal.ts'
import { type Answer, ask, askPrivate, curl, type Echo, speak } from './clients.ts'
import { alone, differs, holds, holdsElsewhere, type Row } from './row.ts'
import type { World } from './world.ts'

const NOBODY = 'ffffffffffffff'
const POST = ['-d', 'body'] as const
const SKIP = ['-H', 'fly-replay-cache-control: skip'] as const
const REPLAYER = 'packages/edge/src/replay/replayer.integration.test.ts'

/** A question that the app answers with these headers, unless somebody sent it on. */
function saying(
  url: string,
  headers: Readonly<Record<string, string>>,
  more: Readonly<Record<string, string>> = {},
): string {
  const pair = ([name, value]: [string, string]): [string, string] => ['say', `${name}:${value}`]
  const said = Object.entries(headers).map(pair)
  return `${url}?${new URLSearchParams([...said, ...Object.entries(more)])}`
}
const sentOn = (to: string, more: Readonly<Record<string, string>> = {}) =>
  saying('http://replay/', { 'fly-replay': to }, more)
const machine = (world: World, region: 'ams' | 'iad') => world.machines('replay', region)[0] ?? ''
const cacheStatus = ({ region, headers }: Echo) => [region, headers['fly-replay-cache-status']]
const said = ({ status, body }: Answer) => [status, body.trim()]

const LEARNED: readonly Row[] = [
  alone(
    holds(
      'learned',
      'An app is found out by its first replay: that request is asked for once more by a 307, and from then on nobody notices',
      'curl',
      async (world) => {
        const url = saying('http://raw:8080/a', { 'fly-replay': 'app=replay' })
        const first = await curl(world, 'ams', url, ...POST)
        expect([first.status, first.headers['cache-control']]).toEqual([307, 'no-store'])
        expect(first.headers['location']).toBe(url.replace('http://raw:8080', ''))
        const { app, method, bytes } = await ask(world, 'ams', url, ...POST)
        expect([app, method, bytes]).toEqual(['replay', 'POST', 4])
      },
    ),
  ),
  alone(
    holds(
      'learned-elsewhere',
      'What one edge has found out the others know',
      'curl',
      async (world) => {
        await eventually('the edge of iad knows', 10_000, async () => {
          const { body } = await askPrivate(world, 'iad', '/edge/v1/alive')
          const { replayed } = JSON.parse(body) as { replayed: { app: string }[] }
          return replayed.some(({ app }) => app === 'raw')
        })
        const url = saying('http://raw:8080/a', { 'fly-replay': 'app=replay' })
        expect((await ask(world, 'iad', url, ...POST)).app).toBe('replay')
      },
    ),
  ),
]

const KEYS: readonly Row[] = [
  holds(
    'replay-region',
    '`region`: one, a list in its order, names of many regions; the app is told by `fly-replay-src` who sent it on',
    'curl',
    async (world) => {
      for (const regions of ['iad', '"nrt,iad"', 'us']) {
        const { region, headers } = await ask(world, 'ams', sentOn(`region=${regions}`))
        expect(region, regions).toBe('iad')
        expect(headers['fly-replay-src']).toMatch(
          new RegExp(`^instance=${machine(world, 'ams')};region=ams;t=\\d{16}$`),
        )
        expect(Object.keys(headers).filter((name) => name.startsWith('roost'))).toEqual([])
      }
      const nobody = await curl(world, 'ams', sentOn('region=nrt'))
      expect([nobody.status, nobody.headers['retry-after']]).toEqual([503, '1'])
    },
  ),
  holds('replay-state', '`state` is handed on in `fly-replay-src`', 'curl', async (world) => {
    const { headers } = await ask(world, 'ams', sentOn('region=iad;state=a b'))
    expect(headers['fly-replay-src']).toMatch(/;state=a b$/)
  }),
  holds('replay-instance', '`instance`: that machine or nobody', 'curl', async (world) => {
    const far = machine(world, 'iad')
    expect((await ask(world, 'ams', sentOn(`instance=${far}`))).machine).toBe(far)
    expect((await curl(world, 'ams', sentOn(`instance=${NOBODY}`))).status).toBe(503)
  }),
  holds(
    'replay-prefer-instance',
    '`prefer_instance`: that machine, else another, which is told so by `fly-preferred-instance-unavailable`',
    'curl',
    async (world) => {
      const far = machine(world, 'iad')
      const there = await ask(world, 'ams', sentOn(`prefer_instance=${far}`))
      expect([there.machine, there.headers['fly-preferred-instance-unavailable']]).toEqual([
        far,
        undefined,
      ])
      const other = await ask(world, 'ams', sentOn(`prefer_instance=${NOBODY};region=iad`))
      expect([other.machine, other.headers['fly-preferred-instance-unavailable']]).toEqual([
        far,
        NOBODY,
      ])
    },
  ),
  holds('replay-app', '`app`: a machine of another app', 'curl', async (world) => {
    const { app, region, headers } = await ask(world, 'iad', sentOn('app=web'))
    expect([app, region, headers['host']]).toEqual(['web', 'iad', world.hostname('replay')])
    expect((await curl(world, 'iad', sentOn('app=nobody'))).status).toBe(503)
  }),
  holdsElsewhere(
    'replay-other-organization',
    'Apps of another organization or network are sent nothing',
    REPLAYER,
    'reaches other apps of its organization and network, and no others',
  ),
  differs(
    'replay-cross-network',
    'An organization may allow replays between its networks, or from another organization',
    'there is no such switch: networks of one installation are kept apart',
  ),
  holds('replay-elsewhere', '`elsewhere=true`: any machine but this one', 'curl', async (world) => {
    expect((await ask(world, 'ams', sentOn('elsewhere=true'))).machine).toBe(machine(world, 'iad'))
  }),
  holds(
    'replay-fallback',
    '`fallback` and `timeout`: back to who sent it on, which is told why by `fly-replay-failed`, and may not send it on again',
    'curl',
    async (world) => {
      for (const fallback of ['force_self', 'prefer_self']) {
        const to = `instance=${NOBODY};timeout=300ms;fallback=${fallback}`
        const back = await ask(world, 'ams', sentOn(to), ...POST)
        expect([back.machine, back.bytes]).toEqual([machine(world, 'ams'), 4])
        expect(back.headers['fly-replay-failed']).toMatch(
          new RegExp(
            `^instance=${NOBODY};replay_source=${machine(world, 'ams')};reason=no_candidate;elapsed_ms=\\d+$`,
          ),
        )
        expect(said(await curl(world, 'ams', sentOn(to, { always: '1' })))).toEqual([
          502,
          'The app sent on a request that had come back to it.',
        ])
      }
    },
  ),
  holds(
    'replay-json',
    'The JSON body, with `transform.path`, `delete_headers` and `set_headers`; what edges say is not to be set',
    'curl',
    async (world) => {
      const json = JSON.stringify({
        ...{ region: 'iad', state: 's' },
        transform: {
          ...{ path: '/new?x=1', delete_headers: ['cookie'] },
          set_headers: [
            { name: 'x-added', value: 'yes' },
            { name: 'fly-client-ip', value: '6.6.6.6' },
          ],
        },
      })
      const url = saying('http://replay/old', {}, { json })
      const { region, url: asked, headers } = await ask(world, 'ams', url, '-b', 'a=b')
      expect([region, asked, headers['x-added']]).toEqual(['iad', '/new?x=1', 'yes'])
      expect(headers).not.toHaveProperty('cookie')
      expect(headers['fly-client-ip']).not.toBe('6.6.6.6')
      expect(headers['fly-replay-src']).toMatch(/;state=s$/)
    },
  ),
]

const KEPT: readonly Row[] = [
  holds(
    'replay-cache',
    '`fly-replay-cache`: requests below a path go where one was sent on, without asking; `fly-replay-cache-status` says so',
    'curl',
    async (world) => {
      const url = saying('http://replay/kept/1', {
        ...{ 'fly-replay': 'region=iad', 'fly-replay-cache-ttl-secs': '60' },
        'fly-replay-cache': `${world.hostname('replay')}/kept/*`,
      })
      expect(cacheStatus(await ask(world, 'ams', url))).toEqual(['iad', 'miss'])
      expect(cacheStatus(await ask(world, 'ams', 'http://replay/kept/2?x'))).toEqual(['iad', 'hit'])
      expect((await ask(world, 'ams', 'http://replay/other')).region).toBe('ams')
    },
  ),
  holds(
    'replay-json-cache',
    'The JSON body says `cache.prefix`, `cache.ttl`, `cache.invalidate` and `allow_bypass`',
    'curl',
    async (world) => {
      const telling = (path: string, json: object, more: Readonly<Record<string, string>> = {}) =>
        saying(`http://replay/${path}`, {}, { json: JSON.stringify(json), ...more })
      const cache = { prefix: '/told/*', ttl: 60 }
      const kept = telling('told/1', { region: 'iad', cache, allow_bypass: true })
      expect(cacheStatus(await ask(world, 'ams', kept))).toEqual(['iad', 'miss'])
      expect(cacheStatus(await ask(world, 'ams', 'http://replay/told/2'))).toEqual(['iad', 'hit'])
      expect(cacheStatus(await ask(world, 'ams', 'http://replay/told/3', ...SKIP))).toEqual([
        ...['ams', 'bypass'],
      ])
      const back = { region: 'ams', cache: { invalidate: true } }
      const last = telling('told/4', back, { always: '1', by: 'iad' })
      expect((await ask(world, 'ams', last)).region).toBe('ams')
      expect((await ask(world, 'ams', 'http://replay/told/5')).region).toBe('ams')
    },
  ),
  holds(
    'replay-cache-bypass',
    '`fly-replay-cache-allow-bypass: yes` and a client’s `fly-replay-cache-control: skip`',
    'curl',
    async (world) => {
      for (const [path, allowed, seen] of [
        ['skip', 'yes', ['ams', 'bypass']],
        ['stay', 'no', ['iad', 'hit']],
      ] as const) {
        const url = saying(`http://replay/${path}/1`, {
          ...{ 'fly-replay': 'region=iad', 'fly-replay-cache': `/${path}/*` },
          'fly-replay-cache-allow-bypass': allowed,
        })
        await ask(world, 'ams', url)
        const again = await ask(world, 'ams', `http://replay/${path}/2`, ...SKIP)
        expect(cacheStatus(again)).toEqual(seen)
      }
    },
  ),
  holds(
    'replay-cache-invalidate',
    '`fly-replay-cache: invalidate`, by who gets such a request: the app is asked again',
    'curl',
    async (world) => {
      const url = saying('http://replay/gone/1', {
        ...{ 'fly-replay': 'region=iad', 'fly-replay-cache': '/gone/*' },
      })
      await ask(world, 'ams', url)
      expect((await ask(world, 'ams', 'http://replay/gone/2')).region).toBe('iad')
      const last = saying(
        'http://replay/gone/3',
        { 'fly-replay-cache': 'invalidate' },
        { always: '1' },
      )
      expect((await ask(world, 'ams', last)).region).toBe('iad')
      expect((await ask(world, 'ams', 'http://replay/gone/4')).region).toBe('ams')
    },
  ),
  holds(
    'sticky-sessions',
    '`http_options.replay_cache`: a session, told by a cookie, stays where its first request was sent on to',
    'curl',
    async (world) => {
      const cookie = (value: string) => ['-b', `a=b; session=${value}`]
      const first = saying('http://replay:8084/', {
        'fly-replay': `instance=${machine(world, 'iad')}`,
      })
      const plain = 'http://replay:8084/x'
      expect(cacheStatus(await ask(world, 'ams', first, ...cookie('one')))).toEqual(['iad', 'miss'])
      expect(cacheStatus(await ask(world, 'ams', plain, ...cookie('one')))).toEqual(['iad', 'hit'])
      expect((await ask(world, 'ams', plain, ...cookie('two'))).region).toBe('ams')
      expect((await ask(world, 'ams', plain)).region).toBe('ams')
    },
  ),
]

const BOUNDS: readonly Row[] = [
  holds(
    'replay-body',
    'Bodies of up to 1 MB are sent on; larger ones reach the app, and are refused with 413 where it sends them on',
    'curl',
    async (world) => {
      const file = join(world.home, 'body')
      const send = (bytes: number, url: string) => {
        writeFileSync(file, 'x'.repeat(bytes))
        return curl(world, 'ams', url, '--data-binary', `@${file}`)
      }
      const whole = JSON.parse((await send(1_048_576, sentOn('region=iad'))).body) as Echo
      expect([whole.region, whole.bytes]).toEqual(['iad', 1_048_576])
      expect(said(await send(1_048_577, sentOn('region=iad')))).toEqual([
        413,
        'The app sent on a request with a body larger than 1 MB.',
      ])
      const kept = JSON.parse((await send(3_000_000, 'http://replay/')).body) as Echo
      expect([kept.region, kept.bytes]).toEqual(['ams', 3_000_000])
    },
  ),
  holds('replay-hops', 'A request is sent on three times at most', 'curl', async (world) => {
    expect(said(await curl(world, 'ams', sentOn('elsewhere=true', { always: '1' })))).toEqual([
      502,
      'The request was sent on more than 3 times.',
    ])
  }),
  holds(
    'replay-forged',
    'No client can make a request look as if it had been sent on, whether its app replays or not',
    'curl',
    async (world) => {
      const forged = [
        'fly-replay-src: instance=x;region=ams;t=1;state=admin',
        'fly_replay_src: x',
        'fly-replay-failed: reason=timeout',
        'fly-replay-cache-status: hit',
        'fly-preferred-instance-unavailable: x',
        'roost-slot: s0',
        'roost-server: x',
        'roost-attach: 1',
      ].flatMap((header) => ['-H', header])
      for (const url of ['http://web/', 'http://replay/', 'http://replay:8084/']) {
        const { headers } = await ask(world, 'ams', url, ...forged)
        const names = Object.keys(headers)
        expect(names.filter((name) => /replay|roost|unavailable/.test(name))).toEqual([])
      }
      const { region, headers } = await ask(world, 'ams', sentOn('region=iad'), ...forged)
      expect([region, headers['fly-replay-src']]).toEqual([
        'iad',
        expect.stringMatching(/^instance=[0-9a-f]{14};region=ams;t=\d{16}$/),
      ])
    },
  ),
  holds('replay-http2', 'Requests that come by HTTP/2 are sent on', 'curl', async (world) => {
    const url = saying('https://replay/', { 'fly-replay': 'region=iad' })
    const answer = await curl(world, 'ams', url, '--http2', ...POST)
    expect([answer.version, JSON.parse(answer.body).region]).toEqual(['HTTP/2', 'iad'])
    expect(Object.keys(answer.headers).filter((name) => /replay|roost/.test(name))).toEqual([])
  }),
  holds('replay-websocket', 'WebSockets are sent on', 'ws', async (world) => {
    const asked = ['--name', world.hostname('replay')]
    const path = saying('', { 'fly-replay': 'region=iad' })
    expect(await speak(world, 'ams', 'ws', 80, ...asked, '--path', `/${path}`)).toBe(
      'replay iad one ping 1005',
    )
    expect(await speak(world, 'ams', 'ws', 80, ...asked)).toBe('replay ams one ping 1005')
  }),
  holdsElsewhere(
    'replayer-killed',
    'When the program that carries replays is killed, what it carried is lost, and nothing else',
    REPLAYER,
    'goes on when the replayer is killed: what it carried is lost, and nothing else',
  ),
  differs(
    'replay-early-answer',
    'An app may send a large upload on before it has read it',
    'about one in ten such answers is lost, and the client gets 502: see decision 0022',
  ),
]

export const REPLAYS: readonly Row[] = [...LEARNED, ...KEYS, ...KEPT, ...BOUNDS]
