import type { AppTrafficReply, EdgeTrafficReply } from '@roost/api'
import { type PeerClient, PlatformError } from '@roost/base'
import { DURATIONS_MS } from '@roost/core'
import { expect, test } from 'vitest'
import { createControlPlane, memoryDeps } from '../control-plane.ts'
import { createSteppedClock } from '../laps/simulated-hosts.ts'
import { trialHost } from './trial-host.ts'

/** Ten answers of one machine, all in the bucket up to that end. */
const source = (machine: string | null, status: number, endMs: number) => ({
  machine,
  concurrency: 2,
  responses: { [status]: 10 },
  bytes_in: 100,
  bytes_out: 1000,
  durations: [...DURATIONS_MS, 0].map((end) => (end === endMs ? 10 : 0)),
})

test('what all edges have counted is summed up; one that does not answer is named', async () => {
  const told: Record<string, EdgeTrafficReply['sources']> = {
    'ams-1': [source('a', 200, 10), source(null, 503, 0)],
    'iad-1': [source('a', 500, 100)],
  }
  const edgeOf = (name: string): PeerClient => ({
    json: async <T>(_method: string, path: string) => {
      expect(path).toBe('/edge/v1/traffic?app=shop')
      if (told[name] === undefined) throw new PlatformError('unavailable', 'no reply')
      return { minutes: 5, sources: told[name] } as T
    },
    // biome-ignore lint/correctness/useYield: nobody asks for lines.
    async *lines() {
      throw new Error('no lines')
    },
    close: async () => {},
  })
  const clock = createSteppedClock(1_000_000)
  const control = createControlPlane(
    memoryDeps({ clock, change: { edge: (host) => edgeOf(host.name) } }),
  )
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  for (const [n, name] of ['ams-1', 'iad-1', 'syd-1'].entries())
    await control.addHost(trialHost(name, { public_address: `198.51.100.${n}` }))
  const traffic = () =>
    control.call('appTraffic', { params: { app: 'shop' } }) as Promise<AppTrafficReply>
  await expect(traffic()).rejects.toMatchObject({ code: 'not_found' })
  await control.call('createApp', { body: { app_name: 'shop', org_slug: 'personal' } })
  const reply = await traffic()
  expect(reply.silent).toEqual(['syd-1'])
  expect(reply.total).toMatchObject({
    requests: 30,
    per_second: 0.1,
    failed: 20,
    bytes_in: 300,
    bytes_out: 3000,
    concurrency: 6,
  })
  expect(reply.machines.map(({ id, responses }) => [id, responses])).toEqual([
    ['a', { 200: 10, 500: 10 }],
    [null, { 503: 10 }],
  ])
  expect(reply.machines[0]).toMatchObject({ p50_ms: 10, p99_ms: 99 })
})
