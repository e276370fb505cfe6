import type { RollbackReply } from '@roost/api'
import { PlatformError } from '@roost/base'
import {
  type AppName,
  groupsOf,
  isFinal,
  type MachineConfig,
  RELEASES_RETURNABLE,
  type Release,
  type ReleasedGroup,
} from '@roost/core'
import { getApp } from '../store/apps.ts'
import { getRelease, listReleases } from '../store/releases.ts'
import { digestsOf, secretVersions } from '../store/secret-versions.ts'
import type { Reader } from '../store/store.ts'
import { howAsBefore } from './begin-release.ts'
import type { ReleaseRequest } from './create-release.ts'

const LOOKED_AT_MAX = 100

/**
 * The release that a rollback leads to: the named one, else the last that served before what serves now. After a rollback
 * "before" counts from where that led to, so that one after the other goes farther back. Throws what keeps it from being done.
 */
export async function rollbackTarget(
  reader: Reader,
  app: AppName,
  version: number | null,
): Promise<{ readonly target: Release; readonly serving: Release | null }> {
  const record = await getApp(reader, app)
  if (record === null) throw new PlatformError('not_found', 'app not found')
  const serving = record.release === 0 ? null : await getRelease(reader, app, record.release)
  const releases = await listReleases(reader, app, LOOKED_AT_MAX)
  const rolling = releases.some((release) => !isFinal(release.status))
  const target =
    version === null
      ? await previous(reader, app, releases, serving, rolling)
      : (releases.find((release) => release.version === version) ??
        (await getRelease(reader, app, version)))
  if (target === null) throw new PlatformError('not_found', unknownText(app, releases, version))
  const name = `release ${target.version} of ${app}`
  if (!isFinal(target.status))
    throw new PlatformError('conflict', `${name} is still being rolled out: it has not served yet`)
  if (target.status === 'failed')
    throw new PlatformError(
      'conflict',
      `${name} failed and never served (${target.reason}): roost releases -a ${app} shows those that did`,
    )
  const versions = target.secrets ?? {}
  const kept = await digestsOf(reader, app, versions)
  const destroyed = Object.keys(versions).filter((secret) => !kept.has(secret))
  if (destroyed.length > 0)
    throw new PlatformError(
      'conflict',
      `the values that ${destroyed.join(', ')} had in ${name} have been destroyed (those of the last ${RELEASES_RETURNABLE} releases are kept): release its image with the secrets of today: roost deploy -a ${app} --image ${target.image}`,
    )
  if (serving !== null && !rolling && (await isSame(reader, app, target, serving)))
    throw new PlatformError(
      'conflict',
      target.version === serving.version
        ? `${name} is what serves`
        : `${name} is the same as what serves (release ${serving.version}): image, configuration and secrets`,
    )
  return { target, serving }
}

export function rollbackRequest(
  app: AppName,
  target: Release,
  serving: Release | null,
  how: Pick<ReleaseRequest, 'strategy' | 'maxUnavailable' | 'waitTimeoutMs' | 'wait' | 'createdBy'>,
): ReleaseRequest {
  const { image, imageDigest, containerDigests, config, groups, primaryRegion, source } = target
  const digests = { imageDigest, ...(containerDigests === undefined ? {} : { containerDigests }) }
  // What can't run twice, now or then, must not.
  const recreates = target.strategy === 'recreate' || serving?.strategy === 'recreate'
  const before = howAsBefore(target)
  return {
    ...how,
    app,
    cause: 'rollback',
    ask: { scale: null, regions: [], ha: true },
    what: {
      ...{ image, ...digests, config, primaryRegion, source },
      ...(groups === undefined ? {} : { groups }),
    },
    strategy: how.strategy ?? (recreates ? 'recreate' : before.strategy),
    maxUnavailable: how.maxUnavailable ?? before.maxUnavailable,
    rollbackOf: target.version,
    secrets: target.secrets,
  }
}

