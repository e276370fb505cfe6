import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AppName, HostId, InstanceId, MachineId, RegionCode } from '../id.ts'
import type { MachineConfig } from './config.ts'
import type { Assignment, Goal, MachineExit } from './machine.ts'
import { attemptKey, isOutdated, nextStep } from './next-step.ts'
import { observe, RESTART_WINDOW_MS } from './observe.ts'
import { type MachineRecord, newRecord, type Observed, type Stamp, type Step } from './record.ts'
import { statusOf } from './status-of.ts'

const NOW = 1_000_000_000
const ID = '00000000000001' as MachineId
const HOST = 'h1' as HostId

const config: MachineConfig = {
  image: 'registry.internal/shop:v1',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [],
  checks: {},
  restart: { policy: 'on-failure', max_retries: 3 },
  stop_config: { signal: 'SIGINT', timeout_ms: 5_000 },
  metadata: {},
  auto_destroy: false,
}
const instance = (n: number) => `I${n}` as InstanceId

function wanted(change: Partial<Assignment> = {}): Assignment {
  const configGeneration = change.configGeneration ?? 2
  return {
    id: ID,
    name: 'quiet-sun-1',
    app: 'shop' as AppName,
    host: HOST,
    region: 'ams' as RegionCode,
    goal: 'started',
    generation: 3,
    configGeneration,
    startGeneration: 2,
    instanceId: instance(configGeneration),
    config,
    imageDigest: `sha256:${configGeneration}`,
    privateIpv4: '10.210.4.2',
    privateIpv6: 'fdaa::1',
    cordoned: false,
    routed: true,
    drain: null,
    stop: null,
    sealedSecrets: null,
    primaryRegion: null,
    ...change,
  }
}
const stamp = (n: number): Stamp => ({ configGeneration: n, instanceId: instance(n) })
const record = (change: Partial<MachineRecord> = {}): MachineRecord => ({
  ...newRecord(ID),
  ...change,
})
const running = (n: number): Observed => ({ state: 'running', ...stamp(n), startedAt: NOW - 1000 })
const exit = (change: Partial<MachineExit> = {}): MachineExit => ({
  code: 7,
  signal: 0,
  oomKilled: false,
  cause: null,
  requested: false,
  at: NOW - 100,
  ...change,
})
/** It ended by itself. */
const crashed = (change: Partial<MachineRecord> = {}) =>
  record({
    observed: { state: 'exited', ...stamp(2), startedAt: NOW - 500, exit: exit() },
    startedFor: 2,
    ended: true,
    exit: exit(),
    ...change,
  })
const restart = (policy: MachineConfig['restart']['policy'], max_retries = 3) =>
  wanted({ config: { ...config, restart: { policy, max_retries } } })
const said = (a: Assignment | null, r: MachineRecord) =>
  statusOf(r, a, { host: HOST, now: NOW, checks: [] })

test('from nothing to started: pull, create, start', () => {
  expect(nextStep(wanted(), record(), NOW)).toMatchObject({ kind: 'pull', digest: 'sha256:2' })
  expect(nextStep(wanted(), record({ pulledDigest: 'sha256:2' }), NOW)).toEqual({
    kind: 'create',
    stamp: stamp(2),
  })
  const created = record({ observed: { state: 'created', ...stamp(2) } })
  expect(nextStep(wanted(), created, NOW)).toEqual({ kind: 'start', startGeneration: 2 })
  expect(nextStep(wanted(), record({ observed: running(2) }), NOW)).toEqual({ kind: 'settled' })
})

test('an older version is stopped and removed before the new one is created', () => {
  expect(nextStep(wanted(), record({ observed: running(1) }), NOW).kind).toBe('stop')
  const old = record({ observed: { state: 'created', ...stamp(1) }, pulledDigest: 'sha256:2' })
  expect(nextStep(wanted(), old, NOW)).toEqual({ kind: 'remove' })
})

