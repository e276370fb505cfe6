import { containersOf } from '../container/containers-of.ts'
import { nextContainerStep } from '../container/next-container-step.ts'
import { stopMs } from '../container/stop-order.ts'
import { assertNever, type Generation, type Instant } from '../id.ts'
import { containerImages } from './container-config.ts'
import type { Assignment, Drain } from './machine.ts'
import type { Deed, MachineRecord, Stamp, Step } from './record.ts'
import { type Again, describeExit, isAhead, mayRestart, PAUSE_MS_MAX, pauseMs } from './restart.ts'
import { dueRun, RUN_MS_MAX } from './schedule.ts'

/**
 * What to do next with one machine: one step, from where things are and never from what just happened. `null`: nobody
 * wants this machine.
 *
 *               wanted started             wanted suspended   wanted created   wanted stopped   destroyed, unknown
 *   absent      pull, create (by policy)   settled            pull, create     settled          settled
 *   created     start                      settled            settled          settled          remove
 *   running     settled, or see below      drain, suspend     drain, stop      drain, stop      drain, stop
 *   suspended   resume                     settled            stop             stop             stop
 *   exited      start, wait (by policy)    settled            settled          settled          remove
 *   broken      remove                     settled            remove           settled          remove
 *
 * What exists of another version than the one that is wanted is drained, stopped and removed before all that. What is to be
 * suspended and does not run has no state that could be kept: it stays stopped until somebody asks for a start. A schedule
 * starts what is wanted started and has ended: who stops it has stopped its schedule too.
 * What is next about the containers of a machine that runs as wanted, `nextContainerStep` says.
 */
export function nextStep(assignment: Assignment | null, record: MachineRecord, now: Instant): Step {
  const { observed } = record
  if (assignment !== null && isOutdated(assignment, record)) return { kind: 'settled' }
  const goal = assignment?.goal ?? 'destroyed'
  const current = observed.state !== 'absent' && isVersion(assignment, observed)

  if (observed.state === 'running') {
    if (current && goal === 'started')
      return assignment
        ? containerStep(assignment, record, observed.startedAt, now)
        : { kind: 'settled' }
    const { drain = null } = assignment ?? {}
    const until = drain ? drainEnd(drain, record, now) : now
    if (drain && !drain.done && isAhead(until, now, DRAIN_MS_MAX))
      return {
        kind: 'wait',
        until,
        why: `leaves rotation before it is ${goal === 'suspended' ? 'suspended' : 'stopped'}`,
      }
    if (current && goal === 'suspended')
      return attempt({ kind: 'suspend' }, assignment, record, now)
    return attempt({ kind: 'stop', ...stopHow(assignment) }, assignment, record, now)
  }

  if (observed.state === 'suspended') {
    if (current && goal === 'suspended') return { kind: 'settled' }
    const step: Extract<Step, { kind: Deed }> =
      current && goal === 'started' ? { kind: 'resume' } : { kind: 'stop', ...stopHow(assignment) }
    return attempt(step, assignment, record, now)
  }

  // Nothing runs from here on, so replacing or removing it loses no work.
  if (assignment === null || goal === 'destroyed')
    return observed.state === 'absent'
      ? { kind: 'settled' }
      : attempt({ kind: 'remove' }, assignment, record, now)
  if (observed.state !== 'absent' && !current)
    return attempt({ kind: 'remove' }, assignment, record, now)
  if (goal === 'stopped' || goal === 'suspended') return { kind: 'settled' }

  const launch: Again = goal === 'created' ? { kind: 'go' } : mayRun(assignment, record, now)
  if (launch.kind === 'over')
    return assignment.config.auto_destroy && observed.state !== 'absent'
      ? attempt({ kind: 'remove' }, assignment, record, now)
      : { kind: 'settled' }
  if (launch.kind === 'wait') return { kind: 'wait', until: launch.until, why: launch.why }

  switch (observed.state) {
    case 'absent': {
      const pulled = new Set([record.pulledDigest, ...(record.pulledDigests ?? [])])
      const missing = imagesOf(assignment).find(({ digest }) => !pulled.has(digest))
      const step: Step =
        missing === undefined
          ? { kind: 'create', stamp: stampOf(assignment) }
          : { kind: 'pull', ...missing }
      return attempt(step, assignment, record, now)
    }
    case 'created':
    case 'exited':
      if (goal === 'created') return { kind: 'settled' }
      return attempt(
        {
          kind: 'start',
          startGeneration: assignment.startGeneration,
          ...(launch.slot === undefined ? {} : { slot: launch.slot }),
        },
        assignment,
        record,
        now,
      )
    case 'broken':
      return attempt({ kind: 'remove' }, assignment, record, now)
    default:
      return assertNever(observed)
  }
}

/** All that has to be here before it can be created. One with containers does not run its own image. */
function imagesOf({ config, imageDigest, containerDigests }: Assignment) {
  const several = containerImages(config, containerDigests)
  return several.length > 0 ? several : [{ image: config.image, digest: imageDigest }]
}

