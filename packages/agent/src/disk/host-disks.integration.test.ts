import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { createRecordCache, silentLogger, systemClock } from '@roost/base'
import { type MachineId, newRecord } from '@roost/core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { content, leases, snapshots } from '../containerd/generated/index.js'
import { ImageRoom } from '../containerd/image-room.ts'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from '../containerd/trial-host.ts'
import { openRecordStore } from '../machine/record-store.ts'
import { conformanceConfig } from '../runtime.conformance.ts'
import type { ImageToPull, MachineSpec, Runtime } from '../runtime.ts'
import { type HostDisks, openHostDisks } from './host-disks.ts'
import { createRoomyRuntime } from './roomy-runtime.ts'
import { bytesFree, fillDisk } from './trial-fill.ts'

/** A host whose disk is really filled. 160 MB: low below 16 MB, full below 3.2 MB. */
const DISK_MB = 160
const NEVER = new AbortController().signal
const MB = 1e6

interface Open {
  readonly agent: TrialAgent
  readonly hostDisks: HostDisks
  readonly runtime: Runtime
  readonly room: ImageRoom
}
const trial: { host: TrialHost | null; open: Open | null; wanted: Set<string>; slot: number } = {
  host: null,
  open: null,
  wanted: new Set(),
  slot: 0,
}
const host = () => trial.host as TrialHost
const open = () => trial.open as Open
const disk = () => join(host().dir, 'disk')

beforeAll(async () => {
  trial.host = await raiseTrialHost({ diskMb: DISK_MB })
})
afterAll(async () => {
  await trial.host?.close()
})
beforeEach(async () => {
  trial.wanted = new Set()
  trial.open = await openAgent()
})
afterEach(async () => {
  unfill()
  const { agent, hostDisks, room } = open()
  for (const { id } of await agent.runtime.list()) await agent.runtime.remove(id)
  for (const { name } of await room.list(() => false)) await room.remove(name)
  await hostDisks.stop()
  await agent.close()
})

async function openAgent(): Promise<Open> {
  const { containerdRoot: root, dataDir, runDir, rawLogs } = host()
  const hostDisks = await openHostDisks({
    config: {
      hostId: 'h1',
      dataDir,
      runDir,
      containerd: { address: '', namespace: 'roost', root },
      builder: null,
      logs: { dir: rawLogs, sizeMb: 32 },
    },
    clock: systemClock,
    log: silentLogger,
  })
  const agent = await host().openAgent({ room: hostDisks.room('images') })
  const room = new ImageRoom(agent.client)
  hostDisks.startCollecting({
    images: room,
    cache: null,
    isWanted: (name) => trial.wanted.has(name),
    mayCollect: () => true,
    sweep: () => agent.runtime.sweepLeftovers(),
  })
  // The first lap fills the reserve.
  await eventually(async () => expect(hostDisks.reserves[0]?.bytes()).toBeGreaterThan(0))
  return {
    agent,
    hostDisks,
    room,
    runtime: createRoomyRuntime({ ...hostDisks, runtime: agent.runtime }),
  }
}

/** As an app or a log would. */
const fill = (leave = 0) => fillDisk(join(disk(), 'fill'), leave)
const unfill = () => rmSync(join(disk(), 'fill'), { force: true })
const free = () => bytesFree(disk())

const nameOf = ({ repository, digest }: ImageToPull) => `${repository}@${digest}`

/** `random`: of this size as it comes; `zeros`: small as it comes, large when unpacked. */
async function image(bytes: { random?: number; zeros?: number } = {}): Promise<ImageToPull> {
  const file = `only-${newMachineId()}`
  const body = bytes.random ? randomBytes(bytes.random) : Buffer.alloc(bytes.zeros ?? 1)
  return host().push('trial', { layers: [...busyboxLayers(), { [file]: { content: body } }] })
}

