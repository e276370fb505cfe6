import { silentLogger } from '@roost/base'
import type { AppName, Host, HostId, MachineConfig, MachineId, RegionCode } from '@roost/core'
import { expect, test } from 'vitest'
import { createIds } from '../ids.ts'
import { commandMachine } from '../machine/command.ts'
import { listEvents } from '../machine/events.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { networkNumber, putApp } from '../store/apps.ts'
import { putHost } from '../store/hosts.ts'
import { getMachine } from '../store/machines.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import { createPresence } from '../watch/presence.ts'
import { markHosts } from './host-status.ts'
import { createSteppedClock } from './simulated-hosts.ts'
import { LOST_MS, startStandbys } from './standby-lap.ts'

const START = 1_700_000_000_000
const WORKER = '3d8d0000000001' as MachineId
const STANDBY = '3d8d0000000002' as MachineId
const AMS = '00000000000001' as HostId
const IAD = '00000000000002' as HostId

/** A machine on one host, and one on another that stands by for it. */
async function open() {
  const clock = createSteppedClock(START)
  const store = openSqlite({ file: ':memory:' })
  const presence = createPresence(START)
  const deps = { store, clock, presence, log: silentLogger }
  const hostOf = (id: HostId, number: number): Host => ({
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
    edgeSeenAt: null,
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
    const needs = { ids: createIds(), now: START, secrets: { sealForHost: async () => null } }
    const common = { app, imageDigest: 'sha256:1', source: 'user' as const }
    for (const [id, number, machine] of [
      [AMS, 1, { id: WORKER, config, launch: true }],
      [IAD, 2, { id: STANDBY, config: { ...config, standbys: [WORKER] }, launch: false }],
    ] as const) {
      await putHost(tx, hostOf(id, number))
      await insertNewMachine(tx, needs, { ...common, ...machine, host: hostOf(id, number) })
    }
  })
  /** So long, with these hosts heard each second. */
  const pass = async (ms: number, heard: readonly HostId[]) => {
    for (let left = ms; left > 0; left -= 1000) {
      await clock.advance(1000)
      for (const host of heard) presence.agentHeard(host, clock.now(), 0)
      await markHosts(deps)
      await startStandbys(deps)
    }
  }
  const read = async (id: MachineId) => {
    const machine = await store.read((reader) => getMachine(reader, id))
    if (machine === null) throw new Error('no machine')
    return machine
  }
  const stop = (id: MachineId) =>
    store.transaction(async (tx) => {
      const machine = await getMachine(tx, id)
      if (machine !== null)
        await commandMachine(tx, machine, { kind: 'stop' }, { now: clock.now(), source: 'user' })
    })
  const goal = async () => (await read(STANDBY)).assignment.goal
  return { pass, goal, stop, events: () => store.read((reader) => listEvents(reader, [STANDBY])) }
}

test('a standby starts when the host of the machine that it stands by for is lost, and says why', async () => {
  const { pass, goal, events } = await open()
  await pass(60_000, [AMS, IAD])
  expect(await goal()).toBe('created')
  // As long as an agent may be away.
  await pass(LOST_MS, [IAD])
  expect(await goal()).toBe('created')
  await pass(2_000, [IAD])
  expect(await goal()).toBe('started')
  expect((await events()).get(STANDBY)?.[0]?.message).toBe(
    `it stands by for ${WORKER}, whose host host-1 has not been heard for 30 s`,
  )
  // It is not started a second time, nor stopped when the host is back.
  const before = (await events()).get(STANDBY)?.length
  await pass(60_000, [AMS, IAD])
  expect(await goal()).toBe('started')
  expect((await events()).get(STANDBY)?.length).toBe(before)
})

test('nothing stands in for what was stopped, and none starts on a host that is lost itself', async () => {
  const stopped = await open()
  await stopped.pass(2_000, [AMS, IAD])
  await stopped.stop(WORKER)
  await stopped.pass(120_000, [IAD])
  expect(await stopped.goal()).toBe('created')
  const both = await open()
  await both.pass(120_000, [])
  expect(await both.goal()).toBe('created')
})
