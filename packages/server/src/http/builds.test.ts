import type { BuildEvent } from '@roost/api'
import { type PeerClient, PlatformError } from '@roost/base'
import type { Host, HostId, RegionCode } from '@roost/core'
import { expect, test } from 'vitest'
import { createBuild, parseBuildHeader, pickBuilder } from './builds.ts'

const host = (over: Partial<Host>): Host => ({
  id: 'h1' as HostId,
  name: 'ams-1',
  region: 'ams' as RegionCode,
  number: 1,
  publicAddress: '192.0.2.1',
  wireguard: { endpoint: '192.0.2.1:1', publicKey: '' },
  sealingKey: '',
  capacity: { cpus: 1, memoryMb: 1 },
  builder: true,
  availability: 'active',
  agentSeenAt: null,
  edgeSeenAt: null,
  status: 'ok',
  ...over,
})

const agentThatSays = (lines: readonly unknown[], error?: Error): PeerClient => ({
  json: () => Promise.reject(new Error('not used')),
  close: async () => {},
  async *lines<T>() {
    for (const line of lines) yield line as T
    if (error) throw error
  },
})

async function* nothing(): AsyncIterable<Uint8Array> {}
const build = async (agent: PeerClient) => {
  const events: BuildEvent[] = []
  const stream = await createBuild(
    { hosts: () => [host({})], agent: () => agent },
    { app: 'shop', header: undefined, body: nothing(), signal: new AbortController().signal },
  )
  for await (const event of stream) events.push(event)
  return events
}

test('the first reachable builder builds, so that its caches serve', () => {
  const away = host({ number: 1, status: 'unreachable' })
  const idle = host({ number: 2, builder: false })
  const third = host({ number: 3 })
  expect(pickBuilder([third, idle, away])).toBe(third)
  expect(() => pickBuilder([away])).toThrow('builder host ams-1 is unreachable')
  expect(() => pickBuilder([idle])).toThrow('no host of this installation builds images')
})

test('events come through, and only they', async () => {
  const step = { kind: 'step', name: 'unpack' } as const
  const failed = { kind: 'failed', code: 'build_failed', message: 'no' } as const
  expect(await build(agentThatSays([step, { kind: 'ping' }, failed]))).toEqual([step, failed])
})

test('a builder that breaks off is a failed build that names it', async () => {
  const events = await build(agentThatSays([{ kind: 'step', name: 'x' }], new Error('reset')))
  expect(events.at(-1)).toEqual({
    kind: 'failed',
    code: 'unavailable',
    message: 'builder host ams-1: reset',
  })
  expect((await build(agentThatSays([]))).at(-1)).toMatchObject({ kind: 'failed' })
})

test('a builder that does not answer is unavailable', async () => {
  const dead = agentThatSays([], new PlatformError('unavailable', 'connect'))
  await expect(build(dead)).rejects.toMatchObject({ code: 'unavailable' })
})

test('a header that is no request says what is wrong', () => {
  const header = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64')
  expect(parseBuildHeader(undefined).dockerfile).toBe('Dockerfile')
  expect(() => parseBuildHeader('%%%')).toThrow('no base64 of JSON')
  expect(() => parseBuildHeader(header({ dockerfile: 3 }))).toThrow('dockerfile')
})
