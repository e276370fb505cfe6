import {
  type HostId,
  type MachineId,
  RELEASE_STEPS,
  type RegionCode,
  type Release,
  releaseOf,
} from '@roost/core'
import { afterEach, describe, expect, test } from 'vitest'
import { commandMachine } from '../machine/command.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { deleteApp, getApp } from '../store/apps.ts'
import { FileTrouble } from '../store/file-trouble.ts'
import { deleteHost } from '../store/hosts.ts'
import { deleteLease, putLease } from '../store/leases.ts'
import { hideMachinesOf, listMachines } from '../store/machines.ts'
import { getRelease, listReleases } from '../store/releases.ts'
import type { StepMoment } from './release-lap.ts'
import type { Fate } from './simulated-hosts.ts'
import { CONFIG, openTrialReleases, shop, trialHost } from './trial-releases.ts'

let stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.reverse()) await stop()
  stops = []
})

async function open(options: Parameters<typeof openTrialReleases>[0] = {}) {
  const opened = await openTrialReleases(options)
  stops.push(opened.close)
  return opened
}

const REGIONS = ['ams', 'iad', 'syd'] as RegionCode[]

test('a first release starts one machine in each region and then serves', async () => {
  const { release, ended, machines, events, store } = await open()
  const created = await release('sha256:1', { regions: REGIONS })
  expect(created).toMatchObject({ version: 1, status: 'starting' })
  expect(await ended(1)).toMatchObject({ status: 'complete', reason: null })
  expect((await machines()).map((m) => m.assignment.region).sort()).toEqual(REGIONS)
  expect((await machines())[0]?.assignment.config.metadata).toEqual({
    fly_platform_version: 'v2',
    fly_process_group: 'app',
    fly_release_id: 'shop-v1',
    fly_release_version: '1',
  })
  expect((await store.read((reader) => getApp(reader, shop)))?.release).toBe(1)
  const messages = (await events(1)).map((e) => e.message)
  expect(messages.filter((m) => m.endsWith('is ready'))).toHaveLength(3)
  expect(messages.at(-1)).toBe('release 1 is complete')
})

test('a second release starts first: as many machines serve all the while', async () => {
  const { release, ended, machines, versions } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  const done = await ended(2, 60_000, async () => {
    const serving = (await machines()).filter(
      (m) => m.readySince !== null && m.assignment.goal === 'started',
    )
    expect(serving.length).toBeGreaterThanOrEqual(3)
  })
  expect(done?.status).toBe('complete')
  expect(await versions()).toEqual(['2', '2', '2'])
})

describe('a release that fails leaves the old one serving and says why', () => {
  const cases: [string, Fate, string][] = [
    ['an image that exits at once', { exitCode: 3 }, 'exited with code 3'],
    ['an image that can not be pulled', { failure: 'pull: no such image' }, 'no such image'],
    ['a program that does not listen', { listenMs: null }, 'nothing listens on port 8080'],
  ]
  for (const [name, fate, why] of cases)
    test(name, async () => {
      const lines = [{ timestamp: 't', machine: 'm', region: 'r', host: 'h', message: 'boom!' }]
      const opened = await open({ fates: { 'sha256:bad': fate }, lines })
      const { release, ended, machines, versions, events, store } = opened
      await release('sha256:1', { regions: REGIONS })
      await ended(1)
      const before = (await machines()).map((m) => m.assignment.id)
      await release('sha256:bad')
      expect(await ended(2, 120_000)).toMatchObject({
        status: 'failed',
        reason: expect.stringContaining(why),
      })
      expect((await machines()).map((m) => m.assignment.id)).toEqual(before)
      expect(await versions()).toEqual(['1', '1', '1'])
      expect((await machines()).every((m) => m.assignment.routed)).toBe(true)
      expect((await store.read((reader) => getApp(reader, shop)))?.release).toBe(1)
      const told = await events(2)
      expect(told.some((e) => e.message.includes('boom!'))).toBe(true)
      expect(told.at(-1)?.message).toContain('it said last: boom!')
      expect(told.at(-1)).toMatchObject({ status: 'failed' })
    })

  test('a host that does not answer', async () => {
    const { release, ended, world, versions } = await open()
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    await release('sha256:2')
    world.deadAgents.add('00000000000002' as HostId)
    expect(await ended(2)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('host iad-1'),
    })
    const left = await versions()
    expect(left.filter((v) => v === '1')).toHaveLength(3)
  })
})

