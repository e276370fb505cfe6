import { expect } from 'vitest'
import {
  type LeaseReply,
  type MachineReply,
  machineState,
} from '../../../packages/api/src/machines.ts'
import type { TrialApi, TrialReply } from '../../../packages/server/src/http/trial-api.ts'
import { differ, pass, type Row, type Section } from './row.ts'

const M = '/v1/apps/shop/machines'
const IMAGE = { config: { image: 'shop' } }
type Events = MachineReply['events']
const types = (events: Events) => events.map(({ type }) => type)
const shown = async (api: TrialApi, id: string) =>
  (await api.call<MachineReply>('GET', `${M}/${id}`)).body
/** Returns its nonce. */
const takeLease = async (api: TrialApi, id: string, query = '') =>
  (await api.call<LeaseReply>('POST', `${M}/${id}/lease${query}`)).body.data.nonce
const said = ({ status, body }: TrialReply) => [status, body.status, body.error]
const exit = (api: TrialApi, code: number) => ({
  exit: { code, signal: 0, oomKilled: false, requested: false, cause: null, at: api.clock.now() },
})

const TRANSPORT: readonly Row[] = [
  pass('`Authorization: Bearer …` and `FlyV1 …,…`; without it 401', async (api) => {
    for (const [authorization, status] of [
      ['Bearer admin', 200],
      ['FlyV1 other,admin', 200],
      ['', 401],
      ['Bearer nobody', 401],
    ] as const)
      expect((await api.call('GET', '/v1/apps', undefined, { authorization })).status).toBe(status)
  }),
  pass(
    'errors are `{error, status}` in JSON, with an id that is also in `fly-request-id`',
    async (api) => {
      const { body } = await api.call('GET', `${M}/00000000000001`)
      expect(body).toMatchObject({ error: 'machine not found', status: 'not_found' })
      expect(body.request_id).toMatch(/^[0-9a-f-]{36}$/)
    },
  ),
  pass(
    '`status` is `insufficient_capacity` where there is no room, with the words that clients look for',
    async (api) => {
      const guest = { cpu_kind: 'shared', cpus: 8, memory_mb: 9999 }
      const reply = await api.call('POST', M, { config: { image: 'shop', guest }, region: 'ams' })
      expect([reply.status, reply.body.status]).toEqual([422, 'insufficient_capacity'])
      expect(reply.body.error).toContain('could not reserve resource for machine')
    },
  ),
  pass(
    'a request without a body needs no content type, and an unknown parameter is no error',
    async (api) => {
      expect((await api.call('GET', `${M}?summary=true`)).status).toBe(200)
      const { id } = await api.launch()
      expect((await api.call('POST', `${M}/${id}/cordon`)).status).toBe(200)
    },
  ),
  differ(
    'one request a second for each action of a machine',
    'requests are not counted: the server is your own',
  ),
  differ('plain HTTP at `_api.internal:4280`', 'HTTPS at the public address of the server alone'),
  differ(
    'a socket `/.fly/api` in each machine',
    'machines have no identity towards the server yet',
  ),
  differ(
    '`Fly-Force-Instance-Id` and `Fly-Client-…` headers',
    'taken and ignored: there is one server',
    async (api) => {
      const reply = await api.call('GET', '/v1/apps', undefined, { 'fly-force-instance-id': 'x' })
      expect(reply.status).toBe(200)
    },
  ),
]

