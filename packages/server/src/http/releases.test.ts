import {
  type ReleaseEvent,
  type ReleaseReply,
  type RouteName,
  releaseReply,
  routes,
} from '@roost/api'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { z } from 'zod'
import { type ControlPlane, createControlPlane, memoryDeps } from '../control-plane.ts'
import type { Deps } from '../deps.ts'
import { createSteppedClock, type SimulatedHosts, simulateHosts } from '../laps/simulated-hosts.ts'
import { listHosts } from '../store/hosts.ts'
import { trialHost } from './trial-host.ts'

const START = 1_700_000_000_000
let deps: Deps
let server: ControlPlane
let clock: ReturnType<typeof createSteppedClock>
let world: SimulatedHosts
let stop: () => Promise<void>

beforeEach(async () => {
  clock = createSteppedClock(START)
  deps = memoryDeps({ clock })
  server = createControlPlane(deps)
  await server.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  for (const [n, region] of ['ams', 'iad'].entries())
    await server.addHost(
      trialHost(`${region}-1`, { public_address: `198.51.100.${n + 1}`, memory_mb: 2048 }),
    )
  const hosts = await deps.store.read(listHosts)
  world = simulateHosts({
    store: deps.store,
    clock,
    presence: deps.presence,
    hosts,
    fateOf: () => ({}),
  })
  await world.tick()
  stop = server.start()
  await call('createApp', { body: { app_name: 'shop' } })
})

afterEach(async () => {
  const stopped = stop()
  await clock.advance(1)
  await stopped
  await deps.store.close()
})

const shop = { app: 'shop' }

/** Checks the reply by the route's own schema, as a client does. */
async function call<T>(name: RouteName, input: object): Promise<T> {
  const reply = await server.call(name, input)
  const schema = routes[name].reply as z.ZodType | 'lines' | 'none'
  return (typeof schema === 'string' ? reply : schema.parse(reply)) as T
}

const config = (image = 'registry.internal/shop:v1') => ({
  image,
  services: [{ protocol: 'tcp', internal_port: 8080 }],
})
const deploy = (body: object = {}) =>
  call<ReleaseReply>('createRelease', {
    params: shop,
    body: { config: config(), regions: ['ams', 'iad'], ...body },
  })

async function untilEnded(version: number, app = 'shop'): Promise<ReleaseReply> {
  for (let ms = 0; ms < 60_000; ms += 100) {
    const release = await call<ReleaseReply>('getRelease', { params: { app, version } })
    if (['complete', 'failed'].includes(release.status)) return release
    await world.tick()
    await clock.advance(100)
  }
  throw new Error('the release did not end')
}

test('a deploy is planned, rolled out, listed and told', async () => {
  const plan = await deploy({ plan_only: true })
  expect(plan).toMatchObject({ version: 1, status: 'pending' })
  expect(plan.plan.map((step) => `${step.kind} ${step.region} ${step.host}`).sort()).toEqual([
    'create ams ams-1',
    'create iad iad-1',
  ])
  expect(await call('listReleases', { params: shop })).toEqual([])

  expect(await deploy()).toMatchObject({ version: 1, status: 'starting', cause: 'deploy' })
  const done = await untilEnded(1)
  expect(done).toMatchObject({ status: 'complete', created_by: 'administrator' })
  expect(done.image).toMatch(/^registry\.internal\/shop:v1@sha256:[0-9a-f]{64}$/)
  expect(await call<ReleaseReply[]>('listReleases', { params: shop })).toEqual([done])

  const status = await call<z.infer<typeof routes.appStatus.reply>>('appStatus', { params: shop })
  expect(status).toMatchObject({ name: 'shop', hostname: 'shop.roost.test' })
  expect(status.release).toEqual(done)
  expect(status.machines.map((m) => `${m.state} ${m.region} ${m.host}`).sort()).toEqual([
    'started ams ams-1',
    'started iad iad-1',
  ])
  expect(status.machines[0]?.checks).toMatchObject([{ status: 'passing' }])
})

