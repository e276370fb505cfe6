import { silentLogger, systemClock } from '@roost/base'
import {
  type AppName,
  type Assignment,
  type CheckStatus,
  firstAssignment,
  type HostId,
  type InstanceId,
  isReady,
  type MachineCommand,
  type MachineId,
  type MachineStatus,
  type RegionCode,
  request,
} from '@roost/core'
import { afterEach, expect, test, vi } from 'vitest'
import type { Checks, CheckTarget } from '../checks.ts'
import { createFakeHost, createFakeRuntime, type FakeHost } from '../fake-runtime.ts'
import { conformanceConfig } from '../runtime.conformance.ts'
import { createMachineKeeper, type MachineKeeper } from './keep-machines.ts'
import { openRecordStore, type RecordStore } from './record-store.ts'

const HOST = { id: 'h1' as HostId, publicAddress: '198.18.1.1' }
const service = {
  protocol: 'tcp',
  internal_port: 8080,
  ports: [],
  checks: [],
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  autostop: 'off',
  autostart: true,
  min_machines_running: 0,
} as const

function machine(n: number, change: Partial<Assignment> = {}): Assignment {
  const id = String(n).padStart(14, '0') as MachineId
  return {
    ...firstAssignment({
      launch: true,
      id,
      name: `m${n}`,
      app: 'shop' as AppName,
      host: HOST.id,
      region: 'ams' as RegionCode,
      instanceId: 'A' as InstanceId,
      config: conformanceConfig({ image: `registry.internal/${id}:1` }),
      imageDigest: 'sha256:1',
      privateIpv4: '10.210.4.2',
      privateIpv6: 'fdaa::2',
      cordoned: false,
      sealedSecrets: null,
      primaryRegion: null,
    }),
    ...change,
  }
}
function after(from: Assignment, ...commands: MachineCommand[]): Assignment {
  return commands.reduce((at, command) => {
    const result = request(at, command, Date.now())
    if (result.kind === 'refused') throw new Error(result.refusal.text)
    return result.assignment
  }, from)
}
const update = (from: Assignment, instanceId: string) =>
  after(
    from,
    {
      kind: 'update',
      config: from.config,
      imageDigest: 'sha256:2',
      instanceId: instanceId as InstanceId,
    },
    { kind: 'drained' },
  )

const open = new Set<MachineKeeper>()
afterEach(async () => {
  for (const keeper of open) await keeper.stop()
  open.clear()
})

function keep(
  change: { host?: FakeHost; store?: RecordStore; checks?: Checks; atOnce?: number } = {},
) {
  const fake = change.host ?? createFakeHost()
  const told: MachineStatus[] = []
  const store = change.store ?? openRecordStore({ file: ':memory:', log: silentLogger })
  const keeper = createMachineKeeper({
    runtime: createFakeRuntime(fake, systemClock),
    checks: change.checks ?? { start: () => () => {} },
    clock: systemClock,
    log: silentLogger,
    store,
    host: HOST,
    unseal: async (sealed) => ({ SECRET: `opened ${sealed}` }),
    onStatus: (status) => told.push(status),
    ...(change.atOnce === undefined ? {} : { atOnce: change.atOnce }),
  })
  open.add(keeper)
  const reaches = (id: MachineId, state: MachineStatus['state']) =>
    vi.waitFor(() => expect(keeper.statuses().find((s) => s.id === id)?.state).toBe(state), {
      timeout: 5000,
      interval: 5,
    })
  return { keeper, fake, told, store, reaches }
}

test('what is wanted runs, with its environment and secrets, and its statuses grow in sequence', async () => {
  const { keeper, fake, told, reaches } = keep()
  const wanted = machine(1, { sealedSecrets: 'box' })
  keeper.setAssignments([wanted])
  await reaches(wanted.id, 'started')
  expect(fake.machines.get(wanted.id)?.environment).toMatchObject({
    FLY_REGION: 'ams',
    FLY_PUBLIC_IP: '198.18.1.1',
    SECRET: 'opened box',
  })
  expect(told.map((s) => s.state)).toEqual(['starting', 'started'])
  const sequences = told.map((s) => s.sequence)
  expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b))
})

test('a new version takes the place of the old one, never beside it', async () => {
  const { keeper, fake, told, reaches } = keep()
  const first = machine(1)
  keeper.setAssignments([first])
  await reaches(first.id, 'started')
  keeper.setAssignments([update(first, 'B')])
  await vi.waitFor(() => expect(fake.machines.get(first.id)?.spec.stamp).toBe('2/B'))
  await reaches(first.id, 'started')
  expect(fake.starts.map((s) => s.stamp)).toEqual(['1/A', '2/B'])
  expect(told.at(-1)).toMatchObject({ instanceId: 'B', configGeneration: 2 })
})