test('a server that is killed at any moment goes on, and makes no machine twice', async () => {
  for (const everyMs of [100, 300, 700, 1900]) {
    const { release, ended, world, killLaps, startLaps, clock, versions, store } = await open()
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    await release('sha256:2')
    let next = clock.now() + everyMs
    const done = await ended(2, 120_000, async () => {
      if (clock.now() < next) return
      await killLaps()
      startLaps()
      next = clock.now() + everyMs
      await world.tick()
    })
    expect(done?.status).toBe('complete')
    expect(await versions()).toEqual(['2', '2', '2'])
    const rows = await store.read((reader) => listMachines(reader, { app: shop, destroyed: true }))
    expect(rows).toHaveLength(6)
  }
})

test('a server that was away longer than the release may take does not give it up for that', async () => {
  const { release, ended, world, killLaps, startLaps, clock, presence } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  await clock.advance(10)
  await killLaps()
  for (let n = 0; n < 200; n++) {
    await world.tick()
    await clock.advance(1_000)
  }
  for (const number of [1, 2, 3]) presence.forget(`${number}`.padStart(14, '0') as HostId)
  startLaps()
  await clock.advance(10)
  expect(await ended(2)).toMatchObject({ status: 'complete', reason: null })
})

test('a release whose server has a full disk pauses, for longer than it may take, and goes on when there is room', async () => {
  const { release, ended, world, clock, store, versions } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  await clock.advance(10)
  const { transaction, trouble } = store
  const full = { since: clock.now(), lastAt: clock.now() }
  Object.assign(store, {
    transaction: async () => {
      full.lastAt = clock.now()
      throw new FileTrouble('disk_full', 'write roost.db: the file system is full')
    },
    trouble: () => ({ code: 'disk_full', message: 'full', over: false, ...full }),
  })
  for (let n = 0; n < 400; n++) {
    await world.tick().catch(() => {})
    await clock.advance(1_000)
  }
  const [newest] = await store.read((reader) => listReleases(reader, shop, 1))
  expect(newest).toMatchObject({ version: 2, status: 'starting' })
  Object.assign(store, {
    transaction,
    trouble: () => ({ code: 'disk_full', message: 'full', over: true, ...full }),
  })
  expect(await ended(2)).toMatchObject({ status: 'complete', reason: null })
  expect(await versions()).toEqual(['2', '2', '2'])
  Object.assign(store, { trouble })
})

test('a second release waits for the first, and says so', async () => {
  const { release, ended, events, versions } = await open()
  await release('sha256:1', { regions: REGIONS })
  expect(await release('sha256:2')).toMatchObject({ version: 2, status: 'pending', plan: [] })
  expect((await ended(2))?.status).toBe('complete')
  expect(await versions()).toEqual(['2', '2', '2'])
  expect((await events(2)).map((e) => e.message).join('\n')).toContain(
    'release 1 (deploy) by admin is still',
  )
})

test('secrets that are set while a release is on its way come with its image, not with the old one', async () => {
  const { release, ended, machines } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  await release('unused', {}, { cause: 'secrets', what: null })
  expect((await ended(3))?.imageDigest).toBe('sha256:2')
  expect((await machines()).map((m) => m.assignment.imageDigest)).toEqual(Array(3).fill('sha256:2'))
})

