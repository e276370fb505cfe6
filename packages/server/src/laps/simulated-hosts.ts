import type { Clock, PeerClient } from '@roost/base'
import type { Assignment, Host, HostId, Instant, MachineId, MachineStatus } from '@roost/core'
import { listMachines } from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import { acceptStatuses } from '../watch/accept-statuses.ts'
import type { Presence } from '../watch/presence.ts'

/** Time that goes on only when it is told to. */
export interface SteppedClock extends Clock {
  /** Wakes those whose time has come, then lets everything run that can. */
  advance(ms: number): Promise<void>
}

export function createSteppedClock(start: Instant): SteppedClock {
  const sleepers = new Set<{ readonly at: Instant; readonly wake: () => void }>()
  let time = start
  return {
    now: () => time,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve()
        const wake = () => {
          sleepers.delete(sleeper)
          signal?.removeEventListener('abort', wake)
          resolve()
        }
        const sleeper = { at: time + ms, wake }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', wake, { once: true })
      }),
    async advance(ms) {
      time += ms
      for (const sleeper of [...sleepers]) if (sleeper.at <= time) sleeper.wake()
      for (let n = 0; n < 4; n++) await new Promise((resolve) => setImmediate(resolve))
    },
  }
}

/** How a machine fares on its host. Chosen by its image. */
export interface Fate {
  /** Until it is started. Default 300. */
  readonly startMs?: number
  /** Until its check passes after that; null: never. Default 100. */
  readonly listenMs?: number | null
  readonly exitCode?: number
  /** When it exits, after it has started. Default at once. */
  readonly exitAfterMs?: number
  readonly failure?: string
  /** Until it is gone, after it may be stopped. Default 200. */
  readonly stopMs?: number
}

/**
 * Hosts that carry out their assignments with a delay, and edges that carry out what they hear: as honest as needed to
 * see what the server makes of them.
 */
export interface SimulatedHosts {
  /** One look at the store by every host and edge that lives. */
  tick(): Promise<void>
  readonly deadAgents: Set<HostId>
  readonly deadEdges: Set<HostId>
  /** Edges that live and carry nothing out. */
  readonly stuckEdges: Set<HostId>
  /** Sessions that edges report on machines that left rotation. */
  readonly sessions: Map<MachineId, number>
  /** Machines that run now, by what they were made from. */
  running(): readonly MachineId[]
}

