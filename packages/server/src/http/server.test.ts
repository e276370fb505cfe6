import { ERRORS, errorReply, machineReply, type RouteSpec, routes, SIGNS_HEADER } from '@roost/api'
import { silentLogger } from '@roost/base'
import { ADMIN, type AppName, deployRole, type HostId, type MachineStatus } from '@roost/core'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { insertToken } from '../access/tokens.ts'
import { type ControlPlane, createControlPlane, type Deps, memoryDeps } from '../control-plane.ts'
import { createSteppedClock, type SteppedClock } from '../laps/simulated-hosts.ts'
import { createApiListener } from './server.ts'
import { trialHost } from './trial-host.ts'

const START = Date.UTC(2026, 0, 1)
let clock: SteppedClock
let deps: Deps
let control: ControlPlane
let listener: ReturnType<typeof createApiListener>

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
    await insertToken(tx, 'admin', { name: 'administrator', policy: ADMIN }, START)
    await insertToken(tx, 'shop', { name: 'ci', policy: deployRole('shop' as AppName) }, START)
    const expired = { ...ADMIN, expiresAt: START }
    await insertToken(tx, 'expired', { name: 'old', policy: expired }, START)
  })
  listener = createApiListener({ ...deps, log: silentLogger }, control.handlers)
  await listener.app.ready()
})
afterEach(async () => {
  await listener.close(0)
  await deps.store.close()
})

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

async function call(method: Method, url: string, body?: unknown, token = 'Bearer admin') {
  const reply = await listener.app.inject({
    method,
    url,
    headers: { ...(token === '' ? {} : { authorization: token }) },
    ...(body === undefined
      ? {}
      : {
          payload: JSON.stringify(body),
          headers: { authorization: token, 'content-type': 'application/json' },
        }),
  })
  return { status: reply.statusCode, body: reply.body === '' ? null : reply.json() }
}

async function refused(answer: ReturnType<typeof call>) {
  const { status, body } = await answer
  expect(errorReply.safeParse(body).success).toBe(true)
  expect(body.request_id).toMatch(/^[0-9a-f-]{36}$/)
  return [status, body.code, body.error]
}

const join = (name: string, region: string, memoryMb = 1024) =>
  control.addHost(trialHost(name, { region, memory_mb: memoryMb, builder: true }))

const CONFIG = { image: 'registry.internal/shop:v1' }

async function launch(input: Record<string, unknown> = {}) {
  const { status, body } = await call('POST', '/v1/apps/shop/machines', {
    config: CONFIG,
    region: 'ams',
    ...input,
  })
  expect(body).toMatchObject({ id: expect.stringMatching(/^[0-9a-f]{14}$/) })
  expect(status).toBe(200)
  return machineReply.parse(body)
}

/** What an honest host would say of a machine. */
async function say(id: string, state: MachineStatus['state'], change: Partial<MachineStatus> = {}) {
  const machine = await deps.store.read(async ({ db }) =>
    db.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirstOrThrow(),
  )
  const { generation, configGeneration, instanceId } = JSON.parse(machine.assignment)
  sequence++
  await control.report(machine.host as HostId, [
    {
      id: id as MachineStatus['id'],
      host: machine.host as HostId,
      state,
      generation,
      configGeneration,
      instanceId,
      sequence,
      startedAt: state === 'started' ? clock.now() : null,
      updatedAt: clock.now(),
      exit: null,
      reason: null,
      restartCount: 0,
      checks: [],
      ...change,
    },
  ])
}
let sequence = 0

