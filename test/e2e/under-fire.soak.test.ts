import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Slope, type Slopes, watchSlopes } from './slopes.ts'
import {
  eventually,
  type Playground,
  run,
  startTraffic,
  type TrafficReport,
  terminal,
  visit,
} from './terminal.ts'

/**
 * Two apps in three regions under 500 requests per second of all kinds while people keep changing them and programs die, for
 * at least CHANGES changes, spread over MINUTES minutes. What grows meanwhile is printed as slopes.
 */
const CHANGES = Number(process.env['CHANGES'] ?? 50)
const MINUTES = Number(process.env['MINUTES'] ?? 0)
/** Quick requests per second, over all apps and regions. */
const RATE = 500
const REGIONS = ['ams', 'iad', 'syd']
const APPS = ['fire-one', 'fire-two']
const NAME = 'fire'
const PLAYGROUND = ['--name', NAME]
const HOUR_S = 3600
/** Caches and heaps fill at first. */
const WARM_UP_MS = Math.max(60_000, (MINUTES * 60_000) / 4)
/** Growth over an hour that is taken for flat: what a garbage collector and a page cache do by themselves. */
const FLAT: Readonly<Record<string, number>> = {
  memory: 40,
  descriptors: 30,
  disk: 200,
  rows: 100,
}
/**
 * Tables that remember what was done, and how many rows of each are kept at most, whatever was done: the server forgets the
 * oldest (`purge-lap.ts`). Each change adds to them until then.
 */
const KEPT: Readonly<Record<string, number>> = {
  machines: 2_200,
  machine_events: 2_200 * 100,
  machine_versions: 2_200 * 20,
  statuses: 2_200,
  records: 10_500,
  releases: APPS.length * 202,
  release_events: APPS.length * 22 * 100,
  secret_versions: APPS.length * 202,
}
/** Slopes that say nothing over a few minutes. */
const MINUTES_FOR_SLOPES = 20

const home = mkdtempSync(join(tmpdir(), 'roost-fire-'))
const { ok, json, roost } = terminal(home)
let playground: Playground
let slopes: Slopes
let grown: readonly Slope[] = []
const hostnames = new Map<string, string>()
const folderOf = (app: string) => join(home, app)
const clientOf = (region: string) =>
  playground.regions.find(({ code }) => code === region)?.client_ns ?? ''

beforeAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  await ok([
    'playground',
    'up',
    '--regions',
    REGIONS.join(','),
    '--network',
    '198.51',
    ...PLAYGROUND,
  ])
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  for (const app of APPS) {
    cpSync(join(import.meta.dirname, 'apps/fire'), folderOf(app), { recursive: true })
    writeFileSync(
      join(folderOf(app), 'fly.toml'),
      [
        `app = "${app}"`,
        'primary_region = "ams"',
        // Requests of 20 s end in their own time before the machine that answers them is stopped.
        'kill_timeout = "35s"',
        '[http_service]',
        'internal_port = 8080',
        // Some thirty slow ones at once are usual here: not a reason to send others to farther regions.
        '[http_service.concurrency]',
        'type = "requests"',
        'soft_limit = 200',
        '[[http_service.checks]]',
        'interval = "2s"',
        'timeout = "2s"',
        'path = "/"',
        '',
      ].join('\n'),
    )
    await ok(['apps', 'create', app])
    await ok(['secrets', 'set', 'SECRET=zero', '--stage', '-a', app])
    await ok(['deploy', '--regions', REGIONS.join(',')], { cwd: folderOf(app) })
    hostnames.set(app, (await json(['status', '-a', app])).hostname)
  }
  slopes = watchSlopes(NAME, REGIONS)
})

afterAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  rmSync(home, { recursive: true, force: true })
})

type Fire = Awaited<ReturnType<ReturnType<typeof fire>>>

/** Does it under fire, and ends the fire also when it fails: the next test must not bear two. */
async function underFire(
  deed: () => Promise<void>,
  options: { quick?: boolean } = {},
): Promise<Fire> {
  const cease = fire(options)
  try {
    await deed()
  } catch (error) {
    console.log(`failed under fire: ${error instanceof Error ? error.message : String(error)}`)
    await cease()
    throw error
  }
  return cease()
}