const APPS: readonly Row[] = [
  pass('a new app is `pending`, one with machines `deployed`', async (api) => {
    const created = await api.call('POST', '/v1/apps?wait=true', { name: 'blog', app_name: '' })
    expect([created.status, created.body.status]).toEqual([201, 'pending'])
    await api.launch()
    expect((await api.call('GET', '/v1/apps/shop')).body.status).toBe('deployed')
  }),
  differ(
    '`suspended` as the status of an app',
    'an app that has machines is `deployed`, whatever they do',
  ),
  pass('a name that is taken: 422, `name_taken`, `Name has already been taken`', async (api) => {
    const reply = await api.call('POST', '/v1/apps', { app_name: 'shop' })
    expect(said(reply)).toEqual([
      422,
      'name_taken',
      'Validation failed: Name has already been taken',
    ])
  }),
  pass('404: the name is free; 403: it is not for this token; 401: no token', async (api) => {
    expect((await api.call('GET', '/v1/apps/blog')).status).toBe(404)
    const other = { authorization: 'Bearer shop' }
    expect((await api.call('GET', '/v1/apps/blog', undefined, other)).status).toBe(403)
    expect((await api.call('GET', '/v1/apps/blog', undefined, { authorization: '' })).status).toBe(
      401,
    )
  }),
  pass('the network of an app is `default` unless one is named', async (api) => {
    expect((await api.call('GET', '/v1/apps/shop')).body['network']).toBe('default')
    await api.call('POST', '/v1/apps', { app_name: 'blog', network: 'inner' })
    expect((await api.call('GET', '/v1/apps/blog')).body['network']).toBe('inner')
  }),
  pass('a list for a role has none: no app here has one', async (api) => {
    expect((await api.call('GET', '/v1/apps?app_role=postgres_cluster')).body['total_apps']).toBe(0)
  }),
  differ(
    'without `force` an app that has machines that run is not destroyed',
    'its machines are stopped at once either way: clients never send `force`',
    async (api) => {
      await api.launch()
      expect((await api.call('DELETE', '/v1/apps/shop')).status).toBe(202)
      expect((await api.call('GET', '/v1/apps/shop')).status).toBe(404)
    },
  ),
  differ(
    '`DELETE /v1/apps/{app}/ip_assignments/{ip}`',
    '422 `unsupported`: the addresses are those of the hosts, and all apps share them',
    async (api) => {
      const reply = await api.call('DELETE', '/v1/apps/shop/ip_assignments/192.0.2.1')
      expect([reply.status, reply.body.code]).toEqual([422, 'unsupported'])
    },
  ),
]

