import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ReleaseReply, RollbackReply, RouteName } from '@roost/api'
import { PlatformError } from '@roost/base'
import { type AppName, deployRole, RELEASES_RETURNABLE } from '@roost/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ControlPlane, createControlPlane, memoryDeps } from '../control-plane.ts'
import type { Deps } from '../deps.ts'
import { trialHost } from '../http/trial-host.ts'
import {
  createSteppedClock,
  type Fate,
  type SimulatedHosts,
  simulateHosts,
} from '../laps/simulated-hosts.ts'
import { openMasterKey } from '../secret/master-key.ts'
import { createSecrets } from '../secret/secrets.ts'
import { listHosts } from '../store/hosts.ts'
import { listMachines } from '../store/machines.ts'
import { secretVersions } from '../store/secret-versions.ts'

const shop = 'shop' as AppName
let folder: string
let deps: Deps
let server: ControlPlane
let clock: ReturnType<typeof createSteppedClock>
let world: SimulatedHosts
let fates: Record<string, Fate>
let stop: () => Promise<void>
const collected = new Set<string>()

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'roost-rollback-'))
  clock = createSteppedClock(1_700_000_000_000)
  fates = {}
  collected.clear()
  const plain = memoryDeps({ clock })
  const secrets = createSecrets(await openMasterKey(join(folder, 'master.key')))
  deps = {
    ...plain,
    // What a machine gets is seen here by its versions.
    secrets: {
      ...secrets,
      sealForHost: async (_reader, _app, _host, _machine, versions) => JSON.stringify(versions),
    },
    images: {
      async resolve(text) {
        if (collected.has(text)) throw new PlatformError('image_not_found', `${text} not found`)
        return plain.images.resolve(text)
      },
    },
  }
  server = createControlPlane(deps)
  await server.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  await server.addHost(trialHost('ams-1', { memory_mb: 8192 }))
  world = simulateHosts({
    store: deps.store,
    clock,
    presence: deps.presence,
    hosts: await deps.store.read(listHosts),
    fateOf: ({ config }) => fates[config.env['V'] ?? ''] ?? {},
  })
  await world.tick()
  stop = server.start()
  await server.call('createApp', { body: { app_name: 'shop' } })
})

afterEach(async () => {
  const stopped = stop()
  await clock.advance(1)
  await stopped
  await deps.store.close()
  await rm(folder, { recursive: true, force: true })
})

const call = async <T>(name: RouteName, body: object = {}, params: object = {}) =>
  (await server.call(name, { params: { app: 'shop', ...params }, body })) as T
const deploy = (v: string, body: object = {}) =>
  call<ReleaseReply>('createRelease', {
    config: {
      image: `registry.internal/shop:v${v}`,
      env: { V: v },
      services: [{ protocol: 'tcp', internal_port: 8080 }],
    },
    ...body,
  })
const rollback = (body: object = {}) => call<RollbackReply>('createRollback', body)
const setSecrets = (values: object, stage = false) => call('setSecrets', { values, stage })
const list = () => call<ReleaseReply[]>('listReleases')
const machines = () => deps.store.read((reader) => listMachines(reader, { app: shop }))

async function ended(version: number): Promise<ReleaseReply> {
  for (let n = 0; n < 1_000; n++) {
    const release = await call<ReleaseReply>('getRelease', {}, { version })
    if (release.status === 'complete' || release.status === 'failed') return release
    await world.tick()
    await clock.advance(100)
  }
  throw new Error(`release ${version} does not end`)
}

test('brings back image, configuration and secrets of then, as a new release that serves', async () => {
  await setSecrets({ KEY: 'one', GONE: 'x' }, true)
  await deploy('1')
  await ended(1)
  const then = await deps.store.read((reader) => secretVersions(reader, shop))
  await setSecrets({ KEY: 'two', GONE: null, NEW: 'y' }, true)
  await deploy('2')
  await ended(2)

  const { release, changes } = await rollback({ version: 1 })
  expect(changes).toEqual({
    image: { from: expect.stringContaining('shop:v2@'), to: expect.stringContaining('shop:v1@') },
    config: ['env.V'],
    secrets: [
      { name: 'GONE', change: 'set' },
      { name: 'KEY', change: 'another value' },
      { name: 'NEW', change: 'removed' },
    ],
  })
  expect(release).toMatchObject({ version: 3, cause: 'rollback', rollback_of: 1, serving: false })
  expect(await ended(3)).toMatchObject({ status: 'complete', serving: true })
  for (const { assignment } of await machines()) {
    if (assignment.goal !== 'started') continue
    expect(assignment.config.env['V']).toBe('1')
    expect(JSON.parse(assignment.sealedSecrets ?? '{}')).toEqual(then)
  }
  // What the next deploy brings is what was brought back.
  expect(await deps.store.read((reader) => secretVersions(reader, shop))).toEqual(then)
  expect((await list()).filter((r) => r.serving).map((r) => r.version)).toEqual([3])
})

