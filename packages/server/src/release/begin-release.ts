import type { ReleaseEvent } from '@roost/api'
import { PlatformError } from '@roost/base'
import {
  type App,
  GROUP_DEFAULT,
  groupOf,
  groupsOf,
  type Instant,
  isOfRelease,
  type MachineId,
  planRelease,
  type Release,
  type ReleasePlan,
  withConfigs,
} from '@roost/core'
import { whyPortsTaken } from '../machine/refuse-taken-ports.ts'
import { getApp, putApp } from '../store/apps.ts'
import { listHosts } from '../store/hosts.ts'
import { listMachines, reservedByHost } from '../store/machines.ts'
import { addReleaseEvent, getRelease, putRelease } from '../store/releases.ts'
import { bringSecrets, secretVersions } from '../store/secret-versions.ts'
import type { Reader, Tx } from '../store/store.ts'

interface PortsTaken {
  readonly kind: 'refused'
  readonly code: 'conflict'
  readonly message: string
}

/** What a release would do if it began now. Nothing is stored. */
export async function planNow(
  reader: Reader,
  app: App,
  release: Pick<
    Release,
    'cause' | 'ask' | 'primaryRegion' | 'config' | 'groups' | 'strategy' | 'maxUnavailable'
  >,
  newId: () => MachineId,
): Promise<ReleasePlan | PortsTaken> {
  const machines = await listMachines(reader, { app: app.name })
  const serving = app.release === 0 ? null : await getRelease(reader, app.name, app.release)
  const groups = [...groupsOf(release)]
  const plan = planRelease({
    cause: release.cause,
    ask: release.ask,
    strategy: release.strategy,
    maxUnavailable: release.maxUnavailable,
    primaryRegion: release.primaryRegion ?? app.primaryRegion,
    groups: groups.map(([name, { config }]) => ({
      name,
      guest: config.guest,
      served: config.services.length > 0,
    })),
    formerDefault: serving === null ? GROUP_DEFAULT : groupOf(serving.config),
    machines: machines
      .filter(({ assignment: a }) => a.goal !== 'destroyed' && isOfRelease(a.config))
      .map(({ assignment: a, readySince }) => ({
        id: a.id,
        group: groupOf(a.config),
        region: a.region,
        host: a.host,
        guest: a.config.guest,
        serving: readySince !== null,
      })),
    hosts: await listHosts(reader),
    used: await reservedByHost(reader),
    newId,
  })
  if (plan.kind === 'refused') return plan
  // An app without machines has no ports, and another may have taken them meanwhile. Who only gives up machines needs none.
  const coming = new Set(plan.replacements.flatMap((r) => (r.target === null ? [] : r.group)))
  const configs = groups.flatMap(([name, { config }]) => (coming.has(name) ? config : []))
  const why = await whyPortsTaken(reader, app.name, configs)
  return why === null ? plan : { kind: 'refused', code: 'conflict', message: why }
}

/**
 * Makes the plan of a pending release and sets it going, or fails it. A change of secrets or of scale takes image and
 * configuration from what serves at this moment, so that one that had to wait never takes a newer release back.
 */