const MACHINES: readonly Row[] = [
  pass(
    'a list leaves out those that are gone, unless `include_deleted`; they can still be read',
    async (api) => {
      const { id } = await api.launch()
      await api.call('DELETE', `${M}/${id}?kill=true`)
      await api.say(id, 'destroyed')
      expect((await api.call('GET', M)).body).toEqual([])
      expect((await api.call('GET', `${M}?include_deleted=true`)).body).toHaveLength(1)
      expect((await shown(api, id)).state).toBe('destroyed')
      expect((await api.call('GET', `${M}/${id}/events`)).status).toBe(200)
    },
  ),
  pass('a list can be narrowed by `region`, `state` and `metadata.key`', async (api) => {
    await api.launch({ config: { image: 'shop', metadata: { role: 'web' } } })
    await api.launch({ region: 'fra' })
    for (const query of ['region=fra', 'metadata.role=web'])
      expect((await api.call('GET', `${M}?${query}`)).body).toHaveLength(1)
    expect((await api.call('GET', `${M}?state=started`)).body).toHaveLength(0)
  }),
  pass(
    'a machine has an id of 14 hex characters, a ULID for each version, a name of its own',
    async (api) => {
      const machine = await api.launch()
      expect(machine.id).toMatch(/^[0-9a-f]{14}$/)
      expect(machine.instance_id).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}$/)
      expect(machine.name).toMatch(/^[a-z]+-[a-z]+-\d{4}$/)
    },
  ),
  pass(
    '`skip_launch` leaves it `created`; `skip_service_registration` makes it cordoned',
    async (api) => {
      const machine = await api.launch({ skip_launch: true, skip_service_registration: true })
      expect([machine.state, machine.cordoned]).toEqual(['created', true])
    },
  ),
  pass('`lease_ttl` answers with the nonce of a lease', async (api) => {
    expect((await api.launch({ lease_ttl: 30 })).nonce).toBeTruthy()
  }),
  pass('an update replaces the whole configuration, and makes a new `instance_id`', async (api) => {
    const first = await api.launch({ config: { image: 'shop', env: { A: '1' } } })
    const { body } = await api.call<MachineReply>('POST', `${M}/${first.id}`, IMAGE)
    expect(body.config['env']).toEqual({})
    expect(body.instance_id).not.toBe(first.instance_id)
  }),
  pass('an update with another `current_version` is refused (409)', async (api) => {
    const { id } = await api.launch()
    const body = { ...IMAGE, current_version: '01ARZ3NDEKTSV4RRFFQ69G5FAV' }
    expect((await api.call('POST', `${M}/${id}`, body)).status).toBe(409)
  }),
  pass('`region` and `name` can not be changed (400)', async (api) => {
    const { id } = await api.launch()
    for (const change of [{ region: 'fra' }, { name: 'other' }])
      expect((await api.call('POST', `${M}/${id}`, { ...IMAGE, ...change })).status).toBe(400)
  }),
  pass('a machine that runs is destroyed only with `force` or `kill`', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'started')
    expect((await api.call('DELETE', `${M}/${id}?kill=false`)).status).toBe(412)
    expect((await api.call('DELETE', `${M}/${id}?force=true`)).body).toEqual({ ok: true })
  }),
  differ(
    'a machine in the wrong state answers 400',
    '412: what was asked makes sense, only not now; the words are the same',
    async (api) => {
      const { id } = await api.launch({ skip_launch: true })
      expect((await api.call('POST', `${M}/${id}/stop`)).status).toBe(412)
    },
  ),
  pass('a start tells the state before', async (api) => {
    const { id } = await api.launch({ skip_launch: true })
    expect((await api.call('POST', `${M}/${id}/start`)).body['previous_state']).toBe('created')
  }),
  pass('a stop takes a signal and a timeout in each form, also `""` and `0s`', async (api) => {
    const { id } = await api.launch()
    for (const body of [
      { signal: 'SIGTERM', timeout: '10s' },
      { signal: '', timeout: '0s' },
      { signal: 'term', timeout: 1_000_000_000 },
      undefined,
    ])
      expect((await api.call('POST', `${M}/${id}/stop`, body)).body).toEqual({ ok: true })
    expect((await api.call('POST', `${M}/${id}/stop`, { signal: 'SIGNOT' })).status).toBe(400)
  }),
  pass(
    'a restart takes `force_stop`, `timeout` and `signal`, and stays of its version',
    async (api) => {
      const { id, instance_id } = await api.launch()
      await api.say(id, 'started')
      const url = `${M}/${id}/restart?force_stop=true&timeout=5s&signal=SIGTERM`
      expect((await api.call('POST', url)).body).toEqual({ ok: true })
      expect(await shown(api, id)).toMatchObject({ instance_id, state: 'restarting' })
    },
  ),
  pass('a signal is a name or a number', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'started')
    for (const signal of [9, 'SIGTERM'])
      expect((await api.call('POST', `${M}/${id}/signal`, { signal })).body).toEqual({ ok: true })
    expect(api.asked.map(({ body }) => body)).toEqual([
      { signal: 'SIGKILL' },
      { signal: 'SIGTERM' },
    ])
  }),
  pass('cordon and uncordon may be repeated, and the machine runs on', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'started')
    for (const verb of ['cordon', 'cordon', 'uncordon', 'uncordon'])
      expect((await api.call('POST', `${M}/${id}/${verb}`)).body).toEqual({ ok: true })
    expect((await shown(api, id)).cordoned).toBe(false)
  }),
  pass('metadata changes make no new version', async (api) => {
    const { id, instance_id } = await api.launch()
    expect((await api.call('POST', `${M}/${id}/metadata/a`, { value: 'b' })).status).toBe(204)
    const after = await shown(api, id)
    expect([after.instance_id, after.config['metadata']]).toEqual([instance_id, { a: 'b' }])
  }),
  pass('a suspend is for a machine that runs; a start resumes it', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'started')
    expect((await api.call('POST', `${M}/${id}/suspend`)).body).toEqual({ ok: true })
    await api.say(id, 'suspended')
    expect((await api.call('POST', `${M}/${id}/start`)).body['previous_state']).toBe('suspended')
  }),
  pass('`min_secrets_version` and `version` see at least what was written', async (api) => {
    const { body } = await api.call<{ version: number }>('POST', '/v1/apps/shop/secrets', {
      values: { A: '1', B: null },
    })
    const input = { ...IMAGE, min_secrets_version: body.version }
    expect((await api.call('POST', M, input)).status).toBe(200)
    const later = { ...IMAGE, min_secrets_version: body.version + 1 }
    expect((await api.call('POST', M, later)).status).toBe(412)
  }),
]

