import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Loop, silentLogger } from '@roost/base'
import {
  type App,
  type AppName,
  type Assignment,
  type Host,
  type HostId,
  isFinal,
  type MachineConfig,
  type MachineId,
  type RegionCode,
  type Release,
} from '@roost/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createIds } from '../ids.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { createRelease, type ReleaseRequest } from '../release/create-release.ts'
import { openMasterKey } from '../secret/master-key.ts'
import { createSecrets } from '../secret/secrets.ts'
import { getApp, networkNumber, putApp } from '../store/apps.ts'
import { putHost } from '../store/hosts.ts'
import { deleteLease, putLease } from '../store/leases.ts'
import { listMachines } from '../store/machines.ts'
import { getRelease, listReleaseEvents } from '../store/releases.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import { createPresence } from '../watch/presence.ts'
import { startDrainLap } from './drain-lap.ts'
import { startReleaseLap } from './release-lap.ts'
import { agentThatSays, createSteppedClock, type Fate, simulateHosts } from './simulated-hosts.ts'

const shop = 'shop' as AppName
const START = 1_700_000_000_000

const CONFIG: MachineConfig = {
  image: 'registry.internal/shop@sha256:1',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [
    {
      protocol: 'tcp',
      internal_port: 8080,
      ports: [],
      checks: [],
      concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
      autostop: 'off',
      autostart: true,
      min_machines_running: 0,
    },
  ],
  checks: {},
  restart: { policy: 'on-failure', max_retries: 10 },
  stop_config: { signal: 'SIGINT', timeout_ms: 5_000 },
  metadata: {},
  auto_destroy: false,
}

function host(name: string, number: number, memoryMb = 4096): Host {
  return {
    id: `${number}`.padStart(14, '0') as HostId,
    name,
    region: name.split('-')[0] as RegionCode,
    number,
    publicAddress: '198.51.100.1',
    wireguard: { endpoint: '198.51.100.1:51820', publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 4, memoryMb },
    builder: false,
    availability: 'active',
    agentSeenAt: START,
    edgeSeenAt: START,
    status: 'ok',
  }
}

let folder = ''
let stops: (() => Promise<void>)[] = []
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'roost-release-'))
})
afterEach(async () => {
  for (const stop of stops.reverse()) await stop()
  stops = []
  await rm(folder, { recursive: true, force: true })
})

async function open(
  options: { hosts?: Host[]; fates?: Record<string, Fate>; lines?: object[] } = {},
) {
  const hosts = options.hosts ?? [host('ams-1', 1), host('iad-1', 2), host('syd-1', 3)]
  const clock = createSteppedClock(START)
  const store = openSqlite({ file: ':memory:' })
  const presence = createPresence(START)
  const secrets = createSecrets(await openMasterKey(join(folder, 'master.key')))
  const ids = createIds()
  const deps = {
    store,
    clock,
    ids,
    presence,
    secrets,
    log: silentLogger,
    agent: () => agentThatSays(options.lines ?? []),
  }
  await store.transaction(async (tx) => {
    const { number } = await networkNumber(tx, 'personal', 'default')
    const app: App = {
      name: shop,
      organization: 'personal',
      network: number,
      createdAt: START,
      primaryRegion: null,
      release: 0,
    }
    await putApp(tx, app)
    for (const one of hosts) await putHost(tx, one)
  })
  const fates = options.fates ?? {}
  const fateOf = (assignment: Assignment) => fates[assignment.imageDigest] ?? {}
  const world = simulateHosts({ store, clock, presence, hosts, fateOf })

  let loops: Loop[] = []
  const startLaps = () => {
    loops = [startReleaseLap(deps), startDrainLap(deps)]
  }
  const killLaps = async () => {
    const ended = Promise.all(loops.map((loop) => loop.stop()))
    await clock.advance(0)
    await ended
  }
  startLaps()
  stops.push(async () => {
    await killLaps()
    await store.close()
  })

  const release = (image: string, ask: Partial<Release['ask']> = {}, change = {}) =>
    store.transaction((tx) =>
      createRelease(
        tx,
        {
          app: shop,
          cause: 'deploy',
          ask: { scale: null, regions: [], ha: true, ...ask },
          what: {
            image: `registry.internal/shop@${image}`,
            imageDigest: image,
            config: CONFIG,
            primaryRegion: null,
            source: null,
          },
          waitTimeoutMs: 120_000,
          createdBy: 'admin',
          ...change,
        } satisfies ReleaseRequest,
        { now: clock.now(), newId: ids.machineId },
      ),
    )
  const machines = () => store.read((reader) => listMachines(reader, { app: shop }))
  const events = (version: number) =>
    store.read(async (reader) =>
      (await listReleaseEvents(reader, shop, version, 0)).map(({ event }) => event),
    )
  /** Lets the world go on until something holds, at most for so long. */
  const until = async (what: () => Promise<boolean>, limitMs: number, watch = async () => {}) => {
    for (let ms = 0; ms <= limitMs; ms += 100) {
      if (await what()) return
      await world.tick()
      await clock.advance(100)
      await watch()
    }
    throw new Error(`not within ${limitMs} ms: ${JSON.stringify(await events(1), null, 1)}`)
  }
  const ended = async (version: number, limitMs = 60_000, watch = async () => {}) => {
    const look = () => store.read((reader) => getRelease(reader, shop, version))
    await until(async () => isFinal((await look())?.status ?? 'pending'), limitMs, watch)
    return look()
  }
  const versions = async () =>
    (await machines()).map((m) => m.assignment.config.metadata['fly_release_version'])
  return { ...deps, world, release, machines, events, ended, until, versions, startLaps, killLaps }
}

