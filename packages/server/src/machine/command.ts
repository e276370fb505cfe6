import { PlatformError } from '@roost/base'
import { type Instant, type MachineCommand, request } from '@roost/core'
import { putAssignment, type StoredMachine } from '../store/machines.ts'
import type { Tx } from '../store/store.ts'
import { addEvent, type MachineEvent } from './events.ts'

/**
 * Changes what is wanted of a machine, by `request` alone, and writes down that somebody asked. A refusal is thrown as
 * `precondition_failed`.
 */
export async function commandMachine(
  tx: Tx,
  machine: StoredMachine,
  command: MachineCommand,
  by: { readonly now: Instant; readonly source: MachineEvent['source'] },
): Promise<StoredMachine> {
  const result = request(machine.assignment, command, by.now)
  if (result.kind === 'refused') throw new PlatformError('precondition_failed', result.refusal.text)
  if (result.kind === 'unchanged') return machine
  for (const event of eventsOf(command))
    await addEvent(tx, machine.assignment.id, { ...event, source: by.source, timestamp: by.now })
  return putAssignment(tx, machine, result.assignment, by.now)
}

function eventsOf(command: MachineCommand): Pick<MachineEvent, 'type' | 'status'>[] {
  switch (command.kind) {
    case 'start':
      return [{ type: 'start', status: 'starting' }]
    case 'stop':
      return [{ type: 'stop', status: 'stopping' }]
    case 'destroy':
      return [{ type: 'destroy', status: 'destroying' }]
    case 'update':
      return [
        { type: 'update', status: 'replacing' },
        { type: 'launch', status: 'created' },
      ]
    default:
      return []
  }
}
