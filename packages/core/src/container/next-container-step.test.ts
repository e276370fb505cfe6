import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Container, ContainerDependency } from './container.ts'
import {
  type ContainerRecord,
  newContainerRecord,
  type ObservedContainer,
} from './container-record.ts'
import {
  type ContainerStep,
  nextContainerStep,
  type RunEnd,
  whatContainersWaitFor,
} from './next-container-step.ts'
import { observeContainers, withFailedStart, withStopAsked } from './observe-containers.ts'
import { stopMs, stopOrder } from './stop-order.ts'

const NOW = 1_000_000_000
const RUN = NOW - 1000

function container(name: string, change: Partial<Container> = {}): Container {
  return {
    name,
    restart: { policy: 'on-failure', max_retries: 2 },
    inheritsRestart: false,
    stop: { signal: 'SIGTERM', timeout_ms: 1000 },
    dependsOn: [],
    essential: false,
    checks: [],
    ...change,
  }
}
const on = (name: string, condition: ContainerDependency['condition'] = 'started') => ({
  dependsOn: [{ name, condition }],
})
const HEALTHY = { healthy: true, failing: null }
const SICK = { healthy: false, failing: null }

function record(name: string, change: Partial<ContainerRecord> = {}): ContainerRecord {
  return { ...newContainerRecord(name, RUN), health: HEALTHY, ...change }
}
const runs = (name: string, change: Partial<ContainerRecord> = {}) =>
  record(name, { state: 'running', startedAt: NOW - 500, ...change })
const ended = (name: string, code: number, change: Partial<ContainerRecord> = {}) =>
  record(name, {
    state: 'exited',
    startedAt: NOW - 500,
    exit: { code, signal: 0, oomKilled: false, cause: null, requested: false, at: NOW - 100 },
    ...change,
  })
const next = (
  containers: readonly Container[],
  records: readonly ContainerRecord[],
  ending: RunEnd | null = null,
) => nextContainerStep(containers, { records, ending, stopMs: stopMs(containers) }, NOW)

test('who depends on nobody starts first, and the others when what they wait for has come', () => {
  const both = [container('app', on('db', 'healthy')), container('db')]
  expect(next(both, [])).toEqual({ kind: 'startContainer', name: 'db' })
  expect(next(both, [record('app'), runs('db', { health: SICK })])).toEqual({ kind: 'settled' })
  expect(whatContainersWaitFor(both, [record('app'), runs('db')])).toBe(null)
  expect(whatContainersWaitFor(both, [record('app'), runs('db', { health: SICK })])).toBe(
    'container app waits for container db to be healthy',
  )
  expect(next(both, [record('app'), runs('db')])).toEqual({ kind: 'startContainer', name: 'app' })
  expect(next(both, [runs('app'), runs('db')])).toEqual({ kind: 'settled' })
})

test('one that must end well before others start is not started again, and its failure ends the machine', () => {
  const policy = { policy: 'always', max_retries: 0 } as const
  const both = [
    container('app', on('migrate', 'exited_successfully')),
    container('migrate', { restart: policy }),
  ]
  expect(next(both, [record('app'), runs('migrate')])).toEqual({ kind: 'settled' })
  expect(next(both, [record('app'), ended('migrate', 0)])).toEqual({
    kind: 'startContainer',
    name: 'app',
  })
  const once = [
    both[0] as Container,
    container('migrate', { restart: { policy: 'no', max_retries: 0 } }),
  ]
  expect(next(once, [record('app'), ended('migrate', 3)])).toMatchObject({
    kind: 'end',
    exit: { code: 3, container: 'migrate' },
  })
})

test('one restarts without the other, after a pause that grows, and only as often as its policy allows', () => {
  const both = [container('app'), container('log')]
  expect(next(both, [ended('app', 1), runs('log')])).toEqual({
    kind: 'startContainer',
    name: 'app',
  })
  expect(next(both, [ended('app', 1, { restarts: 1 }), runs('log')])).toMatchObject({
    kind: 'wait',
    until: NOW - 100 + 1000,
  })
  // Nobody depends on it: the other runs on.
  expect(next(both, [ended('app', 1, { restarts: 2 }), runs('log')])).toEqual({ kind: 'settled' })
  // While one waits, another that can start does.
  expect(next(both, [ended('app', 1, { restarts: 1 }), record('log')])).toEqual({
    kind: 'startContainer',
    name: 'log',
  })
})

