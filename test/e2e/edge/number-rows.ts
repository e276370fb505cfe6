import { expect } from 'vitest'
import { eventually } from '../terminal.ts'
import { ask, askPrivate, curl } from './clients.ts'
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

/** How much more it is after some requests at the edge of syd. */
async function growth(
  world: World,
  name: string,
  labels: Readonly<Record<string, string>>,
  wanted: (grown: number) => boolean,
  ...more: readonly string[]
): Promise<void> {
  const before = await value(world, name, labels)
  for (let n = 0; n < ASKED; n++) await ask(world, 'syd', `http://web/?ms=${TAKES_MS}`, ...more)
  await eventually(`${name} has grown`, 10_000, async () =>
    wanted((await value(world, name, labels)) - before),
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
    'numbers-of-connections',
    '`fly_edge_tcp_…`, `fly_app_tcp_…` and `fly_edge_tls_handshake_…`',
    'only answers over HTTP are counted, not connections',
  ),
]
