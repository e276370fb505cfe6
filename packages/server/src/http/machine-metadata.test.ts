import type { MachineReply } from '@roost/api'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTrialApi, type TrialApi } from './trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

const at = (id: string, rest = '') => `/v1/apps/shop/machines/${id}${rest}`

test('an entry is set and removed, and the machine stays of its version', async () => {
  const machine = await api.launch()
  expect((await api.call('GET', at(machine.id, '/metadata'))).body).toEqual({})
  const set = await api.call('POST', at(machine.id, '/metadata/role'), { value: 'web' })
  expect(set).toEqual({ status: 204, body: null })
  await api.call('POST', at(machine.id, '/metadata/fly_canary'), { value: 'true' })
  expect((await api.call('GET', at(machine.id, '/metadata'))).body).toEqual({
    role: 'web',
    fly_canary: 'true',
  })
  const listed = await api.call('GET', '/v1/apps/shop/machines?metadata.role=web')
  expect(listed.body).toHaveLength(1)
  for (let n = 0; n < 2; n++)
    expect((await api.call('DELETE', at(machine.id, '/metadata/role'))).status).toBe(204)
  const after = (await api.call<MachineReply>('GET', at(machine.id))).body
  expect(after.instance_id).toBe(machine.instance_id)
  expect(after.config['metadata']).toEqual({ fly_canary: 'true' })
  expect(after.events.map(({ type }) => type)).toEqual(['launch'])
})

test('nobody is kept from it by a lease, and its host hears of it', async () => {
  const { id, nonce } = await api.launch({ lease_ttl: 60 })
  expect(nonce).toBeTruthy()
  expect((await api.call('POST', at(id, '/metadata/a'), { value: 'b' })).status).toBe(204)
  const record = await api.deps.store.read(({ db }) =>
    db
      .selectFrom('records')
      .selectAll()
      .where('id', '=', id)
      .where('kind', '=', 'assignment')
      .executeTakeFirstOrThrow(),
  )
  const assignment = JSON.parse(record.value ?? '')
  expect(assignment.config.metadata).toEqual({ a: 'b' })
  expect([assignment.generation, assignment.configGeneration]).toEqual([2, 1])
})

test('it is bounded, and of machines that are there', async () => {
  const { id } = await api.launch()
  for (let n = 0; n < 100; n++) await api.call('POST', at(id, `/metadata/key-${n}`), { value: 'x' })
  expect((await api.call('POST', at(id, '/metadata/more'), { value: 'x' })).body.error).toBe(
    'metadata: a machine has at most 100 entries',
  )
  expect((await api.call('POST', at(id, '/metadata/key-1'), { value: 'y' })).status).toBe(204)
  expect((await api.call('POST', at(id, '/metadata/a'), {})).status).toBe(400)
  expect((await api.call('GET', at('00000000000001', '/metadata'))).status).toBe(404)
  await api.call('DELETE', at(id, '?force=true'))
  expect((await api.call('POST', at(id, '/metadata/key-1'), { value: 'z' })).status).toBe(412)
})

test('the versions that a machine had are told, newest first', async () => {
  const machine = await api.launch({ config: { image: 'shop', env: { A: '1' } } })
  await api.clock.advance(10)
  const { body } = await api.call<MachineReply>('POST', at(machine.id), {
    config: { image: 'shop', env: { A: '2' } },
  })
  type Version = { readonly version: string; readonly user_config: { readonly env: object } }
  const versions = (await api.call<Version[]>('GET', at(machine.id, '/versions'))).body
  expect(versions.map((one) => [one.version, one.user_config.env])).toEqual([
    [body.instance_id, { A: '2' }],
    [machine.instance_id, { A: '1' }],
  ])
})
