import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { type BuildEvent, type BuildRequest, buildRequest } from '@roost/api'
import { silentLogger, systemClock } from '@roost/base'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Builder, createBuilder } from '../../packages/agent/src/build/builder.ts'
import { packContext } from '../../packages/cli/src/build/pack-context.ts'
import { readImage } from '../../packages/cli/src/mirror/image-layout.ts'
import { pushImage } from '../../packages/cli/src/mirror/push-image.ts'
import {
  createRegistryClient,
  readBody,
  registryTokenFor,
} from '../../packages/cli/src/mirror/registry-client.ts'
import { listMirror, MIRROR_CACHE, seedMirror } from '../../packages/cli/src/mirror/seed.ts'
import {
  ADMIN,
  type ImageStore,
  raiseImageStore,
  raiseOpenRegistry,
  SHOP_OWNER,
} from './image-store.ts'
import { mountDisk, mountInMemory } from './memory-disk.ts'

/** From a folder to an image in the registry, with the real buildah, registry and token service. */
const ID = `rbt${process.pid}`
const ADDRESS = '10.254.77.1'
const CGROUPS = `/${ID}/build`
/** For images, layers and caches. */
const DISK_MB = 8000
let dir: string
let disk: string
let store: ImageStore
let builder: Builder
let neighbour: Server

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'roost-build-'))
  mountInMemory(dir)
  disk = join(dir, 'disk')
  mountDisk(disk, DISK_MB)
  execFileSync('ip', ['addr', 'replace', `${ADDRESS}/32`, 'dev', 'lo'])
  store = await raiseImageStore(join(dir, 'store'), ADDRESS)
  await seedMirror({ ...mirror(), upstream: null })
  builder = createBuilder({
    dataDir: join(disk, 'builder'),
    netns: ID,
    cgroupParent: CGROUPS,
    memoryMb: 400,
    uplink: null,
    nameservers: [],
    ca: store.ca,
    registry: () => ({ name: 'registry.internal', url: store.url }),
    registryToken: async (repository) => {
      const access = [{ repository, actions: ['pull', 'push'] as const }]
      return (await store.tokens.issue({ subject: 'agent/1', access })).token
    },
    clock: systemClock,
    log: silentLogger,
  })
  await builder.sweep()
  neighbour = createServer((_request, reply) => reply.end('secret')).listen(0, ADDRESS)
}, 300_000)

afterAll(async () => {
  await builder?.close()
  await builder?.removeNetwork()
  await store?.close()
  neighbour?.close()
  execFileSync('ip', ['addr', 'del', `${ADDRESS}/32`, 'dev', 'lo'])
  for (const name of readdirSync('/sys/fs/cgroup'))
    if (existsSync(`/sys/fs/cgroup/${name}/${ID}`))
      execFileSync('find', [`/sys/fs/cgroup/${name}/${ID}`, '-depth', '-type', 'd', '-delete'])
  execFileSync('umount', ['--lazy', disk, dir])
  rmSync(dir, { recursive: true, force: true })
})

const mirror = () => ({
  apiUrl: store.apiUrl,
  apiToken: ADMIN,
  registryUrl: store.url,
  ca: store.ca,
})

