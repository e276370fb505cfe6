import { createHmac, randomBytes } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { lstat, mkdir, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { request as httpsRequest } from 'node:https'
import { isIP } from 'node:net'
import { totalmem } from 'node:os'
import { dirname, join, sep } from 'node:path'
import type { Readable } from 'node:stream'
import type { BuildEvent, BuildRequest } from '@roost/api'
import { type Clock, describeError, type Logger, PlatformError } from '@roost/base'
import type { CollectedCache } from '../disk/collector.ts'
import { isNoSpace } from '../disk/no-space.ts'
import type { PullRoom } from '../image/puller.ts'
import { parseChallenge } from '../image/registry.ts'
import { openBuildCache } from './build-cache.ts'
import { createBuildLog } from './build-log.ts'
import { createBuildSlots } from './build-slots.ts'
import { openBuildah, type RegistryPlace } from './buildah.ts'
import { openBuilderNetwork } from './builder-network.ts'
import { contextDigest } from './context-digest.ts'
import { DockerfileError } from './dockerfile/parse-dockerfile.ts'
import {
  HEREDOC_CONTEXT,
  type Rewritten,
  rewriteDockerfile,
} from './dockerfile/rewrite-dockerfile.ts'
import type { BaseImage } from './dockerfile/stage-scope.ts'
import { knownBlobs } from './known-blobs.ts'
import { unpackContext } from './unpack-context.ts'

export interface BuilderOptions {
  /** Caches, images, work in progress. Only this builder uses it. */
  readonly dataDir: string
  /** Name of the network namespace of builds; made when it is missing. */
  readonly netns: string
  /** Parent of the cgroups of build steps, unique on this kernel. */
  readonly cgroupParent: string
  /** What all builds together may use. Default: half of this machine's memory, at least 512. */
  readonly memoryMb?: number | undefined
  readonly uplink: string | null
  readonly nameservers: readonly string[]
  /** PEM of the installation's authority. */
  readonly ca: string
  /** Where the image store is; null as long as the agent has not heard of it. */
  readonly registry: () => { readonly name: string; readonly url: string } | null
  /** A short-lived token for one repository. */
  readonly registryToken: (
    repository: string,
    push: boolean,
    signal: AbortSignal,
  ) => Promise<string>
  /** Keeps builds from filling a disk on which machines run; absent: there is always room. */
  readonly room?: PullRoom
  readonly clock: Clock
  readonly log: Logger
}

export interface Builder {
  /**
   * Unpacks, builds, pushes. Everything that goes wrong with the build is its last event, `failed`; only an abort throws. `onEvent`
   * is waited for, so that a slow listener slows the build and nothing piles up.
   */
  run(
    build: { readonly app: string; readonly request: BuildRequest },
    context: Readable,
    onEvent: (event: BuildEvent) => void | Promise<void>,
    signal: AbortSignal,
  ): Promise<void>
  /** What it keeps for later builds. */
  readonly cache: CollectedCache
  /** Removes what builds of an earlier life left behind. */
  sweep(): Promise<void>
  /** Ends the builds that run. */
  close(): Promise<void>
  /** Takes the network away too: when a host stops to be a builder. */
  removeNetwork(): Promise<void>
}

const BUILDS_MAX = 2
const WAITING_MAX = 8
const BUILD_MS_MAX = 30 * 60_000
const PUSH_MS_MAX = 10 * 60_000
const QUERY_MS_MAX = 5 * 60_000
/** Tokens live for 15 minutes. */
const TOKEN_REFRESH_MS = 5 * 60_000
/** Where buildah keeps `--mount=type=cache`, inside of its temporary directory. */
const CACHE_MOUNTS = 'buildah-cache'
const KNOWN_BLOBS = 'blobs'
const DOCKERFILE_BYTES_MAX = 1_000_000

export function createBuilder(options: BuilderOptions): Builder {
  const { dataDir, clock, log } = options
  const memoryMb = options.memoryMb ?? Math.max(512, Math.round(totalmem() / 2 / 1_048_576))
  const network = openBuilderNetwork(options.netns)
  const buildah = openBuildah({
    dataDir,
    netnsPath: network.path,
    cgroupParent: options.cgroupParent,
    memoryMb,
    nameservers: options.nameservers,
  })
  const slots = createBuildSlots({ slots: BUILDS_MAX, waiting: WAITING_MAX })
  const closing = new AbortController()
  const under = new Set<Promise<void>>()
  const tidying = { now: Promise.resolve() }
  const workDir = join(dataDir, 'work')
  const cachesDir = join(dataDir, 'caches')
  /** Of builds that go on, also while they wait or their context comes in. */
  const folders = new Set<string>()
  const cache = openBuildCache({
    dataDir,
    storageDir: buildah.storageDir,
    cachesDir,
    removeImages: async (ids) => {
      await buildah.query(['rmi', ...ids], {
        signal: AbortSignal.any([closing.signal, AbortSignal.timeout(QUERY_MS_MAX)]),
        tmpDir: join(dataDir, 'tidy'),
        timeoutMs: QUERY_MS_MAX,
        withoutNetwork: true,
      })
    },
    clock,
    log,
  })
  const platform = `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`

  async function run(...[build, context, onEvent, given]: Parameters<Builder['run']>) {
    const ended = AbortSignal.any([given, closing.signal])
    const full = new AbortController()
    const signal = AbortSignal.any([ended, full.signal])
    const id = newUlid(clock.now())
    const folder = join(workDir, id)
    const watched = { end: () => {} }
    folders.add(id)
    const say = async (event: BuildEvent) => {
      signal.throwIfAborted()
      await onEvent(event)
    }
    try {
      const room = await options.room?.watch(`build ${build.app}`, 0)
      if (room !== undefined) {
        watched.end = room.end
        room.signal.addEventListener('abort', () => full.abort(room.signal.reason), { once: true })
      }
      await mkdir(join(folder, 'context'), { recursive: true, mode: 0o700 })
      await say({ kind: 'step', name: 'receive the context' })
      const { bytes, entries } = await unpackContext(context, join(folder, 'context'), signal)
      await say({
        kind: 'output',
        text: `${entries} files, ${(bytes / 1e6).toFixed(1)} MB`,
      })
      const places: Promise<void>[] = []
      const release = await slots.take(signal, (ahead) => {
        const text = `waiting: ${ahead} ${ahead === 1 ? 'build is' : 'builds are'} ahead`
        places.push(say({ kind: 'output', text }).catch(() => {}))
      })
      try {
        await tidying.now
        const noRoom = async () => {
          const refusal = await options.room?.refusal(`build ${build.app}`)
          if (refusal) full.abort(refusal)
        }
        await buildAndPush({ ...build, id, folder, say, signal, noRoom })
      } finally {
        release()
      }
    } catch (error) {
      ended.throwIfAborted()
      // What the client still sends is thrown away, so that it comes to read the reason.
      context.resume()
      const { code, message } = explain(await roomReason(full.signal, build.app, error))
      if (code === 'internal') log.warn('build failed', { app: build.app, build: id, error })
      await onEvent({ kind: 'failed', code, message })
    } finally {
      watched.end()
      await rm(folder, { recursive: true, force: true }).catch((error: unknown) =>
        log.warn('remove a build folder', { folder, error }),
      )
      folders.delete(id)
      await tidyWhenIdle()
    }
  }

  /** Why a build ended, where its disk is full: neither its Dockerfile nor its context is at fault then. */
  async function roomReason(full: AbortSignal, app: string, error: unknown): Promise<unknown> {
    if (full.aborted) return full.reason
    // A step has small file systems of its own that it can fill; what we write ourselves is on the disk.
    if (options.room === undefined || !isNoSpace(error)) return error
    if (error instanceof PlatformError && error.code === 'build_failed') return error
    return options.room.explain(`build ${app}`, error)
  }

  async function buildAndPush(build: Running): Promise<void> {
    const { app, id, folder, say, signal } = build
    const place = await prepare(build)
    const refresh = setInterval(() => {
      login(build, place).catch((error: unknown) =>
        log.warn('renew the token of a build', { app, error }),
      )
    }, TOKEN_REFRESH_MS)
    const tmpDir = join(cachesDir, app)
    try {
      const startedAt = performance.now()
      const rewritten = await rewrite(build, tmpDir)
      const image = await buildImage(build, rewritten, tmpDir)
      cache.noteUse(app)
      const builtAt = performance.now()
      const tag = `${app}:deployment-${id}`
      await say({ kind: 'step', name: `push ${place.name}/${tag}` })
      await login(build, place)
      const digestFile = join(folder, 'digest')
      const { storageDir, pulledBlobsDir: pulledDir } = buildah
      const appDir = join(tmpDir, KNOWN_BLOBS)
      const blobsDir = await knownBlobs({ storageDir, pulledDir, appDir, image }).catch(
        (error: unknown) => {
          log.warn('what an app may know of blobs: it sends more than it has to', { app, error })
          return pulledDir
        },
      )
      const pushLog = createBuildLog()
      const code = await buildah.run({
        args: [
          'push',
          ...trust(),
          '--quiet',
          '--retry=2',
          '--retry-delay=1s',
          '--format=v2s2',
          `--digestfile=${digestFile}`,
          image,
          `docker://${place.host}/${tag}`,
        ],
        signal,
        tmpDir,
        blobsDir,
        authFile: authFileOf(folder),
        timeoutMs: PUSH_MS_MAX,
        onLine: (line) => void pushLog.add(line),
      })
      if (code !== 0)
        throw new PlatformError('unavailable', `push ${place.name}/${tag}`, {
          cause: new Error(pushLog.lastLines(5).join('\n')),
          retry: 'later',
        })
      const digest = (await readFile(digestFile, 'utf8')).trim()
      await say({
        kind: 'done',
        image: `${place.name}/${app}@${digest}`,
        size_bytes: await imageSize(image, tmpDir, signal),
        build_ms: Math.round(builtAt - startedAt),
        push_ms: Math.round(performance.now() - builtAt),
      })
    } finally {
      clearInterval(refresh)
    }
  }

  async function rewrite(build: Running, tmpDir: string): Promise<Rewritten> {
    const { folder, request, say } = build
    const source = await readDockerfile(join(folder, 'context'), request.dockerfile)
    const rewritten = await rewriteDockerfile(source, {
      cacheKey: createHmac('sha256', cacheSecret()).update(build.app).digest('hex'),
      contextDigest: (path) => contextDigest(join(folder, 'context'), path),
      args: request.args,
      platform,
      baseImage: (reference) => inspectBase(reference, build, tmpDir),
    })
    for (const note of rewritten.notes) await say({ kind: 'output', text: note })
    await writeFile(join(folder, 'Dockerfile'), rewritten.text)
    const files = join(folder, 'heredocs')
    await mkdir(files)
    for (const { path, content, mode } of rewritten.files) {
      await mkdir(dirname(join(files, path)), { recursive: true })
      await writeFile(join(files, path), content, { mode })
    }
    return rewritten
  }

  /** Lost, it costs a build from the beginning. Half of one, as a full disk leaves it, could be guessed. */
  function cacheSecret(): Buffer {
    const file = join(dataDir, 'cache-secret')
    if (!existsSync(file)) {
      writeFileSync(`${file}.next`, randomBytes(32), { mode: 0o600 })
      renameSync(`${file}.next`, file)
    }
    return readFileSync(file)
  }

  async function buildImage(build: Running, rewritten: Rewritten, tmpDir: string): Promise<string> {
    const { folder, request, say, signal } = build
    const context = join(folder, 'context')
    const ignoreFile = join(context, '.dockerignore')
    const ignores = await lstat(ignoreFile).then(
      (found) => found.isFile(),
      () => false,
    )
    const idFile = join(folder, 'image')
    const output = createBuildLog(rewritten.steps)
    const shortages = buildah.shortages()
    const code = await buildah.run({
      args: [
        'bud',
        ...trust(),
        '--isolation=oci',
        '--network=host',
        '--format=docker',
        '--layers',
        // The images of all apps lie in one store: whether this one may have an image, only the registry says.
        '--pull-always',
        '--force-rm',
        '--retry=1',
        '--retry-delay=1s',
        `--cgroup-parent=${options.cgroupParent}`,
        ...buildah.machineArguments,
        `--build-context=${HEREDOC_CONTEXT}=${join(folder, 'heredocs')}`,
        ...Object.entries(request.args).map(([name, value]) => `--build-arg=${name}=${value}`),
        ...(request.target ? [`--target=${request.target}`] : []),
        ...(request.no_cache ? ['--no-cache'] : []),
        ...(ignores ? [`--ignorefile=${ignoreFile}`] : []),
        `--iidfile=${idFile}`,
        `--file=${join(folder, 'Dockerfile')}`,
        context,
      ],
      signal,
      tmpDir,
      authFile: authFileOf(folder),
      readOnly: [context, join(folder, 'heredocs')],
      timeoutMs: BUILD_MS_MAX,
      onLine: async (line) => {
        cache.heard(line)
        // At once: when the step is over, what it wrote is gone, and with it the reason.
        if (/no space left on device/i.test(line)) await build.noRoom()
        const event = output.add(line)
        if (event !== null) await say(event)
      },
    })
    if (code !== 0) {
      const failure = output.failure()
      const killed = code === 137 || /exit status 137|signal: killed/.test(failure)
      const why =
        killed && buildah.shortages() > shortages
          ? `it ran out of memory: builds on this host may use ${memoryMb} MB together\n`
          : ''
      throw new PlatformError('build_failed', `${why}${failure}`)
    }
    return (await readFile(idFile, 'utf8')).trim().replace(/^sha256:/, '')
  }

  /** Network, configuration and a fresh password, before anything is started. */
  async function prepare(build: Running): Promise<RegistryPlace> {
    const registry = options.registry()
    if (registry === null)
      throw new PlatformError('unavailable', 'the agent has not heard yet where images are kept', {
        retry: 'later',
      })
    const url = new URL(registry.url)
    const place = { name: registry.name, host: url.host, ca: options.ca }
    const realm = await tokenService(registry.url, options.ca, build.signal)
    await network.ensure({
      services: [url, realm].flatMap((one) => {
        const address = one.hostname
        if (isIP(address) !== 4) return []
        return [{ address, port: Number(one.port || 443) }]
      }),
      uplink: options.uplink,
      nameservers: options.nameservers,
    })
    buildah.configure(place)
    await login(build, place)
    return place
  }

  async function login({ app, folder, signal }: Running, place: RegistryPlace): Promise<void> {
    const token = await options.registryToken(app, true, signal)
    buildah.writeAuthFile(authFileOf(folder), place, token)
  }

  async function inspectBase(
    reference: string,
    { folder, signal }: Running,
    tmpDir: string,
  ): Promise<BaseImage> {
    const rest = { signal, tmpDir, authFile: authFileOf(folder), timeoutMs: QUERY_MS_MAX }
    const pulled = await buildah.query(
      ['pull', ...trust(), '--quiet', '--policy=always', reference],
      rest,
    )
    const image = pulled.split('\n').at(-1) ?? reference
    const text = await buildah.query(['inspect', '--type=image', image], rest)
    const { Docker: { config } = {} } = JSON.parse(text) as {
      Docker?: { config?: { Env?: string[] | null; Shell?: string[] | null } | null }
    }
    return {
      env: Object.fromEntries(
        (config?.Env ?? []).map((pair) => {
          const at = pair.indexOf('=')
          return [pair.slice(0, at), pair.slice(at + 1)]
        }),
      ),
      shell: config?.Shell?.length ? config.Shell : null,
    }
  }

  async function imageSize(image: string, tmpDir: string, signal: AbortSignal): Promise<number> {
    const rest = { signal, tmpDir, timeoutMs: QUERY_MS_MAX }
    const text = await buildah.query(['images', '--json', image], rest)
    const [found] = JSON.parse(text) as { size?: string }[]
    return parseSize(found?.size ?? '')
  }

  function trust(): string[] {
    const { configDir } = buildah
    return [
      `--cert-dir=${join(configDir, 'certs')}`,
      `--signature-policy=${join(configDir, 'policy.json')}`,
    ]
  }

  /** What builds that were cut off left behind. Only while none runs; those that come wait for it. */
  async function tidy(): Promise<void> {
    buildah.sweepCgroups()
    for (const id of await readdir(workDir).catch(() => []))
      if (!folders.has(id)) await rm(join(workDir, id), { recursive: true, force: true })
    for (const app of await readdir(cachesDir).catch(() => []))
      for (const name of await readdir(join(cachesDir, app)))
        if (name !== CACHE_MOUNTS && name !== KNOWN_BLOBS)
          await rm(join(cachesDir, app, name), { recursive: true, force: true })
    if (!buildah.hasLeftContainers()) return
    await buildah.query(['rm', '--all'], {
      signal: AbortSignal.timeout(QUERY_MS_MAX),
      tmpDir: join(dataDir, 'tidy'),
      timeoutMs: QUERY_MS_MAX,
      withoutNetwork: true,
    })
    // It ran in one, too.
    buildah.sweepCgroups()
  }

  function tidyWhenIdle(): Promise<void> {
    if (!slots.isIdle()) return Promise.resolve()
    const before = tidying.now
    tidying.now = before
      .then(tidy)
      .catch((error: unknown) => log.warn('tidy up after builds', { error }))
    return tidying.now
  }

  return {
    cache: {
      async whileIdle(work) {
        if (!slots.isIdle()) return false
        const turn = tidying.now.then(work)
        tidying.now = turn.catch(() => {})
        await turn
        return true
      },
      entries: () => cache.entries(),
      remove: (names) => cache.remove(names),
    },
    run(...args) {
      const work = run(...args)
      const settled = work.catch(() => {}).finally(() => under.delete(settled))
      under.add(settled)
      return work
    },
    async sweep() {
      await tidyWhenIdle()
    },
    async close() {
      closing.abort(new PlatformError('unavailable', 'the agent is stopping', { retry: 'later' }))
      await Promise.all(under)
    },
    removeNetwork: () => network.remove(),
  }
}

interface Running {
  readonly app: string
  readonly request: BuildRequest
  readonly id: string
  readonly folder: string
  readonly say: (event: BuildEvent) => Promise<void>
  readonly signal: AbortSignal
  /** Somebody said that there is no room: ends the build if that is so on its disk. */
  readonly noRoom: () => Promise<void>
}

function authFileOf(folder: string): string {
  return join(folder, 'auth.json')
}

function explain(error: unknown): { code: string; message: string } {
  if (error instanceof DockerfileError) return { code: error.code, message: error.message }
  if (error instanceof PlatformError) return { code: error.code, message: describeError(error) }
  return { code: 'internal', message: describeError(error) }
}

/** Where the image store sends its callers for a token. Also says early and clearly when it does not answer. */
async function tokenService(url: string, ca: string, signal: AbortSignal): Promise<URL> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(5000)])
  try {
    const challenge = await new Promise<string>((resolve, reject) => {
      const request = httpsRequest(new URL('/v2/', url), { ca, signal: limit }, (reply) => {
        reply.resume()
        resolve(String(reply.headers['www-authenticate'] ?? ''))
      })
      request.on('error', reject)
      request.end()
    })
    return new URL(parseChallenge(challenge)?.['realm'] ?? url)
  } catch (cause) {
    signal.throwIfAborted()
    throw new PlatformError('unavailable', `image store at ${url}`, { cause, retry: 'later' })
  }
}