test('the time to drain is counted by the clock of the host that drains, from when it heard of it', () => {
  // The server's clock is an hour ahead, or behind.
  for (const deadline of [NOW + 3_605_000, NOW - 3_595_000]) {
    const draining = wanted({
      goal: 'stopped',
      routed: false,
      drain: { deadline, ms: 5000, done: false },
    })
    const heard = observe(record({ observed: running(2) }), {
      kind: 'seen',
      sequence: 1000,
      at: NOW,
      observed: running(2),
      assignment: draining,
    })
    expect(nextStep(draining, heard, NOW)).toMatchObject({ kind: 'wait', until: NOW + 5000 })
    const again = observe(heard, {
      kind: 'seen',
      sequence: 2000,
      at: NOW + 4000,
      observed: running(2),
      assignment: draining,
    })
    expect(nextStep(draining, again, NOW + 4999)).toMatchObject({ kind: 'wait' })
    expect(nextStep(draining, again, NOW + 5000)).toMatchObject({ kind: 'stop' })
  }
})

test('a draining machine is stopped when the edges are done, or at the deadline', () => {
  const leaving = (done: boolean) =>
    wanted({ goal: 'stopped', routed: false, drain: { deadline: NOW + 5000, done } })
  const r = record({ observed: running(2) })
  expect(nextStep(leaving(false), r, NOW)).toMatchObject({ kind: 'wait', until: NOW + 5000 })
  expect(said(leaving(false), r).state).toBe('started')
  expect(nextStep(leaving(true), r, NOW).kind).toBe('stop')
  expect(nextStep(leaving(false), r, NOW + 5000).kind).toBe('stop')
})

test('a clock that was set makes nobody wait for ever', () => {
  const far = wanted({ goal: 'stopped', drain: { deadline: NOW + 1e9, done: false } })
  expect(nextStep(far, record({ observed: running(2) }), NOW).kind).toBe('stop')
  const future = crashed({ restarts: 2, exit: exit({ at: NOW + 1e9 }) })
  expect(nextStep(wanted(), future, NOW).kind).toBe('start')
})

test('restart policies decide what happens after an exit', () => {
  const clean = crashed({ exit: exit({ code: 0 }) })
  expect(nextStep(restart('no'), crashed(), NOW)).toEqual({ kind: 'settled' })
  expect(said(restart('no'), crashed())).toMatchObject({
    state: 'stopped',
    reason: 'exited with code 7; its restart policy is "no"',
  })
  expect(nextStep(restart('on-failure'), clean, NOW)).toEqual({ kind: 'settled' })
  expect(nextStep(restart('always'), clean, NOW).kind).toBe('start')
  expect(nextStep(restart('on-failure'), crashed(), NOW).kind).toBe('start')
  expect(nextStep(restart('on-failure'), crashed({ restarts: 2 }), NOW)).toMatchObject({
    kind: 'wait',
    until: NOW - 100 + 2000,
  })
  expect(nextStep(restart('on-failure'), crashed({ restarts: 3 }), NOW)).toEqual({
    kind: 'settled',
  })
  expect(said(restart('on-failure'), crashed({ restarts: 3 }))).toMatchObject({
    state: 'stopped',
    reason: 'exited with code 7; it was restarted 3 times, and its restart policy allows 3',
  })
})

test('what Roost or its host ended starts again and counts for no limit, unless it is to run once', () => {
  const cause = 'its log copier died'
  const ended = crashed({ exit: exit({ code: 0, cause }), restarts: 3, blameless: 1 })
  expect(nextStep(restart('on-failure'), ended, NOW + 60_000).kind).toBe('start')
  expect(nextStep(restart('on-failure', 0), ended, NOW + 60_000).kind).toBe('start')
  expect(nextStep(restart('on-failure', 2), { ...ended, exit: exit() }, NOW)).toEqual({
    kind: 'settled',
  })
  expect(nextStep(restart('always'), ended, NOW + 60_000).kind).toBe('start')
  expect(said(restart('no'), ended)).toMatchObject({
    state: 'stopped',
    reason: 'ended: its log copier died; its restart policy is "no"',
  })
})

test('a new request starts what had ended by itself', () => {
  expect(nextStep({ ...restart('no'), startGeneration: 3 }, crashed(), NOW).kind).toBe('start')
})

test('a stop that was asked for is no crash', () => {
  const stopped = crashed({ exit: exit({ requested: true }) })
  expect(nextStep(restart('no'), stopped, NOW).kind).toBe('start')
})

test('auto_destroy removes what ended by itself', () => {
  const once = wanted({
    config: { ...config, auto_destroy: true, restart: { policy: 'no', max_retries: 0 } },
  })
  expect(nextStep(once, crashed(), NOW)).toEqual({ kind: 'remove' })
  expect(said(once, crashed({ observed: { state: 'absent' } })).state).toBe('destroyed')
})

