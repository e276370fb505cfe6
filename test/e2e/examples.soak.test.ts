import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  eventually,
  type Playground,
  ROOT,
  type StatusAnswer,
  startTraffic,
  terminal,
  visit,
} from './terminal.ts'

/** Every folder of examples/ as a new user would try it: copied, launched with --yes, visited from each region. */
const NAME = 'examples'
const PLAYGROUND = ['--name', NAME]
const REGIONS = ['ams', 'iad']
const BASES = ['busybox', 'python:3.11-slim', 'golang:1.19', 'elixir:1.14-slim']

const home = mkdtempSync(join(tmpdir(), 'roost-examples-'))
const { ok, json, roost } = terminal(home)
let playground: Playground
const folderOf = (example: string) => join(home, example)
const nameOf = (example: string) => `try-${example}`
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
    '198.50',
    ...PLAYGROUND,
  ])
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  await ok(['mirror', 'seed', ...BASES, '--playground', NAME], { timeoutMs: 900_000 })
}, 1_200_000)

afterAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  rmSync(home, { recursive: true, force: true })
})

async function launch(example: string): Promise<StatusAnswer> {
  cpSync(join(ROOT, 'examples', example), folderOf(example), { recursive: true })
  await ok(['launch', '--yes', '--name', nameOf(example), '--regions', REGIONS.join(',')], {
    cwd: folderOf(example),
    timeoutMs: 600_000,
  })
  return json(['status', '-a', nameOf(example)])
}

const look = (app: StatusAnswer, region: string, path: string) =>
  visit(clientOf(region), app.hostname, playground.dns, '--path', path)

/** What the example says of itself, asked by a client near that region. */
async function answerFrom(app: StatusAnswer, region: string, path: string): Promise<Answer> {
  const { status, body } = await look(app, region, path)
  expect(status).toBe(200)
  return JSON.parse(body) as Answer
}
interface Answer {
  readonly region: string
  readonly machine: string
  readonly visits?: number
}

/** A machine that sleeps by hand, and its client, who is served from elsewhere meanwhile. */
async function sleepAndWake(app: StatusAnswer, path: string): Promise<void> {
  const { machine } = await answerFrom(app, 'iad', path)
  await ok(['machine', 'suspend', machine, '-a', app.name])
  await eventually('iad is served by ams', 20_000, async () => {
    const seen = await look(app, 'iad', path)
    return seen.status === 200 && JSON.parse(seen.body).region === 'ams'
  })
  await ok(['machine', 'start', machine, '-a', app.name])
  await eventually('iad is served by its own machine', 20_000, async () => {
    const seen = await look(app, 'iad', path)
    return seen.status === 200 && JSON.parse(seen.body).machine === machine
  })
}

describe('examples', () => {
  test.each([
    ['chat', '/where'],
    ['static', '/where'],
    ['scratch', '/'],
    ['elixir', '/'],
  ])('%s answers from its regions, sleeps and wakes', async (example, path) => {
    const app = await launch(example)
    for (const region of REGIONS)
      expect(await answerFrom(app, region, path)).toMatchObject({ region })
    await sleepAndWake(app, path)
  })

  test('python answers from its regions, and counts on after a sleep', async () => {
    const app = await launch('python')
    for (const region of REGIONS)
      expect(await answerFrom(app, region, '/')).toMatchObject({ region })
    const before = await answerFrom(app, 'iad', '/')
    await sleepAndWake(app, '/')
    const after = await answerFrom(app, 'iad', '/')
    expect(after.machine).toBe(before.machine)
    expect(after.visits).toBeGreaterThan(before.visits ?? 0)
  })

  test('worker has a group that answers and one that works', async () => {
    const app = await launch('worker')
    for (const region of REGIONS)
      expect(await answerFrom(app, region, '/')).toMatchObject({ region, group: 'web' })
    await eventually('the worker of ams says what it does', 30_000, async () =>
      (await ok(['logs', '-a', app.name, '--no-tail'])).includes('worker of ams:'),
    )
  })

  test('sidecar shows what its helper writes', async () => {
    const app = await launch('sidecar')
    for (const region of REGIONS) {
      const { value } = await eventually(`${region} has a word of its helper`, 20_000, async () => {
        const seen = await look(app, region, '/')
        return seen.status === 200 ? JSON.parse(seen.body) : null
      })
      expect(value).toMatchObject({ region, helper: expect.stringMatching(/^\d+$/) })
    }
  })

  test('WebSockets of an Elixir release are closed properly by a rolling deploy, and open again', async () => {
    const app = await json(['status', '-a', nameOf('elixir')])
    const flows = REGIONS.map((region) =>
      startTraffic(clientOf(region), app.hostname, playground.dns, {
        rate: 20,
        seconds: 600,
        sockets: 8,
      }),
    )
    const source = join(folderOf('elixir'), 'lib/visitor.ex')
    const text = readFileSync(source, 'utf8')
    writeFileSync(source, text.replace('machine is going away', 'another version is here'))
    await ok(['deploy'], { cwd: folderOf('elixir'), timeoutMs: 600_000 })
    // The release is complete while those that were there still say goodbye.
    const before = new Set(app.machines.map(({ id }) => id))
    await eventually('the machines of the release before are gone', 60_000, async () => {
      const { machines } = await json(['status', '-a', app.name])
      return !machines.some(({ id }) => before.has(id))
    })
    const reports = await Promise.all(flows.map((flow) => flow.finish()))
    for (const report of reports) {
      expect(report.samples).toEqual([])
      // Each of the eight was closed and opened again.
      expect(report.kinds['WebSocket']).toBeGreaterThanOrEqual(16)
    }
  })
})