function folderOf(files: Record<string, string>): string {
  const folder = mkdtempSync(join(dir, 'context-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

interface Result {
  readonly events: readonly BuildEvent[]
  readonly text: string
  readonly end: BuildEvent | undefined
}

async function build(
  folder: string,
  asked: Partial<BuildRequest> & {
    app?: string
    signal?: AbortSignal
    heard?: (e: BuildEvent) => void
  } = {},
): Promise<Result> {
  const { app = 'shop', signal = new AbortController().signal, heard, ...rest } = asked
  const request = buildRequest.parse(rest)
  const events: BuildEvent[] = []
  const context = Readable.from(packContext({ folder, dockerfile: request.dockerfile }))
  await builder.run(
    { app, request },
    context,
    (event) => {
      events.push(event)
      heard?.(event)
    },
    signal,
  )
  const text = events.flatMap((event) => (event.kind === 'output' ? [event.text] : [])).join('\n')
  return { events, text, end: events.at(-1) }
}

function failureOf({ end }: Result): string {
  return end?.kind === 'failed'
    ? `${end.code}: ${end.message}`
    : `no failure: ${JSON.stringify(end)}`
}

const MANIFESTS = ['docker.distribution.manifest.v2', 'oci.image.manifest.v1']
  .map((type) => `application/vnd.${type}+json`)
  .join(', ')

interface Stored {
  readonly config: Record<string, unknown>
  /** Digests, from the lowest layer up. */
  readonly layers: readonly string[]
}

/** What a machine would be started from: `registry.internal/shop@sha256:…`, as the registry has it. */
async function imageOf(image: string): Promise<Stored> {
  const [, repository = '', digest = ''] = /^[^/]+\/(.+)@(.+)$/.exec(image) ?? []
  const token = await registryTokenFor({ ...mirror(), repository, actions: ['pull'] })
  const client = createRegistryClient({ url: store.url, ca: store.ca, token })
  const get = async (path: string) =>
    JSON.parse(
      await readBody(
        await client.request({
          method: 'GET',
          path: `/v2/${repository}/${path}`,
          headers: { accept: MANIFESTS },
        }),
      ),
    )
  const manifest = await get(`manifests/${digest}`)
  const layers = manifest.layers.map((layer: { digest: string }) => layer.digest)
  return { config: (await get(`blobs/${manifest.config.digest}`)).config, layers }
}

test('a Dockerfile written for BuildKit becomes an image in the registry', async () => {
  const folder = folderOf({
    Dockerfile: `# syntax=docker/dockerfile:1.7
FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS build
ARG GREETING=hello
ENV WHO=world
RUN <<EOF
set -e
printf '%s\\n' "a 'quoted' \\\\ line" > /one
test -d /etc
EOF
RUN cat <<'IN' > /two && \\
  # a comment in between
  echo more >> /two
$WHO stays
IN
RUN <<EOF
#!/bin/bash
[[ $0 == /dev/pipes/EOF ]] && echo ran > /three
EOF
COPY --link --chmod=640 --chown=7:8 <<text.conf plain.txt /etc/app/
who=$WHO greeting=\${GREETING} \\$x
text.conf
RUN cat /one /two /three /etc/app/* && stat -c '%a %u:%g' /etc/app/text.conf

FROM debian:bookworm-slim AS unused
RUN exit 9

FROM debian:bookworm-slim AS final
RUN useradd --create-home somebody
COPY --from=build --link /one /two /
USER somebody
RUN id -un
EXPOSE 8080
HEALTHCHECK --start-interval=1s CMD true
CMD ["cat", "/one"]
`,
    'plain.txt': 'plain\n',
  })
  const result = await build(folder)
  expect(result.end?.kind, failureOf(result)).toBe('done')
  expect(result.text).toContain(
    "a 'quoted' \\ line\n$WHO stays\nmore\nran\nplain\nwho=world greeting=hello $x\n640 7:8",
  )
  expect(result.text).toContain('somebody')
  expect(result.text).toContain('line 33: HEALTHCHECK --start-interval=1s is left out')
  if (result.end?.kind !== 'done') return
  expect(result.end.image).toMatch(/^registry\.internal\/shop@sha256:[0-9a-f]{64}$/)
  expect(result.end.size_bytes).toBeGreaterThan(50_000_000)
  expect((await imageOf(result.end.image)).config).toMatchObject({
    User: 'somebody',
    Cmd: ['cat', '/one'],
    ExposedPorts: { '8080/tcp': {} },
  })
})

// From here to what is refused nobody needs the builder for themselves: two of them build at a time.
test.concurrent('layers and cache mounts are kept: a build of changed source is quick', async () => {
  const files = {
    Dockerfile: `FROM debian:bookworm-slim
COPY deps.txt .
RUN --mount=type=cache,target=/var/cache/words,sharing=locked echo run >> /var/cache/words/runs && cp /var/cache/words/runs /runs
COPY . .
RUN echo "runs: $(wc -l < /runs)"
`,
    'deps.txt': '1',
    'main.txt': '1',
  }
  const seconds = async (folder: string, request = {}) => {
    const start = performance.now()
    const result = await build(folder, request)
    expect(result.end?.kind, failureOf(result)).toBe('done')
    return { ...result, seconds: (performance.now() - start) / 1000 }
  }
  const first = await seconds(folderOf(files))
  const same = await seconds(folderOf(files))
  const changed = await seconds(folderOf({ ...files, 'main.txt': '2' }))
  const otherDeps = await seconds(folderOf({ ...files, 'deps.txt': '2' }))
  const fresh = await seconds(folderOf(files), { no_cache: true })
  expect(first.text).toContain('runs: 1')
  expect(same.text.match(/Using cache/g)?.length).toBeGreaterThanOrEqual(4)
  expect(changed.text).toContain('runs: 1')
  expect(otherDeps.text).toContain('runs: 2')
  expect(fresh.text).toContain('runs: 3')
  console.log(
    `first ${first.seconds.toFixed(1)} s, unchanged ${same.seconds.toFixed(1)} s, only source changed ${changed.seconds.toFixed(1)} s`,
  )
})

test.concurrent('a step that reads files by a bind mount is done again when these change, or the stage that they come from', async () => {
  const folderWith = (bound: string, staged: string) =>
    folderOf({
      Dockerfile: `FROM debian:bookworm-slim AS made
RUN --mount=type=bind,source=staged.txt,target=/in cp /in /out
FROM debian:bookworm-slim
RUN --mount=type=bind,source=in/a.txt,target=/a echo "reads $(cat /a)"
RUN --mount=type=bind,from=made,source=/out,target=/b echo "stage $(cat /b)"
`,
      'in/a.txt': bound,
      'staged.txt': staged,
    })
  expect((await build(folderWith('one', 'two'))).text).toMatch(/reads one(.|\n)*stage two/)
  const same = (await build(folderWith('one', 'two'))).text
  expect(same).not.toMatch(/reads|stage two/)
  const other = await build(folderWith('one', 'three'))
  expect(other.text).not.toContain('reads')
  expect(other.text).toContain('stage three')
  expect((await build(folderWith('four', 'three'))).text).toMatch(/reads four(.|\n)*stage three/)
})

test.concurrent('another app has cache mounts of its own', async () => {
  const folder = folderOf({
    Dockerfile: `FROM debian:bookworm-slim
RUN --mount=type=cache,target=/var/cache/words echo "there: $(ls /var/cache/words | wc -l)" && touch /var/cache/words/x
`,
  })
  expect((await build(folder, { no_cache: true })).text).toContain('there: ')
  expect((await build(folder, { app: 'other', no_cache: true })).text).toContain('there: 0')
})

test.concurrent('another app does not take results of steps that this one could make what it likes', async () => {
  const folderWith = (word: string) =>
    folderOf({
      Dockerfile: `FROM debian:bookworm-slim
COPY main.txt .
RUN --mount=type=cache,target=/var/cache/words cat /var/cache/words/y; echo ${word} > /var/cache/words/y
`,
      'main.txt': '1',
    })
  await build(folderWith('evil'))
  expect((await build(folderWith('good'))).text).toContain('evil')
  expect((await build(folderWith('good'))).text).toContain('Using cache')
  const other = await build(folderWith('good'), { app: 'third' })
  expect(other.end?.kind, failureOf(other)).toBe('done')
  expect(other.text).not.toContain('Using cache')
  expect(other.events.filter(({ kind }) => kind === 'step').join()).not.toContain('LABEL')
})

test.concurrent('what a registry sent is not sent back to it, by however many apps, and what an app sent is not sent again', async () => {
  const folderWith = (word: string) =>
    folderOf({
      Dockerfile: `FROM debian:bookworm-slim\nRUN head -c 300000 /dev/urandom > /own\nCOPY word /\n`,
      word,
    })
  const layersOf = async (app: string, word: string) => {
    const { end, ...rest } = await build(folderWith(word), { app })
    if (end?.kind !== 'done') throw new Error(failureOf({ end, ...rest }))
    return (await imageOf(end.image)).layers
  }
  const debian = (await listMirror(mirror())).find(({ name }) => name.includes('/debian:'))
  const [base] = (await imageOf(`mirror/docker.io/library/debian@${debian?.digest}`)).layers
  const first = await layersOf('many-0', 'one')
  // buildah tries no more than the five places that it heard of last.
  for (let n = 1; n <= 6; n++) expect((await layersOf(`many-${n}`, 'one'))[0]).toBe(base)
  const second = await layersOf('many-0', 'two')
  expect(second).toHaveLength(3)
  expect(second.slice(0, 2)).toEqual(first.slice(0, 2))
  expect(first[0]).toBe(base)
})

test.concurrent('target and build arguments', async () => {
  const folder = folderOf({
    'docker/web': `FROM debian:bookworm-slim AS one
ARG WORD=default
RUN echo "word: $WORD"
FROM one AS two
RUN exit 1
`,
  })
  const result = await build(folder, {
    dockerfile: 'docker/web',
    target: 'one',
    args: { WORD: 'a b' },
  })
  expect(result.end?.kind, failureOf(result)).toBe('done')
  expect(result.text).toContain('word: a b')
  expect(failureOf(await build(folder, { dockerfile: 'docker/web', target: 'nope' }))).toContain(
    'nope',
  )
})

test.concurrent('.dockerignore hides from COPY, the Dockerfile too, and here-documents are not hidden', async () => {
  const folder = folderOf({
    Dockerfile: `FROM debian:bookworm-slim
COPY . /all
COPY <<EOF /all/text
EOF
RUN ls -A /all | tr '\\n' ' '; echo
`,
    '.dockerignore': '*\n!src\n',
    'src/a': '',
    other: '',
  })
  expect((await build(folder)).text.trim().split('\n').at(-1)?.trim()).toBe('src text')
})

test.concurrent('a build that fails says where, why and what was said last', async () => {
  // All on one stream: between two the order is nobody's promise.
  const folder = folderOf({
    Dockerfile:
      'FROM debian:bookworm-slim\n\nRUN echo fine >&2; \\\n  # why\n  echo "no such module" >&2; exit 3\n',
  })
  expect(failureOf(await build(folder))).toBe(
    'build_failed: Dockerfile line 3: RUN echo fine >&2; echo "no such module" >&2; exit 3: exit status 3\nfine\nno such module',
  )
})

test.concurrent.each<[string, Record<string, string>, string]>([
  ['no Dockerfile', { x: '' }, 'invalid: there is no Dockerfile in the context'],
  [
    'no such image',
    { Dockerfile: 'FROM nobody/has:this\n' },
    'line 1: FROM nobody/has:this: image nobody/has:this is not in the mirror',
  ],
  [
    'a missing file',
    { Dockerfile: 'FROM debian:bookworm-slim\nCOPY nope /\n' },
    'line 2: COPY nope /',
  ],
  [
    'what buildah lacks',
    { Dockerfile: 'FROM debian:bookworm-slim\nCOPY --parents a /\n' },
    'unsupported: Dockerfile line 2: COPY --parents',
  ],
  [
    'the image of another app',
    { Dockerfile: 'FROM registry.internal/secret:latest\n' },
    'build_failed',
  ],
])('%s is told plainly', async (_what, files, message) => {
  expect(failureOf(await build(folderOf(files)))).toContain(message)
})

test('images of another app that the builder has are not there for this one', async () => {
  const secret = folderOf({ Dockerfile: 'FROM debian:bookworm-slim\nRUN echo hidden > /file\n' })
  const { end } = await build(secret, { app: 'secret' })
  const image = end?.kind === 'done' ? end.image : ''
  const own = folderOf({ Dockerfile: `FROM ${image}\nRUN cat /file\n` })
  expect((await build(own, { app: 'secret' })).text).toContain('hidden')

  const images = join(disk, 'builder/storage/overlay-images/images.json')
  const ids = (JSON.parse(readFileSync(images, 'utf8')) as { id: string }[]).map(({ id }) => id)
  const names = [image, ...ids.slice(-2), ...ids.slice(-2).map((id) => id.slice(0, 4))]
  for (const linesFrom of [
    (from: string) => `FROM ${from}\nRUN cat /file`,
    (from: string) => `FROM debian:bookworm-slim\nCOPY --from=${from} /file /\nRUN cat /file`,
    (from: string) =>
      `FROM debian:bookworm-slim\nRUN --mount=type=bind,from=${from},target=/of cat /of/file`,
  ]) {
    const refused = names.map((from) => build(folderOf({ Dockerfile: `${linesFrom(from)}\n` })))
    for (const result of await Promise.all(refused))
      expect(failureOf(result)).toContain('build_failed')
  }
})

test('a build that takes more memory than builds may is ended alone, and told so', async () => {
  const folder = folderOf({
    Dockerfile: 'FROM debian:bookworm-slim\nRUN head -c 3000m /dev/zero | tail > /dev/null\n',
  })
  const modest = folderOf({
    Dockerfile: 'FROM debian:bookworm-slim\nRUN sleep 2; echo modest\n',
  })
  const [greedy, other] = await Promise.all([
    build(folder, { no_cache: true }),
    build(modest, { no_cache: true }),
  ])
  expect(failureOf(greedy)).toContain(
    'build_failed: it ran out of memory: builds on this host may use 400 MB together',
  )
  expect(failureOf(greedy)).toContain('Dockerfile line 2')
  expect(other.end?.kind).toBe('done')
})

test('steps reach neither the host, nor the metadata of a cloud, nor files outside of their context', async () => {
  const address = neighbour.address()
  const port = typeof address === 'object' ? address?.port : 0
  const folder = folderOf({
    Dockerfile: `FROM debian:bookworm-slim
SHELL ["/bin/bash", "-c"]
RUN for place in ${ADDRESS}/${port} 169.254.169.254/80 127.0.0.1/${port}; do \\
  { timeout 2 bash -c "exec 3<>/dev/tcp/$place" 2>/dev/null && echo "reached $place"; } & done; wait; echo checked
RUN --mount=type=bind,target=/ctx touch /ctx/x 2>&1 || true
RUN cat /proc/mounts | grep -c ${dir} || true
`,
    'file.txt': 'x',
  })
  const { text } = await build(folder)
  expect(text).toContain('checked')
  expect(text).not.toContain('reached')
  expect(text).toContain('Read-only file system')
})

test('hanging up ends every process and mount of a build', async () => {
  const folder = folderOf({
    Dockerfile: `FROM debian:bookworm-slim\nRUN echo started ${ID}; sleep 7777 & setsid sleep 7778\n`,
  })
  const abort = new AbortController()
  const building = build(folder, {
    signal: abort.signal,
    heard: (event) => {
      if (event.kind === 'output' && event.text.includes('started'))
        abort.abort(new Error('hung up'))
    },
  })
  await expect(building).rejects.toThrow('hung up')
  const commands = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      } catch {
        return ''
      }
    })
  expect(
    commands.filter(
      (line) => /sleep 777[78]/.test(line) || line.includes(`--net=/run/netns/${ID}`),
    ),
  ).toEqual([])
  expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(join(disk, 'builder'))
  expect(readdirSync(join(disk, 'builder/work'))).toEqual([])
  const containers = readFileSync(
    join(disk, 'builder/storage/overlay-containers/containers.json'),
    'utf8',
  )
  expect(JSON.parse(containers)).toEqual([])
  expect(existsSync(`/sys/fs/cgroup/memory${CGROUPS}`)).toBe(false)
})