function containerStep(
  assignment: Assignment,
  record: MachineRecord,
  startedAt: Instant,
  now: Instant,
): Step {
  const containers = containersOf(assignment.config)
  if (containers === null) return { kind: 'settled' }
  const step = nextContainerStep(
    containers,
    {
      records: record.containers ?? [],
      ending: record.ending?.run === startedAt ? record.ending.exit : null,
      stopMs: stopMs(containers),
    },
    now,
  )
  // A start that failed waits for itself, so that it holds up no other's.
  return step.kind === 'stopContainer' || step.kind === 'end'
    ? attempt(step, assignment, record, now)
    : step
}

export const DRAIN_MS_MAX = 300_000
/** From so many failures in a row on a machine counts as failed, though its host goes on trying. */
export const FAILURES_MAX = 5

/**
 * This host has heard or made something newer than what it is told now: the server's store was put back from an older copy.
 * Nothing is done before the server has heard of that and asks in a newer generation.
 */
export function isOutdated(assignment: Assignment, record: MachineRecord): boolean {
  const made = record.stamp?.configGeneration ?? 0
  return assignment.generation < heardGeneration(record) || assignment.configGeneration < made
}

/** Of what is wanted, or of what exists. */
export function heardGeneration({ generation, observed }: MachineRecord): Generation {
  return observed.state === 'absent' ? generation : Math.max(generation, observed.configGeneration)
}

/** A newer request that could change the outcome gets a fresh row of attempts. */
export function attemptKey(assignment: Assignment | null): Generation {
  return assignment === null ? 0 : Math.max(assignment.startGeneration, assignment.configGeneration)
}

/** The failure that stands in the way of what is wanted now, if any. */
export function standingFailure(
  assignment: Assignment | null,
  record: MachineRecord,
): MachineRecord['failure'] {
  return record.failure?.key === attemptKey(assignment) ? record.failure : null
}

/** Whether a machine that is wanted started, and does not run, is started (again). Fly's restart policies. */
export function mayLaunch(assignment: Assignment, record: MachineRecord, now: Instant): Again {
  const { exit } = record
  const answered = record.startedFor === assignment.startGeneration
  if (!answered || !record.ended || exit === null || exit.requested) return { kind: 'go' }
  return mayRestart(assignment.config.restart, { ...record, exit }, now)
}

/** The same with its schedule: what is over until then. By the host's own clock, with nobody's help. */
export function mayRun(assignment: Assignment, record: MachineRecord, now: Instant): Again {
  const launch = mayLaunch(assignment, record, now)
  const { schedule, auto_destroy } = assignment.config
  const { exit, slot: last } = record
  if (launch.kind !== 'over' || schedule === undefined || auto_destroy || exit === null)
    return launch
  const slot = dueRun(schedule, assignment.createdAt ?? 0, { endedAt: exit.at, slot: last }, now)
  if (!isAhead(slot, now, RUN_MS_MAX)) return { kind: 'go', slot }
  const why = `${describeExit(exit)}; runs ${schedule}, next at ${new Date(slot).toISOString()}`
  return { kind: 'wait', until: slot, why, slot }
}

/** The step, unless it has just failed: then a pause that doubles with each failure, or nothing when it can't work at all. */
function attempt(
  step: Extract<Step, { kind: Deed }>,
  assignment: Assignment | null,
  record: MachineRecord,
  now: Instant,
): Step {
  const failure = standingFailure(assignment, record)
  if (failure === null) return step
  // Without the image or the container no later deed can work either; what must end is tried for ever.
  if (failure.final && !isEnding(failure.deed) && !isEnding(step.kind)) return { kind: 'settled' }
  if (failure.deed !== step.kind) return step
  const until = failure.at + pauseMs(failure.count)
  return isAhead(until, now, PAUSE_MS_MAX) ? { kind: 'wait', until, why: failure.reason } : step
}

function isEnding(deed: Deed): boolean {
  return deed === 'stop' || deed === 'remove' || deed === 'end' || deed === 'stopContainer'
}

/** By this host's clock: from when it heard of it, though that was some time after it was asked for. */
function drainEnd(drain: Drain, record: MachineRecord, now: Instant): Instant {
  if (drain.ms === undefined) return drain.deadline
  return (record.drain?.deadline === drain.deadline ? record.drain.since : now) + drain.ms
}

/** Both, since a server that was restored from a backup may count the same generation twice. */
export function isVersion(assignment: Assignment | null, stamp: Stamp | null): boolean {
  return (
    stamp !== null &&
    assignment?.configGeneration === stamp.configGeneration &&
    assignment.instanceId === stamp.instanceId
  )
}

function stampOf(assignment: Assignment) {
  return { configGeneration: assignment.configGeneration, instanceId: assignment.instanceId }
}

/** For what nobody knows: as Fly stops by default. */
const DEFAULT_STOP = { signal: 'SIGINT', timeoutMs: 5_000 }

function stopHow(assignment: Assignment | null): { signal: string; timeoutMs: number } {
  if (assignment === null) return DEFAULT_STOP
  if (assignment.stop) return assignment.stop
  const { signal, timeout_ms } = assignment.config.stop_config
  const containers = containersOf(assignment.config)
  return { signal, timeoutMs: containers === null ? timeout_ms : stopMs(containers) }
}
