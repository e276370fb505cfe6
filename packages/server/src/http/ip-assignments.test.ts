import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTrialApi, type TrialApi } from './trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

const URL = '/v1/apps/shop/ip_assignments'

test('an app has the addresses of all edges, and can have no other', async () => {
  const { ips } = (await api.call<{ ips: { ip: string }[] }>('GET', URL)).body
  expect(ips.map(({ ip }) => ip)).toEqual(['192.0.2.1', '192.0.2.2', '192.0.2.3'])
  expect(ips[0]).toEqual({
    ip: '192.0.2.1',
    region: 'global',
    service_name: '',
    shared: true,
    created_at: '2026-01-01T00:00:00.000Z',
  })
  const empty = { region: '', org_slug: '', network: '', service_name: '' }
  const shared = await api.call('POST', URL, { type: 'shared_v4', ...empty })
  expect(shared).toEqual({ status: 200, body: ips[0] })
  for (const type of ['v4', 'v6', 'private_v6']) {
    const refused = await api.call('POST', URL, { type, ...empty })
    expect([refused.status, refused.body.error]).toEqual([
      422,
      `type: ${type} is not supported: addresses are those of the hosts, and every app is reached under each of them`,
    ])
  }
})

test('none can be given back', async () => {
  expect((await api.call('DELETE', `${URL}/192.0.2.1`)).body.code).toBe('unsupported')
  expect((await api.call('DELETE', `${URL}/192.0.2.9`)).body.code).toBe('not_found')
})
