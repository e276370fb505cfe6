import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { type BuildEvent, buildRequest } from '@roost/api'
import { silentLogger, systemClock } from '@roost/base'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type Builder, createBuilder } from '../../packages/agent/src/build/builder.ts'
import { type Collector, startCollector } from '../../packages/agent/src/disk/collector.ts'
import { createDiskWatch, type DiskWatch } from '../../packages/agent/src/disk/disk-watch.ts'
import { createRoomGuard } from '../../packages/agent/src/disk/room-guard.ts'
import { bytesFree, fillDisk } from '../../packages/agent/src/disk/trial-fill.ts'
import { packContext } from '../../packages/cli/src/build/pack-context.ts'
import { type ImageStore, raiseImageStore } from './image-store.ts'
import { mountDisk, mountInMemory } from './memory-disk.ts'

/** The real buildah on a file system of 200 MB that is really filled. Low below 20 MB, full below 4 MB. */
const ID = `rbf${process.pid}`
const ADDRESS = '10.254.78.1'
const DISK_MB = 200
const MB = 1e6
const CGROUPS = `/${ID}/build`
let dir: string
let disk: string
let store: ImageStore
let builder: Builder
let disks: DiskWatch
let collector: Collector

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'roost-full-'))
  disk = join(dir, 'disk')
  mountInMemory(dir)
  mountDisk(disk, DISK_MB)
  execFileSync('ip', ['addr', 'replace', `${ADDRESS}/32`, 'dev', 'lo'])
  store = await raiseImageStore(join(dir, 'store'), ADDRESS)
  disks = createDiskWatch({
    places: [{ kind: 'build-cache', path: disk }],
    now: () => systemClock.now(),
    log: silentLogger,
  })
  builder = openBuilder()
  await builder.sweep()
  collector = startCollector({
    disks,
    reserves: [],
    images: {
      list: async () => [],
      imagesOfContainers: async () => new Set(),
      touch: async () => {},
      remove: async () => {},
      abortDownloads: async () => 0,
    },
    cache: builder.cache,
    isWanted: () => false,
    mayCollect: () => true,
    sweep: async () => {},
    clock: systemClock,
    log: silentLogger,
    periodMs: 3_600_000,
  })
}, 120_000)

afterEach(() => rmSync(join(disk, 'fill'), { force: true }))

afterAll(async () => {
  await collector?.stop()
  await builder?.close()
  await builder?.removeNetwork()
  await store?.close()
  execFileSync('ip', ['addr', 'del', `${ADDRESS}/32`, 'dev', 'lo'])
  for (const name of readdirSync('/sys/fs/cgroup'))
    if (existsSync(`/sys/fs/cgroup/${name}/${ID}`))
      execFileSync('find', [`/sys/fs/cgroup/${name}/${ID}`, '-depth', '-type', 'd', '-delete'])
  execFileSync('umount', ['--lazy', disk, dir])
  rmSync(dir, { recursive: true, force: true })
})

function openBuilder(): Builder {
  return createBuilder({
    dataDir: join(disk, 'builder'),
    netns: ID,
    cgroupParent: CGROUPS,
    uplink: null,
    nameservers: [],
    ca: store.ca,
    registry: () => ({ name: 'registry.internal', url: store.url }),
    registryToken: async (repository) => {
      const access = [{ repository, actions: ['pull', 'push'] as const }]
      return (await store.tokens.issue({ subject: 'agent/1', access })).token
    },
    room: createRoomGuard({
      disks,
      kind: 'build-cache',
      clock: systemClock,
      collect: () => collector.collect(),
    }),
    clock: systemClock,
    log: silentLogger,
  })
}