/** All kinds of requests to all apps from clients near all regions. Calling what it returns ends them: by app and region. */
function fire(options: { quick?: boolean } = {}) {
  const flows = APPS.flatMap((app) =>
    REGIONS.map((region) => ({
      who: `${app} from ${region}`,
      region,
      flow: startTraffic(clientOf(region), hostnames.get(app) ?? '', playground.dns, {
        rate: RATE / APPS.length / REGIONS.length,
        seconds: 3 * HOUR_S,
        ...(options.quick === true ? {} : { slow: 1, uploads: 1, sockets: 8 }),
      }),
    })),
  )
  return async () => {
    const reports = await Promise.all(
      flows.map(async ({ who, region, flow }) => ({ who, region, report: await flow.finish() })),
    )
    const sum = (of: (report: TrafficReport) => number) =>
      reports.reduce((total, { report }) => total + of(report), 0)
    const requests = sum((r) => r.requests)
    const perSecond = sum((r) => r.requests / r.seconds)
    const kinds = new Map<string, number>()
    for (const { report } of reports)
      for (const [kind, n] of Object.entries(report.kinds))
        kinds.set(kind, (kinds.get(kind) ?? 0) + n)
    console.log(
      `${requests} requests, ${Math.round(perSecond)} per second (${[...kinds].map(([kind, n]) => `${n} ${kind}`).join(', ')}), ${sum((r) => r.failures)} failed, ` +
        `slowest ${Math.max(...reports.map(({ report }) => report.slowestMs))} ms, ` +
        `a connection to a machine rested for ${Math.max(...reports.map(({ report }) => report.restedMsMax))} ms at most`,
    )
    for (const { who, report } of reports)
      if (report.failures > 0) console.log(who, JSON.stringify(report.samples))
    return reports
  }
}

function edit(app: string, n: number): void {
  const file = join(folderOf(app), 'server.js')
  writeFileSync(file, readFileSync(file, 'utf8').replace(/version = '.*'/, `version = 'v${n}'`))
}

/** The n-th change of an app, by turns. */
const CHANGE: readonly ((app: string, n: number) => Promise<string>)[] = [
  async (app, n) => {
    edit(app, n)
    await ok(['deploy'], { cwd: folderOf(app) })
    return 'deploy'
  },
  async (app, n) => {
    await ok(['secrets', 'set', `SECRET=value-${n}`, '-a', app])
    return 'secret'
  },
  async (app) => {
    await ok(['scale', 'count', 'ams=2', 'iad=2', '-a', app])
    return 'scale out'
  },
  async (app) => {
    await ok(['rollback', '--yes', '-a', app])
    return 'rollback'
  },
  async (app) => {
    await ok(['scale', 'count', 'ams=1', 'iad=1', '-a', app])
    return 'scale in'
  },
]

