import type { HostId } from '@roost/core'
import { beforeEach, expect, test } from 'vitest'
import { type ControlPlane, createControlPlane, type Deps, memoryDeps } from '../control-plane.ts'
import { trialHost } from '../http/trial-host.ts'
import { listHosts } from '../store/hosts.ts'
import { createPresence } from '../watch/presence.ts'
import { markHosts } from './host-status.ts'
import { createSteppedClock, type SteppedClock } from './simulated-hosts.ts'

let clock: SteppedClock
let deps: Deps
let control: ControlPlane
let host: HostId

beforeEach(async () => {
  clock = createSteppedClock(1_000_000)
  deps = memoryDeps({ clock })
  control = createControlPlane(deps)
  // The server has been there for long when the host joins.
  await clock.advance(60_000)
  host = (await control.addHost(trialHost())).id
})

const status = async () => (await deps.store.read(listHosts))[0]?.status
const beat = (applied = 0) =>
  control.heartbeat({ program: 'agent', host }, { applied, draining: [] })

test('a host is unreachable after 10 s of silence, and at once no longer when it speaks', async () => {
  await markHosts(deps)
  expect(await status()).toBe('ok')
  await beat()
  await clock.advance(10_000)
  await markHosts(deps)
  expect(await status()).toBe('ok')
  await clock.advance(1)
  await markHosts(deps)
  expect(await status()).toBe('unreachable')
  await beat()
  expect(await status()).toBe('ok')
})

test('the state of a disk becomes part of the host when it changes', async () => {
  const disk = { state: 'full' as const, path: '/', bytes: 40e9, freeBytes: 1e6 }
  const known = async () => (await deps.store.read(listHosts))[0]?.disk?.state
  const say = (state: 'ok' | 'full') =>
    control.heartbeat(
      { program: 'agent', host },
      { applied: 0, draining: [], disk: { ...disk, state } },
    )
  await say('full')
  await markHosts(deps)
  expect(await known()).toBe('full')
  // A server that has just started goes on with what it knew.
  await markHosts({ ...deps, presence: createPresence(clock.now()) })
  expect(await known()).toBe('full')
  await say('ok')
  await markHosts(deps)
  expect(await known()).toBe('ok')
})

test('beats make no revision, but for the first of each program', async () => {
  const revision = () =>
    deps.store.read(
      async ({ db }) =>
        (
          await db
            .selectFrom('counters')
            .select('value')
            .where('name', '=', 'revision')
            .executeTakeFirstOrThrow()
        ).value,
    )
  const before = await revision()
  await beat()
  await control.heartbeat({ program: 'edge', host }, { applied: 0, draining: [] })
  expect(await revision()).toBe(before + 2)
  for (let n = 0; n < 5; n++) {
    await clock.advance(2000)
    await beat(n)
    await control.heartbeat({ program: 'edge', host }, { applied: n, draining: [] })
    await markHosts(deps)
  }
  expect(await revision()).toBe(before + 2)
})

test('a server that has just started takes nobody for dead', async () => {
  await beat()
  await clock.advance(60_000)
  const restarted = { ...deps, presence: createPresence(clock.now()) }
  await markHosts(restarted)
  expect(await status()).toBe('ok')
  await clock.advance(10_001)
  await markHosts(restarted)
  expect(await status()).toBe('unreachable')
})
