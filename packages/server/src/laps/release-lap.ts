import { describeError, type Loop, PlatformError, startLoop } from '@roost/base'
import {
  activeLease,
  assertNever,
  configOfRelease,
  describeLease,
  describeProgress,
  groupIn,
  groupsOf,
  type Host,
  type Instant,
  isFinal,
  type MachineGuest,
  type MachineId,
  nextReleaseStep,
  planReturn,
  type Release,
  type ReleaseMachine,
  type ReleaseStep,
  type ReleaseView,
  type Replacement,
  releaseOf,
  reservedBy,
  retireTimeMs,
} from '@roost/core'
import type { Deps } from '../deps.ts'
import { lastLines } from '../log/machine-logs.ts'
import { commandMachine } from '../machine/command.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { beginRelease, failRelease, tellRelease } from '../release/begin-release.ts'
import { getApp, putApp } from '../store/apps.ts'
import { FileTrouble } from '../store/file-trouble.ts'
import { getHost, listHosts } from '../store/hosts.ts'
import { getMachine, listMachines, reservedByHost, type StoredMachine } from '../store/machines.ts'
import { getRelease, listOpenReleases, putRelease } from '../store/releases.ts'
import { digestsOf, forgetSecretVersions } from '../store/secret-versions.ts'
import type { Reader, Store, Tx } from '../store/store.ts'
import { allCarried, edgesInCharge } from './edges-in-charge.ts'

export type ReleaseLapDeps = Pick<
  Deps,
  'store' | 'clock' | 'log' | 'ids' | 'presence' | 'secrets' | 'agent'
> & {
  /** Hears of every step of `RELEASE_STEPS`, before and after its transaction: for tests that kill the server there. */
  readonly onStep?: (moment: StepMoment) => void
}

export interface StepMoment {
  readonly app: string
  readonly version: number
  readonly status: Release['status']
  readonly step: Deed['kind']
  readonly when: 'before' | 'after'
}

const PERIOD_MS = 1_000
/** Steps of one release in one lap. The next lap goes on. */
const STEPS_MAX = 50
const AWAY_GRACE_MS = 15_000
const LINES_SHOWN = 20
/** How long machines that were replaced may take to come again, when a release is given up. */
const RETURN_MS_MAX = 120_000

/**
 * Rolls out every release that has not ended, one of each app at a time, as `nextReleaseStep` says. All that it knows
 * between two steps is in the store, so a server that was killed goes on where it was.
 */
export function startReleaseLap(deps: ReleaseLapDeps): Loop {
  const { store, clock, log, presence } = deps
  const startedAt = clock.now() - presence.movedMs()
  const stopping = new AbortController()
  const told = new Map<string, string>()
  /** When the trouble ended whose time releases have been given back. Only compared with itself: clocks are set. */
  let paidFor: Instant | null = null

  const loop = startLoop({
    name: 'releases',
    periodMs: PERIOD_MS,
    clock,
    log,
    lap: async (signal) => {
      // First of all a look at the clock, which moves deadlines along when it was set.
      clock.now()
      const trouble = store.trouble()
      if (trouble !== null && trouble.lastAt !== paidFor) {
        await giveBackTime(store, Math.max(0, clock.now() - trouble.since), clock.now())
        paidFor = trouble.lastAt
      }
      const open = await store.read((reader) => listOpenReleases(reader))
      for (const key of told.keys())
        if (!open.some((r) => key.startsWith(`${r.app}/${r.version}/`))) told.delete(key)
      let next = clock.now() + PERIOD_MS
      for (const [n, release] of open.entries()) {
        if (signal.aborted) return
        const before = open[n - 1]
        const others = {
          earlier: before?.app === release.app ? before : null,
          supersededBy:
            open.find(
              (r) => r.app === release.app && r.version > release.version && r.cause === 'rollback',
            ) ?? null,
        }
        try {
          next = Math.min(
            next,
            await advance(
              { ...deps, startedAt: startedAt + presence.movedMs(), told },
              release,
              others,
            ),
          )
        } catch (error) {
          // Nothing can be written for any release: all of them pause.
          if (error instanceof FileTrouble) throw error
          log.warn('release', { app: release.app, version: release.version, error })
        }
      }
      const pauseMs = next - clock.now()
      if (open.length > 0 && pauseMs < PERIOD_MS)
        void clock.sleep(Math.max(1, pauseMs), stopping.signal).then(() => {
          if (!stopping.signal.aborted) loop.wake()
        })
    },
  })
  const ends = [
    store.onChange(({ keys }) => {
      for (const key of keys)
        if (/^(machine|release|host|lease)\//.test(key)) {
          loop.wake()
          return
        }
    }),
    presence.onProgress(() => loop.wake()),
  ]
  return {
    wake: loop.wake,
    stop: async () => {
      for (const end of ends) end()
      stopping.abort()
      await loop.stop()
    },
  }
}