describe('who may call', () => {
  const all = Object.entries(routes as Record<string, RouteSpec>)
  const urlOf = (spec: RouteSpec) =>
    spec.path.replace(':app', 'shop').replace(':id', '00000000000001').replace(/:\w+/, '1')

  // One server for all routes: to make it costs more than to ask it, and who is refused changes nothing.
  test('every route needs a token that is known and has not expired', async () => {
    for (const [name, spec] of all.filter(([, { action }]) => action !== 'open')) {
      const ask = async (token: string) => [
        name,
        ...(await refused(call(spec.method, urlOf(spec), undefined, token))),
      ]
      expect(await ask('')).toEqual([
        ...[name, 401, 'unauthorized'],
        'this needs a token: send it as "Authorization: Bearer <token>"',
      ])
      expect(await ask('Bearer expired')).toEqual([
        ...[name, 401, 'unauthorized'],
        expect.stringMatching(/^this token expired at .*Z; by this server's clock it is .*Z$/),
      ])
      for (const token of ['Bearer nonsense', 'Basic YWRtaW46', 'admin'])
        expect(await ask(token)).toEqual([
          ...[name, 401, 'unauthorized'],
          'this token is not known here',
        ])
    }
  })

  test('every route of another app is denied to a token for one', async () => {
    for (const [name, spec] of all.filter(([, { path }]) => path.includes(':app'))) {
      const url = urlOf(spec).replace('shop', 'blog')
      const answer = await refused(call(spec.method, url, undefined, 'Bearer shop'))
      expect([name, ...answer]).toEqual([
        ...[name, 403, 'forbidden'],
        expect.stringContaining(`this token does not allow ${String(spec.action)}`),
      ])
    }
  })

  test('a command line of another major version is refused, and told both versions', async () => {
    const ask = async (version: string) =>
      listener.app.inject({
        method: 'GET',
        url: '/v1/apps',
        headers: { authorization: 'Bearer admin', 'roost-version': version },
      })
    const other = await ask('7.0.0')
    expect(other.statusCode).toBe(426)
    expect(other.headers['roost-version']).toBe('0.0.0')
    expect(other.json()).toMatchObject({
      code: 'version_mismatch',
      error:
        'this server is Roost 0.0.0, the command line is 7.0.0: they do not understand each other',
    })
    for (const version of ['0.0.0', '0.9.1', 'nonsense'])
      expect((await ask(version)).statusCode, version).toBe(200)
  })

  test('both forms of authorization are read, also with several tokens', async () => {
    for (const token of ['Bearer admin', 'bearer admin', 'FlyV1 admin', 'FlyV1 other,admin'])
      expect((await call('GET', '/v1/apps', undefined, token)).status).toBe(200)
  })

  test('a token tells what it may do', async () => {
    expect((await call('GET', '/api/v1/whoami', undefined, 'Bearer shop')).body).toMatchObject({
      name: 'ci',
      apps: ['shop'],
      expires_at: null,
      domain: 'roost.test',
    })
  })
})

describe('apps', () => {
  test('are created, listed, read and destroyed', async () => {
    const created = await call('POST', '/v1/apps?wait=true', {
      name: 'shop',
      org_slug: 'personal',
      network: '',
      app_role_id: '',
    })
    expect(created).toMatchObject({
      status: 201,
      body: {
        id: 'shop',
        name: 'shop',
        status: 'pending',
        machine_count: 0,
        network: 'default',
        organization: { slug: 'personal' },
      },
    })
    expect((await call('GET', '/v1/apps/shop')).body).toEqual(created.body)
    await call('POST', '/v1/apps', { app_name: 'blog' })
    expect((await call('GET', '/v1/apps?org_slug=personal')).body).toMatchObject({
      total_apps: 2,
      apps: [{ name: 'blog' }, { name: 'shop' }],
    })
    expect((await call('GET', '/v1/apps', undefined, 'Bearer shop')).body.total_apps).toBe(1)
    expect(await call('DELETE', '/v1/apps/shop')).toEqual({ status: 202, body: null })
    expect(await refused(call('GET', '/v1/apps/shop'))).toEqual([404, 'not_found', 'app not found'])
  })

  test('have unique names of one form', async () => {
    await call('POST', '/v1/apps', { app_name: 'shop' })
    expect((await call('POST', '/v1/apps', { app_name: 'shop' })).body.status).toBe('name_taken')
    expect(await refused(call('POST', '/v1/apps', { app_name: 'shop' }))).toEqual([
      422,
      'name_taken',
      'Validation failed: Name has already been taken',
    ])
    expect((await refused(call('POST', '/v1/apps', { app_name: 'No!' })))[2]).toMatch(/^app_name: /)
    expect(await refused(call('POST', '/v1/apps', {}))).toEqual([
      400,
      'invalid',
      'name: an app needs a name',
    ])
    expect((await refused(call('POST', '/v1/apps')))[0]).toBe(400)
    expect(await refused(call('POST', '/v1/apps', { name: 'a', org_slug: 'acme' }))).toEqual([
      404,
      'not_found',
      'organization acme not found',
    ])
    expect(await refused(call('GET', '/v1/apps/No!'))).toEqual([404, 'not_found', 'app not found'])
  })

  test('of one network have its number, another name makes another', async () => {
    await join('ams-1', 'ams')
    for (const [name, network] of [
      ['shop', ''],
      ['blog', 'default'],
      ['vault', 'private'],
    ])
      await call('POST', '/v1/apps', { name, network })
    const address = async (app: string) =>
      (await call('POST', `/v1/apps/${app}/machines`, { config: CONFIG })).body.private_ip
    expect(await address('shop')).toMatch(/^fdaa:0:1:1:/)
    expect(await address('blog')).toMatch(/^fdaa:0:1:1:/)
    expect(await address('vault')).toMatch(/^fdaa:0:2:1:/)
  })

  test('take their machines with them, and a new one of the same name has none', async () => {
    await join('ams-1', 'ams')
    await call('POST', '/v1/apps', { name: 'shop' })
    const { id } = await launch()
    await call('DELETE', '/v1/apps/shop')
    await call('POST', '/v1/apps', { name: 'shop' })
    expect((await call('GET', '/v1/apps/shop/machines?include_deleted=true')).body).toEqual([])
    expect((await call('GET', `/v1/apps/shop/machines/${id}`)).status).toBe(404)
  })
})

describe('machines', () => {
  beforeEach(async () => {
    await join('ams-1', 'ams')
    await join('ams-2', 'ams')
    await join('iad-1', 'iad')
    await call('POST', '/v1/apps', { name: 'shop' })
  })

  test('are created with the defaults of the Machines API', async () => {
    const machine = await launch()
    expect(machine).toMatchObject({
      state: 'created',
      region: 'ams',
      host: expect.stringMatching(/^ams-[12]$/),
      host_status: 'ok',
      cordoned: false,
      image_ref: { registry: 'registry.internal', repository: 'shop', tag: 'v1' },
      config: {
        guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
        restart: { policy: 'on-failure', max_retries: 10 },
        stop_config: { signal: 'SIGINT', timeout: '5s' },
        auto_destroy: false,
        init: {},
        metadata: {},
      },
      events: [{ type: 'launch', status: 'created', source: 'user' }],
    })
    expect(machine.instance_id).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}$/)
    expect(machine.name).toMatch(/^[a-z]+-[a-z]+-\d{4}$/)
    const second = await launch({ name: 'web' })
    expect(second.name).toBe('web')
    expect(new Set([machine.host, second.host])).toEqual(new Set(['ams-1', 'ams-2']))
  })

  test.each([
    [{ mounts: [{ volume: 'vol_1', path: '/data' }] }, 'config.mounts is not supported: there are'],
    [{ guest: { gpus: 1 } }, 'config.guest.gpus is not supported: there are no GPUs'],
    [{ spot: { max_price_fraction: 0.5 } }, 'config.spot is not supported: no machine has a price'],
    [{ made_up: 1 }, 'config.made_up is not supported'],
  ])('%o is refused by name', async (config, text) => {
    const body = { config: { ...CONFIG, ...config } }
    expect(await refused(call('POST', '/v1/apps/shop/machines', body))).toEqual([
      422,
      'unsupported',
      expect.stringContaining(text),
    ])
  })

  test('what is empty asks for nothing', async () => {
    await launch({
      config: {
        ...CONFIG,
        mounts: [],
        files: null,
        schedule: '',
        dns: {},
        init: { tty: false, swap_size_mb: null },
      },
      skip_secrets: false,
    })
  })

  test.each([
    [{ config: {} }, 400, 'invalid', /^config\.image: /],
    [{ config: { image: 'A B' } }, 400, 'invalid', /^config\.image: A B is no image reference$/],
    [{ config: { image: 'missing' } }, 422, 'image_not_found', /docker\.io\/library\/missing/],
    [
      { config: { ...CONFIG, guest: { memory_mb: 1 } } },
      400,
      'invalid',
      /^config\.guest\.memory_mb: /,
    ],
    [{ config: CONFIG, region: 'xyz' }, 422, 'unknown_region', /there are hosts in ams, iad$/],
    [
      { config: { ...CONFIG, guest: { memory_mb: 4096 } }, region: 'iad' },
      422,
      'no_room',
      /^could not reserve resource for machine: /,
    ],
  ])('%o is refused', async (body, status, code, text) => {
    const answer = await refused(call('POST', '/v1/apps/shop/machines', body))
    expect(answer.slice(0, 2)).toEqual([status, code])
    expect(answer[2]).toMatch(text)
  })

  test('no room has the name that clients of the Machines API know', async () => {
    const config = { ...CONFIG, guest: { memory_mb: 4096 } }
    const { body } = await call('POST', '/v1/apps/shop/machines', { config, region: 'iad' })
    expect(body.status).toBe('insufficient_capacity')
  })

  test('a name is given once', async () => {
    const { id } = await launch({ name: 'web' })
    const body = { config: CONFIG, name: 'web' }
    expect(await refused(call('POST', '/v1/apps/shop/machines', body))).toEqual([
      409,
      'conflict',
      `unique machine name violation: machine ${id} already exists with name "web"`,
    ])
  })

  test('what is not there is not found', async () => {
    const notFound = [404, 'not_found', 'machine not found']
    for (const id of ['00000000000000', 'nonsense']) {
      const url = `/v1/apps/shop/machines/${id}`
      expect(await refused(call('GET', url))).toEqual(notFound)
      expect(await refused(call('DELETE', url))).toEqual(notFound)
      expect(await refused(call('POST', `${url}/start`))).toEqual(notFound)
      expect(await refused(call('POST', `${url}/stop`))).toEqual(notFound)
      expect(await refused(call('POST', url, { config: CONFIG }))).toEqual(notFound)
      expect(await refused(call('GET', `${url}/wait`))).toEqual(notFound)
    }
    await call('POST', '/v1/apps', { name: 'blog' })
    const { id } = await launch()
    expect(await refused(call('GET', `/v1/apps/blog/machines/${id}`))).toEqual(notFound)
    expect(await refused(call('GET', '/v1/apps/none/machines'))).toEqual([
      404,
      'not_found',
      'app not found',
    ])
  })

  test('are listed by region, state and metadata', async () => {
    const first = await launch({ config: { ...CONFIG, metadata: { role: 'web' } } })
    const second = await launch({ region: 'iad' })
    await say(second.id, 'started')
    const ids = async (query: string) =>
      (await call('GET', `/v1/apps/shop/machines${query}`)).body.map((m: { id: string }) => m.id)
    expect(await ids('')).toEqual(expect.arrayContaining([first.id, second.id]))
    expect(await ids('?region=iad')).toEqual([second.id])
    expect(await ids('?state=created')).toEqual([first.id])
    expect(await ids('?state=created,started')).toHaveLength(2)
    expect(await ids('?metadata.role=web')).toEqual([first.id])
  })

  test('start, stop, update and go, with the events that clients look for', async () => {
    const { id, instance_id } = await launch()
    const url = `/v1/apps/shop/machines/${id}`
    const get = async () => (await call('GET', url)).body
    await say(id, 'started')
    expect((await get()).state).toBe('started')
    expect(await call('POST', `${url}/start`)).toMatchObject({
      status: 200,
      body: { previous_state: 'started' },
    })

    expect(await refused(call('DELETE', url))).toEqual([
      412,
      'precondition_failed',
      "unable to destroy machine, not currently stopped, current state: 'started'",
    ])
    expect(await call('POST', `${url}/stop`, { signal: '', timeout: 0 })).toEqual({
      status: 200,
      body: { ok: true },
    })
    expect((await get()).state).toBe('stopping')
    const exit = {
      code: 0,
      signal: 2,
      oomKilled: false,
      requested: true,
      cause: null,
      at: clock.now(),
    }
    await say(id, 'stopped', { exit })
    const stopped = await get()
    expect(stopped.state).toBe('stopped')
    const events = stopped.events.map((e: { type: string }) => e.type)
    expect(events).toEqual(['exit', 'stop', 'start', 'launch'])
    expect(stopped.events[0].request).toMatchObject({
      exit_event: { exit_code: 0, requested_stop: true, exited_at: '2026-01-01T00:00:00.000Z' },
      restart_count: 0,
    })

    expect((await call('POST', `${url}/start`)).body.previous_state).toBe('stopped')
    expect((await get()).state).toBe('starting')
    await say(id, 'started')

    expect(await call('POST', `${url}/suspend`)).toEqual({ status: 200, body: { ok: true } })
    expect((await get()).state).toBe('suspending')
    await say(id, 'suspended')
    expect((await get()).state).toBe('suspended')
    expect(await call('GET', `${url}/wait?state=suspended`)).toMatchObject({ status: 200 })
    expect((await call('POST', `${url}/suspend`)).status).toBe(200)
    expect((await call('POST', `${url}/start`)).body.previous_state).toBe('suspended')
    expect(await refused(call('POST', `${url}/suspend`))).toEqual([
      412,
      'precondition_failed',
      "unable to suspend machine from current state: 'starting'",
    ])
    await say(id, 'started')
    // It ended before it could be suspended: nobody waits for that any longer.
    await call('POST', `${url}/suspend`)
    await say(id, 'stopped', { reason: 'exited with code 0: nothing is left to resume' })
    expect((await refused(call('GET', `${url}/wait?state=suspended`)))[2]).toBe(
      'machine failed to reach desired state: exited with code 0: nothing is left to resume',
    )
    await call('POST', `${url}/start`)
    await say(id, 'started')

    const update = { config: { ...CONFIG, env: { A: '1' } }, current_version: instance_id }
    const updated = (await call('POST', url, update)).body
    expect(updated.instance_id).not.toBe(instance_id)
    expect(updated).toMatchObject({ state: 'updating', config: { env: { A: '1' } } })
    expect((await refused(call('POST', url, update))).slice(0, 2)).toEqual([409, 'conflict'])
    expect(await refused(call('POST', url, { config: CONFIG, region: 'iad' }))).toEqual([
      400,
      'invalid',
      'region: the region of a machine can not be changed',
    ])

    expect(await call('DELETE', `${url}?force=true`)).toEqual({ status: 200, body: { ok: true } })
    expect((await get()).state).toBe('destroying')
    await say(id, 'destroyed')
    expect((await get()).state).toBe('destroyed')
    expect((await call('GET', '/v1/apps/shop/machines')).body).toEqual([])
    expect((await call('GET', '/v1/apps/shop/machines?include_deleted=true')).body).toHaveLength(1)
    expect((await refused(call('POST', `${url}/start`)))[0]).toBe(412)
  })

  test('a signal that does not exist is refused', async () => {
    const { id } = await launch()
    const url = `/v1/apps/shop/machines/${id}/stop`
    await say(id, 'started')
    expect((await refused(call('POST', url, { signal: 'SIGNOT' })))[2]).toMatch(/^signal: SIGNOT/)
    expect((await call('POST', url, { signal: 'term', timeout: '10s' })).status).toBe(200)
  })

  test('a machine that was never started can not be stopped, but can be destroyed', async () => {
    const { id } = await launch({ skip_launch: true })
    expect((await refused(call('POST', `/v1/apps/shop/machines/${id}/stop`))).slice(0, 2)).toEqual([
      412,
      'precondition_failed',
    ])
    expect((await call('DELETE', `/v1/apps/shop/machines/${id}`)).status).toBe(200)
  })

  describe('waiting', () => {
    const wait = (id: string, query: string) =>
      call('GET', `/v1/apps/shop/machines/${id}/wait${query}`)
    const ok = { status: 200, body: { ok: true } }
    /** Lets what was asked begin to wait. */
    const settle = () => clock.advance(0)

    test('ends when the state is reached, without a pause', async () => {
      const { id } = await launch()
      const waiting = wait(id, '')
      await settle()
      await say(id, 'starting')
      await say(id, 'started')
      expect(await waiting).toEqual(ok)
      expect(await wait(id, '?state=stopped&state=started')).toEqual(ok)
    })

    test('takes settled for any state that lasts', async () => {
      const { id } = await launch()
      const url = `/v1/apps/shop/machines/${id}`
      await say(id, 'started')
      await call('POST', url, { config: CONFIG })
      const waiting = wait(id, '?state=settled')
      await settle()
      await say(id, 'failed', { reason: 'no' })
      expect(await waiting).toEqual(ok)
    })

    test('gives up after the time that it was given', async () => {
      const { id } = await launch()
      const waiting = refused(wait(id, '?timeout=5'))
      await settle()
      for (let n = 0; n < 5; n++) await clock.advance(1000)
      expect(await waiting).toEqual([
        408,
        'timeout',
        `deadline exceeded: machine ${id} is created, not started, after 5s`,
      ])
    })

    test('does not wait for what can not come any more', async () => {
      const { id } = await launch()
      const exit = {
        code: 3,
        signal: 0,
        oomKilled: false,
        requested: false,
        cause: null,
        at: clock.now(),
      }
      await say(id, 'stopped', { exit })
      expect(await refused(wait(id, ''))).toEqual([
        400,
        'invalid',
        'machine failed to reach desired state: it exited with code 3',
      ])
      await call('DELETE', `/v1/apps/shop/machines/${id}?force=true`)
      const waiting = wait(id, '?state=destroyed')
      const other = refused(wait(id, '?state=started'))
      await settle()
      await say(id, 'destroyed')
      expect(await waiting).toEqual(ok)
      expect(await other).toEqual([404, 'not_found', 'machine not found'])
    })

    test('is for one version when one is named', async () => {
      const { id, instance_id } = await launch()
      await say(id, 'started')
      expect(await wait(id, `?version=${instance_id}`)).toEqual(ok)
      await call('POST', `/v1/apps/shop/machines/${id}`, { config: CONFIG })
      const waiting = wait(id, `?state=stopped&instance_id=${instance_id}`)
      await settle()
      await say(id, 'started')
      expect(await waiting).toEqual(ok)
      expect((await refused(wait(id, `?version=${instance_id}`)))[2]).toContain('was replaced')
      expect((await refused(wait(id, '?version=never')))[0]).toBe(404)
    })

    test('is for states that can be waited for', async () => {
      const { id } = await launch()
      expect((await refused(wait(id, '?state=happy')))[0]).toBe(400)
      expect((await refused(wait(id, '?timeout=soon')))[2]).toMatch(/^timeout: /)
    })
  })
})

