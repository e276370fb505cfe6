import {
  assertNever,
  describeExit,
  type Happening,
  HISTORY_MAX,
  type HostId,
  type Instant,
  isReady,
  type MachineExit,
  type MachineHistory,
  type MachineId,
  type MachineStatus,
  newsIn,
  type Revision,
} from '@roost/core'
import { commandMachine } from '../machine/command.ts'
import { addEvent, exitRequest, type MachineEvent } from '../machine/events.ts'
import { getMachine, markDestroyed, publishView, type StoredMachine } from '../store/machines.ts'
import type { Tx } from '../store/store.ts'

/**
 * What a host saw of its machines: stored, told to the edges, and written down as events, in one transaction. What was
 * heard already, or is older than what was heard, is passed over, so a report may come twice, late or out of order. A
 * machine that the server doesn't know, or knows on another host, is no error: the host has no assignment for it and removes it.
 * Returns, of those that were passed over, what was heard last: a host that lost its disk and whose clock was set back counts
 * from below that, and would not be heard for as long as its clock takes.
 */
export async function acceptStatuses(
  tx: Tx,
  host: HostId,
  statuses: readonly MachineStatus[],
  now: Instant,
): Promise<Record<MachineId, number>> {
  const ahead: Record<MachineId, number> = {}
  for (const status of statuses) {
    const machine = await getMachine(tx, status.id)
    if (machine === null || machine.assignment.host !== host) continue
    if (machine.destroyedAt !== null) continue
    if (machine.status !== null && status.sequence <= machine.status.sequence)
      ahead[status.id] = machine.status.sequence
    else await acceptStatus(tx, machine, { ...status, host }, now)
  }
  return ahead
}

async function acceptStatus(
  tx: Tx,
  before: StoredMachine,
  status: MachineStatus,
  now: Instant,
): Promise<void> {
  const { id } = status
  await addEvents(tx, before, status)
  const { generation, configGeneration, instanceId } = status
  let machine = before
  const known = before.assignment
  if (generation > known.generation || configGeneration > known.configGeneration)
    machine = await commandMachine(
      tx,
      machine,
      { kind: 'overtake', generation, configGeneration, instanceId },
      { now, source: 'flyd' },
    )
  if (status.state === 'started')
    machine = await commandMachine(
      tx,
      machine,
      { kind: 'running', configGeneration: status.configGeneration },
      { now, source: 'flyd' },
    )

  const gone = status.state === 'destroyed' && isExpectedGone(machine)
  const view = await publishView(tx, machine.assignment, status, gone)
  await putStatus(tx, machine, status, view, now)
  if (!gone) return
  // `auto_destroy`: nobody asked, but it was agreed on.
  if (machine.assignment.goal !== 'destroyed')
    await commandMachine(
      tx,
      machine,
      { kind: 'destroy', force: true },
      { now, source: 'flyd', evenLeased: true },
    )
  await markDestroyed(tx, id, now)
}

function isExpectedGone({ assignment }: StoredMachine): boolean {
  return assignment.goal === 'destroyed' || assignment.config.auto_destroy
}

async function putStatus(
  tx: Tx,
  machine: StoredMachine,
  status: MachineStatus,
  view: Revision,
  now: Instant,
): Promise<void> {
  const current = status.configGeneration === machine.assignment.configGeneration
  // A machine that started anew between two reports was not ready all the while.
  const sameRun = machine.status?.startedAt === status.startedAt
  const started = current && status.state === 'started'
  const ready = current && isReady(status)
  const failed = current && status.state === 'failed'
  const since = (is: boolean, before: Instant | null) => (is ? (before ?? now) : null)
  const row = {
    sequence: status.sequence,
    started_since: since(started, sameRun ? machine.startedSince : null),
    ready_since: since(ready, sameRun ? machine.readySince : null),
    failed_since: since(failed, machine.failedSince),
    ready_revision: ready ? ((sameRun ? machine.readyRevision : null) ?? view) : null,
    value: JSON.stringify(status),
  }
  await tx.db
    .insertInto('statuses')
    .values({ machine: status.id, ...row })
    .onConflict((conflict) => conflict.column('machine').doUpdateSet(row))
    .execute()
}

async function addEvents(tx: Tx, machine: StoredMachine, status: MachineStatus): Promise<void> {
  const { id } = status
  const before = machine.status
  for (const event of status.history
    ? newEvents(before, status.history)
    : seenEvents(before, status))
    await addEvent(tx, id, event)
  const news = before?.state !== status.state || before.reason !== status.reason
  if (status.state === 'failed' && news)
    await addEvent(tx, id, {
      type: 'failed',
      status: 'failed',
      source: 'flyd',
      timestamp: status.updatedAt,
      ...(status.reason === null ? {} : { message: status.reason }),
    })
  if (status.state === 'destroyed' && before?.state !== 'destroyed')
    await addEvent(tx, id, {
      type: 'destroy',
      status: 'destroyed',
      source: 'flyd',
      timestamp: status.updatedAt,
    })
}

type NewEvent = Omit<MachineEvent, 'id'>

/** From what the host wrote down, also while nobody heard it. */
function newEvents(before: MachineStatus | null, history: MachineHistory): NewEvent[] {
  const { fresh, dropped } = newsIn(before?.history ?? null, history)
  const events = fresh.map(eventOf)
  const [first] = events
  if (dropped === 0 || first === undefined) return events
  const lost: NewEvent = {
    type: 'lost',
    status: 'unknown',
    source: 'flyd',
    timestamp: first.timestamp,
    message: `${dropped} starts and exits before this were not told: its host keeps the last ${HISTORY_MAX} while the server is away`,
  }
  return [lost, ...events]
}

function eventOf(one: Happening): NewEvent {
  switch (one.kind) {
    case 'started':
      return startEvent(one.at, one.restart, one.container)
    case 'suspended':
      return { type: 'suspend', status: 'suspended', source: 'flyd', timestamp: one.at }
    case 'resumed':
      return {
        type: 'start',
        status: 'started',
        source: 'flyd',
        timestamp: one.at,
        message: 'resumed, with all that it had in memory',
      }
    case 'exited':
      return exitEvent(one.exit, one.restarting, one.restarts, one.container)
    default:
      return assertNever(one)
  }
}

/** From how things are, for a host that keeps no history. */
function seenEvents(before: MachineStatus | null, status: MachineStatus): NewEvent[] {
  const { exit, restartCount } = status
  const ended = exit !== null && exit.at !== before?.exit?.at
  const running = status.state === 'started' && status.startedAt !== null
  const anew = before?.state !== 'started' || before.startedAt !== status.startedAt
  return [
    ...(ended ? [exitEvent(exit, restartCount > (before?.restartCount ?? 0), restartCount)] : []),
    ...(running && anew ? [startEvent(status.startedAt ?? status.updatedAt, restartCount)] : []),
  ]
}

function startEvent(timestamp: Instant, restart: number, container?: string): NewEvent {
  const which = container === undefined ? {} : { container }
  const how = { type: 'start', status: 'started', source: 'flyd', timestamp, ...which } as const
  if (restart === 0) return how
  return { ...how, request: { restart_count: restart }, message: `restart ${restart} in a row` }
}

function exitEvent(
  exit: MachineExit,
  restarting: boolean,
  restarts: number,
  container?: string,
): NewEvent {
  return {
    type: 'exit',
    status: 'stopped',
    source: 'flyd',
    timestamp: exit.at,
    request: exitRequest(exit, restarting, restarts),
    message: exit.requested ? 'stopped as asked' : describeExit(exit),
    ...(container === undefined ? {} : { container }),
  }
}
