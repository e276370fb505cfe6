import { silentLogger } from '@roost/base'
import { ADMIN, type AppName, type HostId, type MachineId } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { insertToken } from '../access/tokens.ts'
import { type ControlPlane, createControlPlane, type Deps, memoryDeps } from '../control-plane.ts'
import { purge } from '../laps/purge-lap.ts'
import { createSteppedClock, type SteppedClock } from '../laps/simulated-hosts.ts'
import { commandMachine } from '../machine/command.ts'
import { getMachine } from '../store/machines.ts'
import { createApiListener } from './server.ts'
import { trialHost } from './trial-host.ts'

const START = Date.UTC(2026, 0, 1)
let clock: SteppedClock
let deps: Deps
let control: ControlPlane
let listener: ReturnType<typeof createApiListener>
let url = ''
let id = '' as MachineId

beforeEach(async () => {
  clock = createSteppedClock(START)
  deps = memoryDeps({ clock })
  control = createControlPlane(deps)
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  await deps.store.transaction(async (tx) => {
    await insertToken(tx, 'alice', { name: 'alice', policy: ADMIN }, START)
    await insertToken(tx, 'bob', { name: 'bob', policy: ADMIN }, START)
  })
  await control.addHost(trialHost('ams-1', { memory_mb: 1024 }))
  listener = createApiListener({ ...deps, log: silentLogger }, control.handlers)
  await listener.app.ready()
  await call('alice', 'POST', '/v1/apps', { body: { name: 'shop' } })
  const created = await call('alice', 'POST', '/v1/apps/shop/machines', {
    body: { region: 'ams', config: CONFIG },
  })
  id = created.body.id
  url = `/v1/apps/shop/machines/${id}`
})
afterEach(async () => {
  await listener.close(0)
  await deps.store.close()
})

const CONFIG = { image: 'registry.internal/shop:v1' }

