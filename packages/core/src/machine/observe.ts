import { containersOf } from '../container/containers-of.ts'
import type { RunEnd } from '../container/next-container-step.ts'
import {
  type ContainerHappening,
  observeContainers,
  withFailedStart,
  withStopAsked,
} from '../container/observe-containers.ts'
import { assertNever, type Generation, type Instant } from '../id.ts'
import { type Happening, type MachineHistory, withHappening } from './history.ts'
import type { Assignment, MachineExit } from './machine.ts'
import { isVersion, mayLaunch } from './next-step.ts'
import type { Deed, MachineRecord, Observed } from './record.ts'
import { mayRestart } from './restart.ts'

/** `sequence`: taken when the look or the deed *began*, so that a look that overlapped a deed is recognised as stale. */
export type Observation = { readonly sequence: number; readonly at: Instant } & (
  | {
      readonly kind: 'seen'
      readonly observed: Observed
      /** What is wanted at this moment; null when nobody knows this machine. */
      readonly assignment: Assignment | null
    }
  | {
      readonly kind: 'began'
      readonly deed: Deed
      readonly startGeneration: Generation | null
      readonly slot?: Instant
      /** Of a step about one container: which, and why it is stopped. */
      readonly container?: string
      readonly because?: string
      /** Of an `end`: how the run counts as having ended. */
      readonly exit?: RunEnd
    }
  | { readonly kind: 'done'; readonly deed: Deed; readonly digest?: string }
  /** Given up because something else is wanted now. It may or may not have happened. */
  | { readonly kind: 'left'; readonly deed: Deed }
  | {
      readonly kind: 'failed'
      readonly deed: Deed
      readonly container?: string
      readonly key: Generation
      readonly reason: string
      readonly final: boolean
    }
)

/** After a run of this length its earlier restarts no longer count. Fly's window. */
export const RESTART_WINDOW_MS = 300_000

/** The only place where a record changes. What is not newer than the record is refused: the same record comes back. */
export function observe(record: MachineRecord, observation: Observation): MachineRecord {
  if (observation.sequence <= record.sequence) return record
  const from = { ...record, sequence: observation.sequence }
  switch (observation.kind) {
    case 'seen':
      return seen(from, observation.observed, observation.assignment, observation.at)
    case 'began':
      return {
        ...from,
        doing: observation.deed,
        stopAsked: from.stopAsked || observation.deed === 'stop',
        startingFor: observation.deed === 'start' ? observation.startGeneration : from.startingFor,
        startingSlot: observation.deed === 'start' ? (observation.slot ?? null) : from.startingSlot,
        ...containersBegan(from, observation),
      }
    case 'done': {
      const failure = clears(observation.deed, from.failure?.deed) ? null : from.failure
      const done = { ...from, doing: null, failure }
      if (observation.deed === 'pull') {
        const { digest } = observation
        const pulledDigests = [...(from.pulledDigests ?? []), ...(digest ? [digest] : [])]
        return { ...done, pulledDigest: digest ?? from.pulledDigest, pulledDigests }
      }
      return observation.deed === 'start' ? started(done) : done
    }
    case 'left':
      return { ...from, doing: null }
    case 'failed': {
      const { deed, key, reason, final } = observation
      if (deed === 'startContainer' && observation.container !== undefined) {
        const failed = { reason, final, at: observation.at }
        const containers = withFailedStart(from.containers ?? [], observation.container, failed)
        return { ...from, doing: null, containers }
      }
      const again = from.failure?.deed === deed && from.failure.key === key
      return {
        ...from,
        doing: null,
        // It may have failed because the image is gone: fetch it again, which costs nothing when it is there.
        ...(deed === 'create' || deed === 'start' ? { pulledDigest: null, pulledDigests: [] } : {}),
        failure: {
          deed,
          key,
          reason,
          final,
          at: observation.at,
          count: again && from.failure ? from.failure.count + 1 : 1,
        },
      }
    }
    default:
      return assertNever(observation)
  }
}