test('what nobody knows is stopped and removed', () => {
  expect(nextStep(null, record({ observed: running(1) }), NOW).kind).toBe('stop')
  expect(nextStep(null, crashed(), NOW)).toEqual({ kind: 'remove' })
  expect(nextStep(null, record(), NOW)).toEqual({ kind: 'settled' })
})

test('a deed that failed is tried again after a pause, unless it can never work', () => {
  const failure = {
    deed: 'pull',
    key: 2,
    count: 3,
    reason: 'no route',
    at: NOW,
    final: false,
  } as const
  expect(nextStep(wanted(), record({ failure }), NOW)).toEqual({
    kind: 'wait',
    until: NOW + 4000,
    why: 'no route',
  })
  expect(said(wanted(), record({ failure }))).toMatchObject({
    state: 'starting',
    reason: 'no route',
  })
  const never = record({ failure: { ...failure, final: true } })
  expect(nextStep(wanted(), never, NOW)).toEqual({ kind: 'settled' })
  expect(said(wanted(), never)).toMatchObject({ state: 'failed', configGeneration: 2 })
  expect(nextStep(wanted({ startGeneration: 4 }), never, NOW).kind).toBe('pull')
})

test('what must end is tried for ever, whatever the error says', () => {
  const failure = {
    deed: 'remove',
    key: 2,
    count: 9,
    reason: 'busy',
    at: NOW,
    final: true,
  } as const
  const r = crashed({ failure })
  const gone = wanted({ goal: 'destroyed' })
  expect(nextStep(gone, r, NOW)).toMatchObject({ kind: 'wait' })
  expect(nextStep(gone, r, NOW + 60_000)).toEqual({ kind: 'remove' })
})

test('passing states are said while a deed is under way', () => {
  const stopping = record({ observed: running(2), doing: 'stop' })
  expect(said(wanted({ goal: 'stopped' }), stopping).state).toBe('stopping')
  expect(said(wanted({ goal: 'destroyed' }), stopping).state).toBe('destroying')
  expect(said(wanted(), record()).state).toBe('starting')
  expect(said(wanted({ goal: 'created' }), record()).state).toBe('created')
  expect(said(wanted({ goal: 'destroyed' }), record()).state).toBe('destroyed')
})

const frozen = (n: number): Observed => ({ ...running(n), state: 'suspended' }) as Observed

test('a suspended machine has left rotation first, and a start resumes it', () => {
  const leaving = (done: boolean) =>
    wanted({ goal: 'suspended', routed: false, drain: { deadline: NOW + 5000, done } })
  const runs = record({ observed: running(2) })
  expect(nextStep(leaving(false), runs, NOW)).toMatchObject({ kind: 'wait', until: NOW + 5000 })
  expect(nextStep(leaving(true), runs, NOW)).toEqual({ kind: 'suspend' })
  expect(nextStep(leaving(false), runs, NOW + 5000)).toEqual({ kind: 'suspend' })
  expect(said(leaving(true), { ...runs, doing: 'suspend' }).state).toBe('suspending')

  const sleeps = record({ observed: frozen(2) })
  expect(nextStep(leaving(true), sleeps, NOW)).toEqual({ kind: 'settled' })
  expect(said(leaving(true), sleeps)).toMatchObject({ state: 'suspended', reason: null })
  expect(nextStep(wanted({ startGeneration: 3 }), sleeps, NOW)).toEqual({ kind: 'resume' })
  expect(said(wanted({ startGeneration: 3 }), sleeps).state).toBe('starting')
})

test('what is suspended is stopped for anything but a resume, and drains no second time', () => {
  const drain = { deadline: NOW + 5000, done: false }
  const sleeps = record({ observed: frozen(2) })
  expect(nextStep(wanted({ goal: 'stopped', drain }), sleeps, NOW).kind).toBe('stop')
  expect(nextStep(wanted({ goal: 'destroyed', drain }), sleeps, NOW).kind).toBe('stop')
  expect(nextStep(null, sleeps, NOW).kind).toBe('stop')
  // Another version is wanted.
  expect(nextStep(wanted(), record({ observed: frozen(1) }), NOW).kind).toBe('stop')
  const old = record({ observed: running(1), startedAt: NOW })
  expect(nextStep(wanted({ goal: 'suspended' }), old, NOW).kind).toBe('stop')
  const stopping = record({ observed: frozen(2), doing: 'stop' })
  expect(said(wanted({ goal: 'stopped' }), stopping).state).toBe('stopping')
})