test('scale adds beside what runs and takes away what is too many', async () => {
  const { release, ended, machines } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  const before = (await machines()).map((m) => m.assignment.id)
  const scale = { ['ams' as RegionCode]: 3, ['syd' as RegionCode]: 0 }
  await release('unused', { scale }, { cause: 'scale', what: null })
  expect((await ended(2))?.status).toBe('complete')
  const after = (await machines()).map((m) => `${m.assignment.region}`).sort()
  expect(after).toEqual(['ams', 'ams', 'ams', 'iad'])
  const kept = (await machines()).filter((m) => before.includes(m.assignment.id))
  expect(kept).toHaveLength(2)
})

test('where there is no room for two at once, machines are replaced in waves', async () => {
  const small = [trialHost('ams-1', 1, 3 * 256)]
  const { release, ended, machines, versions } = await open({ hosts: small })
  await release('sha256:1', { scale: { ['ams' as RegionCode]: 2 } })
  await ended(1)
  const begun = await release('sha256:2')
  expect(begun.plan.map((r) => r.wave)).toEqual([0, 1])
  await ended(2, 60_000, async () => {
    const there = await machines()
    expect(there.length).toBeLessThanOrEqual(3)
    const serving = there.filter((m) => m.readySince !== null && m.assignment.goal === 'started')
    expect(serving.length).toBeGreaterThanOrEqual(2)
  })
  expect(await versions()).toEqual(['2', '2'])
})

test('what can not be done is refused, and nothing is stored', async () => {
  const { release, store } = await open()
  await expect(release('sha256:1', { regions: ['fra' as RegionCode] })).rejects.toMatchObject({
    code: 'unknown_region',
  })
  await expect(release('unused', {}, { cause: 'secrets', what: null })).rejects.toMatchObject({
    code: 'conflict',
  })
  expect(await store.read((reader) => getRelease(reader, shop, 1))).toBe(null)
})

test('a machine that a person made by hand is left alone', async () => {
  const { release, ended, machines, store, ids, secrets, clock } = await open()
  const mine = ids.machineId()
  await store.transaction((tx) =>
    insertNewMachine(
      tx,
      { ids, secrets, now: clock.now() },
      {
        id: mine,
        app: shop,
        host: trialHost('ams-1', 1),
        config: CONFIG,
        imageDigest: 'sha256:mine',
        launch: true,
        source: 'user',
      },
    ),
  )
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2')
  await ended(2)
  const found = (await machines()).find((m) => m.assignment.id === mine)
  expect(found?.assignment).toMatchObject({ goal: 'started', generation: 1 })
})

test('old machines are not stopped while somebody uses them, but at their deadline', async () => {
  const { release, ended, machines, until, world, clock } = await open()
  await release('sha256:1', { regions: ['ams' as RegionCode], ha: false })
  await ended(1)
  const [old] = (await machines()).map((m) => m.assignment.id as MachineId)
  world.sessions.set(old as MachineId, 1)
  await release('sha256:2')
  const leaves = async () =>
    (await machines()).some((m) => m.assignment.id === old && m.assignment.drain !== null)
  await until(leaves, 30_000)
  const from = clock.now()
  await until(async () => !world.running().includes(old as MachineId), 30_000)
  expect(clock.now() - from).toBeGreaterThan(4_000)
  expect((await ended(2))?.status).toBe('complete')
})

test('a dead edge is not waited for', async () => {
  const { release, ended, world } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  world.deadEdges.add('00000000000003' as HostId)
  await release('sha256:2')
  expect((await ended(2, 30_000))?.status).toBe('complete')
})

test('old machines stay while a living edge has not carried the new ones out', async () => {
  const { release, ended, until, world, events, machines, clock } = await open()
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  world.stuckEdges.add('00000000000003' as HostId)
  await release('sha256:2')
  const from = clock.now()
  await until(async () => clock.now() - from > 15_000, 20_000)
  expect((await events(2)).map((e) => e.message).join('\n')).toContain('edges are being told')
  const routed = (await machines()).filter((m) => m.assignment.routed)
  expect(routed.filter((m) => m.assignment.imageDigest === 'sha256:1')).toHaveLength(3)
  world.stuckEdges.clear()
  expect((await ended(2))?.status).toBe('complete')
})