test('two builds run, the third says that it waits', async () => {
  const folder = (n: number) =>
    folderOf({ Dockerfile: `FROM debian:bookworm-slim\nRUN echo ${n}; sleep 1\n` })
  const results = await Promise.all([1, 2, 3].map((n) => build(folder(n), { app: `app-${n}` })))
  for (const result of results) expect(result.end?.kind, failureOf(result)).toBe('done')
  const waits = results.filter(({ text }) => text.includes('waiting: 2 builds are ahead'))
  expect(waits.length).toBe(1)
})

test('an archive that is none is refused', async () => {
  const events: BuildEvent[] = []
  await builder.run(
    { app: 'shop', request: buildRequest.parse({}) },
    Readable.from([Buffer.from('not a tar')]),
    (event) => void events.push(event),
    new AbortController().signal,
  )
  expect(events.at(-1)).toMatchObject({ kind: 'failed', code: 'invalid' })
})

test('the mirror is an administrator’s, and is not sent twice', async () => {
  const images = await listMirror(mirror())
  expect(images.filter(({ digest }) => digest !== null).map(({ name }) => name)).toEqual([
    'docker.io/library/debian:bookworm-slim',
    'docker.io/library/node:22-slim',
  ])
  const start = performance.now()
  const again = await seedMirror({ ...mirror(), upstream: null })
  expect(again.every(({ sentBytes }) => sentBytes === 0)).toBe(true)
  console.log(`mirror from the cache: ${((performance.now() - start) / 1000).toFixed(2)} s`)
  const owner = { ...mirror(), apiToken: SHOP_OWNER }
  expect(await listMirror(owner)).toEqual(images)
  await expect(seedMirror({ ...owner, upstream: null })).rejects.toMatchObject({
    code: 'forbidden',
  })
  await expect(listMirror({ ...owner, apiToken: 'unknown' })).rejects.toMatchObject({
    code: 'unauthorized',
  })
})

