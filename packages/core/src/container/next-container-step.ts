import type { Instant } from '../id.ts'
import type { MachineExit } from '../machine/machine.ts'
import {
  type Again,
  isAhead,
  isClean,
  mayRestart,
  PAUSE_MS_MAX,
  pauseMs,
} from '../machine/restart.ts'
import type { Container, ContainerDependency } from './container.ts'
import { type ContainerRecord, newContainerRecord } from './container-record.ts'

/** Exactly one thing to do next about the containers of a machine that runs, as data. */
export type ContainerStep =
  | { readonly kind: 'startContainer'; readonly name: string }
  | {
      readonly kind: 'stopContainer'
      readonly name: string
      readonly signal: string
      readonly timeoutMs: number
      readonly because: string
    }
  /** The machine's run is over: what still runs is stopped in its order, and the machine has ended by `exit`. */
  | { readonly kind: 'end'; readonly exit: RunEnd; readonly timeoutMs: number }
  | { readonly kind: 'wait'; readonly until: Instant; readonly why: string }
  | { readonly kind: 'settled' }

export type RunEnd = Omit<MachineExit, 'requested'>

/**
 * What to do next about the containers of one machine that runs and is wanted so: one step, from where things are. The first
 * row that is true counts.
 *
 *   the end of the run was begun                                             end it
 *   one that is essential has ended; one can not be started at all           end
 *   a check that says so failed (`unhealthy: stop`)                          end
 *   one has failed for good, and another that has not ended depends on it    end
 *   what another waits for can not come any more                             end
 *   all have ended for good                                                  end
 *   one fails a liveness check                                               stopContainer
 *   one ended, and its policy starts it again                                startContainer, or wait
 *   one has not started, and all it depends on is as it wants it             startContainer, or wait after a failure
 *   else                                                                     settled: the next exit or check wakes us
 *
 * A container that failed for good and that nobody depends on is left as it is, and the others run on.
 */
export function nextContainerStep(
  containers: readonly Container[],
  run: {
    readonly records: readonly ContainerRecord[]
    /** The end that was begun. */
    readonly ending: RunEnd | null
    /** How long an orderly stop of all may take. */
    readonly stopMs: number
  },
  now: Instant,
): ContainerStep {
  const all = containers.map((container) => standingOf(container, containers, run, now))
  const exit = run.ending ?? endOf(all, now)
  if (exit !== null) return { kind: 'end', exit, timeoutMs: run.stopMs }

  for (const { container, record } of all) {
    const { failing } = record.health
    if (record.state !== 'running' || failing === null) continue
    const { signal, timeout_ms: timeoutMs } = container.stop
    const because = `its check "${failing.check}" failed`
    return { kind: 'stopContainer', name: container.name, signal, timeoutMs, because }
  }

  let wait: Extract<ContainerStep, { kind: 'wait' }> | null = null
  for (const { container, record, again } of all) {
    if (record.state === 'running' || again.kind === 'over') continue
    if (record.state === 'created' && waitedFor(container, all) !== null) continue
    const pause = again.kind === 'wait' ? again : pauseAfter(record, now)
    if (pause === null) return { kind: 'startContainer', name: container.name }
    if (wait === null || pause.until < wait.until) wait = pause
  }
  return wait ?? { kind: 'settled' }
}

/** What the first container that waits waits for, in words for a person; null when none does. */
export function whatContainersWaitFor(
  containers: readonly Container[],
  records: readonly ContainerRecord[],
): string | null {
  const all = containers.map((container) => ({
    container,
    record: recordOf(records, container.name),
  }))
  for (const { container, record } of all) {
    if (record.state !== 'created') continue
    const on = waitedFor(container, all)
    if (on !== null)
      return `container ${container.name} waits for container ${on.name} ${WORDS[on.condition]}`
    if (record.failure !== null) return `container ${container.name}: ${record.failure.reason}`
  }
  return null
}

/** How a run counts as having ended whose containers ended so: as the first failure, or else as the last end. */
export function exitOfAll<T extends RunEnd>(exits: readonly T[]): T | null {
  const inOrder = [...exits].sort((a, b) => a.at - b.at)
  const failed = inOrder.find((exit) => !isClean({ ...exit, requested: false }))
  return failed ?? inOrder.at(-1) ?? null
}

const WORDS: Readonly<Record<ContainerDependency['condition'], string>> = {
  started: 'to be started',
  healthy: 'to be healthy',
  exited_successfully: 'to exit with code 0',
}