describe('a machine that somebody has leased', () => {
  async function leased(ttlMs: number) {
    const opened = await open()
    const { release, ended, machines, store, clock } = opened
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    const [first] = await machines()
    if (first === undefined) throw new Error('no machine')
    const { id } = first.assignment
    const now = clock.now()
    const expiresAt = now + ttlMs
    const lease = { nonce: 'n', owner: 'flyctl', description: '', takenAt: now, expiresAt }
    await store.transaction((tx) => putLease(tx, id, lease))
    const touched = async () => (await machines()).find((m) => m.assignment.id === id)?.assignment
    const deadline = new Date(expiresAt).toISOString().replace(/\.\d+Z$/, 'Z')
    return { ...opened, id, before: first.assignment, touched, deadline }
  }

  test('is waited for until the lease ends by itself, and nothing is done to it before', async () => {
    const { release, ended, events, id, before, touched, deadline, clock } = await leased(30_000)
    const from = clock.now()
    await release('sha256:2')
    const done = await ended(2, 90_000, async () => {
      if (clock.now() < from + 30_000) expect(await touched()).toEqual(before)
    })
    expect(done?.status).toBe('complete')
    expect((await events(2)).map((e) => e.message).join('\n')).toContain(
      `machine ${id} in ${before.region} is waited for: lease currently held by flyctl, expires at ${deadline}`,
    )
  })

  test('is waited for no longer than until the lease is given back', async () => {
    const { release, ended, store, id, clock } = await leased(600_000)
    await release('sha256:2')
    const from = clock.now()
    await ended(2, 60_000, async () => {
      if (clock.now() === from + 20_000) await store.transaction((tx) => deleteLease(tx, id))
    })
    expect(clock.now() - from).toBeLessThan(40_000)
  })

  test('makes the release fail by name when its lease outlasts it, and stays as it was', async () => {
    const { release, ended, versions, before, touched, deadline } = await leased(3_000_000)
    await release('sha256:2', {}, { waitTimeoutMs: 20_000 })
    expect(await ended(2, 120_000)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining(`lease currently held by flyctl, expires at ${deadline}`),
    })
    expect(await touched()).toEqual(before)
    expect(await versions()).toEqual(['1', '1', '1'])
  })
})

const AMS = 'ams' as RegionCode
/** So that the order of waves is that of the regions here. */
const EACH = { scale: Object.fromEntries(REGIONS.map((region) => [region, 1])) }
const versionsOf = (opened: Awaited<ReturnType<typeof open>>) => async () =>
  (await opened.machines()).map((m) => releaseOf(m.assignment.config))

describe('machines that can not run twice', () => {
  test('get the new version where they are, one after the other, and are wanted started all the while', async () => {
    const opened = await open()
    const { release, ended, machines, world } = opened
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    const before = (await machines()).map((m) => m.assignment.id)
    const planned = await release('sha256:2', {}, { strategy: 'recreate' })
    expect(planned.plan.map((r) => r.source === r.target)).toEqual([true, true, true])
    const done = await ended(2, 60_000, async () => {
      expect((await machines()).every((m) => m.assignment.goal === 'started')).toBe(true)
      expect(world.running().length).toBeGreaterThanOrEqual(2)
    })
    expect(done?.status).toBe('complete')
    expect((await machines()).map((m) => m.assignment.id)).toEqual(before)
    expect(await versionsOf(opened)()).toEqual([2, 2, 2])
    expect((await machines()).every((m) => m.assignment.imageDigest === 'sha256:2')).toBe(true)
  })

  test('return to the version before when the new one fails', async () => {
    const opened = await open({ fates: { 'sha256:bad iad': { exitCode: 3 } } })
    const { release, ended, machines } = opened
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    const before = (await machines()).map((m) => m.assignment.id)
    await release('sha256:bad', {}, { strategy: 'recreate' })
    const failed = await ended(2)
    expect(failed).toMatchObject({ status: 'failed', returned: true })
    expect(failed?.reason).toMatch(/exited with code 3.*; all machines run release 1 again$/)
    expect((await machines()).map((m) => m.assignment.id)).toEqual(before)
    expect(await versionsOf(opened)()).toEqual([1, 1, 1])
    expect((await machines()).every((m) => m.readySince !== null)).toBe(true)
  })

  test('can not when their secrets change either', async () => {
    const { release, ended, machines } = await open()
    await release('sha256:1', { regions: [AMS], ha: false }, { strategy: 'recreate' })
    await ended(1)
    const [before] = (await machines()).map((m) => m.assignment.id)
    await release('unused', {}, { cause: 'secrets', what: null })
    expect((await ended(2))?.strategy).toBe('recreate')
    expect((await machines()).map((m) => m.assignment.id)).toEqual([before])
  })

  test('stay stopped when somebody stopped them', async () => {
    const { release, ended, machines, store, clock } = await open()
    await release('sha256:1', { regions: [AMS] })
    await ended(1)
    const [stopped] = await machines()
    if (stopped === undefined) throw new Error('no machine')
    await store.transaction((tx) =>
      commandMachine(tx, stopped, { kind: 'stop' }, { now: clock.now(), source: 'user' }),
    )
    await release('sha256:2', {}, { strategy: 'recreate' })
    expect((await ended(2))?.status).toBe('complete')
    const goals = (await machines()).map((m) => [m.assignment.goal, m.assignment.imageDigest])
    expect(goals.sort()).toEqual([
      ['started', 'sha256:2'],
      ['stopped', 'sha256:2'],
    ])
  })
})

