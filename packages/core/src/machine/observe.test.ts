import { expect, test } from 'vitest'
import type { InstanceId, MachineId } from '../id.ts'
import { observe, RESTART_WINDOW_MS } from './observe.ts'
import { formatStamp, type MachineRecord, newRecord, type Observed, parseStamp } from './record.ts'

const stamp = { configGeneration: 2, instanceId: 'I2' as InstanceId }
const AT = 1_000_000

function record(change: Partial<MachineRecord> = {}): MachineRecord {
  return { ...newRecord('00000000000001' as MachineId), sequence: 5, ...change }
}
function see(from: MachineRecord, observed: Observed, at = AT): MachineRecord {
  return observe(from, {
    kind: 'seen',
    sequence: from.sequence + 1,
    at,
    observed,
    assignment: null,
  })
}
function exited(at: number, code = 1, startedAt = at - 10): Observed {
  return {
    state: 'exited',
    ...stamp,
    startedAt,
    exit: { code, signal: 0, oomKilled: false, cause: null, at },
  }
}
function start(from: MachineRecord, startGeneration = 2): MachineRecord {
  const began = observe(from, {
    kind: 'began',
    sequence: from.sequence + 1,
    at: AT,
    deed: 'start',
    startGeneration,
  })
  return observe(began, { kind: 'done', sequence: began.sequence + 1, at: AT, deed: 'start' })
}

test('a look that began before the last deed ended is refused', () => {
  const from = record()
  const stale = { kind: 'seen', at: AT, observed: { state: 'absent' }, assignment: null } as const
  expect(observe(from, { ...stale, sequence: 5 })).toBe(from)
  expect(observe(from, { ...stale, sequence: 6 })).not.toBe(from)
})

test('an exit is counted once however often it is seen', () => {
  const once = see(start(record()), exited(AT + 10))
  expect(once).toMatchObject({ ended: true, restarts: 0, exit: { code: 1, requested: false } })
  const again = start(see(once, exited(AT + 10)))
  expect(again).toMatchObject({ ended: false, restarts: 1 })
})

test('an exit after a stop was asked for is marked so', () => {
  const stopping = observe(start(record()), {
    kind: 'began',
    sequence: 100,
    at: AT,
    deed: 'stop',
    startGeneration: null,
  })
  expect(see(stopping, exited(AT + 20)).exit?.requested).toBe(true)
})

test('a start that nobody saw succeed counts when its exit is seen', () => {
  const began = observe(record(), {
    kind: 'began',
    sequence: 6,
    at: AT,
    deed: 'start',
    startGeneration: 4,
  })
  expect(see(began, exited(AT + 30))).toMatchObject({
    startedFor: 4,
    startingFor: null,
    ended: true,
  })
})

test('restarts before a long run no longer count', () => {
  const ran = see(record({ restarts: 3 }), exited(AT, 1, AT - RESTART_WINDOW_MS))
  expect(ran.restarts).toBe(0)
})

test('failures in a row are counted, and a later success ends the row', () => {
  const fail = (from: MachineRecord) =>
    observe(from, {
      kind: 'failed',
      sequence: from.sequence + 1,
      at: AT,
      deed: 'create',
      key: 2,
      reason: 'no space',
      final: false,
    })
  const twice = fail(fail(record()))
  expect(twice.failure).toMatchObject({ deed: 'create', count: 2 })
  const done = (deed: 'pull' | 'start') =>
    observe(twice, { kind: 'done', sequence: twice.sequence + 1, at: AT, deed })
  expect(done('pull').failure).toMatchObject({ count: 2 })
  expect(done('start').failure).toBeNull()
})

test('stamps survive their text form; foreign text is a version that nobody asks for', () => {
  expect(parseStamp(formatStamp(stamp))).toEqual(stamp)
  expect(parseStamp('what?').configGeneration).toBe(-1)
})

test('what happened is written down once: each start, each end, and whether it starts again', () => {
  const running = (startedAt: number): Observed => ({ state: 'running', ...stamp, startedAt })
  const first = see(see(start(record()), running(AT)), running(AT))
  const ended = see(see(first, exited(AT + 10, 1, AT)), exited(AT + 10, 1, AT))
  // The second run was over before anybody saw it.
  const twice = see(start(ended), exited(AT + 30, 137, AT + 20))
  expect(twice.history.count).toBe(4)
  expect(twice.history.last).toMatchObject([
    { kind: 'started', at: AT, restart: 0 },
    { kind: 'exited', at: AT + 10, exit: { code: 1 }, restarting: false, restarts: 0 },
    { kind: 'started', at: AT + 20, restart: 1 },
    { kind: 'exited', at: AT + 30, exit: { code: 137 }, restarts: 1 },
  ])
})
