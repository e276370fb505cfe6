import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AppName, HostId, InstanceId, MachineId, RegionCode } from '../id.ts'
import type { MachineConfig } from './config.ts'
import type { Assignment } from './machine.ts'
import { firstAssignment, type MachineCommand, request } from './request.ts'

const NOW = 1_000_000

const config: MachineConfig = {
  image: 'registry.internal/shop:v1',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [],
  checks: {},
  restart: { policy: 'on-failure', max_retries: 10 },
  stop_config: { signal: 'SIGINT', timeout_ms: 10_000 },
  metadata: {},
  auto_destroy: false,
}

function machine(change: Partial<Assignment> & { launch?: boolean } = {}): Assignment {
  const { launch = true, ...rest } = change
  return {
    ...firstAssignment({
      launch,
      id: '00000000000001' as MachineId,
      name: 'quiet-sun-1',
      app: 'shop' as AppName,
      host: 'h1' as HostId,
      region: 'ams' as RegionCode,
      instanceId: '01A' as InstanceId,
      config,
      imageDigest: 'sha256:1',
      privateIpv4: '10.210.4.2',
      privateIpv6: 'fdaa::1',
      cordoned: false,
      sealedSecrets: null,
      primaryRegion: null,
    }),
    ...rest,
  }
}
function after(from: Assignment, ...commands: MachineCommand[]): Assignment {
  return commands.reduce((at, command) => {
    const result = request(at, command, NOW)
    if (result.kind === 'refused') throw new Error(result.refusal.text)
    return result.assignment
  }, from)
}
const update = {
  kind: 'update',
  config,
  imageDigest: 'sha256:2',
  instanceId: '01B' as InstanceId,
} as const

test('a stop leaves rotation first, and a second one does not move the deadline', () => {
  const once = after(machine(), { kind: 'stop' })
  expect(once).toMatchObject({
    goal: 'stopped',
    routed: false,
    drain: { deadline: NOW + 10_000, done: false },
  })
  const result = request(once, { kind: 'stop', timeoutMs: 60_000 }, NOW + 5000)
  expect(result).toMatchObject({
    kind: 'changed',
    assignment: { drain: once.drain, stop: { signal: 'SIGINT', timeoutMs: 60_000 } },
  })
  expect(request(once, { kind: 'stop' }, NOW + 5000).kind).toBe('unchanged')
})

test('a suspension leaves rotation first, and only a start keeps what it had in memory', () => {
  const asleep = after(machine(), { kind: 'suspend' })
  expect(asleep).toMatchObject({
    goal: 'suspended',
    routed: false,
    drain: { deadline: NOW + 10_000, done: false },
  })
  expect(request(asleep, { kind: 'suspend' }, NOW).kind).toBe('unchanged')
  const awake = after(asleep, { kind: 'start' })
  expect(awake).toMatchObject({ goal: 'started', routed: true, drain: null })
  expect(awake.configGeneration).toBe(asleep.configGeneration)
  expect(after(asleep, { kind: 'stop' }).goal).toBe('stopped')
  expect(after(asleep, { ...update, launch: false }).goal).toBe('stopped')
  expect(after(asleep, { kind: 'restart' }).configGeneration).toBeGreaterThan(
    asleep.configGeneration,
  )
  expect(after(asleep, { kind: 'destroy', state: 'suspended' }).goal).toBe('destroyed')
  for (const goal of ['created', 'stopped'] as const)
    expect(request(machine({ goal }), { kind: 'suspend' }, NOW)).toEqual({
      kind: 'refused',
      refusal: {
        kind: 'not-started',
        text: `unable to suspend machine from current state: '${goal}'; start it first`,
      },
    })
})

test('the time to drain is at least 5 s and at most 300 s', () => {
  const deadline = (timeoutMs: number) =>
    (after(machine(), { kind: 'stop', timeoutMs }).drain?.deadline ?? 0) - NOW
  expect([0, 7_000, 9_999_999].map(deadline)).toEqual([5_000, 7_000, 300_000])
})

test('a forced destroy drains nothing and kills', () => {
  expect(after(machine(), { kind: 'destroy', force: true })).toMatchObject({
    goal: 'destroyed',
    drain: null,
    stop: { signal: 'SIGKILL', timeoutMs: 0 },
  })
  const draining = after(machine(), { kind: 'stop' })
  expect(after(draining, { kind: 'destroy', force: true }).drain).toBeNull()
})

test('an update drains what runs, and returns to rotation when the new version runs', () => {
  const from = machine()
  const updated = after(from, update)
  expect(updated).toMatchObject({
    generation: 2,
    configGeneration: 2,
    startGeneration: 2,
    instanceId: '01B',
    routed: false,
    drain: { done: false },
  })
  expect(request(updated, { kind: 'running', configGeneration: 1 }, NOW).kind).toBe('unchanged')
  expect(after(updated, { kind: 'running', configGeneration: 2 })).toMatchObject({
    routed: true,
    drain: null,
  })
})

test('an update without launch stops what runs and starts nothing', () => {
  expect(after(machine(), { ...update, launch: false })).toMatchObject({
    goal: 'stopped',
    configGeneration: 2,
    startGeneration: 1,
  })
  expect(after(machine({ launch: false }), { ...update, launch: false }).goal).toBe('created')
})