describe('a release that fails late', () => {
  test('takes nothing from those that serve, and brings back those that were replaced', async () => {
    const opened = await open({ fates: { 'sha256:bad syd': { exitCode: 3 } } })
    const { release, ended, machines, store } = opened
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    // The last of three waves, so that two have been replaced by then.
    await release('sha256:bad', EACH, { strategy: 'rolling' })
    const failed = await ended(2, 60_000, async () => {
      const serving = (await machines()).filter(
        (m) => m.readySince !== null && m.assignment.goal === 'started',
      )
      expect(serving.length).toBeGreaterThanOrEqual(3)
    })
    expect(failed).toMatchObject({ status: 'failed', returned: true, returnTo: 1 })
    expect(await versionsOf(opened)()).toEqual([1, 1, 1])
    expect((await machines()).map((m) => m.assignment.region).sort()).toEqual(REGIONS)
    expect((await store.read((reader) => getApp(reader, shop)))?.release).toBe(1)
  })

  test('returns also when its machines end after it had begun to serve', async () => {
    const opened = await open({ fates: { 'sha256:bad': { exitCode: 9, exitAfterMs: 2_500 } } })
    const { release, ended, store, events } = opened
    await release('sha256:1', { regions: [AMS], ha: false })
    await ended(1)
    await release('sha256:bad')
    expect(await ended(2)).toMatchObject({
      status: 'failed',
      returned: true,
      reason: expect.stringContaining('it served, but machine'),
    })
    expect((await events(2)).map((e) => e.message)).toContain('release 2 serves')
    expect(await versionsOf(opened)()).toEqual([1])
    expect((await store.read((reader) => getApp(reader, shop)))?.release).toBe(1)
  })

  test('says what runs what, and what mends it, when it can not return', async () => {
    const { release, ended, world, presence, events } = await open({
      fates: { 'sha256:bad syd': { exitCode: 3, startMs: 4_000 } },
    })
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    await release('sha256:bad', EACH)
    let silent = false
    const failed = await ended(2, 120_000, async () => {
      // The host of the first that was replaced dies before the last one fails.
      if (silent || !(await events(2)).some((e) => e.message.includes('in syd is starting'))) return
      silent = true
      world.deadAgents.add('00000000000001' as HostId)
      world.deadEdges.add('00000000000001' as HostId)
      presence.forget('00000000000001' as HostId)
    })
    expect(failed).toMatchObject({ status: 'failed', returned: false })
    expect(failed?.reason).toMatch(/exited with code 3/)
    expect(failed?.reason).toMatch(/not everything could be returned/)
    expect(failed?.reason).toContain('roost rollback 1 -a shop, or roost deploy -a shop')
  })

  test('is over soon, so that the next one may begin', async () => {
    const { release, ended, clock, machines } = await open({
      fates: { 'sha256:bad': { exitCode: 3, stopMs: 60_000 } },
    })
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    const from = clock.now()
    await release('sha256:bad')
    await release('sha256:3')
    await ended(2)
    expect(clock.now() - from).toBeLessThan(15_000)
    expect((await ended(3))?.status).toBe('complete')
    expect((await machines()).filter((m) => m.assignment.goal === 'started')).toHaveLength(3)
  })
})