/** Nothing could be written down since then, so no release could go on. Throws as long as nothing can. */
async function giveBackTime(store: Store, lostMs: number, now: Instant): Promise<void> {
  const message = `went on after ${Math.round(lostMs / 1000)} s in which the server could write nothing down`
  await store.transaction(async (tx) => {
    for (const release of await listOpenReleases(tx)) {
      if (release.status === 'pending') continue
      await putRelease(tx, { ...release, deadline: release.deadline + lostMs })
      await tellRelease(tx, release, message, now)
    }
  })
}

interface Lap extends ReleaseLapDeps {
  readonly startedAt: Instant
  /** What was last said of each machine of each open release: progress is told once. */
  readonly told: Map<string, string>
}

/** Steps until there is something to wait for; returns when to look again. */
async function advance(
  lap: Lap,
  first: Release,
  others: Omit<ReleaseView, 'machines'>,
): Promise<Instant> {
  const { store, clock } = lap
  let release = await withinReach(lap, first)
  for (let n = 0; n < STEPS_MAX; n++) {
    const now = clock.now()
    const machines = await store.read((reader) => viewMachines(lap, reader, release, now))
    await tellProgress(lap, release, machines, now)
    // A server that was away, or could write nothing down, must hear its hosts before it calls the time over.
    const troubleAt = store.trouble()?.lastAt ?? 0
    // One that is still to come was before the clock was set back.
    const awayUntil = Math.max(lap.startedAt, troubleAt <= now ? troubleAt : 0)
    const deadline = Math.max(release.deadline, awayUntil + AWAY_GRACE_MS)
    const step = nextReleaseStep({ ...release, deadline }, { machines, ...others }, now)
    if (step.kind === 'settled') return now + PERIOD_MS
    if (step.kind === 'wait') {
      if (release.status === 'pending')
        await tellOnce(lap, release, 'wait', `release ${release.version} waits: ${step.why}`, now)
      const leased = [...machines.values()].find((m) => m.lease && step.why.includes(m.lease))
      // Its holder renews it every few seconds, which is no news.
      if (leased !== undefined && !lap.told.has(toldKey(release, `lease ${leased.id}`)))
        await tellOnce(lap, release, `lease ${leased.id}`, step.why, now, {
          machine: leased.id,
          region: leased.region,
        })
      return step.until
    }
    const { app, version, status } = release
    const moment = { app, version, status, step: step.kind }
    lap.onStep?.({ ...moment, when: 'before' })
    const after = await take(lap, release, step, machines)
    lap.log.info('release step', moment)
    lap.onStep?.({ ...moment, when: 'after' })
    if (after === null || isFinal(after.status)) return now + PERIOD_MS
    release = after
  }
  return clock.now()
}

/** A clock that was set back while no server ran would let it wait for days. */
async function withinReach({ store, clock }: Lap, release: Release): Promise<Release> {
  const timeouts = [...groupsOf(release).values()].map((g) => g.config.stop_config.timeout_ms)
  const retireMs = retireTimeMs(timeouts)
  const latest = clock.now() + Math.max(release.waitTimeoutMs, retireMs, RETURN_MS_MAX)
  if (release.deadline <= latest) return release
  return store.transaction(async (tx) => {
    const stored = await getRelease(tx, release.app, release.version)
    if (stored === null) return release
    const nearer = { ...stored, deadline: Math.min(stored.deadline, latest) }
    await putRelease(tx, nearer)
    return nearer
  })
}