test('the progress of a release can be followed, left and taken up again', async () => {
  await deploy()
  const lines = async () =>
    call<(signal: AbortSignal) => AsyncIterable<ReleaseEvent>>('followRelease', {
      params: { ...shop, version: 1 },
    })
  const early: ReleaseEvent[] = []
  const gone = new AbortController()
  for await (const event of (await lines())(gone.signal)) {
    early.push(event)
    if (early.length === 2) break
  }
  const heard: ReleaseEvent[] = []
  const following = (async () => {
    for await (const event of (await lines())(new AbortController().signal)) heard.push(event)
  })()
  await untilEnded(1)
  await clock.advance(2000)
  await following
  expect(heard.slice(0, 2)).toEqual(early)
  expect(heard.at(-1)).toMatchObject({ status: 'complete' })
  expect(heard.map((e) => e.at)).toEqual(heard.map((e) => e.at).sort())
})

test('scale and secrets make releases of what serves', async () => {
  await expect(
    call('setScale', { params: shop, body: { scale: { ams: 2 } } }),
  ).rejects.toMatchObject({ code: 'conflict' })
  expect(await call('setSecrets', { params: shop, body: { values: { A: '1' } } })).toEqual({
    release: null,
  })
  await deploy()
  const first = await untilEnded(1)

  const plan = await call<ReleaseReply>('setScale', {
    params: shop,
    body: { scale: { ams: 2 }, plan_only: true },
  })
  expect(plan.plan).toMatchObject([{ kind: 'create', region: 'ams' }])
  await call('setScale', { params: shop, body: { scale: { ams: 2 } } })
  expect(await untilEnded(2)).toMatchObject({ cause: 'scale', image: first.image })

  expect(
    await call('setSecrets', { params: shop, body: { values: { A: '2' }, stage: true } }),
  ).toEqual({ release: null })
  const { release } = await call<{ release: ReleaseReply }>('setSecrets', {
    params: shop,
    body: { values: { A: '2' } },
  })
  expect(release).toMatchObject({ version: 3, cause: 'secrets', image: first.image })
  expect(release.plan.map((step) => step.kind)).toEqual(['replace', 'replace', 'replace'])
  expect((await untilEnded(3)).status).toBe('complete')
})

test('what can not be done says why with its code', async () => {
  await expect(deploy({ regions: ['fra'] })).rejects.toMatchObject({ code: 'unknown_region' })
  await expect(deploy({ config: config('registry.internal/missing') })).rejects.toMatchObject({
    code: 'image_not_found',
  })
  await expect(
    deploy({ config: { ...config(), guest: { memory_mb: 4096 } } }),
  ).rejects.toMatchObject({ code: 'no_room' })
  await expect(call('getRelease', { params: { ...shop, version: 9 } })).rejects.toMatchObject({
    code: 'not_found',
  })
  for (const name of ['listReleases', 'appStatus', 'listSecrets'] as const)
    await expect(call(name, { params: { app: 'nobody' } })).rejects.toMatchObject({
      code: 'not_found',
    })
  expect(releaseReply.array().parse(await server.call('listReleases', { params: shop }))).toEqual(
    [],
  )
})