const REGIONS = ['ams', 'iad', 'syd'] as RegionCode[]

test('a first release starts one machine in each region and then serves', async () => {
  const { release, ended, machines, events, store } = await open()
  const created = await release('sha256:1', { regions: REGIONS })
  expect(created).toMatchObject({ version: 1, status: 'starting' })
  expect(await ended(1)).toMatchObject({ status: 'complete', reason: null })
  expect((await machines()).map((m) => m.assignment.region).sort()).toEqual(REGIONS)
  expect((await machines())[0]?.assignment.config.metadata).toEqual({
    fly_platform_version: 'v2',
    fly_process_group: 'app',
    fly_release_id: 'shop-v1',
    fly_release_version: '1',
  })
  expect((await store.read((reader) => getApp(reader, shop)))?.release).toBe(1)
  const messages = (await events(1)).map((e) => e.message)
  expect(messages.filter((m) => m.endsWith('is ready'))).toHaveLength(3)
  expect(messages.at(-1)).toBe('release 1 is complete')
})

test('a second release starts first: as many machines serve all the while', async () => {
  const { release, ended, machines, versions } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  const done = await ended(2, 60_000, async () => {
    const serving = (await machines()).filter(
      (m) => m.readySince !== null && m.assignment.goal === 'started',
    )
    expect(serving.length).toBeGreaterThanOrEqual(3)
  })
  expect(done?.status).toBe('complete')
  expect(await versions()).toEqual(['2', '2', '2'])
})

describe('a release that fails leaves the old one serving and says why', () => {
  const cases: [string, Fate, string][] = [
    ['an image that exits at once', { exitCode: 3 }, 'exited with code 3'],
    ['an image that can not be pulled', { failure: 'pull: no such image' }, 'no such image'],
    ['a program that does not listen', { listenMs: null }, 'nothing listens on port 8080'],
  ]
  for (const [name, fate, why] of cases)
    test(name, async () => {
      const lines = [{ timestamp: 't', machine: 'm', region: 'r', host: 'h', message: 'boom!' }]
      const opened = await open({ fates: { 'sha256:bad': fate }, lines })
      const { release, ended, machines, versions, events, store } = opened
      await release('sha256:1', { regions: REGIONS })
      await ended(1)
      const before = (await machines()).map((m) => m.assignment.id)
      await release('sha256:bad')
      expect(await ended(2, 120_000)).toMatchObject({
        status: 'failed',
        reason: expect.stringContaining(why),
      })
      expect((await machines()).map((m) => m.assignment.id)).toEqual(before)
      expect(await versions()).toEqual(['1', '1', '1'])
      expect((await machines()).every((m) => m.assignment.routed)).toBe(true)
      expect((await store.read((reader) => getApp(reader, shop)))?.release).toBe(1)
      const told = await events(2)
      expect(told.some((e) => e.message.includes('boom!'))).toBe(true)
      expect(told.at(-1)?.message).toContain('it said last: boom!')
      expect(told.at(-1)).toMatchObject({ status: 'failed' })
    })

  test('a host that does not answer', async () => {
    const { release, ended, world, versions } = await open()
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    await release('sha256:2')
    world.deadAgents.add('00000000000002' as HostId)
    expect(await ended(2)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('host iad-1'),
    })
    const left = await versions()
    expect(left.filter((v) => v === '1')).toHaveLength(3)
  })
})