test('what can not be suspended because it does not run is stopped, and is started by nobody’s policy', () => {
  const always = { ...restart('always'), goal: 'suspended' } as const
  expect(nextStep(always, crashed(), NOW + 60_000)).toEqual({ kind: 'settled' })
  expect(said(always, crashed())).toMatchObject({
    state: 'stopped',
    reason: 'exited with code 7: nothing is left to resume, and its next start is a new one',
  })
})

test('who suspends and resumes is told so, once each, and a host that went down meanwhile too', () => {
  let at = record()
  const see = (observed: Observed, seenAt: number) => {
    at = observe(at, {
      kind: 'seen',
      sequence: at.sequence + 1,
      at: seenAt,
      observed,
      assignment: wanted({ goal: 'suspended' }),
    })
  }
  const told = () => at.history.last.map(({ kind }) => kind)
  for (const n of [1, 2]) see(running(2), NOW + n)
  for (const n of [3, 4]) see(frozen(2), NOW + n)
  for (const n of [5, 6]) see(running(2), NOW + n)
  see(frozen(2), NOW + 7)
  expect(told()).toEqual(['started', 'suspended', 'resumed', 'suspended'])
  const lost = { code: 137, signal: 9, oomKilled: false, at: NOW + 8 }
  const cause = 'its host was restarted or lost power'
  for (const n of [9, 10])
    see({ ...stamp(2), state: 'exited', startedAt: NOW - 1000, exit: { ...lost, cause } }, NOW + n)
  expect(told().at(-1)).toBe('exited')
  expect(at.exit?.cause).toBe(`${cause} while it was suspended, and its memory was lost`)
  expect(at.history.count).toBe(5)
})

const stampArbitrary = fc.integer({ min: -1, max: 3 }).map(stamp)
const exitArbitrary = fc.record({
  code: fc.constantFrom(0, 1, 137),
  signal: fc.constantFrom(0, 9),
  oomKilled: fc.boolean(),
  cause: fc.constantFrom(null, 'its log copier died'),
  at: fc.integer({ min: NOW - 400_000, max: NOW + 400_000 }),
})
const observedArbitrary: fc.Arbitrary<Observed> = fc.oneof(
  fc.constant<Observed>({ state: 'absent' }),
  stampArbitrary.map((s): Observed => ({ state: 'created', ...s })),
  stampArbitrary.map((s): Observed => ({ state: 'running', ...s, startedAt: NOW - 1000 })),
  stampArbitrary.map((s): Observed => ({ state: 'suspended', ...s, startedAt: NOW - 1000 })),
  fc
    .tuple(stampArbitrary, fc.option(exitArbitrary))
    .map(([s, e]): Observed => ({ state: 'exited', ...s, startedAt: NOW - 1000, exit: e })),
  stampArbitrary.map((s): Observed => ({ state: 'broken', ...s })),
)
const generation = fc.integer({ min: 1, max: 3 })
const recordArbitrary: fc.Arbitrary<MachineRecord> = fc
  .record({
    observed: observedArbitrary,
    pulledDigest: fc.option(fc.constantFrom('sha256:1', 'sha256:2', 'sha256:3')),
    startedFor: fc.option(generation),
    startingFor: fc.option(generation),
    stopAsked: fc.boolean(),
    ended: fc.boolean(),
    exit: fc.option(
      fc.tuple(exitArbitrary, fc.boolean()).map(([e, requested]) => ({ ...e, requested })),
    ),
    restarts: fc.integer({ min: 0, max: 5 }),
    blameless: fc.integer({ min: 0, max: 2 }),
    failure: fc.option(
      fc.record({
        deed: fc.constantFrom('pull', 'create', 'start', 'suspend', 'resume', 'stop', 'remove'),
        key: generation,
        count: fc.integer({ min: 1, max: 40 }),
        reason: fc.constant('because'),
        at: fc.integer({ min: NOW - 100_000, max: NOW + 400_000 }),
        final: fc.boolean(),
      }),
    ),
  })
  .map((change) => record(change))
