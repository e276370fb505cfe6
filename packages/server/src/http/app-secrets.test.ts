import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTrialApi, type TrialApi } from './trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

const URL = '/v1/apps/shop/secrets'
type Changed = { readonly version: number }
type Listed = { readonly secrets: readonly { readonly name: string; readonly digest: string }[] }
const names = async () => (await api.call<Listed>('GET', URL)).body.secrets.map(({ name }) => name)

test('secrets are set one by one and together, and never shown', async () => {
  const one = await api.call<Changed>('POST', `${URL}/KEY`, { value: 'v1' })
  expect(one.body).toEqual({
    name: 'KEY',
    digest: expect.any(String),
    created_at: '2026-01-01T00:00:00.000Z',
    updated_at: '2026-01-01T00:00:00.000Z',
    version: expect.any(Number),
  })
  const values = { A: '1', B: '2', KEY: null, NONE: null }
  const many = await api.call<Changed & Listed>('POST', URL, { values })
  expect(many.body.version).toBeGreaterThan(one.body.version)
  expect(await names()).toEqual(['A', 'B'])
  expect((await api.call('GET', `${URL}/A`)).body['digest']).toBe(many.body.secrets[0]?.digest)
  expect(JSON.stringify(many.body)).not.toContain('value')
  const shown = await api.call('GET', `${URL}?show_secrets=true`)
  expect([shown.status, shown.body.code]).toEqual([422, 'unsupported'])
})

test('every change has a version of its own, also a removal', async () => {
  const { version } = (await api.call<Changed>('POST', `${URL}/A`, { value: 'x' })).body
  const removed = await api.call<Changed>('DELETE', `${URL}/A`)
  expect(removed.body).toEqual({ version: expect.any(Number) })
  expect(removed.body.version).toBeGreaterThan(version)
  expect(await names()).toEqual([])
  for (const answer of [await api.call('DELETE', `${URL}/A`), await api.call('GET', `${URL}/A`)])
    expect([answer.status, answer.body.error]).toEqual([404, 'secret A not found'])
})

test('who names a version that is not there yet gets nothing made without it', async () => {
  const { version } = (await api.call<Changed>('POST', `${URL}/A`, { value: 'x' })).body
  const create = (min_secrets_version: number) =>
    api.call('POST', '/v1/apps/shop/machines', {
      config: { image: 'shop' },
      region: 'ams',
      min_secrets_version,
    })
  const { status, body } = await create(version)
  expect(status).toBe(200)
  const at = `/v1/apps/shop/machines/${body['id']}`
  for (const answer of [
    await create(version + 1),
    await api.call('POST', at, { config: { image: 'shop' }, min_secrets_version: version + 1 }),
    await api.call('GET', `${URL}?version=${version + 1}`),
  ]) {
    expect(answer.status).toBe(412)
    expect(answer.body.error).toContain(`the secrets are at version ${version}, not at`)
  }
  expect((await api.call('GET', `${URL}?version=${version}`)).status).toBe(200)
})

test('a name that can not be one is refused', async () => {
  const bad = await api.call('POST', `${URL}/FLY_X`, { value: 'x' })
  expect([bad.status, bad.body.code]).toEqual([400, 'invalid'])
  expect((await api.call('GET', '/v1/apps/blog/secrets')).status).toBe(404)
})