/** From busybox alone; `steps` come after it. */
async function build(
  steps: readonly string[],
  files: Record<string, Buffer> = {},
  app = 'shop',
  onEvent = () => {},
) {
  const folder = mkdtempSync(join(dir, 'context-'))
  copyFileSync('/bin/busybox', join(folder, 'busybox'))
  for (const [name, body] of Object.entries(files)) writeFileSync(join(folder, name), body)
  const lines = ['FROM scratch', 'COPY busybox /bin/busybox', ...steps, 'CMD ["/bin/busybox"]']
  writeFileSync(join(folder, 'Dockerfile'), `${lines.join('\n')}\n`)
  const events: BuildEvent[] = []
  const request = buildRequest.parse({})
  const context = Readable.from(packContext({ folder, dockerfile: request.dockerfile }))
  const never = new AbortController().signal
  const heard = (event: BuildEvent) => {
    events.push(event)
    onEvent()
  }
  await builder.run({ app, request }, context, heard, never)
  rmSync(folder, { recursive: true })
  const end = events.at(-1)
  if (end?.kind === 'failed') return `${end.code}: ${end.message}`
  const cached = events.filter((e) => e.kind === 'output' && e.text.includes('Using cache')).length
  return `${end?.kind}, ${cached} cached`
}
const run = (...words: string[]) => `RUN ["/bin/busybox", ${words.map((w) => `"${w}"`).join(', ')}]`
/** `from` zero: small as it is sent, since this is about the disk alone. */
const writes = (mb: number, name: string, from = 'zero') =>
  run('dd', `if=/dev/${from}`, `of=/${name}`, 'bs=1M', `count=${mb}`)

const free = () => bytesFree(disk)
const fill = (leave = 0) => fillDisk(join(disk, 'fill'), leave)
const FULL =
  /^disk_full: build shop: the disk is full: \S+ has [\d.]+ of [\d.]+ MB left; .*roost doctor$/

test('a step that writes without end is ended while there is room for others, and leaves none taken', async () => {
  expect(await build([])).toMatch(/^done/)
  const before = free()
  expect(await build([writes(500, 'big', 'urandom')])).toMatch(FULL)
  expect(free()).toBeGreaterThan(before - 1 * MB)
  expect(readdirSync(join(disk, 'builder/work'))).toEqual([])
  expect(await build([run('true')])).toMatch(/^done/)
})

test('a context that does not fit is refused for the disk’s sake, not its own', async () => {
  fill(30 * MB)
  const before = free()
  expect(await build([], { big: randomBytes(60 * MB) })).toMatch(FULL)
  expect(free()).toBeGreaterThan(before - 1 * MB)
})

test('on a full disk a build is refused at once, a builder starts, and it builds when there is room', async () => {
  fill()
  expect(await build([run('true')])).toMatch(FULL)
  const other = openBuilder()
  await other.sweep()
  await other.close()
  rmSync(join(disk, 'fill'))
  expect(await build([run('true')])).toMatch(/^done/)
})

test('what no build used for longest goes first, results before what they are made on, and folders of caches', async () => {
  rmSync(join(disk, 'fill'), { force: true })
  for (const [n, app] of ['old', 'new'].entries()) {
    expect(await build([run('echo', app), writes(15, app)], {}, app)).toMatch(/^done/)
    writeFileSync(join(disk, 'builder/caches', app, 'buildah-cache'), randomBytes(5 * MB))
    expect((await builder.cache.entries()).length).toBeGreaterThan(2 * n)
  }
  // What was cached is used again, and that counts.
  expect(await build([run('echo', 'old'), writes(15, 'old')], {}, 'old')).toBe('done, 4 cached')
  await collector.collect()
  expect(await build([run('echo', 'new'), writes(15, 'new')], {}, 'new')).toBe('done, 4 cached')
  expect(await build([run('echo', 'old'), writes(15, 'old')], {}, 'old')).toBe('done, 4 cached')
  fill(12 * MB)
  await collector.collect()
  expect(free()).toBeGreaterThan(25 * MB)
  rmSync(join(disk, 'fill'), { force: true })
  // `old` was used last.
  expect(await build([run('echo', 'old'), writes(15, 'old')], {}, 'old')).toBe('done, 4 cached')
  expect(await build([run('echo', 'new'), writes(15, 'new')], {}, 'new')).not.toBe('done, 4 cached')
  expect(collector.last()?.why[0]).toMatch(
    /^build cache (layer|folder of) \S+: [\d.]+ MB, the disk is/,
  )
})

test('builds that run while the collector does find all that they need', async () => {
  const racing = { on: true }
  const builds = new EventEmitter()
  const wentOn = () => void builds.emit('event')
  const building = Promise.all(
    ['a', 'b', 'c', 'd'].map((app) =>
      build([run('echo', 'same'), writes(3, app)], {}, app, wentOn),
    ),
  ).finally(() => {
    racing.on = false
  })
  while (racing.on) {
    fill(15 * MB)
    await collector.collect()
    rmSync(join(disk, 'fill'), { force: true })
    // There is room until a build has gone on: otherwise they end for want of it.
    await Promise.race([once(builds, 'event'), building])
  }
  const ends = await building
  expect(ends.filter((end) => !end.startsWith('done'))).toEqual([])
})