test('a cordoned machine stays out of rotation over a stop and a start', () => {
  const cordoned = after(machine(), { kind: 'cordon' }, { kind: 'stop' }, { kind: 'start' })
  expect(cordoned).toMatchObject({ goal: 'started', routed: false, drain: null })
  expect(after(cordoned, { kind: 'uncordon' }).routed).toBe(true)
})

test('what is refused says so in the words of the Machines API', () => {
  const gone = after(machine(), { kind: 'destroy' })
  expect(request(gone, { kind: 'start' }, NOW)).toEqual({
    kind: 'refused',
    refusal: {
      kind: 'destroyed',
      text: "unable to start machine from current state: 'destroying'",
    },
  })
  expect(request(machine(), { kind: 'destroy', state: 'started' }, NOW)).toMatchObject({
    kind: 'refused',
    refusal: { kind: 'not-stopped' },
  })
  expect(request(machine({ launch: false }), { kind: 'stop' }, NOW)).toMatchObject({
    kind: 'refused',
    refusal: { kind: 'never-started' },
  })
})

const commandArbitrary: fc.Arbitrary<MachineCommand> = fc.oneof(
  fc.constantFrom<MachineCommand>(
    { kind: 'start' },
    { kind: 'stop' },
    { kind: 'destroy' },
    { kind: 'destroy', force: true },
    { kind: 'cordon' },
    { kind: 'uncordon' },
    { kind: 'drained' },
    update,
    { ...update, launch: false },
  ),
  fc
    .integer({ min: 1, max: 10 })
    .map((n): MachineCommand => ({ kind: 'running', configGeneration: n })),
)

test('whatever is asked in whatever order, generations only grow and rotation follows the goal', () => {
  fc.assert(
    fc.property(fc.boolean(), fc.array(commandArbitrary, { maxLength: 20 }), (launch, commands) => {
      let at = machine({ launch })
      let now = NOW
      for (const command of commands) {
        now += 1000
        const result = request(at, command, now)
        if (result.kind === 'refused') continue
        const to = result.assignment
        expect(to.generation).toBe(at.generation + (result.kind === 'changed' ? 1 : 0))
        expect(to.configGeneration).toBeLessThanOrEqual(to.generation)
        expect(to.routed && (to.goal !== 'started' || to.cordoned || to.drain !== null)).toBe(false)
        if (at.drain && to.drain) expect(to.drain.deadline).toBe(at.drain.deadline)
        if (at.goal === 'destroyed') expect(to.goal).toBe('destroyed')
        at = to
      }
    }),
    { numRuns: 2000 },
  )
})

test('a host that has heard more is overtaken, and what it runs is replaced unless it is the same', () => {
  const from = machine()
  const { configGeneration, instanceId, generation } = from
  const overtake = (heard: { configGeneration: number; instanceId: string; generation: number }) =>
    after(from, { kind: 'overtake', ...heard, instanceId: heard.instanceId as typeof instanceId })
  expect(overtake({ generation, configGeneration, instanceId })).toEqual(from)

  const same = overtake({ generation: generation + 7, configGeneration, instanceId })
  expect(same).toEqual({ ...from, generation: generation + 8 })

  const other = overtake({
    generation: generation + 7,
    configGeneration: generation + 5,
    instanceId: 'OTHER',
  })
  expect(other).toMatchObject({
    generation: generation + 8,
    configGeneration: generation + 8,
    startGeneration: generation + 8,
    config: from.config,
    instanceId,
    routed: false,
    drain: { done: false },
  })
  expect(after(other, { kind: 'running', configGeneration: generation + 8 }).routed).toBe(true)

  // Much was asked since, but what runs is still of a version that is not known here.
  const later = { ...from, generation: generation + 50 }
  const newer = request(
    later,
    {
      kind: 'overtake',
      generation: generation + 2,
      configGeneration: generation + 2,
      instanceId: 'OTHER' as typeof instanceId,
    },
    NOW,
  )
  expect(newer.kind === 'changed' && newer.assignment.configGeneration).toBe(generation + 51)
})

test('a restart makes what runs an older one: it drains, and the new one ends the drain', () => {
  const restarted = after(machine(), { kind: 'restart', signal: 'SIGTERM' })
  expect(restarted).toMatchObject({
    goal: 'started',
    configGeneration: 2,
    startGeneration: 2,
    instanceId: '01A',
    routed: false,
    drain: { deadline: NOW + 10_000, done: false },
    stop: { signal: 'SIGTERM', timeoutMs: 10_000 },
  })
  expect(after(restarted, { kind: 'running', configGeneration: 1 })).toBe(restarted)
  expect(after(restarted, { kind: 'running', configGeneration: 2 })).toMatchObject({
    routed: true,
    drain: null,
    stop: null,
  })
})

test('a forced restart waits for nobody, and what is stopped only starts', () => {
  expect(after(machine(), { kind: 'restart', force: true })).toMatchObject({
    routed: false,
    drain: { done: true },
    stop: { signal: 'SIGKILL', timeoutMs: 0 },
  })
  const stopped = after(machine(), { kind: 'stop' }, { kind: 'drained' })
  const started = after({ ...stopped, drain: null }, { kind: 'restart', signal: 'SIGTERM' })
  expect(started).toMatchObject({ goal: 'started', routed: true, drain: null, stop: null })
})