const assignmentArbitrary: fc.Arbitrary<Assignment> = fc
  .record({
    goal: fc.constantFrom<Goal>('created', 'started', 'suspended', 'stopped', 'destroyed'),
    configGeneration: generation,
    startGeneration: generation,
    drain: fc.option(
      fc.record({
        deadline: fc.integer({ min: NOW - 400_000, max: NOW + 400_000 }),
        done: fc.boolean(),
      }),
    ),
    config: fc
      .tuple(
        fc.constantFrom<MachineConfig['restart']['policy']>('no', 'always', 'on-failure'),
        fc.boolean(),
      )
      .map(([policy, auto_destroy]) => ({
        ...config,
        restart: { policy, max_retries: 3 },
        auto_destroy,
      })),
  })
  .map((change) => wanted(change))

/** A host that does what it is told, in ten lines; what it starts keeps running. */
function honestly(observed: Observed, step: Step, now: number): Observed {
  switch (step.kind) {
    case 'create':
      return observed.state === 'absent' ? { state: 'created', ...step.stamp } : observed
    case 'start':
      if (observed.state === 'absent' || observed.state === 'broken') throw new Error('no start')
      return { ...stampIn(observed), state: 'running', startedAt: now }
    case 'suspend':
      return observed.state === 'running' ? { ...observed, state: 'suspended' } : observed
    case 'resume':
      return observed.state === 'suspended' ? { ...observed, state: 'running' } : observed
    case 'stop': {
      if (observed.state !== 'running' && observed.state !== 'suspended') return observed
      const ended = { code: 0, signal: 2, oomKilled: false, cause: null, at: now }
      return { ...stampIn(observed), state: 'exited', startedAt: observed.startedAt, exit: ended }
    }
    case 'remove':
      return { state: 'absent' }
    default:
      return observed
  }
}
const stampOf = ({ configGeneration, instanceId }: Assignment): Stamp => ({
  configGeneration,
  instanceId,
})
function stampIn(observed: Exclude<Observed, { state: 'absent' }>): Stamp {
  return { configGeneration: observed.configGeneration, instanceId: observed.instanceId }
}

const STEPS_MAX = 12

test('it always arrives, from anywhere, in a bounded number of steps', () => {
  fc.assert(
    fc.property(fc.option(assignmentArbitrary), recordArbitrary, (assignment, start) => {
      let now = NOW
      let world = start.observed
      let at = start
      const see = () => {
        at = observe(at, {
          sequence: at.sequence + 1,
          at: now,
          kind: 'seen',
          observed: world,
          assignment,
        })
      }
      see()
      // What is older than what there is is not acted on: the server is told, and asks anew.
      if (assignment !== null && isOutdated(assignment, at)) {
        expect(nextStep(assignment, at, now)).toEqual({ kind: 'settled' })
        return
      }
      for (let n = 0; n < STEPS_MAX; n++) {
        const step = nextStep(assignment, at, now)
        if (step.kind === 'settled') {
          arrived(assignment, at)
          return
        }
        if (step.kind === 'wait') {
          expect(step.until).toBeGreaterThan(now)
          expect(step.until - now).toBeLessThanOrEqual(300_000)
          now = step.until
        } else {
          const startGeneration = step.kind === 'start' ? step.startGeneration : null
          const sequence = at.sequence + 1
          at = observe(at, { sequence, at: now, kind: 'began', deed: step.kind, startGeneration })
          now += 10
          world = honestly(world, step, now)
          const digest = step.kind === 'pull' ? { digest: step.digest } : {}
          at = observe(at, {
            sequence: sequence + 1,
            at: now,
            kind: 'done',
            deed: step.kind,
            ...digest,
          })
        }
        see()
      }
      throw new Error(`not settled after ${STEPS_MAX} steps: ${JSON.stringify(at)}`)
    }),
    { numRuns: 2000 },
  )
})

function arrived(assignment: Assignment | null, at: MachineRecord): void {
  const { observed } = at
  const goal = assignment?.goal ?? 'destroyed'
  if (goal === 'destroyed') {
    expect(observed.state).toBe('absent')
    return
  }
  if (goal === 'stopped') {
    expect(['running', 'suspended']).not.toContain(observed.state)
    return
  }
  if (at.failure?.final && at.failure.key === attemptKey(assignment)) return
  if (goal === 'suspended' && observed.state !== 'suspended') {
    expect(observed.state).not.toBe('running')
    return
  }
  if (goal === 'started' && observed.state !== 'running') {
    expect(at.exit).toMatchObject({ requested: false })
    expect(at.startedFor).toBe(assignment?.startGeneration)
    return
  }
  expect(observed.state !== 'absent' && observed.instanceId).toBe(assignment?.instanceId)
}