test('bluegreen sends requests to none of the new machines before all are ready', async () => {
  const { release, ended, machines } = await open({ fates: { 'sha256:2 syd': { startMs: 6_000 } } })
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2', {}, { strategy: 'bluegreen' })
  const counts = new Set<number>()
  const done = await ended(2, 60_000, async () => {
    const routed = (await machines()).filter((m) => m.assignment.routed)
    counts.add(routed.filter((m) => m.assignment.imageDigest === 'sha256:2').length)
    expect(routed.length).toBeGreaterThanOrEqual(3)
  })
  expect(done?.status).toBe('complete')
  expect([...counts].sort()).toEqual([0, 3])
})

test('immediate does not wait for checks', async () => {
  const { release, ended, machines } = await open({ fates: { 'sha256:2': { listenMs: null } } })
  await release('sha256:1', { regions: REGIONS })
  await ended(1)
  await release('sha256:2', {}, { strategy: 'immediate' })
  expect((await ended(2, 20_000))?.status).toBe('complete')
  expect((await machines()).every((m) => m.assignment.imageDigest === 'sha256:2')).toBe(true)
})

test('no more than max_unavailable are replaced at a time', async () => {
  const { release, ended, machines } = await open()
  await release('sha256:1', { scale: { [AMS]: 4 } })
  await ended(1)
  await release('sha256:2', {}, { maxUnavailable: 2 })
  let most = 0
  await ended(2, 60_000, async () => {
    const all = await machines()
    const fresh = all.filter((m) => m.assignment.imageDigest === 'sha256:2')
    most = Math.max(
      most,
      fresh.filter((m) => m.assignment.goal === 'started' && m.readySince === null).length,
    )
  })
  expect(most).toBe(2)
})

describe('two at once', () => {
  test('the second is refused by name when it does not want to wait', async () => {
    const { release, ended } = await open()
    await release('sha256:1', { regions: REGIONS })
    await expect(release('sha256:2', {}, { wait: false })).rejects.toMatchObject({
      code: 'conflict',
      message: 'release 1 (deploy) by admin is still being rolled out',
    })
    await ended(1)
  })

  test('a deploy while machines are added comes after, and to all of them', async () => {
    const opened = await open()
    const { release, ended } = opened
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    await release('unused', { scale: { [AMS]: 3 } }, { cause: 'scale', what: null })
    await release('sha256:3')
    expect((await ended(3))?.status).toBe('complete')
    expect(await versionsOf(opened)()).toEqual([3, 3, 3, 3, 3])
  })

  test('an app that is destroyed in the middle takes its release with it', async () => {
    const { release, until, world, store, clock, machines } = await open()
    await release('sha256:1', { regions: REGIONS })
    await clock.advance(400)
    await store.transaction(async (tx) => {
      for (const machine of await listMachines(tx, { app: shop }))
        await commandMachine(
          tx,
          machine,
          { kind: 'destroy', force: true },
          { now: clock.now(), source: 'user' },
        )
      await hideMachinesOf(tx, shop)
      await deleteApp(tx, shop)
    })
    await until(async () => world.running().length === 0, 10_000)
    expect(await store.read((reader) => getRelease(reader, shop, 1))).toBe(null)
    expect(await machines()).toEqual([])
  })

  test('a host that is removed in the middle makes it fail, and the rest returns', async () => {
    const opened = await open({ fates: { 'sha256:2 iad': { startMs: 20_000 } } })
    const { release, ended, store, clock, presence, world, machines } = opened
    await release('sha256:1', { regions: REGIONS })
    await ended(1)
    await release('sha256:2')
    await clock.advance(1_000)
    const iad = '00000000000002' as HostId
    world.deadAgents.add(iad)
    world.deadEdges.add(iad)
    await store.transaction((tx) => deleteHost(tx, iad))
    presence.forget(iad)
    expect(await ended(2)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('the host in iad was removed meanwhile'),
    })
    expect((await machines()).map((m) => m.assignment.region).sort()).toEqual(['ams', 'syd'])
    expect(await versionsOf(opened)()).toEqual([1, 1])
  })
})

