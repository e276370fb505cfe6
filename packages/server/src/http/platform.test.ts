import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTrialApi, type TrialApi } from './trial-api.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

const ask = async (body: object) => {
  const reply = await api.call('POST', '/v1/platform/placements', body)
  return reply.status === 200 ? reply.body['Regions'] : [reply.status, reply.body.error]
}

test('placements tell how many machines fit where', async () => {
  const compute = { cpu_kind: 'shared', cpus: 1, memory_mb: 1024 }
  expect(await ask({ compute, region: 'fra,any', count: 5 })).toEqual([
    { Region: 'fra', Count: 2, Concurrency: 2 },
    { Region: 'ams', Count: 3, Concurrency: 3 },
  ])
  expect(await ask({ compute: null, region: '', count: 0, weights: null })).toEqual([
    { Region: 'ams', Count: 16, Concurrency: 16 },
    { Region: 'fra', Count: 8, Concurrency: 8 },
  ])
  expect(await ask({ region: 'syd' })).toEqual([
    422,
    'no host is in region syd; there are hosts in ams, fra',
  ])
  expect(await ask({ region: 'any', volume_name: 'data' })).toEqual([
    422,
    'volume_name: there are no volumes that outlive a machine yet',
  ])
})

test('regions are told in the form of the Machines API', async () => {
  type Regions = {
    readonly Nearest: string
    readonly Regions: readonly { readonly code: string }[]
  }
  const { body } = await api.call<Regions>('GET', '/v1/platform/regions')
  expect(body.Nearest).toBe('ams')
  expect(body.Regions.map(({ code }) => code)).toEqual(['ams', 'fra'])
})
