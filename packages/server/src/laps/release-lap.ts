import { describeError, type Loop, PlatformError, startLoop } from '@roost/base'
import {
  assertNever,
  configOfRelease,
  describeProgress,
  type Host,
  type Instant,
  isFinal,
  type MachineId,
  nextReleaseStep,
  type Release,
  type ReleaseMachine,
  type ReleaseStep,
  type Replacement,
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
import type { Reader, Tx } from '../store/store.ts'
import { allCarried, edgesInCharge } from './edges-in-charge.ts'

export type ReleaseLapDeps = Pick<
  Deps,
  'store' | 'clock' | 'log' | 'ids' | 'presence' | 'secrets' | 'agent'
>

const PERIOD_MS = 1_000
/** Steps of one release in one lap. The next lap goes on. */
const STEPS_MAX = 50
const AWAY_GRACE_MS = 15_000
const LINES_SHOWN = 20

/**
 * Rolls out every release that has not ended, one of each app at a time, as `nextReleaseStep` says. All that it knows
 * between two steps is in the store, so a server that was killed goes on where it was.
 */
export function startReleaseLap(deps: ReleaseLapDeps): Loop {
  const { store, clock, log, presence } = deps
  const startedAt = clock.now()
  const stopping = new AbortController()
  const told = new Map<string, string>()

  const loop = startLoop({
    name: 'releases',
    periodMs: PERIOD_MS,
    clock,
    log,
    lap: async (signal) => {
      const open = await store.read((reader) => listOpenReleases(reader))
      for (const key of told.keys())
        if (!open.some((r) => key.startsWith(`${r.app}/${r.version}/`))) told.delete(key)
      let next = clock.now() + PERIOD_MS
      for (const [n, release] of open.entries()) {
        if (signal.aborted) return
        const earlier = open[n - 1]?.app === release.app ? (open[n - 1]?.version ?? null) : null
        try {
          next = Math.min(next, await advance({ ...deps, startedAt, told }, release, earlier))
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
        if (/^(machine|release|host)\//.test(key)) {
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

interface Lap extends ReleaseLapDeps {
  readonly startedAt: Instant
  /** What was last said of each machine of each open release: progress is told once. */
  readonly told: Map<string, string>
}

/** Steps until there is something to wait for; returns when to look again. */
async function advance(lap: Lap, first: Release, earlier: number | null): Promise<Instant> {
  const { store, clock } = lap
  let release = first
  for (let n = 0; n < STEPS_MAX; n++) {
    const now = clock.now()
    const machines = await store.read((reader) => viewMachines(lap, reader, release, now))
    await tellProgress(lap, release, machines, now)
    // A server that was away, or could write nothing down, must hear its hosts before it calls the time over.
    const awayUntil = Math.max(lap.startedAt, store.trouble()?.lastAt ?? 0)
    const deadline = Math.max(release.deadline, awayUntil + AWAY_GRACE_MS)
    const step = nextReleaseStep({ ...release, deadline }, { machines, earlier }, now)
    if (step.kind === 'settled') return now + PERIOD_MS
    if (step.kind === 'wait') {
      if (release.status === 'pending')
        await tellOnce(lap, release, 'wait', `release ${release.version} waits: ${step.why}`, now)
      return step.until
    }
    const after = await take(lap, release, step, machines)
    if (after === null || isFinal(after.status)) return now + PERIOD_MS
    release = after
  }
  return clock.now()
}

async function viewMachines(
  lap: Lap,
  reader: Reader,
  release: Release,
  now: Instant,
): Promise<Map<MachineId, ReleaseMachine>> {
  const wanted = new Set(release.plan.flatMap((r) => [r.source, r.target]))
  if (wanted.size === 0) return new Map()
  const hosts = await listHosts(reader)
  const names = new Map(hosts.map((h) => [h.id, h.name]))
  const edges = edgesInCharge(lap.presence, hosts, lap.startedAt, now)
  const machines = new Map<MachineId, StoredMachine>()
  for (const machine of await listMachines(reader, { app: release.app }))
    if (wanted.has(machine.assignment.id)) machines.set(machine.assignment.id, machine)
  // A new machine that is gone already must not be taken for one that was never made.
  for (const { target } of release.plan) {
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
      if (stored === null || stored.status !== release.status) return null
      return doStep(lap, tx, stored, step, machines, lines)
    })
  } catch (error) {
    if (step.kind !== 'create') throw error
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
      await createMachines(lap, tx, release, step.replacements, now)
      return release
    case 'retire':
      await retireMachines(tx, release, step.machines, now)
      return release
    case 'commit': {
      const app = await getApp(tx, release.app)
      if (app !== null) await putApp(tx, { ...app, release: release.version })
      const serving: Release = { ...release, status: 'draining' }
      await tell(serving, `release ${release.version} serves`)
      const drainMs = await retireMachines(tx, serving, step.machines, now)
      return enter({ status: 'draining', deadline: now + drainMs })
    }
    case 'revert': {
      const timeouts = [...machines.values()].map((m) => m.assignment.config.stop_config.timeout_ms)
      const next = await enter({
        status: 'reverting',
        reason: withLastLine(step.reason, lines),
        deadline: now + retireTimeMs(timeouts),
      })
      await tell(next, `giving up: ${next.reason}`)
      const machine = step.machine === null ? null : machines.get(step.machine)
      if (machine && lines.length > 0)
        await tellRelease(
          tx,
          next,
          `the last lines of machine ${machine.id}:\n${lines.map((line) => `  ${line}`).join('\n')}`,
          now,
          { machine: machine.id, region: machine.region },
        )
      return next
    }
    case 'complete': {
      const next = await enter({ status: 'complete' })
      await tell(next, `release ${release.version} is complete`)
      return next
    }
    case 'fail':
      return failRelease(tx, release, step.reason, now)
    default:
      return assertNever(step)
  }
}

/** The line that most often says why, for those who see nothing but the reason. */
function withLastLine(reason: string, lines: readonly string[]): string {
  const last = lines.findLast((line) => line.trim() !== '')?.trim()
  return last === undefined ? reason : `${reason}; it said last: ${last.slice(0, 200)}`
}

async function createMachines(
  lap: Lap,
  tx: Tx,
  release: Release,
  replacements: readonly Replacement[],
  now: Instant,
): Promise<void> {
  const hosts = new Map((await listHosts(tx)).map((h) => [h.id, h]))
  for (const { source, target, host: hostId, region } of replacements) {
    if (target === null || hostId === null) continue
    const host = hosts.get(hostId)
    if (host === undefined)
      throw new PlatformError('conflict', `the host in ${region} was removed meanwhile`)
    await refuseWithoutRoom(tx, release, host)
    await insertNewMachine(
      tx,
      { ids: lap.ids, now, secrets: lap.secrets },
      {
        id: target,
        app: release.app,
        host,
        config: configOfRelease(release),
        imageDigest: release.imageDigest,
        launch: true,
        source: 'flyd',
      },
    )
    const whose = source === null ? '' : `, for ${source}`
    const message = `machine ${target} is created in ${region} on ${host.name}${whose}`
    await tellRelease(tx, release, message, now, { machine: target, region })
  }
}

/** The plan counted what was taken then; other apps may have taken more since. */
async function refuseWithoutRoom(tx: Tx, release: Release, host: Host): Promise<void> {
  const taken = (await reservedByHost(tx)).get(host.id) ?? { cpus: 0, memoryMb: 0 }
  const needed = reservedBy(release.config.guest)
  const freeMb = host.capacity.memoryMb - taken.memoryMb
  if (needed.memoryMb <= freeMb && needed.cpus <= host.capacity.cpus - taken.cpus) return
  throw new PlatformError(
    'no_room',
    `no room on ${host.name} in ${host.region} any more: ${needed.memoryMb} MB are needed, ${Math.max(0, freeMb)} MB are left`,
  )
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
  if (release.status !== 'starting') return
  for (const { target } of release.plan) {
    const machine = target === null ? undefined : machines.get(target)
    if (machine === undefined || machine.status === null) continue
    await tellOnce(lap, release, machine.id, describeProgress(machine), now, {
      machine: machine.id,
      region: machine.region,
    })
  }
}

async function tellOnce(
  lap: Lap,
  release: Release,
  about: string,
  message: string,
  now: Instant,
  machine: { readonly machine: string; readonly region: string } | null = null,
): Promise<void> {
  const key = `${release.app}/${release.version}/${about}`
  if (lap.told.get(key) === message) return
  await lap.store.transaction(async (tx) => {
    if ((await getRelease(tx, release.app, release.version)) === null) return
    await tellRelease(tx, release, message, now, machine)
  })
  lap.told.set(key, message)
}