test('a server that is killed at any moment goes on, and makes no machine twice', async () => {
  for (const everyMs of [100, 300, 700, 1900]) {
    const { release, ended, world, killLaps, startLaps, clock, versions, store } = await open()
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    await release('sha256:2')
    let next = clock.now() + everyMs
    const done = await ended(2, 120_000, async () => {
      if (clock.now() < next) return
      await killLaps()
      startLaps()
      next = clock.now() + everyMs
      await world.tick()
    })
    expect(done?.status).toBe('complete')
    expect(await versions()).toEqual(['2', '2', '2'])
    const rows = await store.read((reader) => listMachines(reader, { app: shop, destroyed: true }))
    expect(rows).toHaveLength(6)
  }
})

test('a server that was away longer than the release may take does not give it up for that', async () => {
  const { release, ended, world, killLaps, startLaps, clock, presence } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  await clock.advance(10)
  await killLaps()
  for (let n = 0; n < 200; n++) {
    await world.tick()
    await clock.advance(1_000)
  }
  for (const number of [1, 2, 3]) presence.forget(`${number}`.padStart(14, '0') as HostId)
  startLaps()
  await clock.advance(10)
  expect((await ended(2))?.status).toBe('complete')
})

test('a second release waits for the first, and says so', async () => {
  const { release, ended, events, versions } = await open()
  await release('sha256:1', { regions: REGIONS })
  expect(await release('sha256:2')).toMatchObject({ version: 2, status: 'pending', plan: [] })
  expect((await ended(2))?.status).toBe('complete')
  expect(await versions()).toEqual(['2', '2', '2'])
  expect((await events(2)).map((e) => e.message).join('\n')).toContain(
    'release 1 (deploy) by admin is still',
  )
})

test('secrets that are set while a release is on its way come with its image, not with the old one', async () => {
  const { release, ended, machines } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  await release('unused', {}, { cause: 'secrets', what: null })
  expect((await ended(3))?.imageDigest).toBe('sha256:2')
  expect((await machines()).map((m) => m.assignment.imageDigest)).toEqual(Array(3).fill('sha256:2'))
})

test('scale adds beside what runs and takes away what is too many', async () => {
  const { release, ended, machines } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  const before = (await machines()).map((m) => m.assignment.id)
  const scale = { ['ams' as RegionCode]: 3, ['syd' as RegionCode]: 0 }
  await release('unused', { scale }, { cause: 'scale', what: null })
  expect((await ended(2))?.status).toBe('complete')
  const after = (await machines()).map((m) => `${m.assignment.region}`).sort()
  expect(after).toEqual(['ams', 'ams', 'ams', 'iad'])
  const kept = (await machines()).filter((m) => before.includes(m.assignment.id))
  expect(kept).toHaveLength(2)
})

test('where there is no room for two at once, machines are replaced in waves', async () => {
  const small = [host('ams-1', 1, 3 * 256)]
  const { release, ended, machines, versions } = await open({ hosts: small })
  await release('sha256:1', { scale: { ['ams' as RegionCode]: 2 } })
  await ended(1)
  const begun = await release('sha256:2')
  expect(begun.plan.map((r) => r.wave)).toEqual([0, 1])
  await ended(2, 60_000, async () => {
    const there = await machines()
    expect(there.length).toBeLessThanOrEqual(3)
    const serving = there.filter((m) => m.readySince !== null && m.assignment.goal === 'started')
    expect(serving.length).toBeGreaterThanOrEqual(2)
  })
  expect(await versions()).toEqual(['2', '2'])
})

test('what can not be done is refused, and nothing is stored', async () => {
  const { release, store } = await open()
  await expect(release('sha256:1', { regions: ['fra' as RegionCode] })).rejects.toMatchObject({
    code: 'unknown_region',
  })
  await expect(release('unused', {}, { cause: 'secrets', what: null })).rejects.toMatchObject({
    code: 'conflict',
  })
  expect(await store.read((reader) => getRelease(reader, shop, 1))).toBe(null)
})

