import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Footprint, footprint } from './footprint.ts'
import {
  eventually,
  type Playground,
  ROOT,
  run,
  startTraffic,
  terminal,
  visit,
} from './terminal.ts'

/** The whole product on three simulated hosts, by its own command line, seen from clients near each region. */
const REGIONS = ['ams', 'iad', 'syd']
const APPS = ['heredoc', 'copy-link', 'cache-mount', 'multi-stage', 'non-root']
const PROGRAMS = ['agent', 'containerd', 'edge', 'haproxy', 'server']
const NAME = 'e2e'
/** Requests per second to each of the apps beside the example while they are deployed; `make soak` sends 50. */
const RATE = Number(process.env['RATE'] ?? 10)
const PLAYGROUND = ['--name', NAME]

const home = mkdtempSync(join(tmpdir(), 'roost-e2e-'))
const { ok, json, roost } = terminal(home)
let before: Footprint
let dns = ''
let client: Record<string, string> = {}

let playground: Playground

/** What containerd and the kernel say, without a line of our code: machines that run, by region. */
async function running(): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {}
  for (const region of REGIONS) {
    const tasks = await run(
      ['ctr', '-a', `/run/roost/${NAME}/${region}/containerd.sock`, '-n', 'roost', 'tasks', 'ls'],
      { timeoutMs: 5000 },
    )
    if (tasks.code !== 0) throw new Error(`ctr in ${region}: ${tasks.stderr}`)
    const rows = tasks.stdout
      .split('\n')
      .slice(1)
      .map((row) => row.trim().split(/\s+/))
      .filter((row) => row[2] === 'RUNNING')
    const alive = rows.filter((row) => {
      try {
        return readFileSync(`/proc/${row[1]}/cgroup`, 'utf8').includes(row[0] ?? ' ')
      } catch {
        return false
      }
    })
    if (alive.length !== rows.length)
      throw new Error(`${region}: containerd shows tasks that /proc does not`)
    found[region] = alive.map((row) => row[0] ?? '').sort()
  }
  return found
}

/** `roost status`, the Machines API and our own reading agree on which machines run where; returns their number. */
async function agreement(apps: readonly string[]): Promise<number> {
  const token = readFileSync(playground.token_file, 'utf8').trim()
  const byStatus: Record<string, string[]> = Object.fromEntries(
    REGIONS.map((region) => [region, []]),
  )
  const byApi: Record<string, string[]> = Object.fromEntries(REGIONS.map((region) => [region, []]))
  await Promise.all(
    apps.map(async (app) => {
      const [status, answer] = await Promise.all([
        json(['status', '-a', app]),
        run([
          'curl',
          '-sk',
          '-m',
          '5',
          '-H',
          `Authorization: Bearer ${token}`,
          `${playground.server}/v1/apps/${app}/machines`,
        ]),
      ])
      for (const machine of status.machines) {
        if (machine.state !== 'started')
          throw new Error(`${app}: ${machine.id} is ${machine.state}`)
        byStatus[machine.region]?.push(machine.id)
      }
      for (const machine of JSON.parse(answer.stdout))
        if (machine.state === 'started') byApi[machine.region]?.push(machine.id)
    }),
  )
  for (const list of [...Object.values(byStatus), ...Object.values(byApi)]) list.sort()
  const seen = await running()
  expect(byStatus).toEqual(seen)
  expect(byApi).toEqual(seen)
  return Object.values(seen).flat().length
}

function appFolder(app: string): string {
  const folder = join(home, app)
  mkdirSync(folder, { recursive: true })
  if (app === 'chat') cpSync(join(ROOT, 'examples/chat'), folder, { recursive: true })
  else {
    const apps = join(import.meta.dirname, 'apps')
    for (const source of [`${app}/Dockerfile`, 'server.js', 'package.json'])
      cpSync(join(apps, source), join(folder, basename(source)))
  }
  return folder
}

beforeAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  before = await footprint()
  await json([
    'playground',
    'up',
    '--regions',
    REGIONS.join(','),
    '--network',
    '198.19',
    ...PLAYGROUND,
  ])
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  dns = playground.dns
  client = Object.fromEntries(playground.regions.map((region) => [region.code, region.client_ns]))
})

afterAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  rmSync(home, { recursive: true, force: true })
})

