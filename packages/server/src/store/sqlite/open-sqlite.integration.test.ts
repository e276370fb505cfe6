import { execFileSync } from 'node:child_process'
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Store } from '../store.ts'
import { openSqlite, type SqliteOptions } from './open-sqlite.ts'

/** On file systems of their own, which can be full, read-only and damaged for real. */
let folder: string
let file: string
const opened: Store[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'store-disk-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'store-disk', folder])
  file = join(folder, 'roost.db')
})
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close()
  execFileSync('umount', [folder])
  rmSync(folder, { recursive: true })
})

function open(options: Partial<SqliteOptions> = {}): Store {
  const store = openSqlite({ file, ...options })
  opened.push(store)
  return store
}

/** Until not one byte more fits. */
function fill(): () => void {
  const name = join(folder, 'filler')
  const handle = openSync(name, 'w')
  for (const size of [65_536, 4_096, 1])
    try {
      for (;;) writeSync(handle, Buffer.alloc(size))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    }
  closeSync(handle)
  return () => rmSync(name)
}

const settings = (name: string, value: string) => (store: Store) =>
  store.transaction((tx) =>
    tx.db
      .insertInto('settings')
      .values({ name, value })
      .onConflict((conflict) => conflict.column('name').doUpdateSet({ value }))
      .execute(),
  )
const names = (store: Store) =>
  store.read(async ({ db }) => {
    const rows = await db.selectFrom('settings').select('name').orderBy('name').execute()
    return rows.map((row) => row.name)
  })
const big = 'x'.repeat(40_000)

test('on a full disk writes are refused whole, reads go on, and there is nothing to do but to make room', async () => {
  const store = open()
  await settings('before', 'here')(store)
  const makeRoom = fill()
  const both = store.transaction(async (tx) => {
    await tx.db.insertInto('settings').values({ name: 'first', value: 'small' }).execute()
    await tx.db.insertInto('settings').values({ name: 'second', value: big }).execute()
  })
  await expect(both).rejects.toMatchObject({
    code: 'disk_full',
    retry: 'later',
    message: expect.stringMatching(
      /^write .*roost\.db: the file system of .* is full \(0\.0 MB of 16\.8 MB are free\); nothing was changed\. Make room there/,
    ),
  })
  expect(await names(store)).toEqual(['before'])
  expect(store.trouble()).toMatchObject({ code: 'disk_full', over: false })
  makeRoom()
  await settings('after', big)(store)
  expect(await names(store)).toEqual(['after', 'before'])
  expect(store.trouble()).toMatchObject({ code: 'disk_full', over: true })
})

test.each([
  ['a proper end', true],
  ['kill -9', false],
])('a full disk is no reason not to start after %s', async (_name, properly) => {
  const first = open()
  await settings('before', 'here')(first)
  if (properly) await first.close()
  else {
    // What is left of a process that was killed: its files as they are.
    const copy = join(folder, 'copy')
    mkdirSync(copy)
    for (const end of ['', '-wal', '-shm'])
      copyFileSync(`${file}${end}`, join(copy, `roost.db${end}`))
    await first.close()
    file = join(copy, 'roost.db')
  }
  const makeRoom = fill()
  const store = open({ used: true })
  expect(await names(store)).toEqual(['before'])
  await expect(settings('after', big)(store)).rejects.toMatchObject({ code: 'disk_full' })
  expect(await names(store)).toEqual(['before'])
  makeRoom()
  await settings('after', big)(store)
  await store.tidy()
  const other = open()
  expect(await names(other)).toEqual(['after', 'before'])
  await settings('both', '1')(other)
  await settings('both', '2')(store)
})

test('what goes is given back to the file system, and the log stays short', async () => {
  const store = open()
  for (let n = 0; n < 20; n++) await settings(`row-${n}`, big)(store)
  await store.tidy()
  expect(store.size().bytes).toBeGreaterThan(800_000)
  await store.transaction((tx) => tx.db.deleteFrom('settings').execute())
  await store.tidy()
  expect(store.size().bytes).toBeLessThan(300_000)
  expect(store.size().walBytes).toBe(0)
})

test('a process that reads without an end stops the writes before the log takes the whole disk', async () => {
  const store = open({ walBytesMax: 500_000 })
  await settings('row', '0')(store)
  const reader = new DatabaseSync(file)
  reader.exec('BEGIN')
  reader.prepare('SELECT * FROM settings').all()
  let refused: unknown = null
  let written = 0
  for (; written < 1_000 && refused === null; written++)
    await settings(
      'row',
      `${written} ${big.slice(0, 4_000)}`,
    )(store).catch((error: unknown) => {
      refused = error
    })
  expect(refused).toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('another process reads it without an end'),
  })
  expect(store.size().walBytes).toBeLessThan(1_500_000)
  reader.exec('COMMIT')
  reader.close()
  await settings('row', 'after')(store)
  expect(store.trouble()?.over).toBe(true)
  expect(store.size().walBytes).toBeLessThan(100_000)
})

test('a read-only file system is named at the start, and while it runs', async () => {
  await open().close()
  execFileSync('mount', ['-o', 'remount,ro', folder])
  try {
    expect(() => open()).toThrow(/roost\.db: it or its file system is read-only.*findmnt -T/)
  } finally {
    execFileSync('mount', ['-o', 'remount,rw', folder])
  }
})

const ruin: readonly (readonly [string, (at: string) => void])[] = [
  ['cut in half', (at) => truncateSync(at, Math.floor(statSync(at).size / 2 / 4096) * 4096)],
  ['overwritten in the middle', (at) => scribble(at, 12_288)],
  ['overwritten at its start', (at) => scribble(at, 0)],
  ['text', (at) => writeFileSync(at, 'hello, this is no database at all\n'.repeat(300))],
]

function scribble(at: string, position: number): void {
  const handle = openSync(at, 'r+')
  writeSync(handle, Buffer.alloc(16_384, 0x5a), 0, 16_384, position)
  closeSync(handle)
}

test.each(ruin)('a file that was %s is refused in words', async (_name, damage) => {
  const store = open()
  for (let n = 0; n < 5; n++) await settings(`row-${n}`, big)(store)
  await store.close()
  damage(file)
  expect(() => open({ used: true })).toThrow(
    /roost\.db is damaged or no SQLite database: put back a copy/,
  )
  // It is still there for whoever knows how to mend it.
  expect(statSync(file).size).toBeGreaterThan(4_096)
})

test('an empty or missing file is only begun where there was none before', async () => {
  await open().close()
  truncateSync(file, 0)
  const again = () => open({ used: true })
  expect(again).toThrow(/is missing or empty, though this server has been in use/)
  rmSync(file)
  expect(again).toThrow(/is missing or empty/)
  await open().close()
  expect(statSync(file).size).toBeGreaterThan(0)
})

test('who has no right to the folder is told so', () => {
  mkdirSync(join(folder, 'theirs'), { mode: 0o700 })
  const script = `
    process.setgid(65534); process.setuid(65534)
    const { openSqlite } = await import(${JSON.stringify(join(import.meta.dirname, 'open-sqlite.ts'))})
    try { openSqlite({ file: ${JSON.stringify(join(folder, 'theirs', 'roost.db'))} }) } catch (error) { console.log(error.code + ' ' + error.message) }`
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  })
  expect(said).toMatch(/^unavailable open .*roost\.db: .*the user 65534/)
})
