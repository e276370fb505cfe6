import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RecordValues } from '@roost/api'
import { createRecordCache, type Logger, silentLogger } from '@roost/base'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createGoodRecords } from './good-records.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'roost-records-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

function setUp() {
  const cache = createRecordCache<RecordValues>({ file: ':memory:', log: silentLogger })
  const errors: unknown[] = []
  const log: Logger = {
    ...silentLogger,
    error: (_message, fields) => errors.push(fields?.['record']),
  }
  let revision = 0
  const put = (kind: string, id: string, value: unknown) => {
    revision += 1
    cache.apply([
      { type: 'record', revision, kind, id, value },
      { type: 'synced', revision },
    ])
  }
  const open = () => createGoodRecords({ cache, file: join(dir, 'last-good.json'), log })
  return { put, open, errors }
}

test('the last good version of a bad record goes on, also over a restart; it is said once', () => {
  const { put, open, errors } = setUp()
  put('app', 'shop', { name: 'shop', release: 1 })
  put('app', 'blog', { name: 'blog', release: 1 })
  const records = open()
  put('app', 'shop', { name: 'sh op', release: 2 })
  put('app', 'blog', { name: 'blog', release: 2 })
  records.refresh()
  records.refresh()
  const releases = (r: typeof records) =>
    Object.fromEntries(r.list('app').map(({ name, release }) => [name, release]))
  expect(releases(records)).toEqual({ shop: 1, blog: 2 })
  expect(errors).toEqual(['app shop: name is "sh op"'])
  expect(records.refused()).toEqual(errors)
  expect(releases(open())).toEqual({ shop: 1, blog: 2 })
  put('app', 'shop', { name: 'shop', release: 3 })
  records.refresh()
  expect(releases(records)).toEqual({ shop: 3, blog: 2 })
  expect(records.refused()).toEqual([])
})

test('what is refused is named by where it lies, whatever it says of itself', () => {
  const { put, open } = setUp()
  put('app', 'shop', { name: 'shop' })
  put('app', 'blog', { name: 'shop' })
  put('host', 'a'.repeat(14), 'garbage')
  put('gateway', 'new', { of: 'a version to come' })
  const records = open()
  expect(records.list('app')).toEqual([{ name: 'shop' }])
  expect(records.refused()).toEqual([
    'host aaaaaaaaaaaaaa: it is "garbage"',
    'app blog: it says that it is shop',
  ])
})

test('a list is the very same until something in it changes', () => {
  const { put, open } = setUp()
  put('app', 'shop', { name: 'shop' })
  const records = open()
  const before = records.list('app')
  put('host', 'a'.repeat(14), 'garbage')
  records.refresh()
  expect(records.list('app')).toBe(before)
  put('app', 'shop', { name: 'shop' })
  records.refresh()
  expect(records.list('app')).not.toBe(before)
})

test('what is gone is gone, good or bad', () => {
  const { put, open } = setUp()
  put('app', 'shop', { name: 'shop' })
  const records = open()
  put('app', 'shop', 'garbage')
  records.refresh()
  expect(records.list('app')).toHaveLength(1)
  put('app', 'shop', null)
  records.refresh()
  expect(records.list('app')).toHaveLength(0)
  expect(open().list('app')).toHaveLength(0)
})
