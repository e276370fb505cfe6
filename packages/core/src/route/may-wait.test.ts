import { expect, test } from 'vitest'
import type { MachineId } from '../id.ts'
import { HELD_MAX, HELD_MAX_APP, type Hope, mayWait } from './may-wait.ts'

const hope = (kind: Hope['kind'], sinceMs = 0): Hope => ({
  machine: 'm' as MachineId,
  kind,
  sinceMs,
})
const ask = (hopes: readonly Hope[], waitedMs = 0, held = { app: 0, edge: 0 }) => {
  const answer = mayWait({ hopes, waitedMs, held })
  return answer.kind === 'wait' ? answer.msLeft : answer.why
}

test('a request waits for what is on its way, longest for what is replaced on purpose', () => {
  expect(ask([])).toBe('nothing-comes')
  expect(ask([hope('starting')])).toBe(15_000)
  expect(ask([hope('down'), hope('replaced')], 20_000)).toBe(40_000)
  expect(ask([hope('starting')], 15_000)).toBe('too-long')
  expect(ask([hope('replaced')], 60_000)).toBe('too-long')
})

test('what does not come is not waited for', () => {
  expect(ask([hope('down', 60_000)])).toBe('nothing-comes')
  expect(ask([hope('replaced', 300_000), hope('starting', 59_999)])).toBe(15_000)
})

test('not more wait at once than there is room for', () => {
  expect(ask([hope('down')], 0, { app: HELD_MAX_APP, edge: HELD_MAX_APP })).toBe('too-many')
  expect(ask([hope('down')], 0, { app: 0, edge: HELD_MAX })).toBe('too-many')
  expect(ask([hope('down')], 0, { app: HELD_MAX_APP - 1, edge: HELD_MAX - 1 })).toBe(15_000)
})

test('a refusal says why and when to come again', () => {
  expect(
    mayWait({ hopes: [hope('starting')], waitedMs: 15_000, held: { app: 1, edge: 1 } }),
  ).toEqual({
    kind: 'refuse',
    why: 'too-long',
    retryAfterSeconds: 5,
    text: 'A machine of this app is on its way, but was not ready within 15 seconds.',
  })
})
