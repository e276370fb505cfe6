import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { silentLogger } from './log.ts'
import { type CacheEvent, createRecordCache } from './record-cache.ts'

interface Values {
  app: { name: string }
  host: { number: number }
}

const open = (file: string) => createRecordCache<Values>({ file, log: silentLogger })
const app = (revision: number, id: string, value: unknown = { name: id }): CacheEvent => ({
  type: 'record',
  revision,
  kind: 'app',
  id,
  value,
})
const synced = (revision: number): CacheEvent => ({ type: 'synced', revision })
const reset: CacheEvent = { type: 'reset' }

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'record-cache-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test('a batch is seen at its end, all at once', () => {
  const cache = open(':memory:')
  cache.apply([app(1, 'a'), app(2, 'b')])
  expect(cache.list('app')).toEqual([])
  expect(cache.revision()).toBe(0)
  cache.apply([synced(2)])
  expect(cache.list('app')).toEqual([{ name: 'a' }, { name: 'b' }])
  expect(cache.entries('app')[1]).toEqual(['b', { name: 'b' }])
  expect(cache.get('app', 'b')).toEqual({ name: 'b' })
  expect(cache.get('host', 'b')).toBeNull()
  expect(cache.revision()).toBe(2)
})

test('a record without a value is gone', () => {
  const cache = open(':memory:')
  cache.apply([app(1, 'a'), synced(1), app(2, 'a', null), synced(2)])
  expect(cache.list('app')).toEqual([])
})

test('an older revision of a record is ignored', () => {
  const cache = open(':memory:')
  cache.apply([app(5, 'a', { name: 'new' }), synced(5), app(3, 'a', { name: 'old' }), synced(5)])
  expect(cache.get('app', 'a')).toEqual({ name: 'new' })
})

test('after a reset only what was named again is left, and the revision may fall', () => {
  const cache = open(':memory:')
  cache.apply([app(8, 'a'), app(9, 'b'), synced(9)])
  cache.apply([reset, app(2, 'b', { name: 'b2' })])
  expect(cache.list('app')).toHaveLength(2)
  cache.apply([synced(3)])
  expect(cache.list('app')).toEqual([{ name: 'b2' }])
  expect(cache.revision()).toBe(3)
})

test('half a batch is forgotten with its connection', () => {
  const cache = open(':memory:')
  cache.apply([app(1, 'a'), synced(1), reset, app(2, 'b')])
  cache.abandon()
  cache.apply([synced(1)])
  expect(cache.list('app')).toEqual([{ name: 'a' }])
})

test('what was synced is there after a restart, what was not is not', () => {
  const file = join(folder, 'cache.db')
  const before = open(file)
  before.apply([app(1, 'a'), synced(1), app(2, 'b'), synced(2), app(3, 'b', null), synced(3)])
  before.apply([app(4, 'c')])
  // Not closed: as after kill -9.
  const after = open(file)
  expect(after.list('app')).toEqual([{ name: 'a' }])
  expect(after.revision()).toBe(3)
  after.apply([reset, app(5, 'd'), synced(5)])
  expect(open(file).list('app')).toEqual([{ name: 'd' }])
})

test('a broken file is moved aside and begun anew', () => {
  const file = join(folder, 'cache.db')
  writeFileSync(file, 'this is no database, it only looks long enough to be one'.repeat(100))
  const cache = open(file)
  expect(cache.revision()).toBe(0)
  cache.apply([app(1, 'a'), synced(1)])
  cache.close()
  expect(open(file).list('app')).toEqual([{ name: 'a' }])
  expect(readdirSync(folder)).toContain('cache.db.broken')
})

test('a folder that can not be written leaves a cache in memory', () => {
  writeFileSync(join(folder, 'file'), '')
  const cache = open(join(folder, 'file', 'cache.db'))
  cache.apply([app(1, 'a'), synced(1)])
  expect(cache.list('app')).toEqual([{ name: 'a' }])
})

test('what another host has heard is not taken over', () => {
  const file = join(folder, 'records.db')
  const as = (owner: string) => createRecordCache<Values>({ file, owner, log: silentLogger })
  const first = as('one')
  first.apply([app(3, 'a'), synced(3)])
  first.close()
  const again = as('one')
  expect(again.revision()).toBe(3)
  again.close()
  const other = as('two')
  expect([other.revision(), other.list('app')]).toEqual([0, []])
  other.close()
})

test('on a disk without room it starts with what it knew, and writes all when there is room', () => {
  const file = join(folder, 'records.db')
  const first = open(file)
  first.apply([app(3, 'a'), synced(3)])
  first.close()

  const full = { is: true }
  const refusing = (path: string) => {
    const database = new DatabaseSync(path)
    const exec = database.exec.bind(database)
    return Object.assign(database, {
      exec: (sql: string) => {
        if (full.is && /INSERT|CREATE|BEGIN/.test(sql))
          throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
        exec(sql)
      },
    })
  }
  const cache = createRecordCache<Values>({ file, log: silentLogger, open: refusing })
  expect(cache.list('app')).toEqual([{ name: 'a' }])
  cache.apply([app(4, 'b'), synced(4)])
  full.is = false
  cache.apply([synced(5)])
  cache.close()
  const after = open(file)
  expect([after.revision(), after.list('app').length]).toEqual([5, 2])
  after.close()
  expect(readdirSync(folder)).toEqual(['records.db'])
})

test('a file that can not even be made for want of room is made later', () => {
  const file = join(folder, 'records.db')
  const full = { is: true }
  const refusing = (path: string) => {
    if (full.is) throw Object.assign(new Error('unable to open database file'), { errcode: 14 })
    return new DatabaseSync(path)
  }
  const cache = createRecordCache<Values>({ file, log: silentLogger, open: refusing })
  cache.apply([app(1, 'a'), synced(1)])
  full.is = false
  cache.apply([app(2, 'b'), synced(2)])
  cache.close()
  const after = open(file)
  expect([after.revision(), after.list('app').length]).toEqual([2, 2])
  after.close()
})