test('a restart stops and starts once, also over the death of the agent, and says what happened', async () => {
  const first = keep()
  const wanted = machine(1)
  first.keeper.setAssignments([wanted])
  await first.reaches(wanted.id, 'started')
  const restarted = after(wanted, { kind: 'restart' }, { kind: 'drained' })
  first.keeper.setAssignments([restarted])
  await vi.waitFor(
    () => {
      const status = first.keeper.statuses()[0]
      expect(status).toMatchObject({
        state: 'started',
        configGeneration: restarted.configGeneration,
      })
    },
    { timeout: 5000, interval: 5 },
  )
  await first.keeper.stop()
  const second = keep({ host: first.fake, store: first.store })
  second.keeper.setAssignments([restarted])
  await second.reaches(wanted.id, 'started')
  expect(first.fake.starts).toHaveLength(2)
  expect(second.keeper.statuses()[0]?.history?.last).toMatchObject([
    { kind: 'started', restart: 0 },
    { kind: 'exited', exit: { requested: true }, restarting: false },
    { kind: 'started', restart: 0 },
  ])
})

test('an agent that has not heard the server destroys nothing; then it removes what nobody knows', async () => {
  const fake = createFakeHost()
  const before = keep({ host: fake })
  before.keeper.setAssignments([machine(1)])
  await before.reaches(machine(1).id, 'started')
  await before.keeper.stop()

  const { keeper } = keep({ host: fake })
  keeper.wake()
  await systemClock.sleep(30)
  expect(fake.machines.size).toBe(1)
  keeper.setAssignments([])
  await vi.waitFor(() => expect(fake.machines.size).toBe(0))
})

test('after a restart it adopts what runs, and starts what is missing', async () => {
  const { keeper, fake, store, reaches } = keep()
  keeper.setAssignments([machine(1), machine(2)])
  await reaches(machine(1).id, 'started')
  await reaches(machine(2).id, 'started')
  await keeper.stop()
  fake.machines.delete(machine(2).id)
  const next = keep({ host: fake, store })
  next.keeper.setAssignments([machine(1), machine(2)])
  await next.reaches(machine(1).id, 'started')
  await next.reaches(machine(2).id, 'started')
  expect(fake.starts.filter((s) => s.id === machine(1).id)).toHaveLength(1)
  expect(fake.starts.filter((s) => s.id === machine(2).id)).toHaveLength(2)
})

test('an older generation is refused, also by the next agent, until the server has heard of the newer one', async () => {
  const { keeper, fake, store, reaches } = keep()
  const first = machine(1)
  const stopped = after(first, { kind: 'stop' }, { kind: 'drained' })
  keeper.setAssignments([stopped])
  await reaches(first.id, 'stopped')
  keeper.setAssignments([first])
  await systemClock.sleep(30)
  await keeper.stop()
  const next = keep({ host: fake, store })
  next.keeper.setAssignments([first])
  await vi.waitFor(() => expect(next.keeper.statuses()[0]?.generation).toBe(stopped.generation))
  await systemClock.sleep(30)
  expect(fake.starts).toEqual([])

  const { generation, configGeneration, instanceId } = next.keeper.statuses()[0] ?? stopped
  next.keeper.setAssignments([
    after(first, { kind: 'overtake', generation, configGeneration, instanceId }),
  ])
  await next.reaches(first.id, 'started')
})

test('it counts on from what the server has heard, though it remembers less', async () => {
  const { keeper, told, reaches } = keep()
  const first = machine(1)
  keeper.setAssignments([first])
  await reaches(first.id, 'started')
  const last = told.at(-1)
  keeper.goBeyond(first.id, (last?.sequence ?? 0) + 1_000_000_000)
  expect(told.at(-1)).toMatchObject({ state: 'started' })
  expect(told.at(-1)?.sequence).toBeGreaterThan((last?.sequence ?? 0) + 1_000_000_000)
  const many = told.length
  keeper.goBeyond(first.id, last?.sequence ?? 0)
  expect(told.length).toBe(many)
})

test('a forced destroy does not wait for a gentle stop', async () => {
  const { keeper, fake, told, reaches } = keep()
  const first = machine(1)
  fake.misbehaviours.set(first.id, { ignoresStop: true })
  keeper.setAssignments([first])
  await reaches(first.id, 'started')
  const stopping = after(first, { kind: 'stop', timeoutMs: 300_000 }, { kind: 'drained' })
  keeper.setAssignments([stopping])
  await reaches(first.id, 'stopping')
  keeper.setAssignments([after(stopping, { kind: 'destroy', force: true })])
  await reaches(first.id, 'destroyed')
  expect(fake.machines.size).toBe(0)
  keeper.setAssignments([])
  await vi.waitFor(() => expect(keeper.statuses()).toEqual([]))
  expect(told.at(-1)?.state).toBe('destroyed')
})