/** The archive was checked for links that lead out, but a name in a request was not. */
async function readDockerfile(context: string, name: string): Promise<string> {
  const path = join(context, name)
  const real = await realpath(path).catch(() => null)
  if (real === null || !`${real}${sep}`.startsWith(`${await realpath(context)}${sep}`))
    throw new PlatformError('invalid', `there is no ${name} in the context`)
  const found = await lstat(real)
  if (!found.isFile()) throw new PlatformError('invalid', `${name} is no file`)
  if (found.size > DOCKERFILE_BYTES_MAX)
    throw new PlatformError('invalid', `${name} is over ${DOCKERFILE_BYTES_MAX} bytes`)
  return readFile(real, 'utf8')
}

/** `1.23 MB`, as buildah prints sizes. */
function parseSize(text: string): number {
  const match = /^([\d.]+) ?([KMGT]?)B$/i.exec(text)
  const factor = { '': 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12 }[match?.[2]?.toUpperCase() ?? ''] ?? 1
  return Math.round(Number(match?.[1] ?? 0) * factor)
}

/** 48 bits of time, 80 of chance, in Crockford's base 32. */
function newUlid(now: number): string {
  const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
  const encode = (value: bigint, length: number) => {
    let rest = value
    let text = ''
    for (let n = 0; n < length; n++) {
      text = alphabet[Number(rest & 31n)] + text
      rest >>= 5n
    }
    return text
  }
  const chance = BigInt(`0x${randomBytes(10).toString('hex')}`)
  return encode(BigInt(now), 10) + encode(chance, 16)
}
