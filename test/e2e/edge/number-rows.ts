import { expect } from 'vitest'
import { eventually } from '../terminal.ts'
import { ask, askPrivate, clientOf, curl, psql } from './clients.ts'
import { alone, differs, holds, type Row } from './row.ts'
import { REGIONS, type World } from './world.ts'

const METRICS = '/edge/v1/metrics'
const ASKED = 5
const TAKES_MS = 20

/** Of one series of an edge's page; 0 while it is not there. */
async function value(
  world: World,
  name: string,
  labels: Readonly<Record<string, string>>,
): Promise<number> {
  const page = await askPrivate(world, 'syd', METRICS)
  const line = page.body.split('\n').find((one) => {
    const wanted = Object.entries(labels).every(([key, text]) => one.includes(`${key}="${text}"`))
    return one.startsWith(`${name}{`) && wanted
  })
  return Number(line?.split(' ').at(-1) ?? 0)
}

/** How much more it is after some questions at the edge of syd. */
async function growthBy(
  world: World,
  name: string,
  labels: Readonly<Record<string, string>>,
  wanted: (grown: number) => boolean,
  askOnce: () => Promise<unknown>,
): Promise<void> {
  const before = await value(world, name, labels)
  for (let n = 0; n < ASKED; n++) await askOnce()
  await eventually(`${name} has grown`, 10_000, async () =>
    wanted((await value(world, name, labels)) - before),
  )
}

function growth(
  ...[world, name, labels, wanted, ...more]: [
    ...[world: World, name: string, labels: Readonly<Record<string, string>>],
    ...[wanted: (grown: number) => boolean, ...more: string[]],
  ]
): Promise<void> {
  return growthBy(world, name, labels, wanted, () =>
    ask(world, 'syd', `http://web/?ms=${TAKES_MS}`, ...more),
  )
}

const own = { app: 'web', region: 'syd', host: 'syd' }
const ofMachine = (world: World) => ({
  ...own,
  instance: world.machines('web', 'syd')[0] ?? '',
})
const all = (grown: number) => grown === ASKED