test('no more machines at once than its bound', async () => {
  const fake = createFakeHost()
  const runtime = createFakeRuntime(fake, systemClock)
  let now = 0
  let most = 0
  const { keeper, reaches } = (() => {
    const counting = {
      ...runtime,
      start: async (...args: Parameters<typeof runtime.start>) => {
        most = Math.max(most, ++now)
        await runtime.start(...args)
        now--
      },
    }
    const made = createMachineKeeper({
      runtime: counting,
      checks: { start: () => () => {} },
      clock: systemClock,
      log: silentLogger,
      store: openRecordStore({ file: ':memory:', log: silentLogger }),
      host: HOST,
      unseal: async () => ({}),
      onStatus: () => {},
      atOnce: 3,
    })
    open.add(made)
    return {
      keeper: made,
      reaches: () =>
        vi.waitFor(() =>
          expect(made.statuses().filter((s) => s.state === 'started')).toHaveLength(12),
        ),
    }
  })()
  keeper.setAssignments(Array.from({ length: 12 }, (_, n) => machine(n + 1)))
  await reaches()
  expect(most).toBeGreaterThan(1)
  expect(most).toBeLessThanOrEqual(3)
})

test('a machine is ready when its checks pass, and stays so over a restart of the agent', async () => {
  const targets: CheckTarget[] = []
  let hear: (statuses: readonly CheckStatus[]) => void = () => {}
  const checks: Checks = {
    start: (target, heard) => {
      targets.push(target)
      hear = heard
      return () => {}
    },
  }
  const { keeper, fake, store, reaches } = keep({ checks })
  const wanted = machine(1, { config: conformanceConfig({ services: [service] }) })
  keeper.setAssignments([wanted])
  await reaches(wanted.id, 'started')
  const ready = (of: MachineKeeper) => of.statuses().map(isReady)
  expect(ready(keeper)).toEqual([false])
  expect(targets[0]).toMatchObject({
    address: '10.210.4.2',
    specs: [{ name: 'servicecheck-00-tcp-8080', port: 8080 }],
  })
  hear([
    {
      name: 'servicecheck-00-tcp-8080',
      status: 'passing',
      output: 'connected',
      updatedAt: Date.now(),
    },
  ])
  expect(ready(keeper)).toEqual([true])
  await keeper.stop()
  const next = keep({ host: fake, store, checks })
  next.keeper.setAssignments([wanted])
  await next.reaches(wanted.id, 'started')
  expect(ready(next.keeper)).toEqual([true])
  expect(targets[1]?.known[0]?.status).toBe('passing')
})

test('a start that can not work is said with its reason, and a newer version gets its chance', async () => {
  const { keeper, fake, reaches } = keep()
  const first = machine(1)
  fake.misbehaviours.set(first.id, { startFails: 'once', startImpossible: true })
  keeper.setAssignments([first])
  await reaches(first.id, 'failed')
  expect(keeper.statuses()[0]?.reason).toContain('told to fail')
  keeper.setAssignments([update(first, 'B')])
  await reaches(first.id, 'started')
})

test('an agent that is told to stop brings what it has begun to its end, and begins nothing', async () => {
  const { keeper, fake, store } = keep()
  const [begun, waits] = [machine(1), machine(2)]
  fake.misbehaviours.set(begun.id, { startBlocksMs: 400 })
  keeper.setAssignments([begun])
  await vi.waitFor(() => expect(store.load()[0]?.record.doing).toBe('start'), {
    timeout: 5000,
    interval: 2,
  })
  const stopped = keeper.stop()
  keeper.setAssignments([begun, waits])
  await stopped
  expect(fake.machines.get(begun.id)?.state).toBe('running')
  expect(fake.machines.has(waits.id)).toBe(false)
})

test('it does not wait for a program that takes its time to stop', async () => {
  const { keeper, fake, reaches } = keep()
  const first = machine(1)
  keeper.setAssignments([first])
  await reaches(first.id, 'started')
  fake.misbehaviours.set(first.id, { ignoresStop: true })
  keeper.setAssignments([after(first, { kind: 'stop', timeoutMs: 60_000 }, { kind: 'drained' })])
  await reaches(first.id, 'stopping')
  const began = Date.now()
  await keeper.stop()
  expect(Date.now() - began).toBeLessThan(1500)
  expect(fake.machines.get(first.id)?.state).toBe('running')
})