interface Standing {
  readonly container: Container
  readonly record: ContainerRecord
  readonly again: Again
}

function standingOf(
  container: Container,
  containers: readonly Container[],
  run: { readonly records: readonly ContainerRecord[] },
  now: Instant,
): Standing {
  const record = recordOf(run.records, container.name)
  return {
    container,
    record,
    again: againOf(container, record, isAwaitedExit(container, containers), now),
  }
}

function recordOf(records: readonly ContainerRecord[], name: string): ContainerRecord {
  return records.find((one) => one.name === name) ?? newContainerRecord(name, 0)
}

/** Another waits for it to end well: once it has, it has done its work, whatever its policy says. */
function isAwaitedExit({ name }: Container, containers: readonly Container[]): boolean {
  return containers.some(({ dependsOn }) =>
    dependsOn.some((on) => on.name === name && on.condition === 'exited_successfully'),
  )
}

function againOf(
  { restart, essential }: Container,
  record: ContainerRecord,
  awaited: boolean,
  now: Instant,
): Again {
  const { exit } = record
  if (record.state !== 'exited' || exit === null || exit.requested) return { kind: 'go' }
  if (essential || (awaited && isClean(exit))) return { kind: 'over' }
  return mayRestart(restart, { ...record, exit }, now)
}

function pauseAfter(
  { name, failure }: ContainerRecord,
  now: Instant,
): Extract<ContainerStep, { kind: 'wait' }> | null {
  if (failure === null) return null
  const until = failure.at + pauseMs(failure.count)
  if (!isAhead(until, now, PAUSE_MS_MAX)) return null
  return { kind: 'wait', until, why: `container ${name}: ${failure.reason}` }
}

type Known = Pick<Standing, 'container' | 'record'>

/** The first thing that it still waits for. */
function waitedFor({ dependsOn }: Container, all: readonly Known[]): ContainerDependency | null {
  return dependsOn.find((on) => !isMet(on, all)) ?? null
}

function isMet({ name, condition }: ContainerDependency, all: readonly Known[]): boolean {
  const record = all.find(({ container }) => container.name === name)?.record
  if (record === undefined) return false
  switch (condition) {
    case 'started':
      return record.state !== 'created'
    case 'healthy':
      return record.state === 'running' && record.health.healthy
    case 'exited_successfully':
      return record.state === 'exited' && record.exit !== null && isClean(record.exit)
  }
}

function endOf(all: readonly Standing[], now: Instant): RunEnd | null {
  const over = all.filter(({ again }) => again.kind === 'over')
  const essential = over.filter(({ container }) => container.essential)
  if (essential.length > 0) return exitOfAll(essential.map((one) => endBy(one, now)))

  for (const one of all) {
    const { container, record } = one
    if (record.failure?.final && record.state !== 'running') {
      const because = `it can not be started: ${record.failure.reason}`
      return { ...NOTHING, code: 127, at: record.failure.at, because, container: container.name }
    }
    if (record.state === 'running' && record.health.failing?.stopsMachine) {
      const because = `its check "${record.health.failing.check}" failed`
      return { ...NOTHING, code: 1, at: now, because, container: container.name }
    }
  }

  const living = all.filter(({ again }) => again.kind !== 'over')
  for (const one of over) {
    const ended = endBy(one, now)
    const on = living
      .flatMap(({ container, record }) =>
        container.dependsOn.map((dependency) => ({ dependency, waiter: container, record })),
      )
      .filter(({ dependency }) => dependency.name === one.container.name)
    if (on.length > 0 && !isClean({ ...ended, requested: false })) return ended
    const hopeless = on.find(
      ({ dependency, record }) => record.state === 'created' && !isMet(dependency, all),
    )
    if (hopeless) {
      const { waiter, dependency } = hopeless
      const because = `it exited, and container ${waiter.name} waits for it ${WORDS[dependency.condition]}`
      return { ...ended, code: ended.code === 0 ? 1 : ended.code, because }
    }
  }
  return living.length === 0 ? exitOfAll(over.map((one) => endBy(one, now))) : null
}

const NOTHING = { signal: 0, oomKilled: false, cause: null } as const

function endBy({ container, record }: Standing, now: Instant): RunEnd {
  const { requested: _, ...exit } = record.exit ?? {
    ...NOTHING,
    code: 0,
    at: now,
    requested: false,
  }
  const spent = container.inheritsRestart && !isClean({ ...exit, requested: false }) && !exit.cause
  return { ...exit, container: container.name, ...(spent ? { spent } : {}) }
}