test('a token of the app goes back to the image of another app that an administrator released', async () => {
  await deploy('1', { config: { image: 'registry.internal/blog:v3' } })
  await ended(1)
  await deploy('2')
  await ended(2)
  const caller = { name: 'ci', policy: deployRole(shop) }
  await server.call('createRollback', { params: { app: shop }, body: {}, caller })
  expect(await ended(3)).toMatchObject({ status: 'complete', rollback_of: 1 })
})

test('without a version goes to what served before, and again farther back', async () => {
  for (const v of ['1', '2', '3']) {
    await deploy(v)
    await ended(Number(v))
  }
  expect((await rollback()).release.rollback_of).toBe(2)
  await ended(4)
  expect((await rollback()).release.rollback_of).toBe(1)
  await ended(5)
  await expect(rollback()).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('no release of shop before release 1'),
  })
})

test('only shows what it would do when that is asked for', async () => {
  await deploy('1')
  await ended(1)
  await deploy('2')
  await ended(2)
  const { release } = await rollback({ plan_only: true })
  expect(release.plan).not.toEqual([])
  expect(await list()).toHaveLength(2)
})

describe('is refused, with the reason and what to do instead,', () => {
  beforeEach(async () => {
    await deploy('1')
    await ended(1)
  })
  test('when there is no such release', async () => {
    await expect(rollback({ version: 9 })).rejects.toMatchObject({
      code: 'not_found',
      message: 'shop has no release 9: it has only release 1 (roost releases -a shop)',
    })
  })
  test('when it is what serves, or the same', async () => {
    await expect(rollback({ version: 1 })).rejects.toMatchObject({
      message: 'release 1 of shop is what serves',
    })
    await deploy('1')
    await ended(2)
    await expect(rollback({ version: 1 })).rejects.toMatchObject({
      message: expect.stringContaining('is the same as what serves (release 2)'),
    })
  })
  test('when it never served', async () => {
    fates['2'] = { exitCode: 1 }
    await deploy('2')
    expect((await ended(2)).status).toBe('failed')
    await expect(rollback({ version: 2 })).rejects.toMatchObject({
      message: expect.stringContaining('failed and never served'),
    })
  })
  test('when its image was collected', async () => {
    await deploy('2')
    await ended(2)
    collected.add((await list())[1]?.image ?? '')
    await expect(rollback({ version: 1 })).rejects.toMatchObject({
      code: 'image_not_found',
      message: expect.stringContaining('the image of release 1 is no longer in the image store'),
    })
    expect(await list()).toHaveLength(2)
  })
  test('when the values of its secrets have been destroyed', async () => {
    await setSecrets({ KEY: 'old' })
    await ended(2)
    for (let n = 0; n <= RELEASES_RETURNABLE; n++) {
      await setSecrets({ KEY: `new ${n}` })
      await ended(3 + n)
    }
    await expect(rollback({ version: 2 })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('the values that KEY had in release 2 of shop'),
    })
    const kept = await deps.store.read((reader) =>
      reader.db.selectFrom('secret_versions').selectAll().execute(),
    )
    expect(kept.length).toBeLessThanOrEqual(RELEASES_RETURNABLE)
  })
  test('while another is at work, when it should not wait', async () => {
    await deploy('2')
    await expect(rollback({ wait: false })).rejects.toMatchObject({
      message: 'release 2 (deploy) by administrator is still being rolled out',
    })
    await ended(2)
  })
})

test('gives up the release that is on its way, and needs not wait until that fails', async () => {
  await deploy('1')
  await ended(1)
  fates['2'] = { listenMs: null }
  await deploy('2')
  await world.tick()
  await clock.advance(1_000)
  const from = clock.now()
  const { release } = await rollback()
  expect(release).toMatchObject({ version: 3, status: 'pending', rollback_of: 1 })
  expect(await ended(2)).toMatchObject({
    status: 'failed',
    reason: expect.stringContaining('asked for a rollback meanwhile (release 3)'),
  })
  expect((await ended(3)).status).toBe('complete')
  expect(clock.now() - from).toBeLessThan(20_000)
})

test('one that fails leaves the secrets as they were, and those that were set meanwhile', async () => {
  await setSecrets({ A: '1', B: '1' }, true)
  await deploy('1')
  await ended(1)
  await setSecrets({ A: '2', B: '2' }, true)
  await deploy('2')
  await ended(2)
  const before = await deps.store.read((reader) => secretVersions(reader, shop))
  // What once ran well does no longer.
  fates['1'] = { exitCode: 1 }
  await rollback({ version: 1 })
  await setSecrets({ B: '3' }, true)
  const set = (await deps.store.read((reader) => secretVersions(reader, shop)))['B']
  expect(await ended(3)).toMatchObject({ status: 'failed', returned: true, before: 2 })
  expect(await deps.store.read((reader) => secretVersions(reader, shop))).toEqual({
    ...before,
    B: set,
  })
})

test('of what can not run twice replaces in place', async () => {
  await deploy('1', { strategy: 'recreate' })
  await ended(1)
  await deploy('2', { strategy: 'recreate' })
  await ended(2)
  const ids = (await machines()).map((m) => m.assignment.id)
  const { release } = await rollback()
  expect(release.plan.every((step) => step.kind === 'update')).toBe(true)
  await ended(3)
  expect((await machines()).map((m) => m.assignment.id)).toEqual(ids)
})
