import { execFileSync } from 'node:child_process'
import { randomBytes, type webcrypto } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLogger } from '@roost/base'
import type { AppName } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createControlPlane, memoryDeps, openSqlite } from '../control-plane.ts'
import { purge } from '../laps/purge-lap.ts'
import { createSteppedClock } from '../laps/simulated-hosts.ts'
import { listMachines } from '../store/machines.ts'
import { openMasterKey } from './master-key.ts'
import { createSecrets } from './secrets.ts'

/** The server's files on a disk of their own, every block of which is looked at: also those of files that are gone. */
const DISK_MB = 32
let folder: string
let image: string
let disk: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'secret-disk-'))
  image = join(folder, 'disk.img')
  disk = join(folder, 'disk')
  mkdirSync(disk)
  execFileSync('truncate', ['-s', `${DISK_MB}M`, image])
  execFileSync('mkfs.ext4', ['-q', '-F', image])
  execFileSync('mount', ['-o', 'loop', image, disk])
})
afterEach(() => {
  execFileSync('sh', ['-c', `mountpoint -q ${disk} && umount ${disk} || true`])
  rmSync(folder, { recursive: true })
})

/** Where in the raw blocks any of the texts is. */
function findInBlocks(texts: readonly string[]): string[] {
  const handle = openSync(image, 'r')
  const bytes = Buffer.alloc(DISK_MB * 1024 * 1024)
  readSync(handle, bytes, 0, bytes.length, 0)
  closeSync(handle)
  return texts.filter((text) => bytes.includes(text))
}

test('a secret is in no block of the disk: not after it is set, rolled out, changed, removed, and its app destroyed', async () => {
  const planted = ['first', 'second', 'env'].map(
    (name) => `planted-${name}-${randomBytes(24).toString('hex')}`,
  )
  const [first = '', second = ''] = planted
  const log = createLogger({ program: 'server', file: join(disk, 'log'), level: 'debug' })
  const clock = createSteppedClock(1_000_000)
  const store = openSqlite({ file: join(disk, 'roost.db'), clock })
  const secrets = createSecrets(await openMasterKey(join(disk, 'master.key')))
  const control = createControlPlane(memoryDeps({ clock, change: { store, secrets, log } }))
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  const keys = await crypto.subtle.generateKey('X25519', true, ['deriveBits'])
  const raw = await crypto.subtle.exportKey('raw', (keys as webcrypto.CryptoKeyPair).publicKey)
  await control.addHost({
    name: 'ams-1',
    region: 'ams',
    public_address: '198.51.100.1',
    wireguard: { endpoint: '198.51.100.1:51820', public_key: 'k' },
    sealing_key: Buffer.from(raw).toString('base64'),
    cpus: 4,
    memory_mb: 4096,
    builder: false,
  })
  const app = { params: { app: 'shop' } }
  await control.call('createApp', { body: { app_name: 'shop', org_slug: 'personal' } })
  const set = (values: Record<string, string | null>, stage: boolean) =>
    control.call('setSecrets', { ...app, body: { values, stage } })
  const forms = planted.flatMap((text) => [
    text,
    Buffer.from(text).toString('base64').slice(0, 24),
    Buffer.from(text).toString('hex').slice(0, 48),
  ])
  const marker = `marker-${randomBytes(16).toString('hex')}`
  const expectClean = () => {
    execFileSync('sync', ['-f', disk])
    expect(findInBlocks(forms)).toEqual([])
  }

  await set({ TOKEN: first }, true)
  expectClean()
  await control.call('createRelease', {
    ...app,
    body: {
      config: { image: 'registry.internal/shop:1', env: { CONTROL: marker } },
      regions: ['ams'],
    },
  })
  const stop = control.start()
  for (let n = 0; n < 5; n++) await clock.advance(1_000)
  const machines = await store.read((reader) => listMachines(reader, { app: 'shop' as AppName }))
  expect(machines.length).toBeGreaterThan(0)
  expect(machines[0]?.assignment.sealedSecrets).toMatch(/./)
  expectClean()
  // The search finds what is there.
  execFileSync('sync', ['-f', disk])
  expect(findInBlocks([marker])).toEqual([marker])

  await set({ TOKEN: second }, false)
  await set({ TOKEN: null }, true)
  await expect(set({ 'NOT A NAME': planted[2] ?? '' }, true)).rejects.toThrow()
  for (let n = 0; n < 3; n++) await clock.advance(1_000)
  await control.call('deleteApp', { ...app, query: { force: 'true' } })
  const stopped = stop()
  await clock.advance(20_000)
  await stopped
  await purge(store, clock.now())
  expectClean()
  await store.close()
  expectClean()
})
