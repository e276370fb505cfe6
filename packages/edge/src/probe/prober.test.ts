import { silentLogger } from '@roost/base'
import type { Host, HostId } from '@roost/core'
import { afterEach, expect, test } from 'vitest'
import { createTickingClock, settled } from '../trial-clock.ts'
import { type EdgeAsker, type Prober, startProber } from './prober.ts'

const host = (id: string) => ({ id: id as HostId, name: id }) as Host
const [a, b] = [host('a'), host('b')]
const probers: Prober[] = []
afterEach(async () => {
  for (const prober of probers.splice(0)) await prober.stop()
})

/** Each `tick` is a second: one round of questions. */
function setUp() {
  const { clock, elapsedMs, tick } = createTickingClock(1000)
  const state = {
    alive: true,
    serving: true,
    open: true,
    delayMs: 0,
    answers: 0,
    hosts: [a, b],
    changes: 0,
  }
  const forgotten: string[] = []
  const asker: EdgeAsker = {
    alive: async ({ id }) => {
      if (!state.alive) throw new Error('silence')
      if (state.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, state.delayMs))
      state.answers += 1
      return { host: id, region: 'r', serving: state.serving, round_trip_ms: { a: 80 } }
    },
    knock: async () => {
      if (!state.open) throw new Error('refused')
    },
    forget: (id) => forgotten.push(id),
  }
  const prober = startProber({
    self: a.id,
    hosts: () => state.hosts,
    asker,
    onChange: () => {
      state.changes += 1
    },
    clock,
    elapsedMs,
    log: silentLogger,
  })
  probers.push(prober)
  return { prober, state, tick, forgotten }
}

test('three silences are a death, one answer is a life', async () => {
  const { prober, state, tick } = setUp()
  await tick()
  expect(prober.isAlive(b.id)).toBe(true)
  state.alive = false
  await tick()
  await tick()
  expect(prober.isAlive(b.id)).toBe(true)
  const before = state.changes
  await tick()
  expect(prober.isAlive(b.id)).toBe(false)
  expect(state.changes).toBe(before + 1)
  state.alive = true
  await tick()
  expect(prober.isAlive(b.id)).toBe(true)
  expect(state.changes).toBe(before + 2)
})

test.each(['serving', 'open'] as const)(
  'an edge that lives and is not %s is dead',
  async (what) => {
    const { prober, state, tick } = setUp()
    await tick()
    state[what] = false
    for (let n = 0; n < 3; n++) await tick()
    expect(prober.isAlive(b.id)).toBe(false)
  },
)

test('one busy moment is no longer way', async () => {
  const { prober, state, tick } = setUp()
  for (let n = 0; n < 3; n++) await tick()
  const before = prober.roundTrips().get(b.id)
  state.delayMs = 60
  await tick()
  while (state.answers < 4) await settled()
  await settled()
  expect(prober.roundTrips().get(b.id)).toBe(before)
})

test('it measures from the second answer on, passes on what others measured, and forgets who is gone', async () => {
  const { prober, state, tick, forgotten } = setUp()
  expect(prober.roundTrips().size).toBe(0)
  await tick()
  await tick()
  expect(prober.roundTrips().get(b.id)).toBeLessThan(100)
  expect(prober.roundTrips().has(a.id)).toBe(false)
  expect(prober.roundTripsOf(b.id).get(a.id)).toBe(80)
  state.hosts = [a]
  await tick()
  expect(forgotten).toEqual(['b'])
  expect(prober.roundTrips().size).toBe(0)
  // Nothing is known of it: not a reason to give it up.
  expect(prober.isAlive(b.id)).toBe(true)
})
