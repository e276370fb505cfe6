import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { App, AppName, HostId, MachineStatus, Policy, Release } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { insertToken } from '../access/tokens.ts'
import { createIds } from '../ids.ts'
import { commandMachine } from '../machine/command.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { deleteApp, listNetworks, networkNumber, putApp } from '../store/apps.ts'
import { putHost } from '../store/hosts.ts'
import { getMachine, hideMachinesOf, listMachines, markDestroyed } from '../store/machines.ts'
import { addReleaseEvent, listReleaseEvents, listReleases, putRelease } from '../store/releases.ts'
import { getSettings } from '../store/settings.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import type { Store } from '../store/store.ts'
import { acceptStatuses } from '../watch/accept-statuses.ts'
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
      await putRelease(tx, { app: shop, version, status, plan: [] } as unknown as Release)
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

const ams = 'a0000000000000' as HostId

async function withHost(to: Store): Promise<void> {
  await to.transaction(async (tx) => {
    const { number } = await networkNumber(tx, 'personal', 'default')
    const rest = { organization: 'personal', network: number, createdAt: 0, primaryRegion: null }
    await putApp(tx, { name: shop, ...rest, release: 0 })
    await putHost(tx, {
      id: ams,
      name: 'ams-1',
      number: 1,
      region: 'ams',
      sealingKey: '',
      capacity: { cpus: 4, memoryMb: 4096 },
    } as never)
  })
}

const config = {
  image: 'registry.internal/shop:1',
  env: { FILLER: 'x'.repeat(2_000) },
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [],
  checks: {},
  metadata: {},
  stop_config: { signal: 'SIGTERM', timeout_ms: 1 },
}

async function addMachine(to: Store, now: number) {
  const ids = createIds()
  const secrets = { sealForHost: async () => 'sealed for the host' }
  return to.transaction(async (tx) => {
    const { assignment } = await insertNewMachine(
      tx,
      { ids, now, secrets },
      {
        app: shop,
        host: { id: ams, name: 'ams-1', number: 1, region: 'ams' } as never,
        config: config as never,
        imageDigest: 'sha256:0',
        launch: true,
        source: 'user',
      },
    )
    return assignment
  })
}

test('four thousand changes leave a file that is no larger than the first two thousand left it', async () => {
  // Memory: what is measured is the file, not the disk.
  const folder = mkdtempSync('/dev/shm/purge-')
  const full = openSqlite({ file: join(folder, 'roost.db') })
  try {
    await withHost(full)
    const sizes: { bytes: number; walBytes: number }[] = []
    let now = 1_000
    for (let n = 1, changes = 0; changes < 4_000; n++) {
      const { id, instanceId, configGeneration } = await addMachine(full, ++now)
      const status = (state: MachineStatus['state'], sequence: number, exited: boolean) => ({
        id,
        host: ams,
        state,
        generation: 1,
        instanceId,
        configGeneration,
        sequence,
        startedAt: now + sequence,
        updatedAt: now,
        exit: exited
          ? { code: 1, signal: 0, oomKilled: false, requested: false, cause: null, at: now }
          : null,
        reason: null,
        restartCount: sequence,
        checks: [],
      })
      const report = (...statuses: MachineStatus[]) =>
        full.transaction((tx) => acceptStatuses(tx, ams, statuses, ++now))
      for (const [sequence, state] of (
        ['started', 'stopped', 'started', 'stopped'] as const
      ).entries())
        await report(status(state, sequence + 1, state === 'stopped'))
      await full.transaction(async (tx) => {
        const machine = await getMachine(tx, id)
        if (machine === null) throw new Error('it is gone')
        await commandMachine(tx, machine, { kind: 'destroy', force: true }, { now, source: 'user' })
      })
      await report(status('destroyed', 9, false))
      await full.transaction(async (tx) => {
        await putRelease(tx, { app: shop, version: n, status: 'complete', config } as never)
        const event = {
          at: '',
          status: 'complete',
          message: 'm',
          machine: null,
          region: null,
        } as const
        for (let k = 0; k < 10; k++) await addReleaseEvent(tx, { app: shop, version: n }, event)
      })
      changes += 8
      if (n % 125 !== 0) continue
      await purge(full, now, { tombstones: 200, destroyed: 100 })
      sizes.push(full.size())
    }
    expect(sizes).toHaveLength(4)
    const [, early = 0] = sizes.map(({ bytes }) => bytes)
    for (const { bytes, walBytes } of sizes.slice(2)) {
      expect(bytes).toBeLessThan(early * 1.05)
      expect(walBytes).toBe(0)
    }
    const rows = async (
      table: 'machines' | 'machine_events' | 'statuses' | 'machine_versions' | 'records',
    ) =>
      full.read(async ({ db }) => {
        const { n } = await db
          .selectFrom(table)
          .select((at) => at.fn.countAll<number>().as('n'))
          .executeTakeFirstOrThrow()
        return Number(n)
      })
    expect(await rows('machines')).toBe(100)
    expect(await rows('statuses')).toBe(100)
    expect(await rows('machine_versions')).toBe(100)
    expect(await rows('machine_events')).toBeLessThanOrEqual(100 * 50)
    expect(await rows('records')).toBeLessThan(210)
  } finally {
    await full.close()
    rmSync(folder, { recursive: true })
  }
}, 120_000)

test('what was sealed for a machine goes with it', async () => {
  await withHost(store)
  const { id } = await addMachine(store, 5)
  await store.transaction((tx) => markDestroyed(tx, id, 9))
  const [gone] = await store.read((reader) => listMachines(reader, { destroyed: true }))
  expect(gone).toMatchObject({ destroyedAt: 9, assignment: { id, sealedSecrets: null } })
})

test('a private network goes with its last app, once the last machine of that is gone', async () => {
  await withHost(store)
  await store.transaction(async (tx) => {
    const { number } = await networkNumber(tx, 'personal', 'own')
    await putApp(tx, {
      name: shop,
      organization: 'personal',
      network: number,
      createdAt: 0,
      primaryRegion: null,
      release: 0,
    })
  })
  const { id } = await addMachine(store, 5)
  await store.transaction(async (tx) => {
    await hideMachinesOf(tx, shop)
    await deleteApp(tx, shop)
  })
  const names = async () => (await store.read(listNetworks)).map(({ name }) => name)
  await purge(store, 10)
  expect(await names()).toEqual(['default', 'own'])
  await store.transaction((tx) => markDestroyed(tx, id, 11))
  await purge(store, 12)
  expect(await names()).toEqual(['default'])
  expect((await store.read(getSettings)).networks).toEqual([1])
})

test('tokens that have long expired go', async () => {
  const day = 86_400_000
  const token = (name: string, expiresAt?: number) =>
    store.transaction((tx) =>
      insertToken(
        tx,
        name,
        {
          name,
          policy: { actions: [], ...(expiresAt === undefined ? {} : { expiresAt }) } as Policy,
        },
        0,
      ),
    )
  await token('lasting')
  await token('just expired', 90 * day)
  await token('long expired', 60 * day)
  await purge(store, 100 * day)
  const left = await store.read(({ db }) =>
    db.selectFrom('tokens').select('name').orderBy('name').execute(),
  )
  expect(left.map(({ name }) => name)).toEqual(['just expired', 'lasting'])
})