export function simulateHosts(options: {
  readonly store: Store
  readonly clock: Clock
  readonly presence: Presence
  readonly hosts: readonly Host[]
  readonly fateOf: (assignment: Assignment) => Fate
}): SimulatedHosts {
  const { store, clock, presence, hosts, fateOf } = options
  /** Of each machine the version that exists, and since when it was to run, or to stop. */
  const there = new Map<
    MachineId,
    { made: Assignment; startAt: Instant; stopFrom: Instant | null }
  >()
  const told = new Map<MachineId, { text: string; sequence: number }>()
  const deadAgents = new Set<HostId>()
  const deadEdges = new Set<HostId>()
  const stuckEdges = new Set<HostId>()
  const sessions = new Map<MachineId, number>()
  const up = new Set<MachineId>()

  const stateOf = (assignment: Assignment, now: Instant): Partial<MachineStatus> => {
    const { id, goal, drain } = assignment
    let is = there.get(id)
    if (is === undefined || (is.made.goal === 'created' && goal === 'started')) {
      is = { made: assignment, startAt: now, stopFrom: null }
      there.set(id, is)
    }
    const { made, startAt } = is
    const fate = fateOf(made)
    const { configGeneration, instanceId } = made
    const startedAt = startAt + (fate.startMs ?? 300)
    const runs =
      made.goal === 'started' &&
      now >= startedAt &&
      fate.exitCode === undefined &&
      fate.failure === undefined
    const replaced = configGeneration !== assignment.configGeneration
    if (goal === 'created') return { state: 'created' }
    if (goal !== 'started' || replaced) {
      const version = { configGeneration, instanceId }
      const mayStop = !runs || drain === null || drain.done || now >= drain.deadline
      if (!mayStop) return { ...version, ...started(startedAt, true) }
      const from = is.stopFrom ?? now
      there.set(id, { ...is, stopFrom: from })
      const stopped = !runs || now >= from + (fate.stopMs ?? 200)
      if (goal === 'started' && stopped) {
        there.set(id, { made: assignment, startAt: now, stopFrom: null })
        return { state: 'starting' }
      }
      if (!stopped) return { ...version, state: goal === 'destroyed' ? 'destroying' : 'stopping' }
      return { state: goal === 'destroyed' ? 'destroyed' : 'stopped' }
    }
    if (now < startedAt) return { state: 'starting' }
    if (fate.failure !== undefined) return { state: 'failed', reason: fate.failure }
    if (fate.exitCode !== undefined && now >= startedAt + (fate.exitAfterMs ?? 0))
      return {
        state: 'stopped',
        exit: {
          code: fate.exitCode,
          signal: 0,
          oomKilled: false,
          requested: false,
          cause: null,
          at: startedAt,
        },
      }
    const { listenMs = 100 } = fate
    return started(startedAt, listenMs !== null && now >= startedAt + listenMs)
  }

  return {
    deadAgents,
    deadEdges,
    stuckEdges,
    sessions,
    running: () => [...up],
    async tick() {
      const now = clock.now()
      const applied = await store.read(
        async (reader) =>
          (
            await reader.db
              .selectFrom('counters')
              .select('value')
              .where('name', '=', 'revision')
              .executeTakeFirstOrThrow()
          ).value,
      )
      for (const host of hosts) {
        if (!deadEdges.has(host.id))
          presence.edgeHeard(host.id, {
            seenAt: now,
            applied: stuckEdges.has(host.id) ? 0 : applied,
            draining: [...sessions].map(([machine, count]) => ({ machine, sessions: count })),
          })
        if (deadAgents.has(host.id)) continue
        presence.agentHeard(host.id, now, applied)
        const machines = await store.read((reader) => listMachines(reader, { host: host.id }))
        const news: MachineStatus[] = []
        for (const { assignment } of machines) {
          const seen = stateOf(assignment, now)
          if (seen.state === 'started') up.add(assignment.id)
          else up.delete(assignment.id)
          const text = JSON.stringify([seen, assignment.generation])
          const before = told.get(assignment.id)
          if (before?.text === text) continue
          const sequence = (before?.sequence ?? 0) + 1
          told.set(assignment.id, { text, sequence })
          news.push({ ...blank(assignment, now), ...seen, sequence })
        }
        if (news.length === 0) continue
        await store
          .transaction((tx) => acceptStatuses(tx, host.id, news, now))
          .catch((error: unknown) => {
            // What was not heard is told again.
            for (const { id, sequence } of news) told.set(id, { text: '', sequence })
            throw error
          })
      }
    },
  }
}

function started(startedAt: Instant, listens: boolean): Partial<MachineStatus> {
  return {
    state: 'started',
    startedAt,
    checks: [
      {
        name: 'servicecheck-00-tcp-8080',
        status: listens ? 'passing' : 'critical',
        output: listens ? '' : 'connection refused',
        updatedAt: startedAt,
      },
    ],
  }
}

function blank(assignment: Assignment, now: Instant): MachineStatus {
  return {
    id: assignment.id,
    host: assignment.host,
    state: 'starting',
    generation: assignment.generation,
    instanceId: assignment.instanceId,
    configGeneration: assignment.configGeneration,
    sequence: 0,
    startedAt: null,
    updatedAt: now,
    exit: null,
    reason: null,
    restartCount: 0,
    checks: [],
  }
}

/** An agent that answers every question about logs with these lines. */
export function agentThatSays(lines: readonly object[]): PeerClient {
  return {
    json: async () => {
      throw new Error('not asked for')
    },
    async *lines<T>() {
      for (const line of lines) yield line as T
    },
    close: async () => {},
  }
}
