import type { AppName, HostId, MachineConfig, Release } from '@roost/core'
import { expect, test } from 'vitest'
import { moveTimes, noticeSetting } from './clock-set.ts'
import { getRelease, putRelease } from './store/releases.ts'
import { openSqlite } from './store/sqlite/open-sqlite.ts'
import { createPresence } from './watch/presence.ts'

test('a clock that is set is noticed at the next look; one that goes on is not', () => {
  let time = 1_000_000
  const noticed: number[] = []
  const clock = noticeSetting({ now: () => time, sleep: async () => {} }, (by) => noticed.push(by))
  for (const by of [0, 1000, 4000, -50]) {
    time += by
    expect(clock.now()).toBe(time)
  }
  expect(noticed).toEqual([])
  time += 86_400_000
  clock.now()
  time -= 3_600_000
  clock.now()
  clock.now()
  expect(noticed).toEqual([86_400_000, -3_600_000])
})

test('everybody was heard as long ago as before', () => {
  const presence = createPresence(1000)
  const [a, b, c] = ['a', 'b', 'c'] as HostId[] as [HostId, HostId, HostId]
  presence.agentHeard(a, 5000, 1)
  presence.expectAgent(b, 4000)
  presence.edgeHeard(a, { seenAt: 5000, applied: 1, draining: [] })
  presence.move(-3_600_000)
  expect(presence.agentSeenAt(a)).toBe(5000 - 3_600_000)
  expect(presence.agentSeenAt(b)).toBe(4000 - 3_600_000)
  expect(presence.agentSeenAt(c)).toBe(1000 - 3_600_000)
  expect(presence.movedMs()).toBe(-3_600_000)
  expect(presence.edge(a)?.seenAt).toBe(5000 - 3_600_000)
})

test('a release that is under way has as much time left as before', async () => {
  const store = openSqlite({ file: ':memory:' })
  const release = (version: number, status: Release['status'], deadline: number): Release => ({
    app: 'shop' as AppName,
    version,
    cause: 'deploy',
    status,
    image: 'registry.internal/shop@sha256:1',
    imageDigest: 'sha256:1',
    config: {} as MachineConfig,
    primaryRegion: null,
    ask: { scale: null, regions: [], ha: true },
    strategy: 'rolling',
    maxUnavailable: null,
    secrets: {},
    secretsBefore: null,
    rollbackOf: null,
    returnTo: 0,
    plan: [],
    undo: [],
    createdAt: 1,
    updatedAt: 1,
    waitTimeoutMs: 1000,
    deadline,
    reason: null,
    returned: null,
    createdBy: 'somebody',
    source: null,
  })
  await store.transaction(async (tx) => {
    await putRelease(tx, release(1, 'complete', 500))
    await putRelease(tx, release(2, 'starting', 9000))
    await putRelease(tx, release(3, 'pending', 0))
  })
  await store.transaction((tx) => moveTimes(tx, 60_000))
  const deadlines = await store.read(async (reader) =>
    Promise.all(
      [1, 2, 3].map(async (n) => (await getRelease(reader, 'shop' as AppName, n))?.deadline),
    ),
  )
  expect(deadlines).toEqual([500, 69_000, 0])
  await store.close()
})
