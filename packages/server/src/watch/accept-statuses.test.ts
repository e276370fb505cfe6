import type { RecordValues } from '@roost/api'
import {
  type AppName,
  type Happening,
  type HostId,
  type MachineId,
  type MachineStatus,
  NO_HISTORY,
  withHappening,
} from '@roost/core'
import { beforeEach, expect, test } from 'vitest'
import { type ControlPlane, createControlPlane, type Deps, memoryDeps } from '../control-plane.ts'
import { trialHost } from '../http/trial-host.ts'
import { createSteppedClock, type SteppedClock } from '../laps/simulated-hosts.ts'
import { commandMachine } from '../machine/command.ts'
import { listEvents } from '../machine/events.ts'
import { getMachine, type StoredMachine } from '../store/machines.ts'

let clock: SteppedClock
let deps: Deps
let control: ControlPlane
let host: HostId
let id: MachineId

beforeEach(async () => {
  clock = createSteppedClock(1_000_000)
  deps = memoryDeps({ clock })
  control = createControlPlane(deps)
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: '' },
  })
  const joined = await control.addHost(trialHost())
  host = joined.id
  await control.call('createApp', { body: { name: 'shop' } })
  id = await create()
})

async function create(config: object = {}): Promise<MachineId> {
  const machine = await control.call('createMachine', {
    params: { app: 'shop' },
    body: { config: { image: 'registry.internal/shop', ...config } },
  })
  return (machine as { id: MachineId }).id
}

async function stored(): Promise<StoredMachine> {
  const machine = await deps.store.read((reader) => getMachine(reader, id))
  if (machine === null) throw new Error('the machine is gone')
  return machine
}

async function view(): Promise<RecordValues['machine'] | null> {
  const row = await deps.store.read(({ db }) =>
    db
      .selectFrom('records')
      .select('value')
      .where('kind', '=', 'machine')
      .where('id', '=', id)
      .executeTakeFirst(),
  )
  return row?.value == null ? null : JSON.parse(row.value)
}

const events = async () =>
  (await deps.store.read((reader) => listEvents(reader, [id]))).get(id) ?? []
const eventTypes = async () => (await events()).map((event) => event.type)

async function status(change: Partial<MachineStatus>): Promise<MachineStatus> {
  const { assignment } = await stored()
  return {
    id,
    host,
    state: 'started',
    generation: assignment.generation,
    configGeneration: assignment.configGeneration,
    instanceId: assignment.instanceId,
    sequence: 1,
    startedAt: clock.now(),
    updatedAt: clock.now(),
    exit: null,
    reason: null,
    restartCount: 0,
    checks: [],
    ...change,
  }
}
const report = async (change: Partial<MachineStatus>) =>
  control.report(host, [await status(change)])

test('what is older than what was heard, or was heard already, changes nothing', async () => {
  await report({ sequence: 5 })
  const before = await stored()
  await report({ sequence: 5, state: 'failed' })
  await report({ sequence: 4, state: 'stopped' })
  expect(await stored()).toEqual(before)
  expect(await eventTypes()).toEqual(['start', 'launch'])
})

test('another host can not speak for it, and nobody for what does not exist', async () => {
  const other = await control.addHost(trialHost('ams-2'))
  await control.report(other.id, [await status({})])
  expect((await stored()).status).toBeNull()
  await control.report(host, [{ ...(await status({})), id: '00000000000000' as MachineId }])
})

test('edges hear in the same transaction, and since when it is ready is kept', async () => {
  const check = (passing: boolean) => ({
    name: 'servicecheck-00-tcp-80',
    status: passing ? ('passing' as const) : ('critical' as const),
    output: '',
    updatedAt: 0,
  })
  const startedAt = clock.now()
  await report({ sequence: 1, checks: [check(false)] })
  expect(await stored()).toMatchObject({ startedSince: 1_000_000, readySince: null })
  expect((await view())?.status?.state).toBe('started')
  await clock.advance(10)
  await report({ sequence: 2, startedAt, checks: [check(true)] })
  const ready = await stored()
  expect(ready).toMatchObject({ startedSince: 1_000_000, readySince: 1_000_010 })
  await clock.advance(10)
  await report({ sequence: 3, startedAt, checks: [{ ...check(true), output: 'again' }] })
  expect(await stored()).toMatchObject({
    readySince: 1_000_010,
    readyRevision: ready.readyRevision,
  })
  // It ended and started anew between two reports.
  await clock.advance(10)
  await report({ sequence: 4, checks: [check(true)] })
  expect((await stored()).readySince).toBe(1_000_030)
  await report({ sequence: 5, state: 'stopped' })
  expect(await stored()).toMatchObject({ readySince: null, startedSince: null })
})