describe('hosts', () => {
  const body = (name: string, token: string, key = name) => ({
    ...trialHost(name, {
      region: 'ams',
      memory_mb: 1024,
      wireguard: { endpoint: '192.0.2.1:51820', public_key: key },
    }),
    token,
    agent_csr: 'a',
    edge_csr: 'e',
  })
  const newToken = async () => (await call('POST', '/api/v1/hosts/join-tokens')).body.token

  test('join once with a token, and get the lowest number', async () => {
    const token = await newToken()
    const joined = await call('POST', '/api/v1/hosts/join', body('ams-1', token), '')
    expect(joined).toMatchObject({
      status: 201,
      body: { number: 1, ca: 'CA', server_url: 'https://10.210.4.1:4281', hosts: [{}] },
    })
    const id = joined.body.host_id
    expect(JSON.parse(joined.body.agent_certificate)).toEqual({
      uris: [`roost://agent/${id}`],
      ips: ['10.210.4.1', 'fdaa:0:0:1::1', '192.0.2.1'],
    })
    const again = await call('POST', '/api/v1/hosts/join', body('ams-1', token), '')
    expect(again.body.host_id).toBe(id)
    expect(
      await refused(call('POST', '/api/v1/hosts/join', body('ams-2', token, 'other'), '')),
    ).toEqual([401, 'unauthorized', 'this join token was used by another host'])
    expect(
      await refused(call('POST', '/api/v1/hosts/join', body('ams-1', await newToken(), 'x'), '')),
    ).toEqual([409, 'conflict', 'there is a host named ams-1 already'])
    const second = await call('POST', '/api/v1/hosts/join', body('ams-2', await newToken()), '')
    expect(second.body.number).toBe(2)
    expect((await call('GET', '/api/v1/hosts')).body).toMatchObject([
      { name: 'ams-1', mesh_address: '10.210.4.1', free_memory_mb: 1024, agent_seen_at: null },
      { name: 'ams-2', mesh_address: '10.210.8.1' },
    ])
  })

  test('do not join with a token of yesterday, nor with none that is known', async () => {
    const token = await newToken()
    await clock.advance(3_600_000)
    expect(await refused(call('POST', '/api/v1/hosts/join', body('a', token), ''))).toEqual([
      401,
      'unauthorized',
      'this join token has expired; make a new one',
    ])
    expect(await refused(call('POST', '/api/v1/hosts/join', body('a', 'x'), ''))).toEqual([
      401,
      'unauthorized',
      'this join token is not known',
    ])
  })

  test('do not join with a key that nothing can be sealed with', async () => {
    const token = await newToken()
    for (const sealing_key of ['', 's', Buffer.alloc(31).toString('base64')]) {
      const joining = { ...body('ams-1', token), sealing_key }
      expect(await refused(call('POST', '/api/v1/hosts/join', joining, ''))).toEqual([
        400,
        'invalid',
        'sealing_key: not the base64 of an X25519 key of 32 bytes',
      ])
    }
    expect((await call('POST', '/api/v1/hosts/join', body('ams-1', token), '')).status).toBe(201)
  })

  test('can be removed when they are silent, with what was on them', async () => {
    const { id } = await join('ams-1', 'ams')
    await call('POST', '/v1/apps', { name: 'shop' })
    await launch()
    await control.heartbeat({ program: 'agent', host: id }, { applied: 0, draining: [] })
    expect((await refused(call('DELETE', '/api/v1/hosts/ams-1'))).slice(0, 2)).toEqual([
      409,
      'conflict',
    ])
    await clock.advance(11_000)
    expect(await call('DELETE', '/api/v1/hosts/ams-1')).toEqual({ status: 200, body: { ok: true } })
    expect((await call('GET', '/v1/apps/shop/machines')).body).toEqual([])
    expect((await refused(call('DELETE', '/api/v1/hosts/ams-1')))[0]).toBe(404)
    await expect(control.report(id, [])).rejects.toMatchObject({ code: 'forbidden' })
  })

  test('make up the regions', async () => {
    await join('ams-1', 'ams')
    await join('ams-2', 'ams')
    await join('lab-1', 'lab')
    expect((await call('GET', '/api/v1/regions')).body).toEqual([
      {
        code: 'ams',
        name: 'Amsterdam, Netherlands',
        latitude: 52.37,
        longitude: 4.9,
        hosts: 2,
        free_memory_mb: 2048,
      },
      { code: 'lab', name: 'lab', latitude: null, longitude: null, hosts: 1, free_memory_mb: 1024 },
    ])
    expect((await call('GET', '/v1/platform/regions')).body).toMatchObject({
      Regions: [{ code: 'ams', geo_region: 'europe', capacity: 2048 }, { code: 'lab' }],
      Nearest: 'ams',
    })
  })
})