/**
 * Every step of the enumeration, killed before and after its transaction: the server that starts then goes on from the store.
 */
describe('a server killed at a step goes on, and makes no machine twice:', () => {
  type Scenario = {
    readonly strategy: Release['strategy']
    readonly fates?: Readonly<Record<string, Fate>>
    readonly ends: 'complete' | 'failed'
  }
  const late: Scenario = {
    strategy: 'rolling',
    fates: { 'sha256:2 syd': { exitCode: 3 } },
    ends: 'failed',
  }
  const well: Scenario = { strategy: 'rolling', ends: 'complete' }
  const scenarios: Readonly<Record<string, Scenario>> = {
    'starting update': { strategy: 'recreate', ends: 'complete' },
    'starting admit': { strategy: 'bluegreen', ends: 'complete' },
    'starting revert': late,
    'draining revert': {
      strategy: 'bluegreen',
      fates: { 'sha256:2': { exitCode: 9, exitAfterMs: 2_500 } },
      ends: 'failed',
    },
    'reverting create': late,
    'reverting update': {
      strategy: 'recreate',
      fates: { 'sha256:2 syd': { exitCode: 3 } },
      ends: 'failed',
    },
    'reverting retire': late,
    'reverting fail': late,
  }
  for (const { status, step } of RELEASE_STEPS)
    for (const when of ['before', 'after'] as const)
      test(`${when} ${step} of one that is ${status}`, async () => {
        const key = `${status} ${step}`
        const scenario = scenarios[key] ?? well
        let killed = 0
        let dead = false
        const onStep = (moment: StepMoment) => {
          if (dead) throw new Error('killed')
          const is = moment.status === status && moment.step === step && moment.when === when
          if (!is || moment.version !== 2 || killed > 0) return
          killed++
          dead = true
          throw new Error('killed')
        }
        const fates = scenario.fates === undefined ? {} : { fates: scenario.fates }
        const opened = await open({ ...fates, onStep })
        const { release, ended, killLaps, startLaps, store, world, clock, events } = opened
        // Two at once, so that the second begins by a step of its own.
        await release('sha256:1', { regions: REGIONS })
        await release('sha256:2', EACH, { strategy: scenario.strategy })
        const done = await ended(2, 120_000, async () => {
          if (!dead) return
          await killLaps()
          for (let n = 0; n < 10; n++) {
            await world.tick()
            await clock.advance(100)
          }
          dead = false
          startLaps()
        })
        expect(killed, 'the step was taken').toBe(1)
        expect(done?.status).toBe(scenario.ends)
        const version = scenario.ends === 'complete' ? 2 : 1
        expect(await versionsOf(opened)()).toEqual([version, version, version])
        const rows = await store.read((reader) =>
          listMachines(reader, { app: shop, destroyed: true }),
        )
        const planned = new Set(
          [1, 2]
            .flatMap(() => [...(done?.plan ?? []), ...(done?.undo ?? [])])
            .flatMap((r) => [r.source, r.target]),
        )
        expect(rows.filter((m) => !planned.has(m.assignment.id))).toEqual([])
        const made = (await events(2)).filter((e) => / is (created|prepared) in /.test(e.message))
        expect(new Set(made.map((e) => e.machine)).size).toBe(made.length)
      })
})
