import type { AccessEvent, AccessLine, EdgeAccessLine } from '@roost/api'
import { createLineQueue, type LineQueue, type PeerClient, PlatformError } from '@roost/base'
import { ACCESS_LINES_PER_SECOND } from '@roost/core'
import { expect, test } from 'vitest'
import { createControlPlane, memoryDeps } from '../control-plane.ts'
import { trialHost } from '../http/trial-host.ts'
import { createSteppedClock } from '../laps/simulated-hosts.ts'

const request = (host: string, n = 0): AccessLine => ({
  timestamp: '2026-01-01T00:00:00.000Z',
  region: host.slice(0, 3),
  host,
  client: '192.0.2.7',
  method: 'GET',
  path: `/${n}`,
  status: 200,
  bytes_in: 1,
  bytes_out: 2,
  duration_ms: 3,
  machine: null,
  request_id: `${n}`,
})

/** Three hosts whose edges say what a test has them say. */
async function open(names: readonly string[] = ['ams-1', 'iad-1']) {
  const clock = createSteppedClock(1_000_000)
  const streams = new Map<string, LineQueue<EdgeAccessLine>>()
  const asked: string[] = []
  const dead = new Set<string>()
  const edgeOf = (name: string): PeerClient => ({
    json: async () => {
      throw new Error('not asked for')
    },
    async *lines<T>(_method: string, path: string, options: { signal?: AbortSignal } = {}) {
      asked.push(`${name} ${path}`)
      if (dead.has(name)) throw new PlatformError('unavailable', 'no reply')
      const queue = createLineQueue<EdgeAccessLine>(10_000)
      streams.set(name, queue)
      options.signal?.addEventListener('abort', () => {
        queue.close()
        streams.delete(name)
      })
      yield {} as T
      for (let line = await queue.pull(); line !== null; line = await queue.pull()) yield line as T
    },
    close: async () => {},
  })
  const control = createControlPlane(
    memoryDeps({ clock, change: { edge: (host) => edgeOf(host.name) } }),
  )
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  const join = (name: string, n: number) =>
    control.addHost(trialHost(name, { public_address: `198.51.100.${n}` }))
  for (const [n, name] of names.entries()) await join(name, n)
  await control.call('createApp', { body: { app_name: 'shop', org_slug: 'personal' } })
  const listen = async (query: Record<string, string> = {}) => {
    const leave = new AbortController()
    const lines = (await control.call('appAccessLogs', {
      params: { app: 'shop' },
      query,
    })) as (signal: AbortSignal) => AsyncGenerator<AccessEvent>
    const reader = lines(leave.signal)
    return { leave, next: async () => (await reader.next()).value ?? null }
  }
  const say = (name: string, ...lines: EdgeAccessLine[]) => {
    for (const line of lines) if (!streams.get(name)?.offer(line)) throw new Error('not listened')
  }
  /** Each with time for what is asked of the store first. */
  const seconds = async (count: number) => {
    for (let n = 0; n < count; n++) {
      for (let m = 0; m < 5; m++) await clock.advance(0)
      await clock.advance(1_000)
    }
  }
  return { clock, seconds, control, streams, asked, dead, join, listen, say }
}
const notice = (text: string) => expect.objectContaining({ notice: text })

test('requests of all edges are told, one stream each, for as long as somebody listens', async () => {
  const { listen, say, asked, streams, clock } = await open()
  const { next, leave } = await listen({ query: 'true' })
  expect(await next()).toEqual(notice('2 edges tell of requests from now on'))
  expect(asked).toEqual(
    ['ams-1', 'iad-1'].map((name) => `${name} /edge/v1/access?app=shop&query=true`),
  )
  say('ams-1', { request: request('ams-1', 1) })
  say('iad-1', {}, { request: request('iad-1', 2) })
  expect([await next(), await next()]).toEqual([request('ams-1', 1), request('iad-1', 2)])
  const last = next()
  leave.abort()
  expect(await last).toBeNull()
  await clock.advance(0)
  expect(streams.size).toBe(0)
})

test('of one region only its edges are asked, of one machine all are', async () => {
  const { listen, asked, control } = await open()
  await (await listen({ region: 'iad' })).next()
  expect(asked).toEqual(['iad-1 /edge/v1/access?app=shop&query=false'])
  const unknown = { params: { app: 'shop' }, query: { machine: '00000000000001' } }
  await expect(control.call('appAccessLogs', unknown)).rejects.toMatchObject({ code: 'not_found' })
  await expect(control.call('appAccessLogs', { params: { app: 'nobody' } })).rejects.toMatchObject({
    code: 'not_found',
  })
})

test('an edge that does not answer is named once, and again when it does; hosts that join are asked', async () => {
  const { listen, say, dead, seconds, streams, join } = await open()
  dead.add('iad-1')
  const { next } = await listen()
  const begun = next()
  await seconds(4)
  expect(await begun).toEqual(notice('1 edge tells of requests from now on'))
  expect(await next()).toMatchObject({ notice: expect.stringContaining('iad-1 does not answer') })
  dead.clear()
  const back = next()
  await seconds(1)
  expect(await back).toEqual(notice('the edge of iad-1 answers again'))
  const lost = next()
  streams.get('ams-1')?.close()
  expect(await lost).toMatchObject({ notice: expect.stringContaining('ams-1 does not answer') })
  await join('syd-1', 9)
  await seconds(4)
  expect(await next()).toEqual(notice('the edge of ams-1 answers again'))
  say('syd-1', { request: request('syd-1', 7) })
  expect(await next()).toEqual(request('syd-1', 7))
})

test('what comes too fast is left out and said, that of edges and our own together', async () => {
  const { listen, say, clock } = await open()
  const { next } = await listen()
  await next()
  const half = ACCESS_LINES_PER_SECOND / 2
  const many = (name: string, count: number) =>
    say(name, ...Array.from({ length: count }, (_, n) => ({ request: request(name, n) })))
  many('ams-1', half)
  many('iad-1', half + 5)
  const events: AccessEvent[] = []
  for (let n = 0; n < ACCESS_LINES_PER_SECOND; n++) events.push((await next()) as AccessEvent)
  expect(events.every((event) => 'request_id' in event)).toBe(true)
  expect(await next()).toEqual(notice('1 request left out: more than 200 a second'))
  // What waited is told in the next second.
  await clock.advance(1_000)
  say('iad-1', { left_out: 40 })
  for (let n = 0; n < 4; n++) expect(await next()).toHaveProperty('request_id')
  expect(await next()).toEqual(notice('40 requests left out: more than 200 a second'))
})
