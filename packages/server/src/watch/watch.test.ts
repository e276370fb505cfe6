import type { RecordValues, WatchEvent } from '@roost/api'
import { createRecordCache, silentLogger } from '@roost/base'
import type { App, AppName, HostId } from '@roost/core'
import { beforeEach, expect, test } from 'vitest'
import { purge } from '../laps/purge-lap.ts'
import { createSteppedClock, type SteppedClock } from '../laps/simulated-hosts.ts'
import { networkNumber, putApp } from '../store/apps.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import type { Store } from '../store/store.ts'
import { watch } from './watch.ts'

const ams = 'a0000000000000' as HostId
const iad = 'b0000000000000' as HostId
let clock: SteppedClock
let store: Store

beforeEach(async () => {
  clock = createSteppedClock(0)
  store = openSqlite({ file: ':memory:' })
  await store.transaction((tx) => networkNumber(tx, 'personal', 'default'))
})

const app = (name: string, release = 0): App => ({
  name: name as AppName,
  organization: 'personal',
  network: 1,
  createdAt: 0,
  primaryRegion: null,
  release,
})
const put = (name: string, release = 0) => store.transaction((tx) => putApp(tx, app(name, release)))
const drop = (name: string) => store.transaction((tx) => tx.publish('app', name, null))
const assign = (id: string, host: HostId) =>
  store.transaction((tx) =>
    tx.publish('assignment', id, { id, host } as RecordValues['assignment']),
  )

/** A reader that keeps what it heard, and can be asked what that was. */
function listen(since: number, peer: Parameters<typeof watch>[1] = { program: 'edge', host: ams }) {
  const stop = new AbortController()
  const heard: WatchEvent[] = []
  const done = (async () => {
    for await (const event of watch({ store, clock }, peer, since, stop.signal)) heard.push(event)
  })()
  return {
    /** What came since it was last asked: `+shop` is there, `-shop` is gone. */
    news: async () => {
      await clock.advance(0)
      return heard.splice(0).map((event) => {
        if (event.type === 'record') return `${event.value === null ? '-' : '+'}${event.id}`
        return event.type === 'synced' ? `synced ${event.revision}` : 'reset'
      })
    },
    end: async () => {
      stop.abort()
      await done
    },
  }
}

test('who heard nothing gets all there is, then each change at once', async () => {
  await put('shop')
  await put('gone')
  await drop('gone')
  const reader = listen(0)
  expect(await reader.news()).toEqual(['reset', '+shop', 'synced 3'])
  await put('blog')
  expect(await reader.news()).toEqual(['+blog', 'synced 4'])
  await drop('shop')
  expect(await reader.news()).toEqual(['-shop', 'synced 5'])
  await reader.end()
})

test('who was away hears what changed, and what is gone', async () => {
  await put('shop')
  await put('blog')
  await drop('shop')
  const reader = listen(1)
  expect(await reader.news()).toEqual(['+blog', '-shop', 'synced 3'])
  await reader.end()
})

test('who heard all is told so, and every 5 s that it is still so', async () => {
  await put('shop')
  const reader = listen(1)
  expect(await reader.news()).toEqual(['synced 1'])
  for (let n = 0; n < 4; n++) await clock.advance(1000)
  expect(await reader.news()).toEqual([])
  await clock.advance(1000)
  expect(await reader.news()).toEqual(['synced 1'])
  await reader.end()
})

test('an agent hears of its own machines, an edge of none that is wanted, both how far it goes', async () => {
  await assign('m1', ams)
  await assign('m2', iad)
  await put('shop')
  const [agent, edge] = [
    listen(0, { program: 'agent', host: ams }),
    listen(0, { program: 'edge', host: ams }),
  ]
  expect(await agent.news()).toEqual(['reset', '+m1', '+shop', 'synced 3'])
  expect(await edge.news()).toEqual(['reset', '+shop', 'synced 3'])
  await assign('m3', iad)
  expect(await agent.news()).toEqual(['synced 4'])
  await store.transaction((tx) => tx.publish('assignment', 'm1', null))
  expect(await agent.news()).toEqual(['-m1', 'synced 5'])
  await agent.end()
  await edge.end()
})

test('who missed what is forgotten, or comes from a later time, lists again', async () => {
  for (const name of ['a', 'b', 'c']) {
    await put(name)
    await drop(name)
  }
  await put('shop')
  await purge(store, 0, { tombstones: 1 })
  const [late, early] = [listen(2), listen(4)]
  expect(await late.news()).toEqual(['reset', '+shop', 'synced 7'])
  expect(await early.news()).toEqual(['-c', '+shop', 'synced 7'])
  const restored = listen(99)
  expect(await restored.news()).toEqual(['reset', '+shop', 'synced 7'])
  for (const reader of [late, early, restored]) await reader.end()
})

test('a long listing comes in pages, and what changes meanwhile is not lost', async () => {
  await store.transaction(async (tx) => {
    for (let n = 0; n < 2500; n++) await tx.publish('app', `app-${n}`, app(`app-${n}`))
  })
  const cache = createRecordCache<RecordValues>({ file: ':memory:', log: silentLogger })
  const stop = new AbortController()
  let records = 0
  for await (const event of watch(
    { store, clock },
    { program: 'edge', host: ams },
    0,
    stop.signal,
  )) {
    cache.apply([event])
    if (event.type === 'record' && ++records === 10) {
      await drop('app-0')
      await drop('app-2499')
      await put('late')
    }
    if (event.type === 'synced' && event.revision === 2503) stop.abort()
  }
  const names = new Set(cache.list('app').map((one) => one.name))
  expect(names.size).toBe(2499)
  expect(names.has('app-0' as AppName)).toBe(false)
  expect(names.has('app-2499' as AppName)).toBe(false)
  expect(names.has('late' as AppName)).toBe(true)
})