test('one that failed for good ends the machine when another depends on it', () => {
  const both = [container('app'), container('proxy', on('app'))]
  expect(next(both, [ended('app', 1, { restarts: 2 }), runs('proxy')])).toMatchObject({
    kind: 'end',
    exit: { code: 1, container: 'app' },
  })
  const same = [container('app', { inheritsRestart: true }), container('proxy', on('app'))]
  expect(next(same, [ended('app', 1, { restarts: 2 }), runs('proxy')])).toMatchObject({
    exit: { spent: true },
  })
})

test('all that ended well end the machine well; one that failed makes it a failure', () => {
  const both = [container('a'), container('b')]
  expect(next(both, [ended('a', 0), ended('b', 0)])).toMatchObject({
    kind: 'end',
    exit: { code: 0 },
  })
  expect(next(both, [ended('a', 4, { restarts: 2 }), ended('b', 0)])).toMatchObject({
    kind: 'end',
    exit: { code: 4, container: 'a' },
  })
})

test('liveness: it is stopped and started again, or the machine is stopped', () => {
  const one = [container('app'), container('other')]
  const failing = { healthy: false, failing: { check: 'live', stopsMachine: false } }
  expect(next(one, [runs('app', { health: failing }), runs('other')])).toEqual({
    kind: 'stopContainer',
    name: 'app',
    signal: 'SIGTERM',
    timeoutMs: 1000,
    because: 'its check "live" failed',
  })
  const stops = { healthy: false, failing: { check: 'live', stopsMachine: true } }
  expect(next(one, [runs('app', { health: stops }), runs('other')])).toMatchObject({
    kind: 'end',
    exit: { code: 1, container: 'app', because: 'its check "live" failed' },
  })
})

test('an end that was begun is brought to its end, whatever it looks like by then', () => {
  const exit = { code: 1, signal: 0, oomKilled: false, cause: null, at: NOW - 5, container: 'app' }
  const step = next([container('app')], [runs('app')], exit)
  expect(step).toEqual({ kind: 'end', exit, timeoutMs: 1000 })
})

test('one of several processes ends the machine, also when it ends well', () => {
  const two = [
    container('process-1', { essential: true }),
    container('process-2', { essential: true }),
  ]
  expect(next(two, [ended('process-1', 0), runs('process-2')])).toMatchObject({
    kind: 'end',
    exit: { code: 0, container: 'process-1' },
  })
})

test('what was stopped for its own good has failed, though it ended with code 0', () => {
  const records = withStopAsked([runs('app')], 'app', 'its check "live" failed')
  const seen: ObservedContainer = {
    ...(records[0] as ContainerRecord),
    state: 'exited',
    exit: { code: 0, signal: 0, oomKilled: false, cause: null, at: NOW },
  }
  const after = observeContainers(records, [seen], RUN, NOW)
  expect(after.records[0]?.exit).toMatchObject({
    requested: false,
    because: 'its check "live" failed',
  })
  expect(next([container('app')], after.records)).toEqual({ kind: 'startContainer', name: 'app' })
})

test('what a stop of the machine ended starts again when the machine is wanted after all', () => {
  const records = withStopAsked([runs('app')], null, null)
  const exit = { code: 0, signal: 0, oomKilled: false, cause: null, at: NOW }
  const seen = { ...(records[0] as ContainerRecord), state: 'exited' as const, exit }
  const after = observeContainers(records, [seen], RUN, NOW)
  expect(next([container('app')], after.records)).toEqual({ kind: 'startContainer', name: 'app' })
})

test('they are stopped before those that they depend on', () => {
  const all = [
    container('db'),
    container('app', on('db')),
    container('proxy', on('app')),
    container('log'),
  ]
  expect(stopOrder(all)).toEqual([['proxy', 'log'], ['app'], ['db']])
  expect(stopMs(all)).toBe(3000)
  expect(stopOrder([container('a', on('b')), container('b', on('a'))])).toEqual([['a', 'b']])
})

// ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────────

const CONDITIONS = ['started', 'healthy', 'exited_successfully'] as const
/** Containers that depend only on those before them, as every configuration without a circle can be written. */
const anyContainers = fc
  .array(
    fc.record({
      policy: fc.constantFrom('no', 'on-failure', 'always' as const),
      on: fc.array(fc.tuple(fc.nat(4), fc.constantFrom(...CONDITIONS)), { maxLength: 2 }),
      essential: fc.boolean(),
      /** How its program behaves: exits with that code (null: serves), so many times, then serves. */
      code: fc.constantFrom(null, 0, 3),
      exits: fc.nat(4),
      failsToStart: fc.nat(2),
      sick: fc.boolean(),
    }),
    { minLength: 1, maxLength: 5 },
  )
  .map((drafts) =>
    drafts.map((draft, n) => ({
      ...draft,
      container: container(`c${n}`, {
        restart: { policy: draft.policy as Container['restart']['policy'], max_retries: 2 },
        essential: draft.essential && n === 0,
        dependsOn: draft.on
          .filter(([m]) => m < n)
          .map(([m, condition]) => ({ name: `c${m}`, condition })),
      }),
    })),
  )

test('it always arrives: everything runs, or waits with a reason, or the machine ends; and nobody starts out of order', () => {
  fc.assert(
    fc.property(anyContainers, (drafts) => {
      const containers = drafts.map((draft) => draft.container)
      let now = NOW
      let records: readonly ContainerRecord[] = []
      const seen = new Map<string, ObservedContainer>(
        containers.map(({ name }) => [
          name,
          { name, state: 'created', startedAt: null, exit: null, health: SICK },
        ]),
      )
      const starts = new Map<string, number>()
      const failures = new Map<string, number>()
      let step: ContainerStep = { kind: 'settled' }
      for (let laps = 0; laps < 200; laps++) {
        records = observeContainers(records, [...seen.values()], RUN, now).records
        step = nextContainerStep(
          containers,
          { records, ending: null, stopMs: stopMs(containers) },
          now,
        )
        if (step.kind === 'settled' || step.kind === 'end') break
        if (step.kind === 'wait') {
          expect(step.until).toBeGreaterThan(now)
          now = step.until
          continue
        }
        now += 10
        if (step.kind === 'stopContainer') throw new Error('nobody fails a liveness check here')
        const { name } = step
        const draft = drafts.find((one) => one.container.name === name)
        if (draft === undefined) throw new Error(name)
        // Order: what it waits for is true in this moment, when it starts for the first time.
        if (seen.get(name)?.state === 'created')
          for (const { name: other, condition } of draft.container.dependsOn) {
            const it = seen.get(other)
            if (condition === 'started') expect(it?.state).not.toBe('created')
            if (condition === 'healthy') expect(it?.health.healthy).toBe(true)
            if (condition === 'exited_successfully') expect(it?.exit?.code).toBe(0)
          }
        const failed = failures.get(name) ?? 0
        if (failed < draft.failsToStart) {
          failures.set(name, failed + 1)
          records = withFailedStart(records, name, { reason: 'no', at: now, final: false })
          continue
        }
        const started = (starts.get(name) ?? 0) + 1
        starts.set(name, started)
        const exits = draft.code !== null && started <= draft.exits
        seen.set(name, {
          name,
          state: exits ? 'exited' : 'running',
          startedAt: now,
          exit: exits
            ? { code: draft.code ?? 0, signal: 0, oomKilled: false, cause: null, at: now + 1 }
            : null,
          health: { healthy: !exits && !draft.sick, failing: null },
        })
        now += 5
      }
      expect(['settled', 'end']).toContain(step.kind)
      if (step.kind !== 'settled') return
      // Who does not run has either ended for good, or waits for something that may still come.
      const waiting = containers.filter(({ name }) => seen.get(name)?.state === 'created')
      if (waiting.length > 0) expect(whatContainersWaitFor(containers, records)).not.toBeNull()
      expect([...seen.values()].some(({ state }) => state === 'running')).toBe(true)
    }),
    { numRuns: 2000 },
  )
})