describe('under fire', () => {
  test('deploys, rollbacks, secret changes and scalings lose no request', {
    timeout: 3 * 3_600_000,
  }, async () => {
    let total = 0
    const reports = await underFire(async () => {
      const begin = performance.now()
      const done = new Map<string, number>()
      const each = CHANGES / APPS.length
      const changes = async (app: string) => {
        let n = 0
        const due = () => n < each || performance.now() - begin < MINUTES * 60_000
        while (due()) {
          // Its turn: nothing is waited for.
          await pause(Math.max(0, begin + (n * MINUTES * 60_000) / each - performance.now()))
          const change = CHANGE[n % CHANGE.length]
          if (change === undefined) break
          const kind = await change(app, ++n)
          done.set(kind, (done.get(kind) ?? 0) + 1)
        }
        return n
      }
      for (const n of await Promise.all(APPS.map(changes))) total += n
      console.log(
        `${total} changes in ${Math.round((performance.now() - begin) / 1000)} s: ${[...done].map(([kind, n]) => `${n} ${kind}`).join(', ')}`,
      )
      // Before anybody is killed: who starts anew begins with little.
      grown = await slopes.finish(WARM_UP_MS)
    })
    for (const { who, report } of reports) expect(report.samples, who).toEqual([])
    expect(total).toBeGreaterThanOrEqual(CHANGES)
  })

  test('edges killed with -9 lose no request', { timeout: 600_000 }, async () => {
    const reports = await underFire(async () => {
      for (const region of [...REGIONS, ...REGIONS]) {
        await ok(['playground', 'fault', 'kill', 'edge', '--region', region, ...PLAYGROUND])
        await settled()
      }
    })
    for (const { who, report } of reports) expect(report.samples, who).toEqual([])
  })

  test('a HAProxy killed with -9 refuses nobody; only what was in its memory is cut', {
    timeout: 600_000,
  }, async () => {
    const victims = ['ams', 'iad', 'ams']
    const reports = await underFire(async () => {
      for (const region of victims) {
        await ok(['playground', 'fault', 'kill', 'haproxy', '--region', region, ...PLAYGROUND])
        await settled()
      }
    })
    for (const { who, region, report } of reports) {
      if (!victims.includes(region)) expect(report.samples, who).toEqual([])
      // In its memory: 20 slow requests, 5 uploads, 8 WebSockets and the few quick ones of that moment, of each app.
      const kills = victims.filter((victim) => victim === region).length
      expect(report.failures, who).toBeLessThanOrEqual(kills * 60)
      for (const { what } of report.samples)
        expect(what, who).toMatch(/ECONNRESET|socket hang up|closed with 1006|EPIPE|aborted/)
    }
  })

  test('the sole machine of a region killed: nobody who may ask twice sees a failure', {
    timeout: 600_000,
  }, async () => {
    const [app] = APPS
    const reports = await underFire(
      async () => {
        for (let n = 0; n < 5; n++) {
          const status = await json(['status', '-a', app ?? ''])
          const victim = status.machines.find(({ region }) => region === 'ams')
          await killMachine('ams', victim?.id ?? '')
          await settled()
        }
      },
      { quick: true },
    )
    for (const { who, report } of reports) {
      const retriable = report.samples.filter(({ kind }) => kind.startsWith('GET'))
      expect(retriable, who).toEqual([])
      console.log(`${who}: slowest ${report.slowestMs} ms, median ${report.p50Ms} ms`)
    }
  })

  test('memory, file descriptors, disk and tables of every program stay flat', () => {
    expect(grown.length).toBeGreaterThan(20)
    const verdicts = grown.map((line) => ({ line, verdict: verdictOn(line) }))
    for (const { line, verdict } of verdicts) {
      const { what, first, last, perHour, unit } = line
      console.log(
        `${verdict} ${what.padEnd(44)} ${first.toFixed(1).padStart(9)} → ${last.toFixed(1).padStart(9)} ${unit.padEnd(2)} ${perHour >= 0 ? '+' : ''}${perHour.toFixed(1)} per hour`,
      )
    }
    if (MINUTES < MINUTES_FOR_SLOPES) return
    const growing = verdicts.filter(({ verdict }) => verdict === 'GROWS')
    expect(growing.map(({ line }) => `${line.what} ${line.perHour}`)).toEqual([])
  })
})

function verdictOn({ what, last, perHour }: Slope): 'flat ' | 'kept ' | 'GROWS' {
  const kind = Object.keys(FLAT).find((one) => what.includes(` ${one}`)) ?? ''
  if (perHour <= (FLAT[kind] ?? 0)) return 'flat '
  const kept = KEPT[/rows of (\w+)$/.exec(what)?.[1] ?? '']
  return kept !== undefined && last <= kept ? 'kept ' : 'GROWS'
}

/** Every machine of every app runs, its client's region answers, and nothing is under way. */
async function settled(): Promise<void> {
  await eventually('all machines run and each region serves its clients', 60_000, async () => {
    for (const app of APPS) {
      const { machines } = await json(['status', '-a', app])
      if (machines.length < REGIONS.length) return false
      if (machines.some(({ state }) => state !== 'started')) return false
      for (const region of REGIONS) {
        const seen = await visit(
          clientOf(region),
          hostnames.get(app) ?? '',
          playground.dns,
          '--path',
          '/',
        )
        if (seen.region !== region) return false
      }
    }
    return true
  })
}

/** kill -9 of all processes of a machine, as an app that crashes hard. */
async function killMachine(region: string, id: string): Promise<void> {
  const socket = `/run/roost/${NAME}/${region}/containerd.sock`
  const killed = await run([
    'ctr',
    '-a',
    socket,
    '-n',
    'roost',
    'tasks',
    'kill',
    '--all',
    '--signal',
    'SIGKILL',
    id,
  ])
  if (killed.code !== 0) throw new Error(`kill of ${id} in ${region}: ${killed.stderr}`)
}