async function call(
  who: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  { body, nonce }: { body?: unknown; nonce?: string } = {},
) {
  const reply = await listener.app.inject({
    method,
    url: path,
    headers: {
      authorization: `Bearer ${who}`,
      ...(nonce === undefined ? {} : { 'fly-machine-lease-nonce': nonce }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
  })
  return { status: reply.statusCode, body: reply.body === '' ? null : reply.json() }
}
const take = async (who: string, query = '?ttl=13', nonce?: string) =>
  call(who, 'POST', `${url}/lease${query}`, nonce === undefined ? {} : { nonce })
const nonceOf = (answer: Awaited<ReturnType<typeof call>>) => answer.body.data.nonce as string
const HELD = 'machine lease currently held by alice, expires at 2026-01-01T00:00:13Z'

test('a lease is taken, shown, refreshed under the same nonce, and given back', async () => {
  expect(await call('bob', 'GET', `${url}/lease`)).toMatchObject({
    status: 404,
    body: { error: 'machine lease not found' },
  })
  const taken = await take('alice')
  const machine = (await call('alice', 'GET', url)).body
  expect(taken).toMatchObject({
    status: 201,
    body: {
      status: 'success',
      data: {
        nonce: machine.nonce,
        expires_at: START / 1000 + 13,
        owner: 'alice',
        description: '',
        version: machine.instance_id,
      },
    },
  })
  expect((await call('bob', 'GET', `${url}/lease`)).body).toEqual(taken.body)
  await clock.advance(5_000)
  const again = await take('alice', '?ttl=13', nonceOf(taken))
  expect(again.body.data).toMatchObject({
    nonce: nonceOf(taken),
    expires_at: START / 1000 + 18,
  })
  expect(await call('bob', 'DELETE', `${url}/lease`)).toMatchObject({ status: 400 })
  expect(await call('bob', 'DELETE', `${url}/lease`, { nonce: 'other' })).toMatchObject({
    status: 409,
  })
  expect(await call('alice', 'DELETE', `${url}/lease`, { nonce: nonceOf(taken) })).toEqual({
    status: 200,
    body: { status: 'success', data: { ok: true } },
  })
  expect((await call('bob', 'GET', `${url}/lease`)).status).toBe(404)
  expect((await call('alice', 'GET', url)).body.nonce).toBeUndefined()
})

test('nobody else changes a leased machine, in any way; its holder does', async () => {
  const nonce = nonceOf(await take('alice'))
  expect(await take('bob')).toMatchObject({ status: 409, body: { code: 'conflict', error: HELD } })
  const changes: ['POST' | 'DELETE', string, unknown][] = [
    ['POST', '', { config: CONFIG }],
    ['POST', '/stop', {}],
    ['POST', '/restart', undefined],
    ['POST', '/restart?force_stop=true', undefined],
    ['POST', '/cordon', undefined],
    ['POST', '/uncordon', undefined],
    ['DELETE', '?force=true', undefined],
  ]
  for (const [method, path, body] of changes)
    for (const other of [{}, { nonce: 'another' }])
      expect(await call('bob', method, `${url}${path}`, { body, ...other })).toMatchObject({
        status: 409,
        body: { error: HELD },
      })
  const before = await deps.store.read((reader) => getMachine(reader, id))
  expect(before?.assignment.generation).toBe(1)
  for (const [method, path, body] of changes)
    expect(await call('alice', method, `${url}${path}`, { body, nonce })).toMatchObject({
      status: 200,
    })
})

test('a start is refused where it would change something', async () => {
  await call('alice', 'POST', `${url}/stop`, { body: {} })
  await take('alice')
  expect((await call('bob', 'POST', `${url}/start`)).body.error).toBe(HELD)
})

test('a lease ends by itself, and who comes too late hears that', async () => {
  const nonce = nonceOf(await take('alice'))
  await clock.advance(13_000)
  expect(await take('alice', '?ttl=13', nonce)).toMatchObject({
    status: 404,
    body: { error: 'machine lease not found' },
  })
  expect(await call('bob', 'POST', `${url}/cordon`)).toMatchObject({ status: 200 })
  expect((await take('bob')).status).toBe(201)
  await clock.advance(3_600_000)
  await purge(deps.store, clock.now())
  expect((await deps.store.read((reader) => getMachine(reader, id)))?.lease).toBeNull()
})

test('its time is bounded, in the query or in the body', async () => {
  expect(await take('alice', '?ttl=3601')).toMatchObject({
    status: 400,
    body: { error: expect.stringMatching(/^ttl: /) },
  })
  const body = { ttl: 60, description: 'by hand' }
  const taken = await call('alice', 'POST', `${url}/lease`, { body })
  expect(taken.body.data).toMatchObject({
    expires_at: START / 1000 + 60,
    description: 'by hand',
  })
  expect((await take('bob')).body.error).toBe(
    'machine lease currently held by alice, expires at 2026-01-01T00:01:00Z (by hand)',
  )
})

test('a machine may be born leased, and an update may take or renew a lease', async () => {
  const body = { region: 'ams', config: CONFIG, lease_ttl: 30 }
  const born = await call('alice', 'POST', '/v1/apps/shop/machines', { body })
  expect(born.body.nonce).toMatch(/^[\w-]{43}$/)
  url = `/v1/apps/shop/machines/${born.body.id}`
  expect((await take('bob')).status).toBe(409)
  await clock.advance(20_000)
  const nonce: string = born.body.nonce
  const updated = await call('alice', 'POST', url, { body, nonce })
  expect(updated).toMatchObject({ status: 200, body: { nonce } })
  await clock.advance(20_000)
  expect((await call('bob', 'GET', `${url}/lease`)).body.data.nonce).toBe(nonce)
})

test('a lease is gone with its machine, and holds up nobody who destroys the app', async () => {
  const nonce = nonceOf(await take('alice'))
  await call('alice', 'DELETE', `${url}?kill=true`, { nonce })
  expect((await call('alice', 'DELETE', `${url}/lease`, { nonce })).body.error).toBe(
    'machine lease not found',
  )
  expect(await take('alice')).toMatchObject({ status: 412 })

  const other = await call('alice', 'POST', '/v1/apps/shop/machines', {
    body: { region: 'ams', config: CONFIG, lease_ttl: 30 },
  })
  expect((await call('bob', 'DELETE', '/v1/apps/shop')).status).toBe(202)
  const stored = await deps.store.read((reader) => getMachine(reader, other.body.id))
  expect(stored).toMatchObject({ lease: null, assignment: { goal: 'destroyed' } })
})

test('what hosts and edges report is written down whoever holds a lease', async () => {
  await take('alice')
  await deps.store.transaction(async (tx) => {
    const machine = await getMachine(tx, id)
    if (machine === null) throw new Error('the machine is gone')
    const by = { now: clock.now(), source: 'flyd' } as const
    await commandMachine(tx, machine, { kind: 'running', configGeneration: 1 }, by)
    await commandMachine(tx, machine, { kind: 'drained' }, by)
    await expect(commandMachine(tx, machine, { kind: 'destroy' }, by)).rejects.toThrow(HELD)
  })
})

test('a restart shows as such until the new run is there; cordon and uncordon are told', async () => {
  const report = async (sequence: number, configGeneration: number) => {
    const machine = await deps.store.read((reader) => getMachine(reader, id))
    if (machine === null) throw new Error('the machine is gone')
    const { host, generation, instanceId } = machine.assignment
    await control.report(host as HostId, [
      {
        id,
        host,
        state: 'started',
        generation,
        configGeneration,
        instanceId,
        sequence,
        startedAt: START + configGeneration,
        updatedAt: START,
        exit: null,
        reason: null,
        restartCount: 0,
        checks: [],
      },
    ])
  }
  await report(1, 1)
  expect(await call('bob', 'POST', `${url}/restart?timeout=3s&signal=sigterm`)).toMatchObject({
    status: 200,
    body: { ok: true },
  })
  expect((await call('bob', 'GET', url)).body.state).toBe('restarting')
  const waited = call('bob', 'GET', `${url}/wait?state=started&timeout=10`)
  await report(2, 1)
  expect((await call('bob', 'GET', url)).body.state).toBe('restarting')
  await report(3, 2)
  expect((await waited).status).toBe(200)
  await call('bob', 'POST', `${url}/cordon`)
  await call('bob', 'POST', `${url}/cordon`)
  expect((await call('bob', 'GET', url)).body.cordoned).toBe(true)
  await call('bob', 'POST', `${url}/uncordon`)
  const events = (await call('bob', 'GET', `${url}/events`)).body
  expect(events.map((e: { type: string; source: string }) => `${e.type} by ${e.source}`)).toEqual([
    'uncordon by user',
    'cordon by user',
    'start by flyd',
    'restart by user',
    'start by flyd',
    'launch by user',
  ])
})

test('restart refuses what it does not understand', async () => {
  expect((await call('bob', 'POST', `${url}/restart?timeout=soon`)).body.error).toBe(
    'timeout: not a duration such as "15s": soon',
  )
  expect((await call('bob', 'POST', `${url}/restart?signal=SIGFOO`)).status).toBe(400)
})

const app = 'shop' as AppName
test('while a release is at work on a machine, it is the one that holds it', async () => {
  await deps.store.transaction(async (tx) => {
    const value = JSON.stringify({
      app,
      version: 7,
      status: 'starting',
      deadline: START + 300_000,
      plan: [{ source: id, target: 'new' }],
    })
    await tx.db
      .insertInto('releases')
      .values({ app, version: 7, status: 'starting', value })
      .execute()
  })
  expect(await take('alice')).toMatchObject({
    status: 409,
    body: {
      error: 'machine lease currently held by release 7 of shop, expires at 2026-01-01T00:05:00Z',
    },
  })
})