test('what was seen of the old version says nothing of the new one', async () => {
  await report({ sequence: 1 })
  const old = await status({ sequence: 2 })
  await control.call('updateMachine', {
    params: { app: 'shop', id },
    body: { config: { image: 'registry.internal/shop:v2' } },
  })
  expect((await stored()).readySince).toBeNull()
  await control.report(host, [old])
  expect(await stored()).toMatchObject({ readySince: null, startedSince: null })
  expect((await stored()).assignment).toMatchObject({ routed: false, drain: { done: false } })
  await report({ sequence: 3 })
  expect((await stored()).assignment).toMatchObject({ routed: true, drain: null })
  expect((await view())?.routed).toBe(true)
})

test('exits and restarts are told, newest first, and only the last 50 are kept', async () => {
  const exit = (at: number) => ({
    code: 1,
    signal: 0,
    oomKilled: true,
    requested: false,
    cause: null,
    at,
  })
  await report({ sequence: 1 })
  await report({ sequence: 2, exit: exit(5), restartCount: 1, startedAt: 6 })
  expect(await eventTypes()).toEqual(['start', 'exit', 'start', 'launch'])
  for (let n = 0; n < 60; n++)
    await report({ sequence: 10 + n, exit: exit(10 + n), restartCount: 2 + n, startedAt: 10 + n })
  const events = (await deps.store.read((reader) => listEvents(reader, [id]))).get(id) ?? []
  expect(events).toHaveLength(50)
  expect(events[1]).toMatchObject({
    type: 'exit',
    request: { exit_event: { exit_code: 1, oom_killed: true, restarting: true } },
  })
  await report({ sequence: 100, state: 'failed', reason: 'no such image' })
  expect((await eventTypes())[0]).toBe('failed')
})

test('what happened while the server was away is told in full, once, and what was dropped is said', async () => {
  const run = (n: number): Happening[] => [
    { kind: 'started', at: 10 * n, restart: n },
    {
      kind: 'exited',
      at: 10 * n + 5,
      exit: {
        code: n,
        signal: 0,
        oomKilled: n === 2,
        requested: false,
        cause: null,
        at: 10 * n + 5,
      },
      restarting: n < 3,
      restarts: n,
    },
  ]
  const historyOf = (runs: number) =>
    Array.from({ length: runs }, (_, n) => run(n))
      .flat()
      .reduce((history, one) => withHappening(history, one, 7), NO_HISTORY)
  const last = { state: 'stopped' as const }
  await report({ ...last, sequence: 1, history: historyOf(3) })
  await report({ ...last, sequence: 2, history: historyOf(3), reason: 'the same again' })
  expect(await eventTypes()).toEqual([...Array(3).fill(['exit', 'start']).flat(), 'launch'])
  const [newest, second] = await events()
  expect(newest).toMatchObject({
    message: 'killed: out of memory',
    request: { exit_event: { exit_code: 2, oom_killed: true, restarting: true } },
  })
  expect(second).toMatchObject({ request: { restart_count: 2 }, message: 'restart 2 in a row' })

  await report({ ...last, sequence: 3, history: historyOf(3 + 20) })
  const all = await events()
  const lost = all.find(({ type }) => type === 'lost')
  expect(lost?.message).toMatch(/^16 starts and exits before this were not told/)
  expect(all.filter(({ type }) => type === 'exit')).toHaveLength(3 + 12)
  // Edges have no use for it.
  expect(await view()).not.toHaveProperty('status.history')
})

test('a machine that was to be destroyed stays readable, and nobody needs to hear of it', async () => {
  await report({ sequence: 1 })
  await deps.store.transaction(async (tx) =>
    commandMachine(
      tx,
      await stored0(tx),
      { kind: 'destroy', force: true },
      { now: clock.now(), source: 'user' },
    ),
  )
  await report({ sequence: 2, state: 'destroyed' })
  expect((await stored()).destroyedAt).toBe(clock.now())
  expect(await view()).toBeNull()
  const before = await stored()
  await report({ sequence: 3, state: 'started' })
  expect(await stored()).toEqual(before)
})
const stored0 = async (reader: Parameters<typeof getMachine>[0]) => {
  const machine = await getMachine(reader, id)
  if (machine === null) throw new Error('the machine is gone')
  return machine
}

test('a machine that destroys itself at its end is gone, another one is not', async () => {
  await report({ sequence: 1, state: 'destroyed' })
  expect((await stored()).destroyedAt).toBeNull()
  id = await create({ auto_destroy: true })
  await report({ sequence: 1, state: 'destroyed' })
  expect(await stored()).toMatchObject({
    destroyedAt: clock.now(),
    assignment: { goal: 'destroyed', app: 'shop' as AppName },
  })
})

test('a host that counts from below is told how far it had come', async () => {
  const first = await status({ sequence: 50 })
  expect(await control.report(host, [first])).toEqual({})
  expect(await control.report(host, [{ ...first, sequence: 7 }])).toEqual({ [id]: 50 })
})

test('a host that has heard more than this server knows is overtaken', async () => {
  const { assignment } = await stored()
  await control.report(host, [await status({ sequence: 1, generation: assignment.generation + 4 })])
  expect((await stored()).assignment).toMatchObject({
    generation: assignment.generation + 5,
    configGeneration: assignment.configGeneration,
  })
})
