import type { BuildEvent } from '@roost/api'
import type { PeerClient } from '@roost/base'
import type { DiskSpace } from '@roost/core'
import { expect, test } from 'vitest'
import { createControlPlane, memoryDeps } from '../control-plane.ts'
import { createSteppedClock } from '../laps/simulated-hosts.ts'
import type { ImageKeeper } from '../registry/image-keeper.ts'
import { trialHost } from './trial-host.ts'

const space = (freeBytes: number): DiskSpace => ({
  path: '/images',
  bytes: 40e9,
  freeBytes,
  inodes: 0,
  freeInodes: 0,
})
const FULL = space(1e6)
const ROOMY = space(20e9)
const pushFailure = {
  kind: 'failed',
  code: 'unavailable',
  message: 'push registry.internal/shop:1: 500 Internal Server Error',
} as const

/** A builder that says these lines, and an image store whose disk is as it is told. */
async function open(options: {
  before: DiskSpace
  after: DiskSpace
  lines: readonly BuildEvent[]
}) {
  const clock = createSteppedClock(1_000_000)
  const done = { collected: 0, tidied: [] as { app: string; busy: boolean }[] }
  let now = options.before
  const builder: PeerClient = {
    json: () => Promise.reject(new Error('not used')),
    async *lines<T>() {
      now = options.after
      for (const line of options.lines) yield line as T
    },
    close: async () => {},
  }
  const keeper = {
    space: () => now,
    collect: async () => {
      done.collected++
    },
    pushFailed: async (app: string) => {
      done.tidied.push({ app, busy: deps.pushes.isBusy(app) })
      now = ROOMY
    },
  } as unknown as ImageKeeper
  const deps = memoryDeps({ clock, change: { imageKeeper: keeper, agent: () => builder } })
  const control = createControlPlane(deps)
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  await control.addHost(trialHost('ams-1', { builder: true }))
  await control.call('createApp', { body: { app_name: 'shop', org_slug: 'personal' } })
  const build = async () => {
    const run = (await control.call('createBuild', {
      params: { app: 'shop' },
      body: (async function* () {})(),
    })) as (signal: AbortSignal) => AsyncIterable<BuildEvent>
    const busyMeanwhile = deps.pushes.isBusy('shop')
    const events: BuildEvent[] = []
    for await (const event of run(new AbortController().signal)) events.push(event)
    return { events, busyMeanwhile, busyAfter: deps.pushes.isBusy('shop') }
  }
  return { build, done }
}

test('a push that failed for want of room is told as that, and what it left goes once it is over', async () => {
  const { build, done } = await open({ before: ROOMY, after: FULL, lines: [pushFailure] })
  const { events, busyMeanwhile, busyAfter } = await build()
  expect(events).toEqual([
    {
      kind: 'failed',
      code: 'disk_full',
      message: expect.stringMatching(
        /^push the image: the disk of the image store is full \(1 MB of 40000 MB are free at \/images\).*roost registry collect/,
      ),
    },
  ])
  expect(done.tidied).toEqual([{ app: 'shop', busy: false }])
  expect([busyMeanwhile, busyAfter]).toEqual([true, false])
})

test('what failed for another reason keeps its words', async () => {
  const other = { kind: 'failed', code: 'build_failed', message: 'no such file' } as const
  const { build } = await open({ before: ROOMY, after: FULL, lines: [other] })
  expect((await build()).events).toEqual([other])
  const roomy = await open({ before: ROOMY, after: ROOMY, lines: [pushFailure] })
  expect((await roomy.build()).events).toEqual([pushFailure])
})

test('a build whose push could only fail is refused before it begins, after a collection was of no use', async () => {
  const { build, done } = await open({ before: FULL, after: FULL, lines: [] })
  await expect(build()).rejects.toMatchObject({ code: 'disk_full' })
  expect(done.collected).toBe(1)
})

test('a builder that breaks off may go on to push', async () => {
  const { build } = await open({ before: ROOMY, after: ROOMY, lines: [] })
  const { events, busyAfter } = await build()
  expect(events.at(-1)).toMatchObject({ kind: 'failed' })
  expect(busyAfter).toBe(true)
})
