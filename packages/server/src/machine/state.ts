import type { MachineReply } from '@roost/api'
import type { StoredMachine } from '../store/machines.ts'

/**
 * The state as the Machines API shows it: what its host saw, unless something newer was asked for. Then a passing state says so at
 * once, and who waits for a lasting one never takes the old for the new.
 */
export function shownState(machine: StoredMachine): MachineReply['state'] {
  const { assignment, status } = machine
  if (machine.destroyedAt !== null) return 'destroyed'
  if (assignment.goal === 'destroyed') return 'destroying'
  if (status === null) return 'created'
  if (status.configGeneration < assignment.configGeneration)
    return status.instanceId === assignment.instanceId ? 'restarting' : 'updating'
  if (status.generation >= assignment.generation) return status.state

  const { state } = status
  if (assignment.goal === 'stopped' && (state === 'started' || state === 'starting'))
    return 'stopping'
  if (assignment.goal === 'stopped' && state === 'suspended') return 'stopping'
  if (assignment.goal === 'suspended' && (state === 'started' || state === 'starting'))
    return 'suspending'
  const startAsked = assignment.goal === 'started' && status.generation < assignment.startGeneration
  if (startAsked && state !== 'started') return 'starting'
  return state
}

/** States in which a machine stays until somebody asks for another. */
export function isSettled(state: MachineReply['state']): boolean {
  return ['created', 'started', 'suspended', 'stopped', 'failed', 'destroyed'].includes(state)
}
