import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Clock, PlatformError, silentLogger, systemClock } from '@roost/base'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openImageFiles } from './image-files.ts'
import { createImageKeeper, type ImageKeeper } from './image-keeper.ts'
import { createPushActivity, type PushActivity } from './push-activity.ts'

/** Beside a real registry, on a file system of its own, with pushes and pulls that never stop. */
let folder: string
let root: string
let registry: ChildProcess
let url: string
let activity: PushActivity
let needed: Set<string>
let apps: Set<string>
let keeper: ImageKeeper

/** Of the race between pushes and collections, at least. `RACE_MS=40000` is for a soak. */
const RACE_MS = Number(process.env['RACE_MS'] ?? 0)
const PUSHES = 50
const BLOBS = 50

/** Nothing is ever fresh: only what is known to be in use protects it. */
const lateClock: Clock = { ...systemClock, now: () => Date.now() + 3 * 3_600_000 }

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'image-keeper-'))
  root = join(folder, 'images')
  mkdirSync(root)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'image-keeper', root])
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  writeFileSync(
    join(folder, 'config.yml'),
    JSON.stringify({
      version: '0.1',
      log: { level: 'error', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: root }, delete: { enabled: true } },
      http: { addr: `127.0.0.1:${port}` },
    }),
  )
  registry = spawn('/usr/bin/docker-registry', ['serve', join(folder, 'config.yml')], {
    stdio: 'ignore',
  })
  await vi.waitFor(async () => expect((await fetch(`${url}/v2/`)).status).toBe(200), {
    timeout: 20_000,
    interval: 50,
  })
  activity = createPushActivity({ clock: lateClock })
  needed = new Set()
  apps = new Set(['shop', 'blog'])
  keeper = newKeeper(300)
})
afterEach(async () => {
  registry.kill('SIGKILL')
  if (registry.exitCode === null && registry.signalCode === null) await once(registry, 'exit')
  execFileSync('umount', [root])
  rmSync(folder, { recursive: true })
})

