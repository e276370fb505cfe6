import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { destroyAllApps, NAME, PLAYGROUND, REGIONS } from './playground.ts'
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
const APPS = ['heredoc', 'copy-link', 'cache-mount', 'multi-stage', 'non-root']
const ALL = ['chat', ...APPS]
/** Beside what is killed: two are enough to be asked after each death; in `make soak` all of them. */
const BESIDE = process.env['TRAFFIC_SECONDS'] === undefined ? ['chat', 'multi-stage'] : ALL
const PROGRAMS = ['agent', 'containerd', 'edge', 'haproxy', 'server']
/** Requests per second to each of the apps beside the example while they are deployed; `make soak` sends 50. */
const RATE = Number(process.env['RATE'] ?? 10)
/** Traffic goes on for as long as the deploys take, and for so many seconds at least; `make soak` says 60. */
const TRAFFIC_SECONDS = Number(process.env['TRAFFIC_SECONDS'] ?? 0)

const home = mkdtempSync(join(tmpdir(), 'roost-e2e-'))
const own = terminal(inject('home'))
const { ok, json } = own
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
  const byApi = byRegion()
  for (const app of apps) {
    const { stdout } = await run([
      ...['curl', '-sk', '-m', '5', '-H', `Authorization: Bearer ${token}`],
      `${playground.server}/v1/apps/${app}/machines`,
    ])
    for (const machine of JSON.parse(stdout))
      if (machine.state === 'started') byApi[machine.region]?.push(machine.id)
  }
  const seen = await running()
  for (const list of Object.values(byApi)) list.sort()
  expect(byApi).toEqual(seen)
  const byStatus = byRegion()
  await Promise.all(
    apps.map(async (app) => {
      for (const machine of (await json(['status', '-a', app])).machines) {
        if (machine.state !== 'started')
          throw new Error(`${app}: ${machine.id} is ${machine.state}`)
        byStatus[machine.region]?.push(machine.id)
      }
    }),
  )
  for (const list of Object.values(byStatus)) list.sort()
  expect(byStatus).toEqual(seen)
  return Object.values(seen).flat().length
}

function byRegion(): Record<string, string[]> {
  return Object.fromEntries(REGIONS.map((region) => [region, []]))
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
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  dns = playground.dns
  client = Object.fromEntries(playground.regions.map((region) => [region.code, region.client_ns]))
})

afterAll(async () => {
  await destroyAllApps(own)
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

  test.concurrent.each(APPS)('launches a Dockerfile with %s', async (app) => {
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

  test('deploys of all of them under traffic lose no request', async () => {
    const traffic = await Promise.all(
      ALL.map(async (app, n) => {
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
    await Promise.all(
      ALL.map(async (app) => {
        const file = join(home, app, 'server.js')
        writeFileSync(
          file,
          readFileSync(file, 'utf8')
            .replace("version = 'one'", "version = 'two'")
            .replace('chat listens', 'the chat listens'),
        )
        const said = await ok(['deploy'], { cwd: join(home, app) })
        console.log(
          app,
          said.split('\n').findLast((line) => line.startsWith('Times:')),
        )
      }),
    )
    const seconds = () => (performance.now() - begin) / 1000
    await eventually(
      'enough traffic',
      TRAFFIC_SECONDS * 1000 + 1000,
      async () => seconds() > TRAFFIC_SECONDS,
    )
    const least = 0.8 * seconds()
    for (const [app, flow] of traffic) {
      const report = await flow.finish()
      console.log(app, JSON.stringify({ ...report, bodies: undefined }))
      expect(report.samples, app).toEqual([])
      expect(report.requests).toBeGreaterThan(least * (app === 'chat' ? 50 : RATE))
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
    expect(await agreement(ALL)).toBe(3 * ALL.length)
  })

  test('apps that are destroyed leave no machine', async () => {
    const others = ALL.filter((app) => !BESIDE.includes(app))
    await Promise.all(others.map((app) => ok(['apps', 'destroy', app, '--yes'])))
    await eventually('the others alone run', 30_000, async () => {
      expect(await agreement(BESIDE)).toBe(3 * BESIDE.length)
      return true
    })
  })

  test('each program may be killed with -9 and traffic to the other regions never fails', async () => {
    const { hostname } = await json(['status', '-a', 'chat'])
    for (const program of PROGRAMS) {
      const traffic = ['iad', 'syd'].map((region) =>
        startTraffic(client[region] ?? '', hostname, dns, { rate: 20, seconds: 60 }),
      )
      await json(['playground', 'fault', 'kill', program, '--region', 'ams', ...PLAYGROUND])
      const { afterMs } = await eventually(`agreement after kill -9 of ${program}`, 15_000, () =>
        agreement(BESIDE),
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
      agreement(BESIDE),
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
      async () => (await agreement(BESIDE)) === 3 * BESIDE.length,
    )
    console.log(`everyone agrees ${afterMs} ms after the restore`)
    expect((await traffic.finish()).samples).toEqual([])
  })
})
