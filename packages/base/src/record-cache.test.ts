import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
