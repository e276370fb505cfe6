import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTrialApi, type TrialApi, type TrialReply } from '../http/trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
  await api.call('POST', '/v1/apps', { app_name: 'blog' })
})
afterEach(() => api.close())

const OWN = 'registry.internal/shop:v1'
const OTHER = 'registry.internal/blog:v3'
const web = (image: string) => ({ name: 'web', image })
const asShop = (url: string, body: object) =>
  api.call('POST', url, body, { authorization: 'Bearer shop' })
const machines = '/v1/apps/shop/machines'
const releases = '/api/v1/apps/shop/releases'

function expectNotThere({ status, body }: TrialReply): void {
  expect([status, body.code, body.error]).toEqual([
    422,
    'image_not_found',
    `image ${OTHER} not found: nothing of that name was pushed`,
  ])
}

test.each([
  ['image', { image: OTHER }],
  ['image of a container', { image: OWN, containers: [web(OTHER)] }],
])('a token of one app finds no %s of another', async (_, config) => {
  expectNotThere(await asShop(machines, { config, region: 'ams' }))
  const { id } = await api.launch()
  expectNotThere(await asShop(`${machines}/${id}`, { config }))
  expectNotThere(await asShop(releases, { config, regions: ['ams'] }))
  const { image: _image, ...group } = config
  if ('containers' in config) {
    const groups = { worker: group }
    expectNotThere(await asShop(releases, { config: { image: OWN }, groups, regions: ['ams'] }))
  }
  expect((await api.call('POST', machines, { config, region: 'ams' })).status).toBe(200)
})

test.each([OWN, 'debian', 'registry.internal/docker.io/library/debian:bookworm-slim'])(
  'a token of one app runs %s',
  async (image) => {
    expect((await asShop(machines, { config: { image }, region: 'ams' })).status).toBe(200)
    expect((await asShop(releases, { config: { image }, regions: ['ams'] })).status).toBe(201)
  },
)