async function viewMachines(
  lap: Lap,
  reader: Reader,
  release: Release,
  now: Instant,
): Promise<Map<MachineId, ReleaseMachine>> {
  const wanted = new Set([...release.plan, ...release.undo].flatMap((r) => [r.source, r.target]))
  if (wanted.size === 0) return new Map()
  const hosts = await listHosts(reader)
  const names = new Map(hosts.map((h) => [h.id, h.name]))
  const edges = edgesInCharge(lap.presence, hosts, lap.startedAt, now)
  const machines = new Map<MachineId, StoredMachine>()
  for (const machine of await listMachines(reader, { app: release.app }))
    if (wanted.has(machine.assignment.id)) machines.set(machine.assignment.id, machine)
  // A new machine that is gone already must not be taken for one that was never made.
  for (const { target } of [...release.plan, ...release.undo]) {
    if (target === null || machines.has(target)) continue
    const machine = await getMachine(reader, target)
    if (machine !== null) machines.set(target, machine)
  }
  return new Map(
    [...machines].map(([id, machine]) => [id, viewMachine(lap, machine, names, edges, now)]),
  )
}

function viewMachine(
  lap: Lap,
  machine: StoredMachine,
  hostNames: ReadonlyMap<string, string>,
  edges: ReturnType<typeof edgesInCharge>,
  now: Instant,
): ReleaseMachine {
  const { assignment, status, readySince, startedSince, readyRevision } = machine
  const { id, region, host } = assignment
  const lease = activeLease(machine.lease, now)
  return {
    id,
    region,
    host,
    hostName: hostNames.get(host) ?? host,
    hostSilentMs: now - Math.max(lap.startedAt, lap.presence.agentSeenAt(host)),
    assignment,
    status,
    readyMs: readySince === null ? null : now - readySince,
    startedMs: startedSince === null ? null : now - startedSince,
    carried: readyRevision !== null && allCarried(edges, readyRevision),
    lease: lease === null ? null : describeLease(lease),
  }
}

type Deed = Exclude<ReleaseStep, { kind: 'wait' | 'settled' }>

/** null: somebody else changed the release meanwhile, or it is gone with its app. */
async function take(
  lap: Lap,
  release: Release,
  step: Deed,
  machines: ReadonlyMap<MachineId, ReleaseMachine>,
): Promise<Release | null> {
  // Asking a host takes its time, and must be done before the machine is gone.
  const lines = step.kind === 'revert' ? await linesOf(lap, step.machine) : []
  try {
    return await lap.store.transaction(async (tx) => {
      const stored = await getRelease(tx, release.app, release.version)
      // Another app may have the name by now.
      if (stored === null || stored.createdAt !== release.createdAt) return null
      if (stored.status !== release.status) return null
      return doStep(lap, tx, stored, step, machines, lines)
    })
  } catch (error) {
    if (release.status !== 'starting' || (step.kind !== 'create' && step.kind !== 'update'))
      throw error
    if (!(error instanceof PlatformError) || error.retry !== 'never') throw error
    const reason = describeError(error)
    return take(lap, release, { kind: 'revert', reason, machine: null }, machines)
  }
}

