import type { createReleaseBody, ReleaseEvent } from '@roost/api'
import { type Clock, PlatformError } from '@roost/base'
import {
  type AppName,
  type DeployStrategy,
  GROUPS_MAX,
  groupOf,
  isFinal,
  type RegionCode,
  type Release,
  type ReleasedGroup,
  type Scale,
} from '@roost/core'
import type { z } from 'zod'
import type { Deps } from '../deps.ts'
import { machineConfig } from '../machine/config.ts'
import { refuseTakenPorts } from '../machine/refuse-taken-ports.ts'
import { resolveImages } from '../machine/resolve-images.ts'
import { imagesFor } from '../registry/images-for.ts'
import { createRelease, previewRelease, type ReleaseRequest } from '../release/create-release.ts'
import { releaseReply } from '../release/release-reply.ts'
import { changesOf, rollbackRequest, rollbackTarget } from '../release/rollback.ts'
import { getApp } from '../store/apps.ts'
import { listHosts } from '../store/hosts.ts'
import { getRelease, listReleaseEvents, listReleases, releaseKey } from '../store/releases.ts'
import type { Reader, Store } from '../store/store.ts'
import type { Handlers } from './handler.ts'

type ReleaseDeps = Pick<Deps, 'store' | 'clock' | 'ids' | 'images' | 'installation'>

const SHOWN_MAX = 100
/** A lost wake must not last. */
const POLL_MS = 1_000

export function releaseHandlers(
  deps: ReleaseDeps,
): Pick<
  Handlers,
  'createRelease' | 'createRollback' | 'listReleases' | 'getRelease' | 'followRelease'
> {
  const { store, clock } = deps
  return {
    async createRelease({ params, body, caller, signal }) {
      const app = params.app as AppName
      await store.read((reader) => appOr404(reader, app))
      const images = imagesFor(deps, app, caller)
      // Before the store is asked to wait: the registry may be slow.
      const { config, ...digests } = await resolveImages(images, machineConfig(body.config), signal)
      const first = groupOf(config)
      const groups = await otherGroups(
        images,
        body.groups,
        { name: first, image: config.image, digest: digests.imageDigest },
        signal,
      )
      const request: ReleaseRequest = {
        app,
        cause: 'deploy',
        ask: {
          scale: (body.scale as Scale | undefined) ?? null,
          ...(body.group_scale === undefined
            ? {}
            : { groups: body.group_scale as Record<string, Scale> }),
          keepGuests: [[first, body.config] as const, ...Object.entries(body.groups ?? {})].flatMap(
            ([name, { guest, size }]) => (guest == null && !size ? [name] : []),
          ),
          regions: (body.regions ?? []) as RegionCode[],
          ha: body.ha,
        },
        what: {
          image: withDigest(config.image, digests.imageDigest),
          ...digests,
          config,
          ...(groups === null ? {} : { groups }),
          primaryRegion: (body.primary_region as RegionCode | undefined) ?? null,
          source: body.source ?? null,
        },
        ...howOf(body),
        createdBy: caller.name,
      }
      return submitRelease(deps, request, body.plan_only)
    },

    async createRollback({ params, body, caller, signal }) {
      const app = params.app as AppName
      const how = howOf(body)
      const { target, serving } = await store.read((reader) =>
        rollbackTarget(reader, app, body.version ?? null),
      )
      await deps.images.resolve(target.image, signal).catch((error: unknown) => {
        if (!(error instanceof PlatformError) || error.code !== 'image_not_found') throw error
        throw new PlatformError(
          'image_not_found',
          `the image of release ${target.version} is no longer in the image store (${target.image}): deploy its source again (roost deploy -a ${app})`,
          { cause: error },
        )
      })
      const request = rollbackRequest(app, target, serving, { ...how, createdBy: caller.name })
      const changes = await store.read((reader) => changesOf(reader, app, target, serving))
      return { release: await submitRelease(deps, request, body.plan_only), changes }
    },

    listReleases: ({ params }) =>
      store.read(async (reader) => {
        const app = params.app as AppName
        await appOr404(reader, app)
        const hosts = await listHosts(reader)
        const serving = (await getApp(reader, app))?.release ?? 0
        const releases = await listReleases(reader, app, SHOWN_MAX)
        return releases.map((release) => releaseReply(release, hosts, serving))
      }),

    getRelease: ({ params }) =>
      store.read(async (reader) => {
        const release = await releaseOr404(reader, params.app as AppName, params.version)
        return replyTo(reader, release)
      }),

    async followRelease({ params }) {
      const app = params.app as AppName
      await store.read((reader) => releaseOr404(reader, app, params.version))
      return (signal) => followRelease({ store, clock }, app, params.version, signal)
    },
  }
}