test('it never starts a version other than the one asked for, whatever its host does', () => {
  const event = fc.oneof(
    { weight: 4, arbitrary: fc.constant({ kind: 'lap' } as const) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('world' as const), observed: observedArbitrary }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('asked' as const),
        assignment: assignmentArbitrary,
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('failed' as const), final: fc.boolean() }),
    },
  )
  fc.assert(
    fc.property(
      recordArbitrary,
      assignmentArbitrary,
      fc.array(event, { maxLength: 30 }),
      (r, a, events) => {
        let at = r
        let assignment = a
        let world = r.observed
        let now = NOW
        for (const e of events) {
          now += 1000
          if (e.kind === 'world') world = e.observed
          if (e.kind === 'asked') assignment = e.assignment
          at = observe(at, {
            sequence: at.sequence + 1,
            at: now,
            kind: 'seen',
            observed: world,
            assignment,
          })
          const step = nextStep(assignment, at, now)
          if (step.kind === 'start') {
            if (world.state === 'absent') throw new Error('starts nothing')
            expect(world.configGeneration).toBe(assignment.configGeneration)
            expect(world.instanceId).toBe(assignment.instanceId)
            expect(assignment.goal).toBe('started')
          }
          if (step.kind === 'resume' || step.kind === 'suspend') {
            expect(world).toMatchObject(stampOf(assignment))
            expect(assignment.goal).toBe(step.kind === 'resume' ? 'started' : 'suspended')
          }
          if (step.kind === 'create') {
            expect(world).toEqual({ state: 'absent' })
            expect(step.stamp.instanceId).toBe(assignment.instanceId)
          }
          if (step.kind === 'wait' || step.kind === 'settled') continue
          const sequence = at.sequence + 1
          if (e.kind === 'failed') {
            const key = attemptKey(assignment)
            at = observe(at, {
              sequence,
              at: now,
              kind: 'failed',
              deed: step.kind,
              key,
              reason: 'x',
              final: e.final,
            })
          } else {
            world = honestly(world, step, now)
            const digest = step.kind === 'pull' ? { digest: step.digest } : {}
            at = observe(at, { sequence, at: now, kind: 'done', deed: step.kind, ...digest })
          }
        }
      },
    ),
    { numRuns: 2000 },
  )
})

/** A host whose program runs for `runMs` each time and whose agent dies at some of its steps; the server is gone. */
function runAlone(options: {
  readonly assignment: Assignment
  readonly runMs: number
  readonly lastsMs: number
  readonly exitOf: (run: number) => { readonly code: number; readonly cause: string | null }
  readonly diesAt: (step: number) => boolean
}): { readonly starts: readonly number[]; readonly record: MachineRecord; readonly now: number } {
  const { assignment, runMs, lastsMs, exitOf, diesAt } = options
  let now = NOW
  let world: Observed = { state: 'created', ...stamp(2) }
  let at = record({ pulledDigest: 'sha256:2' })
  const starts: number[] = []
  const tell = (
    observation: DistributiveOmit<Parameters<typeof observe>[1], 'sequence' | 'at'>,
  ) => {
    at = observe(at, { ...observation, sequence: at.sequence + 1, at: now })
  }
  for (let step = 0; now < NOW + lastsMs && step < 10_000; step++) {
    if (world.state === 'running' && now >= world.startedAt + runMs) {
      const how = { signal: 0, oomKilled: false, ...exitOf(starts.length) }
      const { startedAt }: { readonly startedAt: number } = world
      world = { ...stamp(2), state: 'exited', startedAt, exit: { ...how, at: startedAt + runMs } }
    }
    tell({ kind: 'seen', observed: world, assignment })
    const next = nextStep(assignment, at, now)
    if (next.kind === 'start') {
      const { startGeneration, slot } = next
      tell({
        kind: 'began',
        deed: 'start',
        startGeneration,
        ...(slot === undefined ? {} : { slot }),
      })
      world = { ...stamp(2), state: 'running', startedAt: now }
      starts.push(now)
      // An agent that dies here has started it and did not write that down.
      if (diesAt(step)) at = { ...at, doing: null }
      else tell({ kind: 'done', deed: 'start' })
    } else if (next.kind === 'wait') now = next.until
    else if (world.state === 'running') now = world.startedAt + runMs
    else break
  }
  return { starts, record: at, now }
}
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never

const deaths = fc.func(fc.boolean())