test('a machine that a person made by hand is left alone', async () => {
  const { release, ended, machines, store, ids, secrets, clock } = await open()
  const mine = ids.machineId()
  await store.transaction((tx) =>
    insertNewMachine(
      tx,
      { ids, secrets, now: clock.now() },
      {
        id: mine,
        app: shop,
        host: host('ams-1', 1),
        config: CONFIG,
        imageDigest: 'sha256:mine',
        launch: true,
        source: 'user',
      },
    ),
  )
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  await ended(2)
  const found = (await machines()).find((m) => m.assignment.id === mine)
  expect(found?.assignment).toMatchObject({ goal: 'started', generation: 1 })
})

test('old machines are not stopped while somebody uses them, but at their deadline', async () => {
  const { release, ended, machines, until, world, clock } = await open()
  await release('sha256:1', { regions: ['ams' as RegionCode], ha: false })
  await ended(1)
  const [old] = (await machines()).map((m) => m.assignment.id as MachineId)
  world.sessions.set(old as MachineId, 1)
  await release('sha256:2')
  const leaves = async () =>
    (await machines()).some((m) => m.assignment.id === old && m.assignment.drain !== null)
  await until(leaves, 30_000)
  const from = clock.now()
  await until(async () => !world.running().includes(old as MachineId), 30_000)
  expect(clock.now() - from).toBeGreaterThan(4_000)
  expect((await ended(2))?.status).toBe('complete')
})

test('a dead edge is not waited for', async () => {
  const { release, ended, world } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  world.deadEdges.add('00000000000003' as HostId)
  await release('sha256:2')
  expect((await ended(2, 30_000))?.status).toBe('complete')
})

test('old machines stay while a living edge has not carried the new ones out', async () => {
  const { release, ended, until, world, events, machines, clock } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  world.stuckEdges.add('00000000000003' as HostId)
  await release('sha256:2')
  const from = clock.now()
  await until(async () => clock.now() - from > 15_000, 20_000)
  expect((await events(2)).map((e) => e.message).join('\n')).toContain('edges are being told')
  expect((await machines()).filter((m) => m.assignment.routed)).toHaveLength(4)
  world.stuckEdges.clear()
  expect((await ended(2))?.status).toBe('complete')
})

describe('a machine that somebody has leased', () => {
  async function leased(ttlMs: number) {
    const opened = await open()
    const { release, ended, machines, store, clock } = opened
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    const [first] = await machines()
    if (first === undefined) throw new Error('no machine')
    const { id } = first.assignment
    const now = clock.now()
    const expiresAt = now + ttlMs
    const lease = { nonce: 'n', owner: 'flyctl', description: '', takenAt: now, expiresAt }
    await store.transaction((tx) => putLease(tx, id, lease))
    const touched = async () => (await machines()).find((m) => m.assignment.id === id)?.assignment
    const deadline = new Date(expiresAt).toISOString().replace(/\.\d+Z$/, 'Z')
    return { ...opened, id, before: first.assignment, touched, deadline }
  }

  test('is waited for until the lease ends by itself, and nothing is done to it before', async () => {
    const { release, ended, events, id, before, touched, deadline, clock } = await leased(30_000)
    const from = clock.now()
    await release('sha256:2')
    const done = await ended(2, 90_000, async () => {
      if (clock.now() < from + 30_000) expect(await touched()).toEqual(before)
    })
    expect(done?.status).toBe('complete')
    expect((await events(2)).map((e) => e.message).join('\n')).toContain(
      `machine ${id} in ${before.region} is waited for: lease currently held by flyctl, expires at ${deadline}`,
    )
  })

  test('is waited for no longer than until the lease is given back', async () => {
    const { release, ended, store, id, clock } = await leased(600_000)
    await release('sha256:2')
    const from = clock.now()
    await ended(2, 60_000, async () => {
      if (clock.now() === from + 20_000) await store.transaction((tx) => deleteLease(tx, id))
    })
    expect(clock.now() - from).toBeLessThan(40_000)
  })

  test('makes the release fail by name when its lease outlasts it, and stays as it was', async () => {
    const { release, ended, versions, before, touched, deadline } = await leased(3_000_000)
    await release('sha256:2', {}, { waitTimeoutMs: 20_000 })
    expect(await ended(2, 120_000)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining(`lease currently held by flyctl, expires at ${deadline}`),
    })
    expect(await touched()).toEqual(before)
    expect(await versions()).toEqual(['1', '1', '1'])
  })
})
