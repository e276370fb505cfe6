import { silentLogger } from '@roost/base'
import type {
  AppName,
  Assignment,
  Host,
  HostId,
  MachineConfig,
  MachineId,
  RegionCode,
} from '@roost/core'
import { afterEach, expect, test } from 'vitest'
import { createIds } from '../ids.ts'
import { commandMachine } from '../machine/command.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { networkNumber, putApp } from '../store/apps.ts'
import { putHost } from '../store/hosts.ts'
import { getMachine } from '../store/machines.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import { createPresence } from '../watch/presence.ts'
import { startDrainLap } from './drain-lap.ts'
import { createSteppedClock } from './simulated-hosts.ts'

const START = 1_700_000_000_000
const ID = '3d8d0000000001' as MachineId
const AMS = '00000000000001' as HostId
const IAD = '00000000000002' as HostId

let stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.reverse()) await stop()
  stops = []
})

/** One machine that was told to stop, two hosts that have had an edge. */
async function open(edges: readonly HostId[] = [AMS, IAD]) {
  const clock = createSteppedClock(START)
  const store = openSqlite({ file: ':memory:' })
  const presence = createPresence(START)
  const host = (id: HostId, number: number): Host => ({
    id,
    name: `host-${number}`,
    region: 'ams' as RegionCode,
    number,
    publicAddress: '198.51.100.1',
    wireguard: { endpoint: '198.51.100.1:51820', publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 4, memoryMb: 4096 },
    builder: false,
    availability: 'active',
    agentSeenAt: START,
    edgeSeenAt: edges.includes(id) ? START : null,
    status: 'ok',
  })
  const config: MachineConfig = {
    image: 'registry.internal/shop',
    env: {},
    init: {},
    guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
    services: [],
    checks: {},
    restart: { policy: 'no', max_retries: 0 },
    stop_config: { signal: 'SIGINT', timeout_ms: 5_000 },
    metadata: {},
    auto_destroy: false,
  }
  const app = 'shop' as AppName
  await store.transaction(async (tx) => {
    const { number } = await networkNumber(tx, 'personal', 'default')
    const rest = { organization: 'personal', network: number, createdAt: START }
    await putApp(tx, { name: app, ...rest, primaryRegion: null, release: 0 })
    await putHost(tx, host(AMS, 1))
    await putHost(tx, host(IAD, 2))
    const secrets = { sealForHost: async () => null }
    await insertNewMachine(
      tx,
      { ids: createIds(), now: START, secrets },
      {
        id: ID,
        app,
        host: host(AMS, 1),
        config,
        imageDigest: 'sha256:1',
        launch: true,
        source: 'user',
      },
    )
  })
  const loop = startDrainLap({ store, clock, presence, log: silentLogger })
  stops.push(async () => {
    const ended = loop.stop()
    await clock.advance(0)
    await ended
    await store.close()
  })
  const stop = async () => {
    await store.transaction(async (tx) => {
      const machine = await getMachine(tx, ID)
      if (machine === null) throw new Error('no machine')
      await commandMachine(tx, machine, { kind: 'stop' }, { now: clock.now(), source: 'user' })
    })
    const row = await store.read((reader) =>
      reader.db
        .selectFrom('records')
        .select('revision')
        .where('kind', '=', 'machine')
        .where('id', '=', ID)
        .executeTakeFirstOrThrow(),
    )
    return row.revision
  }
  const drain = async (): Promise<Assignment['drain']> => {
    await clock.advance(0)
    return (await store.read((reader) => getMachine(reader, ID)))?.assignment.drain ?? null
  }
  const beat = (edge: HostId, applied: number, sessions = 0) =>
    presence.edgeHeard(edge, {
      seenAt: clock.now(),
      applied,
      draining: sessions > 0 ? [{ machine: ID, sessions }] : [],
    })
  const watch = (edge: HostId) => presence.expectEdge(edge, clock.now())
  return { clock, stop, drain, beat, watch }
}

test('a machine may be stopped when every edge has taken it out and nobody uses it', async () => {
  const { stop, drain, beat } = await open()
  beat(AMS, 0)
  beat(IAD, 0)
  const revision = await stop()
  expect(await drain()).toMatchObject({ done: false })
  beat(AMS, revision)
  expect(await drain()).toMatchObject({ done: false })
  beat(IAD, revision, 2)
  expect(await drain()).toMatchObject({ done: false })
  beat(IAD, revision)
  expect(await drain()).toMatchObject({ done: true })
})

test('an edge that died is not waited for', async () => {
  const { stop, drain, beat, clock } = await open()
  beat(AMS, 0)
  beat(IAD, 0)
  const revision = await stop()
  await clock.advance(9_000)
  beat(AMS, revision)
  expect(await drain()).toMatchObject({ done: false })
  await clock.advance(2_000)
  expect(await drain()).toMatchObject({ done: true })
})

test('without any edge nothing is waited for', async () => {
  const { stop, drain } = await open([])
  await stop()
  expect(await drain()).toMatchObject({ done: true })
})

test('a server that has just started waits for edges that it has not heard yet', async () => {
  const { stop, drain, beat, clock } = await open()
  const revision = await stop()
  beat(AMS, revision)
  expect(await drain()).toMatchObject({ done: false })
  await clock.advance(11_000)
  beat(AMS, revision)
  expect(await drain()).toMatchObject({ done: true })
})

test('an edge that hears records, and has said nothing yet, may be sending requests by them', async () => {
  const { stop, drain, beat, watch, clock } = await open()
  beat(AMS, 0)
  beat(IAD, 0)
  await clock.advance(60_000)
  beat(AMS, 0)
  watch(IAD)
  const revision = await stop()
  beat(AMS, revision)
  expect(await drain()).toMatchObject({ done: false })
  beat(IAD, revision, 1)
  expect(await drain()).toMatchObject({ done: false })
  beat(IAD, revision)
  expect(await drain()).toMatchObject({ done: true })
})