const LEASES: readonly Row[] = [
  pass(
    '`data` is never null, and its `version` is the `instance_id` of the machine',
    async (api) => {
      const { id, instance_id } = await api.launch()
      const { body } = await api.call<LeaseReply>('POST', `${M}/${id}/lease?ttl=13`)
      expect(body).toMatchObject({ status: 'success', data: { version: instance_id } })
      expect(body.data.expires_at).toBe(Math.floor(api.clock.now() / 1000) + 13)
    },
  ),
  pass('with the nonce it is refreshed, and keeps the nonce', async (api) => {
    const { id } = await api.launch()
    const nonce = await takeLease(api, id, '?ttl=13')
    const headers = { 'fly-machine-lease-nonce': nonce }
    const url = `${M}/${id}/lease?ttl=30`
    const again = await api.call<LeaseReply>('POST', url, undefined, headers)
    expect(again.body.data.nonce).toBe(nonce)
    expect((await shown(api, id)).nonce).toBe(nonce)
  }),
  pass(
    'others are refused with 409 and `lease currently held by`, and who has it is not',
    async (api) => {
      const { id } = await api.launch()
      const nonce = await takeLease(api, id)
      for (const verb of ['stop', 'restart', 'cordon', 'lease']) {
        const { status, body } = await api.call('POST', `${M}/${id}/${verb}`)
        expect([verb, status]).toEqual([verb, 409])
        expect(body.error).toContain('lease currently held by')
      }
      const headers = { 'fly-machine-lease-nonce': nonce }
      expect((await api.call('POST', `${M}/${id}/stop`, undefined, headers)).status).toBe(200)
    },
  ),
  pass('where there is none: 404 and ` lease not found`; it ends by itself', async (api) => {
    const { id } = await api.launch()
    await api.call('POST', `${M}/${id}/lease?ttl=5`)
    await api.clock.advance(5_000)
    const { status, body } = await api.call('GET', `${M}/${id}/lease`)
    expect(status).toBe(404)
    expect(body.error).toContain(' lease not found')
  }),
  pass('giving it back needs its nonce', async (api) => {
    const { id } = await api.launch()
    const nonce = await takeLease(api, id)
    expect((await api.call('DELETE', `${M}/${id}/lease`)).status).toBe(400)
    const headers = { 'fly-machine-lease-nonce': nonce }
    expect((await api.call('DELETE', `${M}/${id}/lease`, undefined, headers)).body).toEqual({
      status: 'success',
      data: { ok: true },
    })
  }),
]

const known = (state: string) =>
  pass(`\`${state}\``, () => {
    expect(machineState.options as readonly string[]).toContain(state)
  })

const STATES: readonly Row[] = [
  ...'created started stopped suspended failed starting stopping restarting suspending destroying updating replacing destroyed'
    .split(' ')
    .map(known),
  differ('`creating`', 'a machine is written down in one step, and `created` then'),
  differ('`launch_failed`', '`failed`, which stays and says why: nothing is destroyed by itself'),
  differ('`replaced`', 'of an older version only who waits for it hears'),
  differ('`migrated`', 'machines stay on their host'),
]

const EVENTS: readonly Row[] = [
  pass('newest first, of `launch`, `start`, `stop` and `exit`, with milliseconds', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'started')
    await api.clock.advance(10)
    await api.call('POST', `${M}/${id}/stop`)
    await api.say(id, 'stopped', exit(api, 0))
    const { events } = await shown(api, id)
    expect(types(events)).toEqual(['exit', 'stop', 'start', 'launch'])
    expect(events[0]?.timestamp).toBe(api.clock.now())
    expect((await api.call('GET', `${M}/${id}/events`)).body).toEqual(events)
  }),
  pass(
    'an `exit` always has `request.exit_event`, also where older clients look for it',
    async (api) => {
      const { id } = await api.launch()
      await api.say(id, 'started')
      await api.say(id, 'stopped', exit(api, 7))
      const [event] = (await api.call<Events>('GET', `${M}/${id}/events`)).body
      expect(event?.request?.exit_event).toMatchObject({ exit_code: 7, requested_stop: false })
      expect(event?.request?.MonitorEvent?.exit_event).toEqual(event?.request?.exit_event)
      expect(event?.request?.restart_count).toBe(0)
    },
  ),
  pass(
    '`update`, `restart`, `suspend`, `cordon` and `destroy` are told, by `user`',
    async (api) => {
      const { id } = await api.launch()
      await api.say(id, 'started')
      await api.call('POST', `${M}/${id}/restart`)
      await api.say(id, 'started')
      await api.call('POST', `${M}/${id}/suspend`)
      await api.call('POST', `${M}/${id}`, IMAGE)
      await api.call('POST', `${M}/${id}/cordon`)
      await api.call('DELETE', `${M}/${id}?force=true`)
      const { events } = await shown(api, id)
      for (const type of ['update', 'restart', 'suspend', 'cordon', 'destroy'])
        expect(types(events)).toContain(type)
      expect(events[0]?.source).toBe('user')
    },
  ),
]

