import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@roost/base'
import type { AppName } from '@roost/core'
import { expect, test } from 'vitest'
import { getApp, networkNumber, putApp } from '../apps.ts'
import { getSettings, putSettings } from '../settings.ts'
import type { Change, Reader, Tx } from '../store.ts'
import { openSqlite } from './open-sqlite.ts'

const shop = {
  name: 'shop' as AppName,
  organization: 'personal',
  network: 1,
  createdAt: 5,
  primaryRegion: null,
  release: 0,
}

test('a transaction is whole or not at all, and only a whole one is heard of', async () => {
  const store = openSqlite({ file: ':memory:' })
  const heard: Change[] = []
  store.onChange((change) => heard.push(change))
  await expect(
    store.transaction(async (tx) => {
      await networkNumber(tx, 'personal', 'default')
      await putApp(tx, shop)
      throw new Error('changed my mind')
    }),
  ).rejects.toThrow('changed my mind')
  expect(await store.read((reader) => getApp(reader, 'shop'))).toBeNull()
  expect(heard).toEqual([])
  await store.transaction(async (tx) => {
    await networkNumber(tx, 'personal', 'default')
    await putApp(tx, shop)
  })
  expect(await store.read((reader) => getApp(reader, 'shop'))).toEqual(shop)
  expect(heard.map((change) => [...change.keys])).toEqual([['app/shop']])
  await store.close()
})

test('revisions grow with each change, and only with a change', async () => {
  const store = openSqlite({ file: ':memory:' })
  const publish = (release: number | null) =>
    store.transaction((tx) =>
      tx.publish('app', 'shop', release === null ? null : { ...shop, release }),
    )
  expect(await publish(0)).toBe(1)
  expect(await publish(0)).toBe(1)
  expect(await publish(1)).toBe(2)
  expect(await publish(null)).toBe(3)
  expect(await publish(null)).toBe(3)
  await store.close()
})

test('transactions that are asked for at once come one after the other', async () => {
  const store = openSqlite({ file: ':memory:' })
  await store.transaction((tx) => networkNumber(tx, 'personal', 'default'))
  await store.transaction((tx) => putApp(tx, shop))
  const add = () =>
    store.transaction(async (tx) => {
      const app = await getApp(tx, 'shop')
      await Promise.resolve()
      if (app) await putApp(tx, { ...app, release: app.release + 1 })
    })
  await Promise.all(Array.from({ length: 20 }, add))
  expect((await store.read((reader) => getApp(reader, 'shop')))?.release).toBe(20)
  await store.close()
})

test('an answer is kept until something is written, by this process or another, or taken back', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'roost-store-'))
  const file = join(folder, 'roost.db')
  let now = 0
  const clock = { ...systemClock, now: () => now }
  const store = openSqlite({ file, clock })
  await store.transaction((tx) => networkNumber(tx, 'personal', 'default'))
  await store.transaction((tx) => putApp(tx, shop))
  let asked = 0
  const ask = (reader: Reader) =>
    reader.kept('release', async () => {
      asked++
      return (await getApp(reader, 'shop'))?.release
    })
  const write = (release: number) => (tx: Tx) => putApp(tx, { ...shop, release })
  expect([await store.read(ask), await store.read(ask), asked]).toEqual([0, 0, 1])

  await store.transaction(write(1))
  expect([await store.read(ask), await store.transaction(ask), asked]).toEqual([1, 1, 2])

  const failing = store.transaction(async (tx) => {
    await write(2)(tx)
    expect(await ask(tx)).toBe(2)
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  expect(await store.read(ask)).toBe(1)

  const other = openSqlite({ file })
  await other.transaction(write(3))
  now += 100
  expect(await store.read(ask)).toBe(3)
  await other.transaction(write(4))
  expect(await store.transaction(ask)).toBe(4)
  await other.close()

  // What is written while it is worked out.
  await store.transaction(async (tx) => {
    await tx.kept('late', async () => {
      const before = (await getApp(tx, 'shop'))?.release
      await write(5)(tx)
      return before
    })
    expect(await tx.kept('late', async () => 'anew')).toBe('anew')
  })
  await store.close()
  rmSync(folder, { recursive: true })
})

test('what was acknowledged is in the file, also for who opens it without it having been closed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'store-'))
  const file = join(folder, 'roost.db')
  const settings = { domain: 'roost.test', clientNetworks: [], registry: { name: 'r', url: 'u' } }
  const first = openSqlite({ file })
  await first.transaction(async (tx) => {
    await networkNumber(tx, 'personal', 'default')
    await putSettings(tx, settings)
  })
  const second = openSqlite({ file })
  expect(await second.read(getSettings)).toEqual({ ...settings, networks: [1] })
  await first.close()
  await second.close()
  rmSync(folder, { recursive: true })
})

test('each process that writes begins with revisions that no other can have given, and whoever heard less lists anew', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'roost-store-'))
  const file = join(folder, 'store.db')
  const counters = (store: ReturnType<typeof openSqlite>) =>
    store.read(async ({ db }) => {
      const rows = await db.selectFrom('counters').selectAll().execute()
      return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
    })
  const first = openSqlite({ file })
  await first.transaction(async (tx) => {
    await networkNumber(tx, 'personal', 'default')
    await putApp(tx, shop)
  })
  expect(await counters(first)).toMatchObject({ revision: 1, forgotten: 0 })
  await first.close()

  const second = openSqlite({ file, leap: () => 1000 })
  expect((await counters(second))['revision']).toBe(1)
  const failing = second.transaction(async (tx) => {
    await putApp(tx, { ...shop, release: 1 })
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  expect((await counters(second))['revision']).toBe(1)
  await second.transaction((tx) => putApp(tx, { ...shop, release: 2 }))
  expect(await counters(second)).toMatchObject({ revision: 1002, forgotten: 1001 })
  await second.transaction((tx) => putApp(tx, { ...shop, release: 3 }))
  expect((await counters(second))['revision']).toBe(1003)
  await second.close()
  rmSync(folder, { recursive: true })
})
