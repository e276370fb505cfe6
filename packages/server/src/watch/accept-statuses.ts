import { type HostId, type Instant, isReady, type MachineStatus, type Revision } from '@roost/core'
import { commandMachine } from '../machine/command.ts'
import { addEvent, exitRequest } from '../machine/events.ts'
import { getMachine, markDestroyed, publishView, type StoredMachine } from '../store/machines.ts'
import type { Tx } from '../store/store.ts'

/**
 * What a host saw of its machines: stored, told to the edges, and written down as events, in one transaction. What was
 * heard already, or is older than what was heard, is passed over, so a report may come twice, late or out of order. A
 * machine that the server doesn't know, or knows on another host, is no error: the host has no assignment for it and removes it.
 */
export async function acceptStatuses(
  tx: Tx,
  host: HostId,
  statuses: readonly MachineStatus[],
  now: Instant,
): Promise<void> {
  for (const status of statuses) {
    const machine = await getMachine(tx, status.id)
    if (machine === null || machine.assignment.host !== host) continue
    if (machine.destroyedAt !== null) continue
    if (machine.status !== null && status.sequence <= machine.status.sequence) continue
    await acceptStatus(tx, machine, { ...status, host }, now)
  }
}

async function acceptStatus(
  tx: Tx,
  before: StoredMachine,
  status: MachineStatus,
  now: Instant,
): Promise<void> {
  const { id } = status
  await addEvents(tx, before, status)
  let machine = before
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
  const { id, exit } = status
  const before = machine.status
  if (exit !== null && exit.at !== before?.exit?.at) {
    const restarting = status.restartCount > (before?.restartCount ?? 0)
    await addEvent(tx, id, {
      type: 'exit',
      status: 'stopped',
      source: 'flyd',
      timestamp: exit.at,
      request: exitRequest(exit, restarting, status.restartCount),
    })
  }
  const running = status.state === 'started' && status.startedAt !== null
  if (running && (before?.state !== 'started' || before.startedAt !== status.startedAt))
    await addEvent(tx, id, {
      type: 'start',
      status: 'started',
      source: 'flyd',
      timestamp: status.startedAt ?? status.updatedAt,
    })
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