const WAITS: readonly Row[] = [
  pass('`state` may be repeated, and is `started` unless it is said', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'started')
    for (const query of ['', '?state=stopped&state=started', '?state='])
      expect((await api.call('GET', `${M}/${id}/wait${query}`)).body).toEqual({ ok: true })
  }),
  pass('`settled` is any lasting state, `failed` too', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'failed', { reason: 'no' })
    expect((await api.call('GET', `${M}/${id}/wait?state=settled`)).status).toBe(200)
  }),
  pass('408 when its time is over, at most 60 s', async (api) => {
    const { id } = await api.launch()
    const waiting = api.call('GET', `${M}/${id}/wait?timeout=3`)
    for (let n = 0; n < 10; n++) await api.clock.advance(1000)
    expect((await waiting).status).toBe(408)
  }),
  pass(
    '`version` and `instance_id` pin it to a version; one that it never had is 404',
    async (api) => {
      const { id, instance_id } = await api.launch()
      await api.say(id, 'started')
      for (const key of ['version', 'instance_id'])
        expect((await api.call('GET', `${M}/${id}/wait?${key}=${instance_id}`)).status).toBe(200)
      expect((await api.call('GET', `${M}/${id}/wait?version=never`)).status).toBe(404)
    },
  ),
  pass('`from_event_id` counts only what came after that event', async (api) => {
    const { id } = await api.launch()
    await api.say(id, 'started')
    const [newest] = (await api.call<Events>('GET', `${M}/${id}/events`)).body
    const waiting = api.call('GET', `${M}/${id}/wait?from_event_id=${newest?.id}`)
    await api.clock.advance(0)
    await api.call('POST', `${M}/${id}/restart`)
    await api.say(id, 'started')
    expect((await waiting).status).toBe(200)
    expect((await api.call('GET', `${M}/${id}/wait?from_event_id=x`)).status).toBe(400)
  }),
  pass('a machine that is gone is 404, and success for who waits for `destroyed`', async (api) => {
    const { id } = await api.launch()
    await api.call('DELETE', `${M}/${id}?force=true`)
    await api.say(id, 'destroyed')
    expect((await api.call('GET', `${M}/${id}/wait?state=started`)).status).toBe(404)
    expect((await api.call('GET', `${M}/${id}/wait?state=destroyed`)).status).toBe(200)
  }),
  pass(
    'what can not come any more is 400, `machine failed to reach desired state`',
    async (api) => {
      const restart = { policy: 'no' }
      const { id } = await api.launch({ config: { image: 'shop', restart } })
      await api.say(id, 'stopped', exit(api, 1))
      const { status, body } = await api.call('GET', `${M}/${id}/wait`)
      expect(status).toBe(400)
      expect(body.error).toContain('machine failed to reach desired state')
    },
  ),
]

const CLIENTS: readonly Row[] = [
  pass(
    'a smoke check finds the newest `start` before the newest `launch`, also after an update',
    async (api) => {
      const { id } = await api.launch()
      await api.say(id, 'started')
      await api.call('POST', `${M}/${id}`, IMAGE)
      await api.clock.advance(10)
      await api.say(id, 'started')
      const events = types((await shown(api, id)).events)
      expect(events.indexOf('start')).toBeLessThan(events.indexOf('launch'))
    },
  ),
  pass(
    'a release command finds an `exit` with its code newer than the last `start`',
    async (api) => {
      const { id } = await api.launch()
      await api.say(id, 'started')
      await api.say(id, 'stopped', exit(api, 3))
      const { events } = await shown(api, id)
      const all = types(events)
      expect(all.indexOf('exit')).toBeLessThan(all.indexOf('start'))
      expect(events[all.indexOf('exit')]?.request?.exit_event?.exit_code).toBe(3)
    },
  ),
  pass(
    '`checks[].updated_at` is never null; checks of services are called `servicecheck-…`',
    async (api) => {
      const services = [{ protocol: 'tcp', internal_port: 80 }]
      const { id } = await api.launch({ config: { image: 'shop', services } })
      const check = {
        name: 'servicecheck-00-tcp-80',
        status: 'passing',
        output: 'connected',
      } as const
      await api.say(id, 'started', { checks: [{ ...check, updatedAt: api.clock.now() }] })
      const { checks } = await shown(api, id)
      expect(checks).toEqual([{ ...check, updated_at: '2026-01-01T00:00:00.000Z' }])
    },
  ),
  pass(
    '`config.guest` is never null; `host_status` is `ok` while the host answers',
    async (api) => {
      const machine = await api.launch()
      expect(machine.config['guest']).toBeTruthy()
      expect(machine.host_status).toBe('ok')
    },
  ),
]

export const BEHAVIOUR_SECTIONS: readonly Section[] = [
  { title: 'Transport', rows: TRANSPORT },
  { title: 'Apps', rows: APPS },
  { title: 'Machines', rows: MACHINES },
  { title: 'Leases', rows: LEASES },
  { title: 'States', rows: STATES },
  { title: 'Events', rows: EVENTS },
  { title: 'Waiting', rows: WAITS },
  { title: 'What clients can not do without', rows: CLIENTS },
]