function newKeeper(asideMs: number): ImageKeeper {
  return createImageKeeper({
    files: openImageFiles(root),
    dir: root,
    needed: async () => ({ needed: new Set(needed), apps }),
    activity,
    clock: lateClock,
    log: silentLogger,
    asideMs,
  })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

interface Image {
  readonly repository: string
  readonly digest: string
  readonly parts: readonly string[]
}
const TYPE = 'application/vnd.docker.distribution.manifest.v2+json'
const digestOf = (bytes: string | Buffer) =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** As docker and buildah do it: asks for each layer, and sends those that are not there. Returns the status of what failed. */
async function pushBlob(repository: string, bytes: Buffer): Promise<number> {
  const digest = digestOf(bytes)
  const there = await fetch(`${url}/v2/${repository}/blobs/${digest}`, { method: 'HEAD' })
  if (there.status === 200) return 200
  const begun = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST' })
  const place = new URL(begun.headers.get('location') ?? '', url)
  const sent = await fetch(place, { method: 'PATCH', body: bytes })
  if (!sent.ok) return sent.status
  const end = new URL(sent.headers.get('location') ?? '', url)
  end.searchParams.set('digest', digest)
  return (await fetch(end, { method: 'PUT' })).status
}

async function push(
  repository: string,
  layers: readonly Buffer[],
  tag: string,
): Promise<Image | number> {
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', tag }))
  for (const bytes of [...layers, config]) {
    const status = await pushBlob(repository, bytes)
    if (status >= 300) return status
  }
  const part = (bytes: Buffer, mediaType: string) => ({
    mediaType,
    size: bytes.length,
    digest: digestOf(bytes),
  })
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: TYPE,
    config: part(config, 'application/vnd.docker.container.image.v1+json'),
    layers: layers.map((bytes) => part(bytes, 'application/vnd.docker.image.rootfs.diff.tar.gzip')),
  })
  const reply = await fetch(`${url}/v2/${repository}/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': TYPE },
    body: manifest,
  })
  if (!reply.ok) return reply.status
  return { repository, digest: digestOf(manifest), parts: [...layers, config].map(digestOf) }
}

/** null when it came whole and right. What is collected in the midst of its pull may be cut off. */
function pullFailure(image: Image): Promise<string | null> {
  return pull(image).catch((error: Error) => `cut: ${error.message}`)
}

async function pull({ repository, digest, parts }: Image): Promise<string | null> {
  const manifest = await fetch(`${url}/v2/${repository}/manifests/${digest}`, {
    headers: { accept: TYPE },
  })
  if (manifest.status !== 200 || digestOf(await manifest.text()) !== digest)
    return `manifest ${manifest.status}`
  for (const part of parts) {
    const blob = await fetch(`${url}/v2/${repository}/blobs/${part}`)
    const bytes = Buffer.from(await blob.arrayBuffer())
    if (blob.status !== 200 || digestOf(bytes) !== part) return `blob ${part} ${blob.status}`
  }
  return null
}

async function pushed(repository: string, layers: readonly Buffer[], tag: string): Promise<Image> {
  const build = activity.begin(repository)
  const image = await push(repository, layers, tag)
  build.end(true)
  if (typeof image === 'number') throw new Error(`push ${repository}:${tag}: ${image}`)
  return image
}

const blobFolders = () =>
  readdirSync(join(root, 'docker/registry/v2/blobs/sha256')).flatMap((prefix) =>
    readdirSync(join(root, 'docker/registry/v2/blobs/sha256', prefix)),
  ).length
const blobFiles = () =>
  execFileSync('find', [root, '-name', 'data', '-path', '*/blobs/*'], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .filter(Boolean).length

test('what is not needed goes with all that only it had; what is needed can still be pulled', async () => {
  const base = randomBytes(100_000)
  const [kept, old] = [
    await pushed('shop', [base, randomBytes(50_000)], 'kept'),
    await pushed('shop', [base, randomBytes(2_000_000)], 'old'),
  ]
  const gone = await pushed('gone', [randomBytes(1_000_000)], 'x')
  const mirrored = await pushed('docker.io/library/debian', [base], 'bookworm-slim')
  needed.add(`${kept.repository}@${kept.digest}`)
  const survey = await keeper.survey()
  expect(survey.collection).toMatchObject({
    repositories: ['gone'],
    manifests: [{ digest: old.digest }],
  })
  const done = await keeper.collect(true)
  expect(done.freedBytes).toBeGreaterThan(2_900_000)
  expect(await pullFailure(kept)).toBeNull()
  expect(await pullFailure(mirrored)).toBeNull()
  expect(await pullFailure(old)).toBe('manifest 404')
  expect(await pullFailure(gone)).toBe('manifest 404')
  expect(blobFiles()).toBe(4 + 2)
  expect(blobFolders()).toBe(4 + 2)
  expect((await keeper.survey()).collection).toMatchObject({
    manifests: [],
    layers: [],
    blobs: [],
    repositories: [],
    uploads: [],
  })
  // And the registry takes again what it had.
  expect(await pullFailure(await pushed('shop', [base, randomBytes(10)], 'old'))).toBeNull()
})

test('a layer that is pushed again while it is set aside is there, before and after', async () => {
  const layer = randomBytes(500_000)
  await pushed('shop', [layer], 'old')
  const slow = newKeeper(3_000)
  const collecting = slow.collect(true)
  const aside = join(root, 'set-aside')
  await vi.waitFor(() => expect(readdirSync(aside)).toContain(digestOf(layer).slice(7)), {
    timeout: 10_000,
    interval: 10,
  })
  const again = await pushed('blog', [layer], 'new')
  needed.add(`blog@${again.digest}`)
  expect(await pullFailure(again)).toBeNull()
  expect((await collecting).putBack).toBe(1)
  expect(await pullFailure(again)).toBeNull()
  expect(readdirSync(aside)).toEqual([])
})

test('the folder that an upload is about to move its bytes into stays while anybody pushes', async () => {
  const layer = randomBytes(1_000)
  await pushed('shop', [layer], 'old')
  // Between the making of the folder, which is there already, and the move.
  const build = activity.begin('blog')
  await keeper.collect(true)
  expect(blobFiles()).toBe(0)
  expect(blobFolders()).toBe(3)
  build.end(true)
  await keeper.collect(true)
  expect(blobFolders()).toBe(0)
})

test('what a collector that was killed had set aside is put back where it is linked to, and goes where not', async () => {
  const [used, unused] = [randomBytes(1_000), randomBytes(1_000)]
  const image = await pushed('shop', [used], 'kept')
  needed.add(`shop@${image.digest}`)
  await pushed('gone', [unused], 'x')
  const files = openImageFiles(root)
  files.setAside(digestOf(used))
  files.setAside(digestOf(unused))
  files.removeRepository('gone')
  expect(await pullFailure(image)).toMatch(/^blob/)
  await newKeeper(1).collect(false)
  expect(await pullFailure(image)).toBeNull()
  expect(existsSync(join(root, 'set-aside', digestOf(unused).slice(7)))).toBe(false)
})

test('on a full disk a push fails with 500, pulls go on, and what the push left is gone when the builder says so', async () => {
  const image = await pushed('shop', [randomBytes(1_000_000)], 'kept')
  needed.add(`shop@${image.digest}`)
  const build = activity.begin('shop')
  expect(await push('shop', [randomBytes(80_000_000)], 'large')).toBe(500)
  expect(keeper.space().freeBytes).toBeLessThan(100_000)
  expect(await pullFailure(image)).toBeNull()
  // Somebody else may still be at it.
  await keeper.pushFailed('shop')
  expect(keeper.space().freeBytes).toBeLessThan(100_000)
  build.end(true)
  await keeper.pushFailed('shop')
  expect(keeper.space().freeBytes).toBeGreaterThan(60_000_000)
  expect(await pullFailure(await pushed('shop', [randomBytes(1_000_000)], 'small'))).toBeNull()
})

test('pushes, pulls and collections at once: no push fails, and nothing that is needed is ever missing', async () => {
  const layers = Array.from({ length: 10 }, () =>
    randomBytes(20_000 + Math.floor(Math.random() * 200_000)),
  )
  const live: Image[] = []
  const failures: string[] = []
  const count = { pushes: 0, pulls: 0, collections: 0, blobs: 0, putBack: 0 }
  const deadline = Date.now() + 45_000
  const startedAt = Date.now()
  /** Until there was a race, and as long as is asked for. */
  const goesOn = () =>
    Date.now() < deadline &&
    (Date.now() - startedAt < RACE_MS || count.pushes <= PUSHES || count.blobs <= BLOBS)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T

  const pusher = async (name: string) => {
    for (let n = 0; goesOn(); n++) {
      const repository = pick(['shop', 'blog'])
      const build = activity.begin(repository)
      const image = await push(
        repository,
        [pick(layers), pick(layers), randomBytes(3_000)],
        `${name}-${n}`,
      )
      count.pushes++
      if (typeof image === 'number') failures.push(`push: ${image}`)
      else if (Math.random() < 0.5) {
        // A release takes it: looked up first, then stored.
        activity.touch(repository, 50)
        needed.add(`${repository}@${image.digest}`)
        live.push(image)
      }
      build.end(true)
      // A build takes its time: collections find repositories quiet too.
      await systemClock.sleep(Math.random() * 400)
      if (live.length > 12) {
        const old = live.shift()
        if (old) needed.delete(`${old.repository}@${old.digest}`)
      }
    }
  }
  const puller = async () => {
    while (goesOn()) {
      const image = live.length === 0 ? undefined : pick(live)
      if (image === undefined) {
        await systemClock.sleep(5)
        continue
      }
      const failure = await pullFailure(image)
      count.pulls++
      if (failure !== null && live.includes(image)) failures.push(`pull: ${failure}`)
    }
  }
  const collector = async () => {
    // Longer than the registry takes from its look at a blob to the link, also on a machine that is busy.
    const eager = newKeeper(100)
    while (goesOn()) {
      const { collection, putBack } = await eager.collect(true)
      count.collections++
      count.blobs += collection.blobs.length
      count.putBack += putBack
    }
  }
  await Promise.all([pusher('a'), pusher('b'), pusher('c'), puller(), puller(), collector()])
  expect(failures).toEqual([])
  for (const image of live) expect(await pullFailure(image)).toBeNull()
  // The race was one.
  expect(count.pushes).toBeGreaterThan(PUSHES)
  expect(count.blobs).toBeGreaterThan(BLOBS)
  process.stderr.write(`image store race: ${JSON.stringify(count)}\n`)
}, 60_000)

test('a store that can not be looked through is left alone', async () => {
  const image = await pushed('shop', [randomBytes(1_000)], 'x')
  const files = openImageFiles(root)
  const broken = createImageKeeper({
    files: { ...files, read: async () => Promise.reject(new Error('EIO: i/o error, scandir')) },
    dir: root,
    needed: async () => ({ needed, apps }),
    activity,
    clock: lateClock,
    log: silentLogger,
  })
  await expect(broken.collect(true)).rejects.toThrow(PlatformError)
  expect(await pullFailure(image)).toBeNull()
})