test('anybody may ask whether it is well, and what it understands', async () => {
  expect(await call('GET', '/api/v1/health', undefined, '')).toEqual({
    status: 200,
    body: { ok: true },
  })
  const { body } = await call('GET', '/api/v1/openapi.json', undefined, '')
  const operations = Object.values(body.paths as Record<string, object>).flatMap(Object.values)
  expect(operations.map((o) => o.operationId).sort()).toEqual(Object.keys(routes).sort())
  expect(body.openapi).toBe('3.1.0')
})

test('every code of an error has a status', () => {
  for (const { status } of Object.values(ERRORS)) expect(status).toBeGreaterThanOrEqual(400)
})

test('a quiet log gives signs of life as often as it says', async () => {
  await call('POST', '/v1/apps', { name: 'shop' })
  const [at] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  try {
    const reply = await fetch(`http://127.0.0.1:${at?.port}/api/v1/apps/shop/logs?follow=true`, {
      headers: { authorization: 'Bearer admin' },
    })
    const reader = reply.body?.getReader()
    const first = reader?.read()
    vi.advanceTimersByTime(Number(reply.headers.get(SIGNS_HEADER)) * 1000)
    expect(Buffer.from((await first)?.value ?? []).toString()).toBe('\n')
    await reader?.cancel()
  } finally {
    vi.useRealTimers()
  }
})