function specOf(of: ImageToPull, program = ['sh', '-c', 'echo ready; sleep 600']): MachineSpec {
  const id = newMachineId()
  return {
    id,
    stamp: `1:${id}`,
    image: of,
    config: conformanceConfig({ init: { exec: program } }),
    hostname: id,
    ipv4: `10.210.4.${2 + trial.slot++}`,
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
}

async function launch(spec: MachineSpec): Promise<MachineId> {
  trial.wanted.add(nameOf(spec.image))
  await open().runtime.pull(spec.image, NEVER)
  await open().runtime.create(spec, NEVER)
  await open().runtime.start(spec.id, { SECRET: 'x' }, NEVER)
  return spec.id
}
const stateOf = async (id: MachineId) => (await open().runtime.look(id))?.state
const names = async () => (await open().room.list(() => false)).map(({ name }) => name)

/** What a pull that did not end would leave. */
async function leftovers(): Promise<string[]> {
  const { client } = open().agent
  const [{ statuses }, held, kept] = await Promise.all([
    client.call(content.ContentService.listStatuses, { filters: [] }),
    client.call(leases.LeasesService.list, { filters: [] }),
    client.collect(snapshots.SnapshotsService.list, { snapshotter: 'overlayfs', filters: [] }),
  ])
  return [
    ...statuses.map(({ ref }) => `download ${ref}`),
    ...held.leases.map(({ id }) => `lease ${id}`),
    ...kept
      .flatMap(({ info }) => info.map(({ name }) => name))
      .filter((n) => n.includes('extract')),
  ]
}

test('a pull that does not fit is refused with the disk’s name, leaves nothing, and works when there is room', async () => {
  const serving = await launch(specOf(await image()))
  const large = await image({ random: 8 * MB })
  fill(6 * MB)
  const before = free()
  const refused = await open()
    .runtime.pull(large, NEVER)
    .catch((error: unknown) => error)
  expect(refused).toMatchObject({ code: 'disk_full', retry: 'later' })
  expect(String(refused)).toMatch(
    /the disk is full: \S+ has [\d.]+ of [\d.]+ MB left; .*roost doctor/,
  )
  expect(await leftovers()).toEqual([])
  expect(free()).toBeGreaterThan(before - 1 * MB)
  // Who runs does not notice.
  expect(await stateOf(serving)).toBe('running')
  unfill()
  await open().runtime.pull(large, NEVER)
  expect(await names()).toContain(nameOf(large))
})

test('a pull that turns out larger than it seemed is ended before it takes the last of the disk', async () => {
  const bomb = await image({ zeros: 120 * MB })
  fill(40 * MB)
  const before = free()
  const refused = await open()
    .runtime.pull(bomb, NEVER)
    .catch((error: unknown) => error)
  expect(refused).toMatchObject({ code: 'disk_full', retry: 'later' })
  await eventually(async () => {
    expect(await leftovers()).toEqual([])
    expect(free()).toBeGreaterThan(before - 2 * MB)
  })
})

test('on a disk without a byte left, what is here starts, restarts, stops and goes', async () => {
  const of = await image()
  const crashing = specOf(of, ['sh', '-c', 'echo bye; exit 3'])
  await launch(crashing)
  await eventually(async () => expect(await stateOf(crashing.id)).toBe('exited'))
  const created = specOf(of)
  fill()
  expect(free()).toBeLessThan(8192)
  await open().runtime.start(crashing.id, {}, NEVER)
  await open().runtime.create(created, NEVER)
  await open().runtime.start(created.id, {}, NEVER)
  expect(await stateOf(created.id)).toBe('running')
  // Neither containerd nor an agent needs room to come back.
  await host().killContainerd()
  await host().startContainerd()
  const other = await host().openAgent()
  expect((await other.runtime.look(created.id))?.state).toBe('running')
  await other.close()
  await eventually(() => open().agent.client.version())
  await open().runtime.stop(created.id, { signal: 'SIGKILL', timeoutMs: 0 })
  expect(await stateOf(created.id)).toBe('exited')
  await open().runtime.remove(created.id)
  expect(await stateOf(created.id)).toBe(undefined)
})

test('without any room left at all a start fails for now, says why, and leaves nothing of a machine that goes', async () => {
  const of = await image()
  trial.wanted.add(nameOf(of))
  await open().runtime.pull(of, NEVER)
  fill()
  while (open().hostDisks.reserves[0]?.release()) fill()
  fill()
  // Inodes and directory blocks that are free already may still do for a first one.
  const made: MachineSpec[] = []
  const failure = await (async () => {
    for (let n = 0; n < 200; n++) {
      const spec = specOf(of)
      made.push(spec)
      try {
        await open().runtime.create(spec, NEVER)
        await open().runtime.start(spec.id, {}, NEVER)
      } catch (error) {
        return error
      }
    }
    return 'none'
  })()
  expect(failure).toMatchObject({ code: 'disk_full', retry: 'later' })
  unfill()
  const last = made.at(-1) as MachineSpec
  await open().runtime.create(last, NEVER)
  await open().runtime.start(last.id, {}, NEVER)
  expect(await stateOf(last.id)).toBe('running')
})

test('a disk that fills up is emptied of what nobody uses, oldest first, and of nothing that somebody does', async () => {
  const { room, hostDisks } = open()
  const used = await image({ random: 5 * MB })
  const stopped = await image({ random: 5 * MB })
  const wanted = await image({ random: 5 * MB })
  const unused = [await image({ random: 9 * MB }), await image({ random: 9 * MB })]
  const serving = await launch(specOf(used))
  const ended = await launch(specOf(stopped))
  await open().runtime.stop(ended, { signal: 'SIGKILL', timeoutMs: 0 })
  trial.wanted = new Set([nameOf(wanted)])
  for (const one of [wanted, ...unused]) await open().runtime.pull(one, NEVER)
  const ago = (hours: number) => systemClock.now() - hours * 3_600_000
  for (const [n, one] of unused.entries()) await room.touch([nameOf(one)], ago(9 - n))
  await room.touch([nameOf(wanted), nameOf(used), nameOf(stopped)], ago(99))

  await hostDisks.disks.look()
  expect(hostDisks.worst()?.state).toBe('ok')
  expect(await left()).toHaveLength(5)
  fill(14 * MB)
  const first = await left()
  expect(first).not.toContain(nameOf(unused[0] as ImageToPull))
  expect(first).toContain(nameOf(unused[1] as ImageToPull))
  fill(1 * MB)
  expect([...(await left())].sort()).toEqual([used, stopped, wanted].map(nameOf).sort())
  expect(hostDisks.worst()?.state).toBe('low')

  expect(await stateOf(serving)).toBe('running')
  await open().runtime.start(ended, {}, NEVER)
  await open().runtime.create(specOf(wanted), NEVER)
  const usage = await hostDisks.usage()
  expect(usage.last_collection?.why[0]).toMatch(/^image \S+: [\d.]+ MB, unused, and the disk is/)
  const spaces = usage.file_systems.filter(({ holds }) => holds.includes('images'))
  expect(spaces).toMatchObject([
    { path: disk(), holds: ['images', 'snapshots', 'agent-database', 'logs'] },
  ])
  const images = usage.kinds.find(({ kind }) => kind === 'images')
  expect(images?.count).toBe(3)
  expect(images?.bytes).toBeGreaterThan(15 * MB)
  expect(images?.freeable_bytes).toBe(0)
  expect(usage.kinds.map(({ kind }) => kind)).toEqual([
    'images',
    'snapshots',
    'statics',
    'agent-database',
    'machine-files',
    'logs',
    'logs',
  ])
})

/** After laps that have nothing more to say. */
async function left(): Promise<readonly string[]> {
  await open().hostDisks.collect()
  await open().hostDisks.collect()
  return names()
}

test('whatever is pulled and started while the collector runs all the time gets what it needs', async () => {
  const { hostDisks } = open()
  const spares = await Promise.all([1, 2, 3].map(() => image({ random: 2 * MB })))
  for (const spare of spares) await open().runtime.pull(spare, NEVER)
  for (const spare of spares) await open().room.touch([nameOf(spare)], 1)
  fill(14 * MB)
  const racing = { on: true }
  const laps = (async () => {
    let n = 0
    for (; racing.on; n++) await hostDisks.collect()
    return n
  })()
  const images = await Promise.all([1, 2, 3, 4].map(() => image({ random: 300_000 })))
  const ids = await Promise.all(images.map((one) => launch(specOf(one))))
  racing.on = false
  expect(await laps).toBeGreaterThan(1)
  expect(await Promise.all(ids.map(stateOf))).toEqual(Array(4).fill('running'))
  expect(await names()).not.toContain(nameOf(spares[0] as ImageToPull))
})

test('what the agent remembers is read on a full disk, also after a clean end, and written again when there is room', () => {
  const cacheFile = join(host().dataDir, 'records.sqlite')
  const storeFile = join(host().dataDir, 'machines.sqlite')
  const log = silentLogger
  const openBoth = () => ({
    cache: createRecordCache<{ host: { id: string } }>({ file: cacheFile, log }),
    store: openRecordStore({ file: storeFile, log }),
  })
  const kept = (id: string) => ({
    record: newRecord(id as MachineId),
    statusSequence: 1,
    checks: [],
  })
  const record = (id: string, revision: number) =>
    [
      { type: 'record', revision, kind: 'host', id, value: { id } },
      { type: 'synced', revision },
    ] as const
  const first = openBoth()
  first.cache.apply(record('a', 1))
  first.store.save(kept('a'))
  first.cache.close()
  first.store.close()

  fill()
  while (open().hostDisks.reserves[0]?.release()) fill()
  fill()
  const full = openBoth()
  expect(full.cache.list('host')).toEqual([{ id: 'a' }])
  expect(full.store.load().map(({ record }) => record.id)).toEqual(['a'])
  const many = { id: 'x'.repeat(1000) }
  for (let n = 2; n < 400; n++)
    full.cache.apply([{ ...record(`h${n}`, n)[0], value: many }, record('', n)[1]])
  for (let n = 0; n < 400; n++) full.store.save(kept(`m${n}`))
  unfill()
  full.cache.apply(record('last', 1000))
  full.store.save(kept('last'))
  full.cache.close()
  full.store.close()

  const again = openBoth()
  expect(again.cache.list('host')).toHaveLength(400)
  expect(again.store.load()).toHaveLength(402)
  again.cache.close()
  again.store.close()
})
