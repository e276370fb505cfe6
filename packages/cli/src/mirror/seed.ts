import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describeError, PlatformError } from '@roost/base'
import { BASE_IMAGES, type BaseImage, shortName } from './base-images.ts'
import { buildBusybox } from './build-busybox.ts'
import { buildDebian } from './build-debian.ts'
import { buildFromDebian } from './build-from-debian.ts'
import { buildNode } from './build-node.ts'
import { copyFromHub, DOCKER_HUB, isReachable, type Upstream } from './copy-from-hub.ts'
import { buildLayout, type ImageLayout, readImage } from './image-layout.ts'
import { pushImage, tagDigest } from './push-image.ts'
import { createRegistryClient, registryTokenFor } from './registry-client.ts'

export const MIRROR_CACHE = '/var/cache/roost'

export interface MirrorOptions {
  /** `https://<public address>:4280`, reachable from here. */
  readonly apiUrl: string
  /** A Roost token that may push to the mirror (an administrator's). */
  readonly apiToken: string
  /** `https://<mesh address>:5000`. */
  readonly registryUrl: string
  /** PEM of the installation's authority: it signed the certificates of both. */
  readonly ca: string
  /** File of the network namespace from which the registry is reached (`/run/netns/demo-ams`); absent: from here. */
  readonly netns?: string | undefined
  readonly signal?: AbortSignal | undefined
}

export interface SeedOptions extends MirrorOptions {
  /** Images that were built or fetched are kept here. Default /var/cache/roost. */
  readonly cacheDir?: string
  /** Default: those that belong into every registry. */
  readonly images?: readonly BaseImage[]
  /** Builds or fetches anew, also what is kept. */
  readonly refresh?: boolean
  /** Told what is being done, for a person. */
  readonly onProgress?: (text: string) => void
  /** Where real images come from when it answers. Default Docker Hub; null: never asked. */
  readonly upstream?: Upstream | null
}

export interface MirroredImage {
  /** `docker.io/library/debian:bookworm-slim`. */
  readonly name: string
  readonly digest: string
  /** `upstream`: the real one. `packages`: built here from Debian and npm packages. */
  readonly source: 'upstream' | 'packages'
  readonly sentBytes: number
  readonly ms: number
}

/** A change of a recipe makes a new folder name, so that no old image is taken for a new one. */
const RECIPE = '2'
const DEBIAN = BASE_IMAGES[0]

/**
 * Brings the base images into the registry under their Docker Hub names, so that plain `FROM` lines resolve. From Docker Hub
 * where it answers, else from Debian and npm packages: about a minute the first time, seconds from the cache.
 */
export async function seedMirror(options: SeedOptions): Promise<readonly MirroredImage[]> {
  const say = options.onProgress ?? (() => {})
  const seeded: MirroredImage[] = []
  for await (const { image, layout, source, startedAt } of obtainImages(options)) {
    const name = `docker.io/${image.repository}:${image.tag}`
    const client = await clientFor(options, `docker.io/${image.repository}`, ['pull', 'push'])
    const { sentBytes } = await pushImage(client, layout, {
      repository: `docker.io/${image.repository}`,
      tag: image.tag,
    })
    const ms = Math.round(performance.now() - startedAt)
    say(`${name} is in the registry (${(sentBytes / 1e6).toFixed(0)} MB sent)`)
    seeded.push({ name, digest: layout.manifest.digest, source, sentBytes, ms })
  }
  return seeded
}

interface ObtainedImage {
  readonly image: BaseImage
  readonly layout: ImageLayout
  readonly source: MirroredImage['source']
  /** By `performance.now()`. */
  readonly startedAt: number
}

/** Each of the images from the cache, where it is made or fetched if it is not there yet. */
export async function* obtainImages(
  options: Omit<SeedOptions, keyof MirrorOptions> & Pick<SeedOptions, 'signal'>,
): AsyncGenerator<ObtainedImage> {
  const say = options.onProgress ?? (() => {})
  const folder = join(options.cacheDir ?? MIRROR_CACHE, 'images')
  await mkdir(folder, { recursive: true })
  const upstream = options.upstream === undefined ? DOCKER_HUB : options.upstream
  const online = upstream !== null && (await isReachable(upstream))
  const made = new Set<string>()
  for (const image of options.images ?? BASE_IMAGES.filter(({ always }) => always)) {
    const startedAt = performance.now()
    yield { image, ...(await obtain(image, online ? upstream : null)), startedAt }
  }

  async function obtain(
    image: BaseImage,
    from: Upstream | null,
  ): Promise<Pick<ObtainedImage, 'layout' | 'source'>> {
    const plain = shortName(image).replace(':', '-')
    if (from !== null) {
      try {
        say(`fetching ${image.repository}:${image.tag} from ${new URL(from.url).host}`)
        const dir = join(folder, `upstream-${plain}`)
        return {
          layout: await copyFromHub(from, image, dir, options.signal),
          source: 'upstream',
        }
      } catch (error) {
        if (options.signal?.aborted) throw error
        say(`${describeError(error)}; building it from packages instead`)
      }
    }
    const dir = join(folder, `${plain}.${RECIPE}`)
    const kept = options.refresh && !made.has(dir) ? null : await readImage(dir)
    if (kept !== null) return { layout: kept, source: 'packages' }
    const layout = await build(image, plain, dir)
    made.add(dir)
    for (const name of await readdir(folder))
      if (
        /^\d+$/.test(name.slice(plain.length + 1)) &&
        name.startsWith(`${plain}.`) &&
        join(folder, name) !== dir
      )
        await rm(join(folder, name), { recursive: true, force: true })
    return { layout, source: 'packages' }
  }

  async function build(image: BaseImage, plain: string, dir: string): Promise<ImageLayout> {
    const { made: how } = image
    if (how === 'debian') {
      say(`building ${plain} from Debian packages, once (about 30 s)`)
      return buildLayout(dir, (draft) => buildDebian(draft, options.signal))
    }
    if (how === 'busybox') {
      say(`building ${plain} from a Debian package, once`)
      return buildLayout(dir, (draft) => buildBusybox(draft, options.signal))
    }
    // Always on our own Debian, whose one layer the recipe knows.
    const { layout: debian } = await obtain(DEBIAN, null)
    if (how === 'node') {
      say(`building ${plain} from npm packages, once (about 30 s)`)
      return buildLayout(dir, (draft) => buildNode(draft, debian, options.signal))
    }
    say(`building ${plain} from Debian packages, once (about a minute)`)
    return buildLayout(dir, (draft) => buildFromDebian(draft, debian, how, options.signal))
  }
}

/** Which of the base images the registry has. `digest` is null for one that it lacks. */
export async function listMirror(
  options: MirrorOptions,
): Promise<readonly { name: string; digest: string | null }[]> {
  return Promise.all(
    BASE_IMAGES.map(async ({ repository, tag }) => {
      const client = await clientFor(options, `docker.io/${repository}`, ['pull'])
      return {
        name: `docker.io/${repository}:${tag}`,
        digest: await tagDigest(client, `docker.io/${repository}`, tag),
      }
    }),
  )
}

async function clientFor(options: MirrorOptions, repository: string, actions: readonly string[]) {
  if (options.apiToken === '')
    throw new PlatformError('unauthorized', 'the mirror needs an administrator’s token')
  const token = await registryTokenFor({ ...options, repository, actions })
  return createRegistryClient({ ...options, url: options.registryUrl, token })
}
