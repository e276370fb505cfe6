import { PlatformError } from '@roost/base'
import { type Instant, type MachineCommand, mayChange, request } from '@roost/core'
import { deleteLease } from '../store/leases.ts'
import { putAssignment, type StoredMachine } from '../store/machines.ts'
import type { Tx } from '../store/store.ts'
import { addEvent, type MachineEvent } from './events.ts'

/**
 * Changes what is wanted of a machine, by `request` alone, and writes down that somebody asked. A refusal is thrown as
 * `precondition_failed`, or as `conflict` when somebody else has a lease on the machine.
 */
export async function commandMachine(
  tx: Tx,
  machine: StoredMachine,
  command: MachineCommand,
  by: {
    readonly now: Instant
    readonly source: MachineEvent['source']
    /** Of the caller's lease. */
    readonly nonce?: string | null
    /** What nobody's lease holds up: its app is destroyed, or it has destroyed itself. */
    readonly evenLeased?: boolean
  },
): Promise<StoredMachine> {
  if (by.evenLeased !== true && !isNoted(command) && command.kind !== 'metadata') {
    const may = mayChange(machine.lease, by.nonce ?? null, by.now)
    if (may.kind !== 'may') throw new PlatformError('conflict', may.text)
  }
  const result = request(machine.assignment, command, by.now)
  if (result.kind === 'refused') throw new PlatformError('precondition_failed', result.refusal.text)
  if (result.kind === 'unchanged') return machine
  for (const event of eventsOf(command))
    await addEvent(tx, machine.assignment.id, { ...event, source: by.source, timestamp: by.now })
  const changed = await putAssignment(tx, machine, result.assignment, by.now)
  if (changed.assignment.goal !== 'destroyed' || changed.lease === null) return changed
  // Nothing is left to agree on.
  await deleteLease(tx, machine.assignment.id)
  return { ...changed, lease: null }
}

/** No change that anybody asked for: what edges and the host have seen is written down. */
function isNoted({ kind }: MachineCommand): boolean {
  return kind === 'drained' || kind === 'running' || kind === 'overtake'
}

function eventsOf(command: MachineCommand): Pick<MachineEvent, 'type' | 'status'>[] {
  switch (command.kind) {
    case 'start':
      return [{ type: 'start', status: 'starting' }]
    case 'stop':
      return [{ type: 'stop', status: 'stopping' }]
    case 'suspend':
      return [{ type: 'suspend', status: 'suspending' }]
    case 'destroy':
      return [{ type: 'destroy', status: 'destroying' }]
    case 'update':
      return [
        { type: 'update', status: 'replacing' },
        { type: 'launch', status: 'created' },
      ]
    case 'restart':
      return [{ type: 'restart', status: 'restarting' }]
    case 'cordon':
      return [{ type: 'cordon', status: 'cordoned' }]
    case 'uncordon':
      return [{ type: 'uncordon', status: 'uncordoned' }]
    default:
      return []
  }
}