export const NUMBERS: readonly Row[] = [
  alone(
    holds(
      'edge-responses',
      '`fly_edge_http_responses_count` and `fly_edge_http_response_time_seconds`, by app, region, host and status',
      'curl',
      async (world) => {
        const labels = { ...own, status: '200' }
        await growth(world, 'fly_edge_http_responses_count', labels, all)
        await growth(world, 'fly_edge_http_response_time_seconds_count', labels, all)
        // A timer may be a millisecond early.
        const spent = (seconds: number) => seconds >= (ASKED * (TAKES_MS - 1)) / 1000
        await growth(world, 'fly_edge_http_response_time_seconds_sum', labels, spent)
      },
    ),
  ),
  alone(
    holds(
      'edge-data',
      '`fly_edge_data_in` and `fly_edge_data_out`, in bytes',
      'curl',
      async (world) => {
        const body = 'x'.repeat(2000)
        await growth(world, 'fly_edge_data_in', own, (n) => n > ASKED * 2000, '-d', body)
        await growth(world, 'fly_edge_data_out', own, (n) => n > ASKED * 200)
      },
    ),
  ),
  alone(
    holds(
      'app-responses',
      '`fly_app_http_responses_count`, `fly_app_http_response_time_seconds` and `fly_app_connect_time_seconds`, by machine',
      'curl',
      async (world) => {
        const labels = { ...ofMachine(world), status: '200' }
        await growth(world, 'fly_app_http_responses_count', labels, all)
        await growth(world, 'fly_app_http_response_time_seconds_count', labels, all)
        // A connection within a host stands in less than a millisecond, which is not counted.
        await ask(world, 'syd', 'http://web/', '-H', 'fly-force-region: iad')
        const far = { app: 'web', host: 'syd', instance: world.machines('web', 'iad')[0] ?? '' }
        await eventually('a connection to a far machine is counted', 10_000, async () => {
          return (await value(world, 'fly_app_connect_time_seconds_count', far)) > 0
        })
      },
    ),
  ),
  alone(
    holds(
      'app-concurrency',
      '`fly_app_concurrency`: what is at work on a machine now',
      'curl',
      async (world) => {
        const long = ask(world, 'syd', 'http://web/?ms=4000')
        const now = () => value(world, 'fly_app_concurrency', ofMachine(world))
        await eventually('it is counted', 3500, async () => (await now()) === 1)
        await long
        await eventually('it is over', 5000, async () => (await now()) === 0)
      },
    ),
  ),
  alone(
    holds(
      'status-traffic',
      '`roost status`: requests, failures and times of the last five minutes, over all edges',
      'roost',
      async (world) => {
        for (const region of REGIONS) await curl(world, region, 'http://web/?status=507')
        await eventually('all are counted', 10_000, async () => {
          const { traffic } = await world.terminal.json(['status', '-a', 'web'])
          expect(traffic?.silent).toEqual([])
          const { failed = 0, responses = {} } = traffic?.total ?? {}
          return responses['507'] === REGIONS.length && failed >= REGIONS.length
        })
      },
    ),
  ),
  alone(
    holds(
      'tcp-connections',
      '`fly_edge_tcp_connects_count`, `fly_edge_tcp_disconnects_count` and, by machine, `fly_app_tcp_…`, of what is not HTTP',
      'psql',
      async (world) => {
        const query = async () =>
          expect((await psql(world, 'syd', 'web', 'verify-full')).stdout).toBe('web syd one\n')
        for (const kind of ['connects', 'disconnects']) {
          await growthBy(world, `fly_edge_tcp_${kind}_count`, own, all, query)
          await growthBy(world, `fly_app_tcp_${kind}_count`, ofMachine(world), all, query)
        }
      },
    ),
  ),
  holds(
    'numbers-private',
    'The numbers of all apps are told to the server alone',
    'curl',
    async (world) => {
      expect((await askPrivate(world, 'syd', METRICS, 'agent')).status).toBe(403)
      expect((await askPrivate(world, 'syd', METRICS, 'server')).status).toBe(200)
    },
  ),
  differs(
    'tls-handshakes',
    '`fly_edge_tls_handshake_errors` and `fly_edge_tls_handshake_time_seconds`',
    'handshakes are not counted: those that succeed are seen by what comes after them',
    'curl',
    async (world) => {
      const { body } = await askPrivate(world, 'syd', METRICS)
      expect(body).toContain('fly_edge_http_responses_count')
      expect(body).not.toContain('tls_handshake')
    },
  ),
  holds(
    'access-log',
    'Who asked for what, live, from all edges, without what follows the `?`: `roost logs --access`',
    'roost',
    async (world) => {
      const heard = { text: '' }
      const listening = world.terminal.begin(['logs', '--access', '--json', '-a', 'web'], {
        onStdout: (text) => {
          heard.text += text
        },
      })
      try {
        for (const region of REGIONS) {
          const path = `/told-by-${region}`
          const { value } = await eventually(`${region} tells`, 15_000, async () => {
            await ask(world, region, `http://web${path}?a=secret`)
            const whole = heard.text.split('\n').slice(0, -1)
            return whole.map((line) => JSON.parse(line)).find((line) => line.path === path)
          })
          expect(value).toMatchObject({
            ...{ region, host: region, client: clientOf(world.place(region).edge) },
            ...{ method: 'GET', status: 200 },
          })
          expect(world.machines('web', region)).toContain(value.machine)
        }
        expect(heard.text).not.toContain('secret')
      } finally {
        process.kill(listening.pid, 'SIGINT')
        await listening.ended
      }
    },
  ),
  differs(
    'error-codes',
    'What an edge could not do is in the app’s log, by a code such as `PR01`',
    'it is in the answer, in words, and in `roost logs --access` while somebody listens; `roost status` counts it',
    'curl',
    async (world) => {
      const { status, body } = await curl(
        world,
        'ams',
        'http://web/',
        '-H',
        'fly-force-region: nrt',
      )
      expect([status, body.trim()]).toEqual([503, 'No machine of this app can answer now.'])
    },
  ),
]