test('where the real images can be had, they are mirrored, and fetched once', async () => {
  const hub = await raiseOpenRegistry(join(dir, 'hub'), ADDRESS)
  try {
    const kept = readdirSync(join(MIRROR_CACHE, 'images')).find((name) =>
      /^debian-bookworm-slim\.\d+$/.test(name),
    )
    const debian = await readImage(join(MIRROR_CACHE, 'images', kept ?? ''))
    const client = createRegistryClient({ url: hub.url })
    if (debian === null) throw new Error('the mirror was seeded, so its cache is there')
    for (const [repository, tag] of [
      ['library/debian', 'bookworm-slim'],
      ['library/node', '22-slim'],
    ] as const)
      await pushImage(client, debian, { repository, tag })
    const options = { ...mirror(), cacheDir: join(dir, 'cache'), upstream: { url: hub.url } }
    const seeded = await seedMirror(options)
    expect(seeded.map(({ source }) => source)).toEqual(['upstream', 'upstream'])
    expect((await listMirror(mirror())).slice(0, 2).map(({ digest }) => digest)).toEqual([
      debian.manifest.digest,
      debian.manifest.digest,
    ])
    expect((await seedMirror(options)).map(({ source }) => source)).toEqual([
      'upstream',
      'upstream',
    ])
  } finally {
    await hub.close()
  }
  const said: string[] = []
  const gone = {
    ...mirror(),
    upstream: { url: hub.url },
    onProgress: (text: string) => said.push(text),
  }
  expect((await seedMirror(gone)).map(({ source }) => source)).toEqual(['packages', 'packages'])
})
