import type { App, AppName, Release } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { networkNumber, putApp } from '../store/apps.ts'
import { addReleaseEvent, listReleaseEvents, listReleases, putRelease } from '../store/releases.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import type { Store } from '../store/store.ts'
import { purge } from './purge-lap.ts'

const shop = 'shop' as AppName
let store: Store
beforeEach(async () => {
  store = openSqlite({ file: ':memory:' })
})
afterEach(() => store.close())

const forgotten = () =>
  store.read(async ({ db }) => {
    const row = await db
      .selectFrom('counters')
      .select('value')
      .where('name', '=', 'forgotten')
      .executeTakeFirstOrThrow()
    return row.value
  })

test('of what is gone the newest stays, and readers who heard less are known', async () => {
  for (let n = 0; n < 5; n++) {
    await store.transaction((tx) => tx.publish('app', `app-${n}`, {} as App))
    await store.transaction((tx) => tx.publish('app', `app-${n}`, null))
  }
  await store.transaction((tx) => tx.publish('app', 'alive', {} as App))
  await purge(store, 0, { tombstones: 2 })
  const left = await store.read(({ db }) =>
    db.selectFrom('records').select(['id', 'revision']).orderBy('revision').execute(),
  )
  expect(left).toEqual([
    { id: 'app-3', revision: 8 },
    { id: 'app-4', revision: 10 },
    { id: 'alive', revision: 11 },
  ])
  expect(await forgotten()).toBe(6)
  await purge(store, 0, { tombstones: 2 })
  expect(await forgotten()).toBe(6)
})

test('old releases and their progress go, but never the one that serves or one at work', async () => {
  await store.transaction(async (tx) => {
    const { number } = await networkNumber(tx, 'personal', 'default')
    const rest = { organization: 'personal', network: number, createdAt: 0, primaryRegion: null }
    await putApp(tx, { name: shop, ...rest, release: 3 })
    for (let version = 1; version <= 300; version++) {
      const status = version === 4 ? 'pending' : 'complete'
      await putRelease(tx, { app: shop, version, status } as Release)
      await addReleaseEvent(
        tx,
        { app: shop, version },
        { at: '', status: 'starting', message: 'm', machine: null, region: null },
      )
    }
  })
  await purge(store, 0)
  const left = await store.read((reader) => listReleases(reader, shop, 1000))
  expect(left.map((r) => r.version).filter((v) => v <= 101)).toEqual([101, 4, 3])
  const events = (version: number) =>
    store.read((reader) => listReleaseEvents(reader, shop, version, 0))
  expect(await events(280)).toEqual([])
  expect(await events(281)).toHaveLength(1)
})
