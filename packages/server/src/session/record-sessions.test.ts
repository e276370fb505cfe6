import { silentLogger } from '@roost/base'
import type { AppName, MachineId, SessionRecord } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createSteppedClock, type SteppedClock } from '../laps/simulated-hosts.ts'
import { memoryDeps } from '../memory-deps.ts'
import { listSessions, purgeSessions, putSession } from '../store/sessions.ts'
import type { Store } from '../store/store.ts'
import { createSessionLog, type NewSession } from './record-sessions.ts'

const DAY_MS = 86_400_000
const START = Date.UTC(2026, 0, 1)
const app = 'shop' as AppName
const session: NewSession = {
  app,
  machine: '3d8d0000000001' as MachineId,
  container: null,
  kind: 'program',
  token: 'ci',
  tokenId: null,
  user: 'root',
  command: 'ls',
  terminal: false,
}
let clock: SteppedClock
let store: Store
let made: ReturnType<typeof memoryDeps>

beforeEach(() => {
  clock = createSteppedClock(START)
  made = memoryDeps({ clock })
  store = made.store
})
afterEach(() => store.close())

const all = () => store.read((reader) => listSessions(reader, { app, since: 0, limit: 1000 }))

test('a session is there from its beginning, and says how it ended', async () => {
  const log = createSessionLog({ ...made, log: silentLogger })
  const open = await log.begin(session)
  expect(await all()).toMatchObject([{ ...session, begunAt: START, endedAt: null }])
  await clock.advance(5000)
  await open.end({ exitCode: 3, reason: null, bytesIn: 1, bytesOut: 2, connections: 0 })
  expect(await all()).toMatchObject([{ endedAt: START + 5000, exitCode: 3, bytesOut: 2 }])
})

test('what a server left open that was killed is ended by the next', async () => {
  await createSessionLog({ ...made, log: silentLogger }).begin(session)
  const next = createSessionLog({ ...made, log: silentLogger })
  const mine = await next.begin({ ...session, command: 'goes on' })
  const loop = next.start()
  await clock.advance(1)
  await loop.stop()
  expect((await all()).map(({ command, endedAt }) => [command, endedAt !== null]).sort()).toEqual([
    ['goes on', false],
    ['ls', true],
  ])
  await mine.end({ exitCode: 0, reason: null, bytesIn: 0, bytesOut: 0, connections: 0 })
})

test('what can not be written down is not begun; how it ended is written when there is room', async () => {
  const state = { full: false }
  const limited: Store = {
    ...store,
    transaction: (work) =>
      state.full ? Promise.reject(new Error('disk is full')) : store.transaction(work),
    read: (work) => store.read(work),
  }
  const log = createSessionLog({ ...made, store: limited, log: silentLogger })
  const open = await log.begin(session)
  state.full = true
  await expect(log.begin(session)).rejects.toThrow('disk is full')
  await open.end({ exitCode: 7, reason: null, bytesIn: 0, bytesOut: 0, connections: 0 })
  expect(await all()).toMatchObject([{ endedAt: null }])
  state.full = false
  const loop = log.start()
  await clock.advance(1)
  await loop.stop()
  expect(await all()).toMatchObject([{ exitCode: 7 }])
})

test('the newest are kept, and none for longer than 90 days', async () => {
  const at = (begunAt: number): SessionRecord => ({
    ...session,
    id: String(begunAt),
    begunAt,
    endedAt: begunAt,
    exitCode: 0,
    reason: null,
    bytesIn: 0,
    bytesOut: 0,
    connections: 0,
  })
  await store.transaction(async (tx) => {
    for (const days of [100, 91, 89, 2, 1]) await putSession(tx, at(START - days * DAY_MS))
    await purgeSessions(tx, START)
  })
  expect(await all()).toHaveLength(3)
  await store.transaction((tx) => purgeSessions(tx, START, 2))
  expect((await all()).map(({ begunAt }) => (START - begunAt) / DAY_MS)).toEqual([1, 2])
})