async function doStep(
  lap: Lap,
  tx: Tx,
  release: Release,
  step: Deed,
  machines: ReadonlyMap<MachineId, ReleaseMachine>,
  lines: readonly string[],
): Promise<Release> {
  const now = lap.clock.now()
  const tell = (of: Release, message: string) => tellRelease(tx, of, message, now)
  const enter = async (change: Partial<Release>): Promise<Release> => {
    const next = { ...release, ...change, updatedAt: now }
    await putRelease(tx, next)
    return next
  }
  switch (step.kind) {
    case 'begin':
      return beginRelease(tx, release, { now, newId: lap.ids.machineId })
    case 'create':
      return createMachines(lap, tx, release, step.replacements, step.wave, now)
    case 'start':
      await forMachines(tx, step.machines, async (machine) => {
        await commandMachine(tx, machine, { kind: 'start' }, { now, source: 'flyd' })
      })
      return enter({ deadline: now + release.waitTimeoutMs })
    case 'update':
      return updateMachines(lap, tx, release, step.machines, now)
    case 'admit':
      await forMachines(tx, step.machines, async (machine) => {
        await commandMachine(tx, machine, { kind: 'uncordon' }, { now, source: 'flyd' })
      })
      await tell(release, 'all new machines are ready: requests go to them')
      return enter({})
    case 'retire': {
      const retireMs = await retireMachines(tx, release, step.machines, now)
      // The next wave has its own time, and may have to wait for the room of this one.
      if (release.status !== 'starting') return enter({})
      return enter({ deadline: now + Math.max(release.waitTimeoutMs, retireMs) })
    }
    case 'commit': {
      const app = await getApp(tx, release.app)
      if (app !== null) await putApp(tx, { ...app, release: release.version })
      const serving: Release = { ...release, status: 'draining' }
      await tell(serving, `release ${release.version} serves`)
      await retireMachines(tx, serving, step.machines, now)
      return enter({ status: 'draining' })
    }
    case 'revert':
      return revert(lap, tx, release, step, machines, lines, now)
    case 'complete': {
      const next = await enter({ status: 'complete' })
      const left =
        step.leaving === 0
          ? ''
          : `; ${step.leaving} old ${step.leaving === 1 ? 'machine still finishes what it does and goes' : 'machines still finish what they do and go'} by itself`
      await tell(next, `release ${release.version} is complete${left}`)
      await forgetSecretVersions(tx, release.app)
      return next
    }
    case 'fail': {
      const failed = await failRelease(tx, release, step.reason, now, step.returned)
      await forgetSecretVersions(tx, release.app)
      return failed
    }
    default:
      return assertNever(step)
  }
}

/** Makes the plan of the way back. From here on the release can only fail. */
async function revert(
  lap: Lap,
  tx: Tx,
  release: Release,
  step: Extract<ReleaseStep, { kind: 'revert' }>,
  machines: ReadonlyMap<MachineId, ReleaseMachine>,
  lines: readonly string[],
  now: Instant,
): Promise<Release> {
  const to = await returnTarget(tx, release)
  const way = planReturn({
    release,
    to: to === null ? null : { guestOf: (group) => groupIn(to, group).config.guest },
    machines,
    hosts: await listHosts(tx),
    used: await reservedByHost(tx),
    newId: lap.ids.machineId,
  })
  const app = await getApp(tx, release.app)
  if (app !== null) {
    const primaryRegion = to?.primaryRegion ?? app.primaryRegion
    const serving = app.release === release.version ? release.returnTo : app.release
    if (serving !== app.release || primaryRegion !== app.primaryRegion)
      await putApp(tx, { ...app, release: serving, primaryRegion })
  }
  const reason = withLastLine(step.reason, lines)
  const next: Release = {
    ...release,
    status: 'reverting',
    reason: [reason, ...way.lost].join('; '),
    returned: way.lost.length === 0 ? null : false,
    undo: way.replacements,
    deadline: now + Math.min(release.waitTimeoutMs, RETURN_MS_MAX),
    updatedAt: now,
  }
  await putRelease(tx, next)
  await tellRelease(tx, next, `giving up: ${next.reason}`, now)
  if (way.replacements.some((r) => r.target !== null))
    await tellRelease(tx, next, `everything returns to release ${release.returnTo}`, now)
  const machine = step.machine === null ? undefined : machines.get(step.machine)
  if (machine !== undefined && lines.length > 0)
    await tellRelease(
      tx,
      next,
      `the last lines of machine ${machine.id}:\n${lines.map((line) => `  ${line}`).join('\n')}`,
      now,
      { machine: machine.id, region: machine.region },
    )
  return next
}

/** The release that served before, when all that it needs is still there. */
async function returnTarget(reader: Reader, release: Release): Promise<Release | null> {
  if (release.returnTo === 0) return null
  const to = await getRelease(reader, release.app, release.returnTo)
  if (to === null) return null
  const kept = await digestsOf(reader, release.app, to.secrets ?? {})
  return kept.size === Object.keys(to.secrets ?? {}).length ? to : null
}

/** What the machines are made from: the release itself, or on the way back the one before. */
async function madeFrom(reader: Reader, release: Release): Promise<Release> {
  if (release.status !== 'reverting') return release
  const to = await returnTarget(reader, release)
  if (to === null)
    throw new PlatformError('internal', `release ${release.returnTo} vanished during the return`)
  return to
}

