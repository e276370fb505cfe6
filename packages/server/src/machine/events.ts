import type { Instant, MachineExit, MachineId } from '@roost/core'
import type { Reader, Tx } from '../store/store.ts'

/** Something that happened to a machine, as the Machines API tells it. */
export interface MachineEvent {
  readonly id: string
  readonly type:
    | 'launch'
    | 'start'
    | 'exit'
    | 'restart'
    | 'update'
    | 'stop'
    | 'suspend'
    | 'destroy'
    | 'failed'
    | 'cordon'
    | 'uncordon'
    /** Something happened that is not told any more. */
    | 'lost'
  readonly status: string
  readonly source: 'user' | 'flyd'
  readonly timestamp: Instant
  /** Of an exit, and of a start by the restart policy. */
  readonly request?:
    | {
        readonly exit_event: ExitEvent
        readonly MonitorEvent: { readonly exit_event: ExitEvent }
        readonly restart_count: number
      }
    | { readonly restart_count: number }
  /** In words for a person: how it ended, why it failed. */
  readonly message?: string
  /** Which of several it happened to; absent: to the machine. Roost's own addition. */
  readonly container?: string
}

interface ExitEvent {
  readonly exit_code: number
  readonly guest_exit_code: number
  readonly guest_signal: number
  readonly oom_killed: boolean
  readonly requested_stop: boolean
  readonly restarting: boolean
  readonly signal: number
  readonly exited_at: string
}

const EVENTS_MAX = 50

/** Kept are the last 50 of each machine. */
export async function addEvent(
  tx: Tx,
  machine: MachineId,
  event: Omit<MachineEvent, 'id'>,
): Promise<void> {
  const number = (await lastEvent(tx, machine)) + 1
  const value = JSON.stringify({ id: `${machine}-${number}`, ...event })
  await tx.db.insertInto('machine_events').values({ machine, number, value }).execute()
  await tx.db
    .deleteFrom('machine_events')
    .where('machine', '=', machine)
    .where('number', '<=', number - EVENTS_MAX)
    .execute()
}

/** Newest first: clients look for the latest of a type from the start of the list. */
export async function listEvents(
  reader: Reader,
  machines: readonly MachineId[],
): Promise<Map<MachineId, MachineEvent[]>> {
  const events = new Map<MachineId, MachineEvent[]>(machines.map((id) => [id, []]))
  // In pieces: the number of values in one query is bounded.
  for (let from = 0; from < machines.length; from += 500) {
    const rows = await reader.db
      .selectFrom('machine_events')
      .select(['machine', 'value'])
      .where('machine', 'in', machines.slice(from, from + 500))
      .orderBy('number', 'desc')
      .execute()
    for (const row of rows)
      events.get(row.machine as MachineId)?.push(JSON.parse(row.value) as MachineEvent)
  }
  return events
}

/** The number of the newest; 0: there is none. */
export async function lastEvent(reader: Reader, machine: MachineId): Promise<number> {
  const { last } = await reader.db
    .selectFrom('machine_events')
    .select((at) => at.fn.max('number').as('last'))
    .where('machine', '=', machine)
    .executeTakeFirstOrThrow()
  return last ?? 0
}

export function exitRequest(
  exit: MachineExit,
  restarting: boolean,
  restartCount: number,
): NonNullable<MachineEvent['request']> {
  const exit_event = {
    exit_code: exit.code,
    guest_exit_code: exit.code,
    guest_signal: exit.signal,
    oom_killed: exit.oomKilled,
    requested_stop: exit.requested,
    restarting,
    signal: exit.signal,
    exited_at: new Date(exit.at).toISOString(),
  }
  return { exit_event, MonitorEvent: { exit_event }, restart_count: restartCount }
}