function seen(
  before: MachineRecord,
  observed: Observed,
  assignment: Assignment | null,
  at: Instant,
): MachineRecord {
  const stamp =
    observed.state === 'absent'
      ? before.stamp
      : { configGeneration: observed.configGeneration, instanceId: observed.instanceId }
  const from = {
    ...before,
    observed,
    stamp,
    generation: Math.max(before.generation, assignment?.generation ?? 0),
    drain: drainSeen(before, assignment, at),
    ...(observed.state !== 'absent' && before.pulledDigests ? { pulledDigests: [] } : {}),
  }
  switch (observed.state) {
    case 'absent':
    case 'created':
    case 'broken':
      return from
    case 'running': {
      const running = from.startingFor === null && !from.ended ? from : started(from)
      const lasted = at - observed.startedAt >= RESTART_WINDOW_MS
      const asAsked = assignment?.goal === 'started' && isVersion(assignment, observed)
      const after: MachineRecord = {
        ...running,
        history: withPause(
          before,
          { ...running, history: withStart(running, observed.startedAt) },
          at,
        ),
        startedAt: observed.startedAt,
        restarts: lasted ? 0 : running.restarts,
        blameless: lasted ? 0 : running.blameless,
        startedFor: asAsked ? assignment.startGeneration : running.startedFor,
        stopAsked: asAsked ? false : running.stopAsked,
      }
      return withContainers(after, observed, assignment, at)
    }
    case 'suspended': {
      const suspended = from.startingFor === null && !from.ended ? from : started(from)
      const { startedAt } = observed
      const history = withPause(
        before,
        { ...suspended, history: withStart(suspended, startedAt) },
        at,
      )
      return { ...suspended, history, startedAt }
    }
    case 'exited': {
      const exit = outOfPause(before, observed.exit)
      if (exit === null) return { ...from, ended: true, exit: null }
      if (from.exit?.at === exit.at && from.exit.code === exit.code) return from
      const ran = from.startingFor === null ? from : { ...started(from), stopAsked: from.stopAsked }
      const ended: MachineExit = { ...exit, requested: from.stopAsked }
      const startedAt = observed.startedAt ?? ran.startedAt
      const lasted = startedAt !== null && exit.at - startedAt >= RESTART_WINDOW_MS
      const over: MachineRecord = {
        ...ran,
        startedAt,
        exit: ended,
        ended: true,
        restarts: lasted ? 0 : ran.restarts,
        blameless: lasted ? 0 : ran.blameless,
      }
      return { ...over, history: withExit(over, ended, assignment, startedAt) }
    }
    default:
      return assertNever(observed)
  }
}

/** Told to stop, all of them or one: what they do next is no surprise. */
function containersBegan(
  from: MachineRecord,
  { deed, container, because, exit }: Extract<Observation, { kind: 'began' }>,
): Pick<MachineRecord, 'containers' | 'ending'> {
  if (from.containers === undefined || from.observed.state !== 'running') return {}
  const { containers } = from
  switch (deed) {
    case 'stop':
      return { containers: withStopAsked(containers, null, null) }
    case 'stopContainer':
      return { containers: withStopAsked(containers, container ?? null, because ?? null) }
    case 'end':
      return {
        containers: withStopAsked(containers, null, null),
        ending: exit === undefined ? null : { run: from.observed.startedAt, exit },
      }
    default:
      return {}
  }
}

function withContainers(
  from: MachineRecord,
  observed: Extract<Observed, { state: 'running' }>,
  assignment: Assignment | null,
  at: Instant,
): MachineRecord {
  if (observed.containers === undefined) return from
  const { startedAt: run, containers: seenNow } = observed
  const { records, news } = observeContainers(from.containers ?? [], seenNow, run, at)
  const history = news.reduce(
    (told, one) => withHappening(told, happeningOf(one, assignment), from.sequence),
    from.history,
  )
  return { ...from, containers: records, history }
}