/** Stores a release, or only says what it would do. */
export async function submitRelease(
  deps: Pick<Deps, 'store' | 'clock' | 'ids'>,
  request: ReleaseRequest,
  planOnly: boolean,
): Promise<ReturnType<typeof releaseReply>> {
  const how = { now: deps.clock.now(), newId: deps.ids.machineId }
  const { what } = request
  const configs = what === null ? [] : [what, ...Object.values(what.groups ?? {})]
  const services = configs.map(({ config }) => config)
  if (planOnly)
    return deps.store.read(async (reader) => {
      await refuseTakenPorts(reader, request.app, services)
      return replyTo(reader, await previewRelease(reader, request, how))
    })
  return deps.store.transaction(async (tx) => {
    await refuseTakenPorts(tx, request.app, services)
    return replyTo(tx, await createRelease(tx, request, how))
  })
}

export async function replyTo(
  reader: Reader,
  release: Release,
): Promise<ReturnType<typeof releaseReply>> {
  const serving = (await getApp(reader, release.app))?.release ?? 0
  return releaseReply(release, await listHosts(reader), serving)
}

/** How a release goes about it, as it was asked. */
function howOf(body: {
  readonly strategy?: DeployStrategy | undefined
  readonly max_unavailable?: number | undefined
  readonly wait_timeout: number
  readonly wait: boolean
}): Pick<ReleaseRequest, 'strategy' | 'maxUnavailable' | 'waitTimeoutMs' | 'wait'> {
  return {
    ...(body.strategy === undefined ? {} : { strategy: body.strategy }),
    maxUnavailable: body.max_unavailable ?? null,
    waitTimeoutMs: Math.round(body.wait_timeout * 1000),
    wait: body.wait,
  }
}

/** Everything that was said of a release, then what is said, until it has ended. */
export async function* followRelease(
  { store, clock }: { readonly store: Store; readonly clock: Clock },
  app: AppName,
  version: number,
  signal: AbortSignal,
): AsyncGenerator<ReleaseEvent> {
  let woken = new AbortController()
  const key = releaseKey(app, version)
  const end = store.onChange(({ keys }) => {
    if (keys.has(key)) woken.abort()
  })
  try {
    let last = 0
    while (!signal.aborted) {
      woken = new AbortController()
      const { events, release } = await store.read(async (reader) => ({
        events: await listReleaseEvents(reader, app, version, last),
        release: await getRelease(reader, app, version),
      }))
      for (const { number, event } of events) {
        last = number
        yield event
      }
      if (release === null || isFinal(release.status)) return
      await clock.sleep(POLL_MS, AbortSignal.any([signal, woken.signal]))
    }
  } finally {
    end()
  }
}

async function releaseOr404(
  reader: Parameters<typeof getRelease>[0],
  app: AppName,
  version: number,
): Promise<Release> {
  await appOr404(reader, app)
  const release = await getRelease(reader, app, version)
  if (release === null) throw new PlatformError('not_found', `${app} has no release ${version}`)
  return release
}

async function appOr404(reader: Parameters<typeof getApp>[0], app: AppName): Promise<void> {
  if ((await getApp(reader, app)) === null) throw new PlatformError('not_found', 'app not found')
}

/** Their names are said by their keys, whatever their metadata says, and their image is that of the default group. */
async function otherGroups(
  images: Pick<Deps['images'], 'resolve'>,
  groups: z.output<typeof createReleaseBody>['groups'],
  first: { readonly name: string; readonly image: string; readonly digest: string },
  signal: AbortSignal,
): Promise<Record<string, ReleasedGroup> | null> {
  const entries = Object.entries(groups ?? {})
  if (entries.length === 0) return null
  if (entries.length >= GROUPS_MAX)
    throw new PlatformError('invalid', `groups: an app has at most ${GROUPS_MAX} process groups`)
  const made: [string, ReleasedGroup][] = []
  for (const [name, input] of entries) {
    if (name === first.name)
      throw new PlatformError('invalid', `groups.${name}: config is that of this group already`)
    const own = machineConfig({ ...input, image: withDigest(first.image, first.digest) })
    const { config, imageDigest: _, ...digests } = await resolveImages(images, own, signal)
    const metadata = { ...config.metadata, fly_process_group: name }
    made.push([name, { ...digests, config: { ...config, image: first.image, metadata } }])
  }
  return Object.fromEntries(made)
}

/** The reference with which exactly this image is found again. */
function withDigest(image: string, digest: string): string {
  return image.includes('@') ? image : `${image}@${digest}`
}
