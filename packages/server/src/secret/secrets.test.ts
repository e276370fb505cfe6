import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AppName, MachineId, SecretVersions } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { forgetSecretVersions, secretVersions } from '../store/secret-versions.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import { openMasterKey } from './master-key.ts'
import { createSecrets } from './secrets.ts'

const shop = 'shop' as AppName
let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'roost-secrets-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

async function open() {
  const store = openSqlite({ file: join(folder, 'db', 'roost.sqlite') })
  const secrets = createSecrets(await openMasterKey(join(folder, 'master.key')))
  const set = (values: Record<string, string | null>, now = 1) =>
    store.transaction((tx) => secrets.change(tx, shop, values, now))
  return { store, secrets, set }
}

test('no value is anywhere in the files of the store', async () => {
  const { store, secrets, set } = await open()
  const planted = 'planted-value-9f2c71'
  await set({ TOKEN: planted, OTHER: `${planted}-other` })
  await set({ TOKEN: `${planted}-2`, OTHER: null })
  const look = async () => {
    for (const name of await readdir(join(folder, 'db'))) {
      const bytes = await readFile(join(folder, 'db', name))
      expect(bytes.includes(planted), name).toBe(false)
      expect(bytes.includes(Buffer.from(planted).toString('base64').slice(0, 20)), name).toBe(false)
    }
  }
  await look()
  expect((await store.read((reader) => secrets.list(reader, shop))).map((s) => s.name)).toEqual([
    'TOKEN',
  ])
  await store.close()
  await look()
})

test('a list has names, digests and times', async () => {
  const { store, secrets, set } = await open()
  expect(await set({ A: '1', B: '2' }, 10)).toBe(true)
  expect(await set({ A: '1' }, 20)).toBe(false)
  expect(await set({ A: '3', MISSING: null }, 30)).toBe(true)
  const list = await store.read((reader) => secrets.list(reader, shop))
  expect(list).toMatchObject([
    { name: 'A', digest: expect.stringMatching(/^[0-9a-f]{16}$/), createdAt: 10, updatedAt: 30 },
    { name: 'B', createdAt: 10, updatedAt: 10 },
  ])
  await store.close()
})

test('names that no shell knows or that Roost sets are refused, and then nothing changes', async () => {
  const { store, secrets, set } = await open()
  for (const name of ['a-b', '1A', '', 'FLY_REGION'])
    await expect(set({ GOOD: 'x', [name]: 'x' })).rejects.toMatchObject({ code: 'invalid' })
  await expect(set({ NUL: 'a\0b' })).rejects.toMatchObject({ code: 'invalid' })
  expect(await store.read((reader) => secrets.list(reader, shop))).toEqual([])
  await store.close()
})

test('an app without secrets has none to seal', async () => {
  const { store, secrets, set } = await open()
  const host = { sealingKey: Buffer.alloc(32, 9).toString('base64') }
  const seal = () =>
    store.read((reader) => secrets.sealForHost(reader, shop, host, '3d8d0000000001' as MachineId))
  expect(await seal()).toBe(null)
  await set({ A: '1' })
  expect(await seal()).toMatch(/^[A-Za-z0-9+/]+=*$/)
  await store.close()
})

test('an earlier version is sealed as long as it is kept, and never another in its place', async () => {
  const { store, secrets, set } = await open()
  const host = { sealingKey: Buffer.alloc(32, 9).toString('base64') }
  const id = '3d8d0000000001' as MachineId
  const seal = (versions: SecretVersions) =>
    store.read((reader) => secrets.sealForHost(reader, shop, host, id, versions))
  const versions = () => store.read((reader) => secretVersions(reader, shop))
  await set({ A: '1' })
  const first = await versions()
  await set({ A: null })
  await set({ A: '2' })
  expect(await versions()).not.toEqual(first)
  expect(await seal(first)).toMatch(/^[A-Za-z0-9+/]+=*$/)
  expect(await seal({})).toBe(null)
  await store.transaction((tx) => forgetSecretVersions(tx, shop))
  await expect(seal(first)).rejects.toMatchObject({
    code: 'conflict',
    message: 'the value that secret A of shop had has been destroyed',
  })
  expect(await seal(await versions())).toMatch(/^[A-Za-z0-9+/]+=*$/)
  await store.close()
})