async function forMachines(
  tx: Tx,
  ids: readonly MachineId[],
  work: (machine: StoredMachine) => Promise<void>,
): Promise<void> {
  for (const id of ids) {
    const machine = await getMachine(tx, id)
    if (machine !== null && machine.destroyedAt === null) await work(machine)
  }
}

/** The line that most often says why, for those who see nothing but the reason. */
function withLastLine(reason: string, lines: readonly string[]): string {
  const last = lines.findLast((line) => line.trim() !== '')?.trim()
  return last === undefined ? reason : `${reason}; it said last: ${last.slice(0, 200)}`
}

/**
 * Those of the wave start; the others only pull their image. On the way back a machine that can't be made is left out, and said:
 * the rest goes on.
 */
async function createMachines(
  lap: Lap,
  tx: Tx,
  release: Release,
  replacements: readonly Replacement[],
  wave: number,
  now: Instant,
): Promise<Release> {
  const returning = release.status === 'reverting'
  const from = await madeFrom(tx, release)
  const hosts = new Map((await listHosts(tx)).map((h) => [h.id, h]))
  const lost: { readonly replacement: Replacement; readonly why: string }[] = []
  for (const replacement of replacements) {
    const { source, target, host: hostId, region, group } = replacement
    if (target === null || hostId === null) continue
    const host = hosts.get(hostId)
    const refusal =
      host === undefined
        ? ({ code: 'conflict', text: `the host in ${region} was removed meanwhile` } as const)
        : await refusalForRoom(tx, groupIn(from, group).config.guest, host)
    if (host === undefined || refusal !== null) {
      const why = refusal?.text ?? ''
      if (!returning) throw new PlatformError(refusal?.code ?? 'conflict', why)
      lost.push({ replacement, why })
      continue
    }
    const launch = replacement.wave === wave
    await insertNewMachine(
      tx,
      { ids: lap.ids, now, secrets: lap.secrets },
      {
        id: target,
        app: release.app,
        host,
        config: configOfRelease(from, group),
        imageDigest: from.imageDigest,
        containerDigests: groupIn(from, group).containerDigests,
        launch,
        // Of all or none: see `admit`.
        cordoned: !returning && release.strategy === 'bluegreen',
        ...(from.secrets === null ? {} : { secrets: from.secrets }),
        source: 'flyd',
      },
    )
    const whose = source === null ? '' : `, for ${source}`
    const how = launch ? 'created' : 'prepared'
    const message = `machine ${target} is ${how} in ${region} on ${host.name}${whose}`
    await tellRelease(tx, release, message, now, { machine: target, region })
  }
  const why = lost.map((one) => one.why)
  const next: Release = {
    ...release,
    deadline:
      now + (returning ? Math.min(release.waitTimeoutMs, RETURN_MS_MAX) : release.waitTimeoutMs),
    updatedAt: now,
    ...(lost.length === 0
      ? {}
      : {
          undo: release.undo.filter(
            (r) => !lost.some((one) => one.replacement.target === r.target),
          ),
          reason: [release.reason, ...why].join('; '),
          returned: false,
        }),
  }
  await putRelease(tx, next)
  return next
}

/** A new version where they are. One that somebody stopped gets it and stays stopped. */
async function updateMachines(
  lap: Lap,
  tx: Tx,
  release: Release,
  ids: readonly MachineId[],
  now: Instant,
): Promise<Release> {
  const from = await madeFrom(tx, release)
  const plan = release.status === 'reverting' ? release.undo : release.plan
  await forMachines(tx, ids, async (machine) => {
    const { id, app, region, goal, host: hostId } = machine.assignment
    const group = plan.find((r) => r.target === id)?.group
    const host = await getHost(tx, hostId)
    if (host === null)
      throw new PlatformError('conflict', `the host of machine ${id} in ${region} was removed`)
    const sealedSecrets = await lap.secrets.sealForHost(
      tx,
      app,
      host,
      id,
      from.secrets ?? undefined,
    )
    await commandMachine(
      tx,
      machine,
      {
        kind: 'update',
        config: configOfRelease(from, group),
        imageDigest: from.imageDigest,
        containerDigests: groupIn(from, group).containerDigests,
        instanceId: lap.ids.instanceId(now),
        launch: goal === 'started',
        sealedSecrets,
      },
      { now, source: 'flyd' },
    )
    const message = `machine ${id} in ${region} drains, stops and starts with release ${releaseOf(configOfRelease(from))}`
    await tellRelease(tx, release, message, now, { machine: id, region })
  })
  const waitMs =
    release.status === 'reverting'
      ? Math.min(release.waitTimeoutMs, RETURN_MS_MAX)
      : release.waitTimeoutMs
  const next = { ...release, deadline: now + waitMs, updatedAt: now }
  await putRelease(tx, next)
  return next
}