test('a host alone keeps to the number of retries, whenever its agent dies', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 12 }),
      fc.integer({ min: 1, max: 20_000 }),
      fc.array(fc.constantFrom(null, 'its log copier died'), { minLength: 5, maxLength: 30 }),
      deaths,
      (retries, runMs, causes, diesAt) => {
        const { starts, record: end } = runAlone({
          assignment: restart('on-failure', retries),
          runMs,
          lastsMs: 10 * 3_600_000,
          exitOf: (run) => ({ code: 1, cause: causes[run - 1] ?? null }),
          diesAt,
        })
        const counted = (n: number) =>
          starts.slice(0, n).filter((_, run) => (causes[run] ?? null) === null).length
        // The exits that count are one more than the retries, and the last is one of them.
        expect(counted(starts.length)).toBe(retries + 1)
        expect(counted(starts.length - 1)).toBe(retries)
        expect(said(restart('on-failure', retries), end)).toMatchObject({ state: 'stopped' })
      },
    ),
  )
})

test('a crash loop costs a bounded number of starts, for ever', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5_000 }), deaths, (runMs, diesAt) => {
      const { starts } = runAlone({
        assignment: restart('always'),
        runMs,
        lastsMs: 3_600_000,
        exitOf: () => ({ code: 0, cause: null }),
        diesAt,
      })
      // 1 s, 2 s, 4 s, … then one a minute.
      expect(starts.length).toBeLessThanOrEqual(8 + 60)
      expect(starts.length).toBeGreaterThan(50)
      starts.slice(8).forEach((at, n) => {
        expect(at - (starts[n + 7] ?? 0)).toBeGreaterThanOrEqual(60_000)
      })
    }),
    { numRuns: 50 },
  )
})

const hourly = (policy: MachineConfig['restart']['policy'], max_retries = 3) => ({
  ...wanted({
    config: { ...config, restart: { policy, max_retries }, schedule: 'hourly' },
  }),
  createdAt: NOW - 1000,
})

test('a schedule runs once in each of its periods, whenever the agent dies and nobody else is there', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3_000_000 }), deaths, (runMs, diesAt) => {
      const { starts } = runAlone({
        assignment: hourly('on-failure'),
        runMs,
        lastsMs: 48 * 3_600_000,
        exitOf: () => ({ code: 0, cause: null }),
        diesAt,
      })
      // Once when it was made, then each hour after its creation.
      expect(starts[0]).toBe(NOW)
      expect(starts.slice(1, 48)).toEqual(
        Array.from({ length: 47 }, (_, n) => NOW - 1000 + (n + 1) * 3_600_000),
      )
    }),
    { numRuns: 100 },
  )
})

test('each run of a schedule has all its retries', () => {
  const { starts } = runAlone({
    assignment: hourly('on-failure', 2),
    runMs: 1000,
    lastsMs: 10 * 3_600_000 - 60_000,
    exitOf: () => ({ code: 1, cause: null }),
    diesAt: () => false,
  })
  expect(starts).toHaveLength(3 * 10)
})

test('between its runs a scheduled machine is stopped and says when it runs next; who stops it stops its schedule', () => {
  const over = crashed({ exit: exit({ code: 0 }) })
  expect(said(hourly('on-failure'), over)).toMatchObject({
    state: 'stopped',
    reason: `exited with code 0; runs hourly, next at ${new Date(NOW - 1000 + 3_600_000).toISOString()}`,
  })
  const stopped = { ...hourly('on-failure'), goal: 'stopped' } as const
  expect(nextStep(stopped, over, NOW + 1e9)).toEqual({ kind: 'settled' })
})

test('who runs for long in between is never given up', () => {
  const { starts } = runAlone({
    assignment: restart('on-failure', 2),
    runMs: RESTART_WINDOW_MS,
    lastsMs: 24 * 3_600_000,
    exitOf: () => ({ code: 1, cause: null }),
    diesAt: () => false,
  })
  expect(starts.length).toBe(288)
})

test('what is to run once runs once, whenever the agent dies', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5_000 }), fc.boolean(), deaths, (runMs, byUs, diesAt) => {
      const { starts } = runAlone({
        assignment: restart('no'),
        runMs,
        lastsMs: 3_600_000,
        exitOf: () => ({ code: 1, cause: byUs ? 'its log copier died' : null }),
        diesAt,
      })
      expect(starts).toHaveLength(1)
    }),
  )
})
