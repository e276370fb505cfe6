import type { Instant } from '../id.ts'
import { type Assignment, isReady, type MachineStatus } from './machine.ts'
import { attemptKey } from './next-step.ts'

/** A machine that is wanted started and is not up, but on its way: requests may wait for it. */
export interface Coming {
  /** `replaced`: taken down on purpose to come back as another version. `starting`: new, or after it ended. */
  readonly kind: 'replaced' | 'starting'
  /** Its old version leaves rotation and may serve until then; null: nothing of it serves any more. */
  readonly stopsAt: Instant | null
}

/** From so many restarts on, the pause before the next is longer than anybody waits for. */
const RESTARTS_MAX = 5

/** null: it is up, or nothing will become of it soon. */
export function comingOf(assignment: Assignment, status: MachineStatus | null): Coming | null {
  const { goal, cordoned, drain } = assignment
  if (goal !== 'started' || cordoned) return null
  const starting: Coming = { kind: 'starting', stopsAt: null }
  if (status === null) return starting
  const heard = status.generation >= attemptKey(assignment)
  const ended = status.state === 'failed' || status.state === 'stopped'
  if (heard && (ended || status.state === 'destroying' || status.state === 'destroyed')) return null
  const byItself = status.exit !== null && !status.exit.requested
  if (heard && status.state === 'starting' && byItself && status.restartCount >= RESTARTS_MAX)
    return null
  const current =
    status.configGeneration === assignment.configGeneration &&
    status.instanceId === assignment.instanceId
  const runs = status.state === 'started' || status.state === 'stopping'
  if (drain !== null || (runs && !current))
    return { kind: 'replaced', stopsAt: drain !== null && !drain.done ? drain.deadline : null }
  return isReady(status) ? null : starting
}
