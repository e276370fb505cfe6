import { expect } from 'vitest'
import { REGIONS, type Region } from '../playground.ts'
import { eventually } from '../terminal.ts'
import { ask, askPrivate, clientOf, curl, psql } from './clients.ts'
import { alone, differs, holds, holdsElsewhere, type Row } from './row.ts'
import type { World } from './world.ts'

const METRICS = '/edge/v1/metrics'
const ASKED = 5
const TAKES_MS = 20

interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
}
/** How much more it shall be. */
type Growth = Series & { readonly wanted: (grown: number) => boolean }

/** Of each series of the page of a region's edge; 0 while it is not there. */
async function values(
  world: World,
  region: Region,
  series: readonly Series[],
): Promise<readonly number[]> {
  const { body } = await askPrivate(world, region, METRICS)
  const lines = body.split('\n')
  return series.map(({ name, labels }) => {
    const wanted = Object.entries(labels).map(([key, text]) => `${key}="${text}"`)
    const line = lines.find(
      (one) => one.startsWith(`${name}{`) && wanted.every((label) => one.includes(label)),
    )
    return Number(line?.split(' ').at(-1) ?? 0)
  })
}

/** Asks some times, and waits until all that the edge of a region counts have grown as they shall. */
async function growth(
  world: World,
  region: Region,
  series: readonly Growth[],
  askOnce: () => Promise<unknown>,
): Promise<void> {
  const before = await values(world, region, series)
  for (let n = 0; n < ASKED; n++) await askOnce()
  for (const [n, one] of series.entries())
    await eventually(`${one.name} has grown`, 10_000, async () => {
      const [now = 0] = await values(world, region, [one])
      return one.wanted(now - (before[n] ?? 0))
    })
}

const seenIn = (region: Region) => ({ app: 'web', region, host: region })
const all = (grown: number) => grown === ASKED

/** They are tried at once: of what is counted here, no two ask for the same. */
export const NUMBERS: readonly Row[] = [
  holds(
    'edge-responses',
    '`fly_edge_http_responses_count` and `fly_edge_http_response_time_seconds`, by app, region, host and status',
    'curl',
    async (world) => {
      const labels = { ...seenIn('syd'), status: '200' }
      // A timer may be a millisecond early.
      const spent = (seconds: number) => seconds >= (ASKED * (TAKES_MS - 1)) / 1000
      await growth(
        world,
        'syd',
        [
          { name: 'fly_edge_http_responses_count', labels, wanted: all },
          { name: 'fly_edge_http_response_time_seconds_count', labels, wanted: all },
          { name: 'fly_edge_http_response_time_seconds_sum', labels, wanted: spent },
        ],
        () => ask(world, 'syd', `http://web/?ms=${TAKES_MS}`),
      )
    },
  ),
  holds(
    'edge-data',
    '`fly_edge_data_in` and `fly_edge_data_out`, in bytes',
    'curl',
    async (world) => {
      const body = 'x'.repeat(2000)
      const labels = seenIn('iad')
      await growth(
        world,
        'iad',
        [
          { name: 'fly_edge_data_in', labels, wanted: (n) => n > ASKED * 2000 },
          { name: 'fly_edge_data_out', labels, wanted: (n) => n > ASKED * 200 },
        ],
        () => ask(world, 'iad', 'http://web/', '-d', body),
      )
    },
  ),
  holds(
    'app-responses',
    '`fly_app_http_responses_count`, `fly_app_http_response_time_seconds` and `fly_app_connect_time_seconds`, by machine',
    'curl',
    async (world) => {
      const [instance = ''] = world.machines('web', 'ams')
      const labels = { ...seenIn('ams'), instance, status: '200' }
      await growth(
        world,
        'ams',
        [
          { name: 'fly_app_http_responses_count', labels, wanted: all },
          { name: 'fly_app_http_response_time_seconds_count', labels, wanted: all },
        ],
        () => ask(world, 'ams', 'http://web/', '-H', `fly-force-instance-id: ${instance}`),
      )
      // A connection within a host stands in less than a millisecond, which is not counted.
      await ask(world, 'ams', 'http://web/', '-H', 'fly-force-region: iad')
      const far = {
        name: 'fly_app_connect_time_seconds_count',
        labels: { app: 'web', host: 'ams', instance: world.machines('web', 'iad')[0] ?? '' },
      }
      await eventually('a connection to a far machine is counted', 10_000, async () => {
        const [counted = 0] = await values(world, 'ams', [far])
        return counted > 0
      })
    },
  ),
  holds(
    'app-concurrency',
    '`fly_app_concurrency`: what is at work on a machine now',
    'curl',
    async (world) => {
      const long = ask(world, 'iad', 'http://raw:8080/?ms=4000')
      const [instance = ''] = world.machines('raw', 'iad')
      const series = [{ name: 'fly_app_concurrency', labels: { app: 'raw', instance } }]
      const isNow = async (wanted: number) => (await values(world, 'iad', series))[0] === wanted
      await eventually('it is counted', 3500, () => isNow(1))
      await long
      await eventually('it is over', 5000, () => isNow(0))
    },
  ),
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
  holds(
    'tcp-connections',
    '`fly_edge_tcp_connects_count`, `fly_edge_tcp_disconnects_count` and, by machine, `fly_app_tcp_…`, of what is not HTTP',
    'psql',
    async (world) => {
      const query = async () =>
        expect((await psql(world, 'syd', 'web', 'verify-full')).stdout).toBe('web syd one\n')
      const labels = seenIn('syd')
      const ofMachine = { ...labels, instance: world.machines('web', 'syd')[0] ?? '' }
      const series = ['connects', 'disconnects'].flatMap((kind) => [
        { name: `fly_edge_tcp_${kind}_count`, labels, wanted: all },
        { name: `fly_app_tcp_${kind}_count`, labels: ofMachine, wanted: all },
      ])
      await growth(world, 'syd', series, query)
    },
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
  holdsElsewhere(
    'tls-handshakes',
    '`fly_edge_tls_handshake_errors` by name and `fly_edge_tls_handshake_time_seconds` by version, of what took a millisecond or longer',
    'packages/edge/src/edge.integration.test.ts',
    'speaks TLS with a certificate of the authority, HTTP/2 and WebSockets included',
  ),
  alone(
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
      expect([status, body.trim()]).toEqual([
        503,
        'The machine or region that was asked for can not answer now.',
      ])
      expect(await world.terminal.ok(['logs', '-a', 'web'])).not.toMatch(/\bP[A-Z]\d\d\b/)
    },
  ),
]