export async function beginRelease(
  tx: Tx,
  release: Release,
  deps: { readonly now: Instant; readonly newId: () => MachineId },
): Promise<Release> {
  const { now } = deps
  const app = await getApp(tx, release.app)
  if (app === null) throw new PlatformError('not_found', 'app not found')
  const whole = await withServing(tx, app, release)
  if (whole === null) return failRelease(tx, release, 'no release serves yet: deploy first', now)
  const plan = await planNow(tx, app, whole, deps.newId)
  if (plan.kind === 'refused') return failRelease(tx, whole, plan.message, now)

  if (whole.primaryRegion !== null && whole.primaryRegion !== app.primaryRegion)
    await putApp(tx, { ...app, primaryRegion: whole.primaryRegion })
  const secretsBefore = await secretVersions(tx, app.name)
  const secrets = whole.secrets ?? secretsBefore
  const isRollback = whole.cause === 'rollback'
  // From here on releases bring the secrets of then, and whoever sets others meanwhile has the last word.
  if (isRollback) await bringSecrets(tx, app.name, secretsBefore, secrets, now)
  const begun: Release = {
    ...whole,
    status: 'starting',
    secrets,
    secretsBefore: isRollback ? secretsBefore : null,
    returnTo: app.release,
    plan: plan.replacements,
    updatedAt: now,
    deadline: now + whole.waitTimeoutMs,
  }
  await putRelease(tx, begun)
  if (plan.rounds > 1)
    await tellRelease(
      tx,
      begun,
      `there is no room to start all beside what runs: it is done in ${plan.rounds} rounds`,
      now,
    )
  if (plan.replacements.length === 0)
    for (const line of plan.lines) await tellRelease(tx, begun, line, now)
  return begun
}

/** null when it needs a release that serves, and there is none. */
async function withServing(reader: Reader, app: App, release: Release): Promise<Release | null> {
  const serving = app.release === 0 ? null : await getRelease(reader, app.name, app.release)
  if (release.cause === 'deploy' || release.cause === 'rollback') return withSizes(release, serving)
  if (serving === null) return null
  const { image, imageDigest, containerDigests, config, groups, source } = serving
  const { containerDigests: _, groups: __, ...rest } = release
  const whole: Release = {
    ...rest,
    image,
    imageDigest,
    ...(containerDigests === undefined ? {} : { containerDigests }),
    config,
    ...(groups === undefined ? {} : { groups }),
    source,
    primaryRegion: app.primaryRegion,
    ...howAsBefore(serving),
    // All machines of an app have the same: what was only stored comes with the next change of what runs.
    secrets: release.cause === 'scale' ? serving.secrets : null,
  }
  return withSizes(whole, serving)
}

/**
 * What a `scale` asks for goes before what serves. A deploy that names no size leaves the size as it is: that of the
 * release that serves when it begins.
 */
export function withSizes<R extends Pick<Release, 'ask' | 'config' | 'groups'>>(
  release: R,
  serving: Pick<Release, 'config' | 'groups'> | null,
): R {
  const { guests = {}, keepGuests = [] } = release.ask
  return withConfigs(release, (config, group) => {
    const kept =
      serving !== null && keepGuests.includes(group)
        ? (groupsOf(serving).get(group)?.config.guest ?? config.guest)
        : config.guest
    return { ...config, guest: { ...kept, ...guests[group] } }
  })
}

/** Machines that can't run twice can't when their secrets change either; other strategies were for that one release. */
export function howAsBefore(
  serving: Pick<Release, 'strategy' | 'maxUnavailable'>,
): Pick<Release, 'strategy' | 'maxUnavailable'> {
  const { strategy, maxUnavailable } = serving
  return { strategy: strategy === 'recreate' ? 'recreate' : 'rolling', maxUnavailable }
}

export async function failRelease(
  tx: Tx,
  release: Release,
  reason: string,
  now: Instant,
  returned = true,
): Promise<Release> {
  const failed: Release = { ...release, status: 'failed', reason, returned, updatedAt: now }
  await putRelease(tx, failed)
  const { secrets, secretsBefore } = release
  if (secrets !== null && secretsBefore !== null)
    await bringSecrets(tx, release.app, secrets, secretsBefore, now)
  await tellRelease(tx, failed, `release ${release.version} failed: ${reason}`, now)
  return failed
}

/** A line of the release's progress. */
export async function tellRelease(
  tx: Tx,
  release: Release,
  message: string,
  now: Instant,
  about: { readonly machine: string; readonly region: string } | null = null,
): Promise<void> {
  const event: ReleaseEvent = {
    at: new Date(now).toISOString(),
    status: release.status,
    message,
    machine: about?.machine ?? null,
    region: about?.region ?? null,
  }
  await addReleaseEvent(tx, release, event)
}
