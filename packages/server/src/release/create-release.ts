import { PlatformError } from '@roost/base'
import type {
  App,
  AppName,
  DeployStrategy,
  Instant,
  MachineId,
  Release,
  ReleaseAsk,
  ReleaseCause,
  SecretVersions,
} from '@roost/core'
import { getApp } from '../store/apps.ts'
import { getRelease, listOpenReleases, nextReleaseVersion, putRelease } from '../store/releases.ts'
import type { Reader, Tx } from '../store/store.ts'
import { beginRelease, howAsBefore, planNow, tellRelease, withSizes } from './begin-release.ts'

export interface ReleaseRequest {
  readonly app: AppName
  readonly cause: ReleaseCause
  readonly ask: ReleaseAsk
  /** For a `deploy` and a `rollback`; the others take it of the release that serves. */
  readonly what: ReleasedWhat | null
  readonly waitTimeoutMs: number
  readonly createdBy: string
  /** Default `rolling`, or as before where the request brings nothing of its own. */
  readonly strategy?: DeployStrategy
  readonly maxUnavailable?: number | null
  /** Of a `rollback`. */
  readonly rollbackOf?: number
  readonly secrets?: SecretVersions | null
  /** False: refused instead of waiting while another release of the app is at work. Default true. */
  readonly wait?: boolean
}

export type ReleasedWhat = Pick<
  Release,
  'image' | 'imageDigest' | 'containerDigests' | 'config' | 'groups' | 'primaryRegion' | 'source'
>

interface Deps {
  readonly now: Instant
  readonly newId: () => MachineId
}

const WAITING_MAX = 20

/**
 * Stores a release. It begins at once, or waits while an earlier one of the app is at work. What can't be done is thrown
 * with its code, and nothing is stored.
 */
export async function createRelease(tx: Tx, request: ReleaseRequest, deps: Deps): Promise<Release> {
  const { now } = deps
  const { app, release } = await draftRelease(tx, request, now)
  const [earlier, ...others] = await listOpenReleases(tx, app.name)
  if (earlier === undefined) {
    await planOrThrow(tx, app, release, deps)
    await putRelease(tx, release)
    await tellRelease(tx, release, titleOf(release), now)
    return beginRelease(tx, release, deps)
  }
  if (request.wait === false)
    throw new PlatformError('conflict', `${nameOf(earlier)} is still being rolled out`)
  if (others.length >= WAITING_MAX)
    throw new PlatformError(
      'conflict',
      `${nameOf(earlier)} is still being rolled out, and ${others.length} others wait for it`,
    )
  await putRelease(tx, release)
  await tellRelease(tx, release, titleOf(release), now)
  return release
}

/** What it would do now, with the version that it would have. Nothing is stored. */
export async function previewRelease(
  reader: Reader,
  request: ReleaseRequest,
  deps: Deps,
): Promise<Release> {
  const { app, release } = await draftRelease(reader, request, deps.now)
  const plan = await planOrThrow(reader, app, release, deps)
  return { ...release, plan }
}

async function draftRelease(
  reader: Reader,
  request: ReleaseRequest,
  now: Instant,
): Promise<{ app: App; release: Release }> {
  const app = await getApp(reader, request.app)
  if (app === null) throw new PlatformError('not_found', 'app not found')
  const what = request.what ?? (await newestReleased(reader, app))
  if (what === null)
    throw new PlatformError(
      'conflict',
      `nothing of ${app.name} is deployed yet: deploy it first (roost deploy -a ${app.name})`,
    )
  const { image, imageDigest, containerDigests, config, groups, primaryRegion, source } = what
  const before = app.release === 0 ? null : await getRelease(reader, app.name, app.release)
  const asBefore =
    request.cause === 'deploy' || before === null
      ? { strategy: 'rolling' as const, maxUnavailable: null }
      : howAsBefore(before)
  const drafted: Release = {
    app: app.name,
    version: await nextReleaseVersion(reader, app.name),
    cause: request.cause,
    status: 'pending',
    image,
    imageDigest,
    ...(containerDigests === undefined ? {} : { containerDigests }),
    config,
    ...(groups === undefined ? {} : { groups }),
    primaryRegion,
    ask: request.ask,
    strategy: request.strategy ?? asBefore.strategy,
    maxUnavailable: request.maxUnavailable ?? asBefore.maxUnavailable,
    secrets: request.secrets ?? null,
    secretsBefore: null,
    rollbackOf: request.rollbackOf ?? null,
    returnTo: 0,
    plan: [],
    undo: [],
    createdAt: now,
    updatedAt: now,
    waitTimeoutMs: request.waitTimeoutMs,
    deadline: 0,
    reason: null,
    returned: null,
    createdBy: request.createdBy,
    source,
  }
  return { app, release: drafted }
}

/** What serves, or what is on its way there: looked at again when the release begins. */
async function newestReleased(reader: Reader, app: App): Promise<ReleasedWhat | null> {
  const open = await listOpenReleases(reader, app.name)
  const serving = app.release === 0 ? null : await getRelease(reader, app.name, app.release)
  return open.filter((r) => r.cause === 'deploy' || r.cause === 'rollback').at(-1) ?? serving
}

async function planOrThrow(
  reader: Reader,
  app: App,
  release: Release,
  deps: Deps,
): Promise<Release['plan']> {
  const serving = app.release === 0 ? null : await getRelease(reader, app.name, app.release)
  const plan = await planNow(reader, app, withSizes(release, serving), deps.newId)
  if (plan.kind === 'refused') throw new PlatformError(plan.code, plan.message)
  return plan.replacements
}

function titleOf(release: Release): string {
  const what = {
    deploy: release.image,
    secrets: 'secrets changed',
    scale: release.ask.guests === undefined ? 'number of machines' : 'size of machines',
    rollback: `back to release ${release.rollbackOf}, ${release.image}`,
  }[release.cause]
  return `release ${release.version} by ${release.createdBy}: ${what}`
}

function nameOf({ version, cause, createdBy }: Release): string {
  return `release ${version} (${cause}) by ${createdBy}`
}