function happeningOf(one: ContainerHappening, assignment: Assignment | null): Happening {
  const { name: container } = one
  if (one.kind === 'started')
    return { kind: 'started', at: one.at, restart: one.restart, container }
  const { exit, restarts } = one
  const policy = containersOf(assignment?.config ?? NO_CONTAINERS)?.find(
    ({ name }) => name === container,
  )
  const again =
    policy !== undefined && !policy.essential && !exit.requested
      ? mayRestart(policy.restart, { exit, restarts, blameless: 0 }, exit.at).kind
      : 'over'
  return { kind: 'exited', at: exit.at, exit, restarting: again !== 'over', restarts, container }
}

const NO_CONTAINERS = {
  image: '',
  restart: { policy: 'no', max_retries: 0 },
  stop_config: { signal: 'SIGINT', timeout_ms: 0 },
} as const

function drainSeen(
  { drain: known }: MachineRecord,
  assignment: Assignment | null,
  at: Instant,
): MachineRecord['drain'] {
  const drain = assignment?.drain ?? null
  if (drain === null) return null
  return known?.deadline === drain.deadline ? known : { deadline: drain.deadline, since: at }
}

/** A start led to something: a restart of the policy's, or the answer to a new request, which begins counting again. */
function started(from: MachineRecord): MachineRecord {
  const startedFor = from.startingFor ?? from.startedFor
  const byPolicy = from.ended && from.exit !== null && !from.exit.requested
  // A run of a schedule has all its retries.
  const again = startedFor === from.startedFor && from.startingSlot === null
  const slot = from.startingFor === null ? from.slot : from.startingSlot
  const restarts = again ? from.restarts + (byPolicy ? 1 : 0) : 0
  const blameless = again ? from.blameless + (byPolicy && from.exit?.cause ? 1 : 0) : 0
  const fresh = { startingFor: null, startingSlot: null, slot, ended: false, stopAsked: false }
  return { ...from, ...fresh, startedFor, restarts, blameless }
}

/** Told once, however often it is looked at. */
function withStart(from: MachineRecord, startedAt: Instant): MachineHistory {
  const { history, restarts, sequence } = from
  const known = history.last.findLast(
    (happening) => happening.kind === 'started' && happening.container === undefined,
  )
  if (known?.at === startedAt) return history
  return withHappening(history, { kind: 'started', at: startedAt, restart: restarts }, sequence)
}

/** A run was frozen, or goes on. */
function withPause(before: MachineRecord, from: MachineRecord, at: Instant): MachineHistory {
  const { observed: was } = before
  const { observed: is, history, sequence } = from
  const ran = was.state === 'running' || was.state === 'suspended'
  const runs = is.state === 'running' || is.state === 'suspended'
  if (!ran || !runs || was.state === is.state || was.startedAt !== is.startedAt) return history
  const kind = is.state === 'suspended' ? 'suspended' : 'resumed'
  return withHappening(history, { kind, at }, sequence)
}

/** What it had in memory is lost with its host: that is to be said. */
function outOfPause(
  { observed: was, stopAsked }: MachineRecord,
  exit: Omit<MachineExit, 'requested'> | null,
): Omit<MachineExit, 'requested'> | null {
  if (was.state !== 'suspended' || stopAsked || exit === null || exit.cause === null) return exit
  return { ...exit, cause: `${exit.cause} while it was suspended, and its memory was lost` }
}

/** One that was over before anybody saw it run has run all the same. */
function withExit(
  over: MachineRecord,
  exit: MachineExit,
  assignment: Assignment | null,
  startedAt: Instant | null,
): MachineHistory {
  const before = startedAt === null ? over.history : withStart(over, startedAt)
  const restarting =
    assignment?.goal === 'started' &&
    !exit.requested &&
    isVersion(assignment, over.stamp) &&
    mayLaunch(assignment, over, exit.at).kind !== 'over'
  const exited = { kind: 'exited', at: exit.at, exit, restarting, restarts: over.restarts } as const
  return withHappening(before, exited, over.sequence)
}

const ORDER: readonly Deed[] = ['pull', 'create', 'start']

/** A success ends the row of failures of the same deed, and of those that had to go before it. */
function clears(done: Deed, failed: Deed | undefined): boolean {
  if (failed === undefined || done === failed) return true
  const at = ORDER.indexOf(failed)
  return at >= 0 && at < ORDER.indexOf(done)
}