test('process groups have machines, numbers and sizes of their own', async () => {
  type Status = z.infer<typeof routes.appStatus.reply>
  const worker = {
    init: { cmd: ['worker'] },
    guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 128 },
  }
  const groups = { worker }
  const web = { ...config(), metadata: { fly_process_group: 'web' } }
  const machines = async () => {
    const rows = await call<{ config: { metadata: object; guest: object; init: object } }[]>(
      'listMachines',
      { params: shop },
    )
    const { machines: shown } = await call<Status>('appStatus', { params: shop })
    const alive = shown.filter((m) => m.state === 'started')
    return {
      groups: alive.map((m) => `${m.group} ${m.region}`).sort(),
      configs: rows.map(({ config: c }) => c),
    }
  }
  await deploy({ config: web, groups, ha: false })
  expect(await untilEnded(1)).toMatchObject({ status: 'complete', groups: ['web', 'worker'] })
  expect((await machines()).groups).toEqual(['web ams', 'web iad', 'worker ams'])
  expect((await machines()).configs.filter(({ init }) => 'cmd' in init)).toMatchObject([
    { init: { cmd: ['worker'] }, metadata: { fly_process_group: 'worker' } },
  ])

  await call('setScale', { params: shop, body: { group_scale: { worker: { iad: 2 } } } })
  expect(await untilEnded(2)).toMatchObject({ status: 'complete', cause: 'scale' })
  expect((await machines()).groups).toEqual([
    ...['web ams', 'web iad', 'worker ams', 'worker iad', 'worker iad'],
  ])
  await call('setScale', { params: shop, body: { guests: { web: { memory_mb: 320 } } } })
  const sized = await untilEnded(3)
  expect(sized.plan.map(({ kind, group }) => `${kind} ${group}`)).toEqual([
    'replace web',
    'replace web',
  ])

  // A deploy that names no size leaves it as it is, and one without the group takes its machines away.
  await deploy({ config: web, regions: [] })
  expect(await untilEnded(4)).toMatchObject({ status: 'complete', groups: ['web'] })
  await world.tick()
  const left = await machines()
  expect(left.groups).toEqual(['web ams', 'web iad'])
  expect(left.configs.map(({ guest }) => guest)).toMatchObject([
    { memory_mb: 320 },
    { memory_mb: 320 },
  ])

  const back = await call<{ changes: { config: string[] } }>('createRollback', {
    params: shop,
    body: {},
  })
  expect(back.changes.config).toContain('processes.worker')
  await untilEnded(5)
  expect((await machines()).groups).toContain('worker ams')

  for (const [body, text] of [
    [{ groups: { web: worker }, config: web }, 'groups.web: config is that of this group already'],
    [{ group_scale: { jobs: { ams: 1 } } }, 'there is no process group jobs; there are: app'],
  ] as const)
    await expect(deploy(body)).rejects.toThrow(text)
  await expect(call('setScale', { params: shop, body: {} })).rejects.toThrow('say how many')
})

describe('a port that another app has taken', () => {
  const database = {
    image: 'registry.internal/shop:v1',
    services: [{ protocol: 'tcp', internal_port: 5432, ports: [{ port: 5432 }] }],
  }
  const taken = 'port 5432 belongs to the app blog: choose another'
  const release = (app: string, body: object = {}) =>
    call<ReleaseReply>('createRelease', {
      params: { app },
      body: { config: database, regions: ['ams'], ha: false, ...body },
    })
  const scale = (count: number, more: object = {}) =>
    call<ReleaseReply>('setScale', { params: shop, body: { scale: { ams: count }, ...more } })
  const machines = async () =>
    (await call<{ state: string }[]>('listMachines', { params: shop })).filter(
      ({ state }) => state !== 'destroyed',
    )

  test('while this one had no machines is not taken back by a change of scale', async () => {
    await call('createApp', { body: { app_name: 'blog' } })
    await release('shop')
    await untilEnded(1)
    await expect(release('blog')).rejects.toMatchObject({ code: 'conflict' })
    await scale(0)
    expect(await untilEnded(2)).toMatchObject({ status: 'complete' })
    await release('blog')
    expect(await untilEnded(1, 'blog')).toMatchObject({ status: 'complete' })

    const secrets = () => call('setSecrets', { params: shop, body: { values: { A: '1' } } })
    for (const ask of [() => scale(1), () => scale(1, { plan_only: true }), secrets])
      await expect(ask()).rejects.toMatchObject({ code: 'conflict', message: taken })
    expect(await machines()).toEqual([])
    // What needs no machine needs no port either.
    await scale(0)
    expect(await untilEnded(3)).toMatchObject({ status: 'complete' })
  })

  test('while a release waited makes that release fail, and what serves goes on', async () => {
    await call('createApp', { body: { app_name: 'blog' } })
    await deploy({ regions: ['ams'], ha: false })
    expect(await release('shop')).toMatchObject({ version: 2, status: 'pending' })
    await release('blog')
    expect((await untilEnded(1)).status).toBe('complete')
    expect(await untilEnded(2)).toMatchObject({ status: 'failed', reason: taken })
    expect(await untilEnded(1, 'blog')).toMatchObject({ status: 'complete' })
    expect((await machines()).map(({ state }) => state)).toEqual(['started'])
  })
})
