import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openMasterKey } from './master-key.ts'

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'roost-key-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

test('the key is made once, for its owner alone, and opens what it sealed', async () => {
  const file = join(folder, 'data', 'master.key')
  const [first, second] = await Promise.all([openMasterKey(file), openMasterKey(file)])
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  const sealed = first.seal('s3cret', 'shop/TOKEN')
  expect(sealed).not.toContain('s3cret')
  expect(second.open(sealed, 'shop/TOKEN')).toBe('s3cret')
  expect((await openMasterKey(file)).open(sealed, 'shop/TOKEN')).toBe('s3cret')
})

test('a sealed text opens in its own place only, and not when it was changed', async () => {
  const key = await openMasterKey(join(folder, 'master.key'))
  const sealed = key.seal('s3cret', 'shop/TOKEN')
  expect(() => key.open(sealed, 'blog/TOKEN')).toThrow('changed')
  expect(() => key.open(`${sealed.slice(0, -6)}AAAAAA`, 'shop/TOKEN')).toThrow('changed')
})

test('a new key on top seals, and the old one still opens', async () => {
  const file = join(folder, 'master.key')
  const before = await openMasterKey(file)
  const sealed = before.seal('s3cret', 'c')
  await writeFile(
    file,
    `${Buffer.alloc(32, 7).toString('base64')}\n${await readFile(file, 'utf8')}`,
  )
  const after = await openMasterKey(file)
  expect(after.open(sealed, 'c')).toBe('s3cret')
  expect(after.isOld(sealed)).toBe(true)
  expect(after.isOld(after.seal('s3cret', 'c'))).toBe(false)
  await writeFile(file, `${Buffer.alloc(32, 7).toString('base64')}\n`)
  const without = await openMasterKey(file)
  expect(() => without.open(sealed, 'c')).toThrow('which is not in')
})

test('equal values of one secret have equal digests, of others not', async () => {
  const key = await openMasterKey(join(folder, 'master.key'))
  expect(key.digest('v', 'shop/A')).toMatch(/^[0-9a-f]{16}$/)
  expect(key.digest('v', 'shop/A')).toBe(key.digest('v', 'shop/A'))
  expect(key.digest('v', 'shop/B')).not.toBe(key.digest('v', 'shop/A'))
})

test('a file that holds no key is refused', async () => {
  const file = join(folder, 'master.key')
  await writeFile(file, 'hello\n')
  await expect(openMasterKey(file)).rejects.toThrow('not a key')
})