describe('from a Dockerfile to three regions', () => {
  test('one command launches the example, and each client is served by its own region over HTTP and WebSocket', async () => {
    await ok(['launch', '--yes', '--name', 'chat', '--regions', REGIONS.join(',')], {
      cwd: appFolder('chat'),
    })
    const { hostname } = await json(['status', '-a', 'chat'])
    for (const region of REGIONS) {
      const seen = await visit(client[region] ?? '', hostname, dns, '--websocket')
      expect(seen).toMatchObject({ status: 200, region, websocket: { region } })
    }
  })

  test.each(APPS)('launches a Dockerfile with %s', async (app) => {
    await ok(['launch', '--yes', '--name', app, '--regions', REGIONS.join(',')], {
      cwd: appFolder(app),
    })
    const { hostname } = await json(['status', '-a', app])
    const seen = await visit(client['iad'] ?? '', hostname, dns)
    expect(seen.error).toBeUndefined()
    const body = JSON.parse(seen.body)
    expect(body).toMatchObject({
      version: 'one',
      region: 'iad',
      user: app === 'non-root' ? 'somebody' : 'root',
    })
    expect(body.built).toMatch(
      {
        heredoc: /^heredoc run$/,
        'copy-link': /^copy link$/,
        'cache-mount': /^cache mount \d+$/,
        'multi-stage': /^multi stage$/,
        'non-root': /^non root$/,
      }[app] ?? /./,
    )
  })

  test('deploys of all of them under traffic for a minute lose no request', async () => {
    const traffic = await Promise.all(
      ['chat', ...APPS].map(async (app, n) => {
        const { hostname } = await json(['status', '-a', app])
        const region = REGIONS[n % REGIONS.length] ?? ''
        return [
          app,
          startTraffic(client[region] ?? '', hostname, dns, {
            rate: app === 'chat' ? 50 : RATE,
            seconds: 600,
          }),
        ] as const
      }),
    )
    const begin = performance.now()
    for (const app of ['chat', ...APPS]) {
      const file = join(home, app, 'server.js')
      writeFileSync(
        file,
        readFileSync(file, 'utf8')
          .replace("version = 'one'", "version = 'two'")
          .replace('chat listens', 'the chat listens'),
      )
      await ok(['deploy'], { cwd: join(home, app) })
    }
    await eventually('a minute of traffic', 90_000, async () => performance.now() - begin > 60_000)
    for (const [app, flow] of traffic) {
      const report = await flow.finish()
      console.log(app, JSON.stringify({ ...report, bodies: undefined }))
      expect(report.samples, app).toEqual([])
      expect(report.requests).toBeGreaterThan(app === 'chat' ? 2500 : 500)
      // The edges have counted every one of them, over all those machines.
      await eventually('status tells of all requests', 10_000, async () => {
        const counted = (await json(['status', '-a', app])).traffic
        expect(counted).toMatchObject({ silent: [], total: { failed: 0 } })
        return counted !== null && counted.total.requests >= report.requests
      })
      if (app !== 'chat')
        expect(Object.keys(report.bodies).some((body) => body.includes('"version":"two"'))).toBe(
          true,
        )
    }
    expect(await agreement(['chat', ...APPS])).toBe(3 * (1 + APPS.length))
  })

  test('each program may be killed with -9 and traffic to the other regions never fails', async () => {
    const { hostname } = await json(['status', '-a', 'chat'])
    for (const program of PROGRAMS) {
      const traffic = ['iad', 'syd'].map((region) =>
        startTraffic(client[region] ?? '', hostname, dns, { rate: 20, seconds: 60 }),
      )
      await json(['playground', 'fault', 'kill', program, '--region', 'ams', ...PLAYGROUND])
      const { afterMs } = await eventually(`agreement after kill -9 of ${program}`, 15_000, () =>
        agreement(['chat', ...APPS]),
      )
      const served = await eventually(
        `ams serves its client after kill -9 of ${program}`,
        15_000,
        async () => (await visit(client['ams'] ?? '', hostname, dns)).region === 'ams',
      )
      console.log(
        `kill -9 ${program}: agreement after ${afterMs} ms, ams serves its client after ${served.afterMs} ms more`,
      )
      for (const flow of traffic) expect((await flow.finish()).samples, program).toEqual([])
    }
  })

  test('all programs of a host may be killed with -9 at once', async () => {
    const { hostname } = await json(['status', '-a', 'chat'])
    const traffic = ['iad', 'syd'].map((region) =>
      startTraffic(client[region] ?? '', hostname, dns, { rate: 20, seconds: 120 }),
    )
    await Promise.all(
      PROGRAMS.map((program) =>
        json(['playground', 'fault', 'kill', program, '--region', 'ams', ...PLAYGROUND]),
      ),
    )
    const { afterMs } = await eventually('agreement after kill -9 of all programs', 15_000, () =>
      agreement(['chat', ...APPS]),
    )
    console.log(`kill -9 of all programs of ams: agreement after ${afterMs} ms`)
    for (const flow of traffic) expect((await flow.finish()).samples).toEqual([])
  })

  test('after the death of a region its client is served by another one within 15 s, and it comes back', async () => {
    const { hostname } = await json(['status', '-a', 'chat'])
    const traffic = startTraffic(client['syd'] ?? '', hostname, dns, { rate: 20, seconds: 120 })
    await json(['playground', 'fault', 'kill', 'ams', ...PLAYGROUND])
    const other = await eventually(
      'another region serves the client near ams',
      15_000,
      async () => {
        const seen = await visit(client['ams'] ?? '', hostname, dns, '--timeout', '2000')
        return seen.status === 200 && seen.region !== 'ams' && seen
      },
    )
    console.log(`client near ams is served by ${other.value.region} after ${other.afterMs} ms`)
    await json(['playground', 'fault', 'restore', 'ams', ...PLAYGROUND])
    const { afterMs } = await eventually(
      'all machines run again and everyone agrees',
      60_000,
      async () => (await agreement(['chat', ...APPS])) === 3 * (1 + APPS.length),
    )
    console.log(`everyone agrees ${afterMs} ms after the restore`)
    expect((await traffic.finish()).samples).toEqual([])
  })

  test('down leaves processes, mounts, namespaces, cgroups and files as before', async () => {
    await json(['playground', 'down', ...PLAYGROUND])
    const after = await footprint()
    expect(after).toEqual(before)
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`${NAME}-`))).toEqual([])
  })
})