/** The plan counted what was taken then; other apps may have taken more since. */
async function refusalForRoom(
  tx: Tx,
  guest: MachineGuest,
  host: Host,
): Promise<{ readonly code: 'no_room'; readonly text: string } | null> {
  const taken = (await reservedByHost(tx)).get(host.id) ?? { cpus: 0, memoryMb: 0 }
  const needed = reservedBy(guest)
  const freeMb = host.capacity.memoryMb - taken.memoryMb
  if (needed.memoryMb <= freeMb && needed.cpus <= host.capacity.cpus - taken.cpus) return null
  return {
    code: 'no_room',
    text: `no room on ${host.name} in ${host.region} any more: ${needed.memoryMb} MB are needed, ${Math.max(0, freeMb)} MB are left`,
  }
}

/** Tells them to leave rotation, drain and go. Returns how long to wait for that at most. */
async function retireMachines(
  tx: Tx,
  release: Release,
  ids: readonly MachineId[],
  now: Instant,
): Promise<number> {
  const timeouts: number[] = []
  for (const id of ids) {
    const machine = await getMachine(tx, id)
    if (machine === null || machine.destroyedAt !== null) continue
    const { region, config, goal } = machine.assignment
    timeouts.push(config.stop_config.timeout_ms)
    if (goal === 'destroyed') continue
    await commandMachine(tx, machine, { kind: 'destroy' }, { now, source: 'flyd' })
    const how = release.status === 'reverting' ? 'is removed' : 'drains and goes'
    await tellRelease(tx, release, `machine ${id} in ${region} ${how}`, now, {
      machine: id,
      region,
    })
  }
  return retireTimeMs(timeouts)
}

async function linesOf(lap: Lap, id: MachineId | null): Promise<readonly string[]> {
  if (id === null) return []
  const host = await lap.store.read(async (reader) => {
    const machine = await getMachine(reader, id)
    return machine === null ? null : getHost(reader, machine.assignment.host)
  })
  return host === null ? [] : lastLines(lap.agent(host), id, LINES_SHOWN)
}

/** New machines while they start, old ones when they are gone. */
async function tellProgress(
  lap: Lap,
  release: Release,
  machines: ReadonlyMap<MachineId, ReleaseMachine>,
  now: Instant,
): Promise<void> {
  const { status, plan, undo, version, returnTo } = release
  if (status !== 'starting' && status !== 'reverting') return
  for (const { target } of status === 'starting' ? plan : undo) {
    const machine = target === null ? undefined : machines.get(target)
    if (machine === undefined || machine.status === null) continue
    // One that is replaced in place later on is still of another release.
    const wanted = status === 'starting' ? version : returnTo
    if (releaseOf(machine.assignment.config) !== wanted) continue
    await tellOnce(lap, release, machine.id, describeProgress(machine), now, {
      machine: machine.id,
      region: machine.region,
    })
  }
}

function toldKey({ app, version }: Release, about: string): string {
  return `${app}/${version}/${about}`
}

async function tellOnce(
  lap: Lap,
  release: Release,
  about: string,
  message: string,
  now: Instant,
  machine: { readonly machine: string; readonly region: string } | null = null,
): Promise<void> {
  const key = toldKey(release, about)
  if (lap.told.get(key) === message) return
  await lap.store.transaction(async (tx) => {
    if ((await getRelease(tx, release.app, release.version)) === null) return
    await tellRelease(tx, release, message, now, machine)
  })
  lap.told.set(key, message)
}
