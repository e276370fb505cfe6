import { containersOf } from '../container/containers-of.ts'
import { whatContainersWaitFor } from '../container/next-container-step.ts'
import { assertNever, type HostId, type Instant } from '../id.ts'
import type { Assignment, CheckStatus, MachineState, MachineStatus } from './machine.ts'
import {
  FAILURES_MAX,
  heardGeneration,
  isOutdated,
  isVersion,
  mayRun,
  nextStep,
  standingFailure,
} from './next-step.ts'
import type { MachineRecord } from './record.ts'
import { describeExit, isClean } from './restart.ts'

/** What a host says of a machine. `assignment: null`: nobody wants it, and it is on its way out. */
export function statusOf(
  record: MachineRecord,
  assignment: Assignment | null,
  seen: { readonly host: HostId; readonly now: Instant; readonly checks: readonly CheckStatus[] },
): Omit<MachineStatus, 'sequence' | 'updatedAt'> {
  const { state, reason } = stateOf(record, assignment, seen.now)
  const stamp =
    record.observed.state === 'absent' && assignment !== null && !isOutdated(assignment, record)
      ? assignment
      : record.stamp
  return {
    id: record.id,
    host: seen.host,
    state,
    generation: assignment === null ? 0 : Math.max(assignment.generation, heardGeneration(record)),
    instanceId: (stamp?.instanceId ?? '') as MachineStatus['instanceId'],
    configGeneration: stamp?.configGeneration ?? 0,
    startedAt: record.startedAt,
    exit: record.exit,
    reason,
    // Those of a version or of a start before the one that is wanted now say nothing of it.
    restartCount: record.startedFor === assignment?.startGeneration ? record.restarts : 0,
    checks: state === 'started' ? seen.checks : [],
    ...containerStatuses(record, assignment),
    history: record.history,
  }
}

type Said = { readonly state: MachineState; readonly reason: string | null }

function stateOf(record: MachineRecord, assignment: Assignment | null, now: Instant): Said {
  const failure = standingFailure(assignment, record)
  const reason = failure?.reason ?? null
  const goal = assignment?.goal ?? 'destroyed'
  const step = nextStep(assignment, record, now)

  if (record.observed.state === 'running') {
    if (record.doing === 'stop')
      return { state: goal === 'destroyed' ? 'destroying' : 'stopping', reason }
    if (record.doing === 'end') return { state: 'stopping', reason }
    if (record.doing === 'suspend') return { state: 'suspending', reason }
    const coming = goal === 'started' ? stillToStart(record, assignment) : null
    if (coming !== null) return coming
    if (step.kind === 'wait') return { state: 'started', reason: step.why }
    if (step.kind === 'startContainer') return { state: 'started', reason: null }
    return { state: 'started', reason: step.kind === 'settled' ? null : reason }
  }
  if (record.observed.state === 'suspended') {
    if (record.doing === 'stop')
      return { state: goal === 'destroyed' ? 'destroying' : 'stopping', reason }
    const resumes = goal === 'started' && (step.kind === 'resume' || failure?.deed === 'resume')
    if (!resumes) return { state: 'suspended', reason }
    return { state: failure && hasFailed(failure) ? 'failed' : 'starting', reason }
  }
  switch (goal) {
    case 'destroyed':
      // Why it once could not start is of no interest any more.
      return record.observed.state === 'absent'
        ? { state: 'destroyed', reason: null }
        : { state: 'destroying', reason: failure?.deed === 'remove' ? reason : null }
    case 'stopped':
      return { state: 'stopped', reason: null }
    case 'suspended':
      return { state: 'stopped', reason: nothingToResume(record) }
    case 'created':
      return { state: failure && hasFailed(failure) ? 'failed' : 'created', reason }
    case 'started': {
      if (failure && hasFailed(failure)) return { state: 'failed', reason }
      const launch = assignment ? mayRun(assignment, record, now) : null
      if (launch?.kind === 'wait' && launch.slot !== undefined)
        return { state: 'stopped', reason: launch.why }
      if (launch?.kind !== 'over')
        return { state: 'starting', reason: step.kind === 'wait' ? step.why : reason }
      if (assignment?.config.auto_destroy)
        return { state: record.observed.state === 'absent' ? 'destroyed' : 'destroying', reason }
      return { state: 'stopped', reason: record.exit && overReason(record, assignment) }
    }
    default:
      return assertNever(goal)
  }
}

/** Of one with containers: until each of them has been started it is on its way. */
function stillToStart(record: MachineRecord, assignment: Assignment | null): Said | null {
  const containers = assignment && containersOf(assignment.config)
  if (!containers || record.observed.state !== 'running') return null
  const records = record.containers ?? []
  if (!isVersion(assignment, record.observed)) return null
  const waits = containers.some(({ name }) => {
    const state = records.find((one) => one.name === name)?.state
    return state === undefined || state === 'created'
  })
  if (!waits) return null
  const failing = records.find(({ state, failure }) => state === 'created' && failure !== null)
  const reason = whatContainersWaitFor(containers, records)
  const failed = (failing?.failure?.count ?? 0) >= FAILURES_MAX
  return { state: failed ? 'failed' : 'starting', reason }
}

function containerStatuses(
  record: MachineRecord,
  assignment: Assignment | null,
): Pick<MachineStatus, 'containers'> {
  const containers = assignment && containersOf(assignment.config)
  if (!containers) return {}
  const { observed } = record
  const runs = observed.state === 'running' || observed.state === 'suspended'
  const fresh = observed.state === 'absent' || observed.state === 'created'
  return {
    containers: containers.map(({ name }) => {
      const state = record.containers?.find((one) => one.name === name)?.state ?? 'created'
      if (!runs) return { name, state: fresh ? 'created' : 'stopped' }
      return { name, state: STATE_WORDS[state] }
    }),
  }
}

const STATE_WORDS = { created: 'created', running: 'started', exited: 'stopped' } as const

function hasFailed(failure: NonNullable<MachineRecord['failure']>): boolean {
  return failure.final || failure.count >= FAILURES_MAX
}

/** It was to be suspended, and there is nothing that could be. */
function nothingToResume({ exit }: MachineRecord): string {
  const why = exit === null ? 'it did not run' : describeExit(exit)
  return `${why}: nothing is left to resume, and its next start is a new one`
}

function overReason(record: MachineRecord, assignment: Assignment | null): string | null {
  if (record.exit === null) return null
  const { policy = 'no', max_retries = 0 } = assignment?.config.restart ?? {}
  const said = describeExit(record.exit)
  if (policy === 'no') return `${said}; its restart policy is "no"`
  if (record.exit.spent) return `${said}; its restarts are used up`
  const retries = record.restarts - record.blameless
  if (isClean(record.exit)) return said
  return `${said}; it was restarted ${times(retries)}, and its restart policy allows ${max_retries}`
}

function times(count: number): string {
  if (count === 0) return 'never'
  return count === 1 ? 'once' : `${count} times`
}