/** What it changes of what serves, without a value of a secret. */
export async function changesOf(
  reader: Reader,
  app: AppName,
  target: Release,
  serving: Release | null,
): Promise<RollbackReply['changes']> {
  if (serving === null) return { image: null, config: [], secrets: [] }
  const before = await digestsOf(reader, app, await versionsOf(reader, app, serving))
  const after = await digestsOf(reader, app, await versionsOf(reader, app, target))
  const names = [...new Set([...before.keys(), ...after.keys()])].sort()
  return {
    image:
      target.imageDigest === serving.imageDigest ? null : { from: serving.image, to: target.image },
    config: changedInGroups(serving, target),
    secrets: names.flatMap((name) => {
      const [old, fresh] = [before.get(name), after.get(name)]
      if (old === fresh) return []
      const change = fresh === undefined ? 'removed' : old === undefined ? 'set' : 'another value'
      return [{ name, change } as const]
    }),
  }
}

async function previous(
  reader: Reader,
  app: AppName,
  releases: readonly Release[],
  serving: Release | null,
  rolling: boolean,
): Promise<Release> {
  if (serving === null)
    throw new PlatformError(
      'conflict',
      `no release of ${app} serves, so there is none to go back from: roost deploy -a ${app}`,
    )
  // Of a release that is on its way people want to be rid first.
  if (rolling) return serving
  let from = serving
  for (let n = 0; from.rollbackOf !== null && n < LOOKED_AT_MAX; n++) {
    const origin = await getRelease(reader, app, from.rollbackOf)
    if (origin === null) break
    from = origin
  }
  for (const release of releases)
    if (
      release.version < from.version &&
      release.status === 'complete' &&
      !(await isSame(reader, app, release, serving))
    )
      return release
  throw new PlatformError(
    'conflict',
    `no release of ${app} before release ${from.version} was different and served: roost releases -a ${app}`,
  )
}

async function isSame(reader: Reader, app: AppName, a: Release, b: Release): Promise<boolean> {
  if (a.version === b.version) return true
  const { image, config, secrets } = await changesOf(reader, app, a, b)
  return image === null && config.length === 0 && secrets.length === 0
}

/** Releases of older servers did not write theirs down: they get those of today. */
async function versionsOf(reader: Reader, app: AppName, release: Release) {
  return release.secrets ?? (await secretVersions(reader, app))
}

/** Of the default group by themselves, of the others with the name of the group before them; a group that is new or gone by that. */
function changedInGroups(before: Release, after: Release): string[] {
  const [from, to] = [groupsOf(before), groupsOf(after)]
  const [first] = to.keys()
  return [...new Set([...to.keys(), ...from.keys()])].flatMap((name) => {
    const [old, fresh] = [from.get(name), to.get(name)]
    if (old === undefined || fresh === undefined) return [`processes.${name}`]
    const keys = changedKeys(old, fresh)
    return name === first ? keys : keys.map((key) => `processes.${name}: ${key}`)
  })
}

/** Top-level keys; of `env` its names. The reference of the image is told by itself. */
function changedKeys(from: ReleasedGroup, to: ReleasedGroup): string[] {
  const [before, after] = [from.config, to.config]
  // The same name of an image may stand for another one now.
  const moved = !equal(from.containerDigests, to.containerDigests)
  const keys = (Object.keys({ ...before, ...after }) as (keyof MachineConfig)[]).filter(
    (key) =>
      key !== 'image' &&
      key !== 'env' &&
      (!equal(before[key], after[key]) || (key === 'containers' && moved)),
  )
  const names = Object.keys({ ...before.env, ...after.env }).filter(
    (name) => before.env[name] !== after.env[name],
  )
  return [...names.map((name) => `env.${name}`), ...keys].sort()
}

function equal(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

function unknownText(app: AppName, releases: readonly Release[], version: number | null): string {
  const [newest] = releases
  const oldest = releases.at(-1)
  const range =
    newest === undefined || oldest === undefined
      ? 'it has none'
      : newest.version === oldest.version
        ? `it has only release ${newest.version}`
        : `it has ${oldest.version} to ${newest.version}`
  return `${app} has no release ${version}: ${range} (roost releases -a ${app})`
}
