import { assertNever, type Generation, type InstanceId, type Instant } from '../id.ts'
import type { MachineConfig, StopSignal } from './config.ts'
import type { Assignment, ContainerDigests, Goal, MachineState } from './machine.ts'

/** What a person, a release or the server itself may want of a machine. */
export type MachineCommand =
  | { readonly kind: 'start' }
  | { readonly kind: 'stop'; readonly signal?: StopSignal; readonly timeoutMs?: number }
  /**
   * `force` kills it at once. `state`, when given, is what the host last reported: without force only a machine that
   * does not run may then be destroyed, as the Machines API has it. Releases leave it out: their machines drain first.
   */
  /** Frozen with all that it has in memory, after its drain. A start resumes it; any other change discards its memory. */
  | { readonly kind: 'suspend' }
  | { readonly kind: 'destroy'; readonly force?: boolean; readonly state?: MachineState }
  /** A new version. `launch: false` does not start it (`skip_launch`); a machine that runs is then stopped. */
  | {
      readonly kind: 'update'
      readonly config: MachineConfig
      readonly imageDigest: string
      readonly containerDigests?: ContainerDigests | undefined
      readonly instanceId: InstanceId
      readonly launch?: boolean
      readonly sealedSecrets?: string | null
    }
  /** Stopped and started anew, of the same version. `force` kills it at once. What does not run is started. */
  | {
      readonly kind: 'restart'
      readonly signal?: StopSignal
      readonly timeoutMs?: number
      readonly force?: boolean
    }
  | { readonly kind: 'cordon' }
  | { readonly kind: 'uncordon' }
  /** One entry of its metadata; null removes it. No new version: what runs goes on. */
  | { readonly kind: 'metadata'; readonly key: string; readonly value: string | null }
  /** No edge sends it anything any more. */
  | { readonly kind: 'drained' }
  /**
   * The host reported that this version runs. Ends the drain that went before a replacement, so that the machine
   * returns to rotation. To be sent with each `started` status; it changes nothing in all other cases.
   */
  | { readonly kind: 'running'; readonly configGeneration: number }
  /**
   * The host has heard of a generation that the server does not know: its store was put back from an older copy. What the
   * server knows is what is wanted, in a generation that the host has not heard yet.
   */
  | {
      readonly kind: 'overtake'
      readonly generation: Generation
      readonly configGeneration: Generation
      readonly instanceId: InstanceId
    }

export type MachineRefusal =
  | { readonly kind: 'destroyed'; readonly text: string }
  | { readonly kind: 'never-started'; readonly text: string }
  | { readonly kind: 'not-stopped'; readonly text: string }
  | { readonly kind: 'not-started'; readonly text: string }

export type RequestResult =
  | { readonly kind: 'changed'; readonly assignment: Assignment }
  /** It is as asked already: nothing to write and nobody to tell. */
  | { readonly kind: 'unchanged'; readonly assignment: Assignment }
  | { readonly kind: 'refused'; readonly refusal: MachineRefusal }

const DRAIN_MS_MIN = 5_000
const DRAIN_MS_MAX = 300_000

/** A machine's first assignment. */
export function firstAssignment(
  input: Omit<
    Assignment,
    'goal' | 'generation' | 'configGeneration' | 'startGeneration' | 'routed' | 'drain' | 'stop'
  > & { readonly launch: boolean },
): Assignment {
  const { launch, ...rest } = input
  const goal: Goal = launch ? 'started' : 'created'
  return {
    ...rest,
    goal,
    generation: 1,
    configGeneration: 1,
    startGeneration: 1,
    routed: launch && !input.cordoned,
    drain: null,
    stop: null,
  }
}

/** The only place where what is wanted of a machine changes. `generation` grows by one with each change. */
export function request(
  assignment: Assignment,
  command: MachineCommand,
  now: Instant,
): RequestResult {
  const from = assignment
  const always = ['destroy', 'drained', 'overtake'].includes(command.kind)
  if (from.goal === 'destroyed' && !always)
    return command.kind === 'running'
      ? unchanged(from)
      : refuse('destroyed', `unable to ${command.kind} machine from current state: 'destroying'`)

  switch (command.kind) {
    case 'start':
      return changed(from, {
        goal: 'started',
        startGeneration: from.generation + 1,
        drain: null,
        stop: null,
      })

    case 'stop': {
      if (from.goal === 'created')
        return refuse('never-started', "unable to stop machine from current state: 'created'")
      const stop = stopOf(from, command)
      const repeated = from.goal === 'stopped' && equalStop(from.stop, stop)
      if (repeated) return unchanged(from)
      return changed(from, { goal: 'stopped', stop, drain: drainOf(from, stop, now) })
    }

    case 'suspend': {
      if (from.goal === 'suspended') return unchanged(from)
      if (from.goal !== 'started')
        return refuse(
          'not-started',
          `unable to suspend machine from current state: '${from.goal}'; start it first`,
        )
      return changed(from, { goal: 'suspended', stop: null, drain: drainOf(from, null, now) })
    }

    case 'destroy': {
      if (command.force) {
        const stop = { signal: 'SIGKILL', timeoutMs: 0 } as const
        if (from.goal === 'destroyed' && from.drain === null && equalStop(from.stop, stop))
          return unchanged(from)
        return changed(from, { goal: 'destroyed', stop, drain: null })
      }
      if (from.goal === 'destroyed') return unchanged(from)
      if (command.state !== undefined && !DESTROYABLE.has(command.state))
        return refuse(
          'not-stopped',
          `unable to destroy machine, not currently stopped, current state: '${command.state}'`,
        )
      return changed(from, { goal: 'destroyed', drain: drainOf(from, from.stop, now) })
    }

    case 'update': {
      const { config, imageDigest, containerDigests, instanceId, launch = true } = command
      // The memory of an older version is of no use to a new one.
      const runs = from.goal === 'started' || from.goal === 'suspended'
      const goal = launch ? 'started' : runs ? 'stopped' : from.goal
      const { containerDigests: _, ...rest } = from
      return changed(rest, {
        config,
        imageDigest,
        ...(containerDigests === undefined ? {} : { containerDigests }),
        instanceId,
        goal,
        configGeneration: from.generation + 1,
        startGeneration: launch ? from.generation + 1 : from.startGeneration,
        stop: null,
        drain: drainOf(from, null, now),
        ...(from.createdAt === undefined ? { createdAt: now } : {}),
        ...(command.sealedSecrets === undefined ? {} : { sealedSecrets: command.sealedSecrets }),
      })
    }

    // What runs is of an older generation then, so that its host replaces it, and nobody takes it for the new one.
    case 'restart': {
      const kill = { signal: 'SIGKILL', timeoutMs: 0 } as const
      const stop = command.force ? kill : stopOf(from, command)
      const drain = drainOf(from, stop, now)
      return changed(from, {
        goal: 'started',
        configGeneration: from.generation + 1,
        startGeneration: from.generation + 1,
        // Of no use to what does not run, and not to be kept for a later stop.
        stop: drain === null ? null : stop,
        drain: command.force && drain !== null ? { ...drain, done: true } : drain,
      })
    }

    case 'cordon':
      return from.cordoned ? unchanged(from) : changed(from, { cordoned: true })

    case 'uncordon':
      return from.cordoned ? changed(from, { cordoned: false }) : unchanged(from)

    case 'metadata': {
      const { [command.key]: before, ...others } = from.config.metadata
      if (before === (command.value ?? undefined)) return unchanged(from)
      const metadata = command.value === null ? others : { ...others, [command.key]: command.value }
      return changed(from, { config: { ...from.config, metadata } })
    }

    case 'drained':
      if (from.drain === null || from.drain.done) return unchanged(from)
      return changed(from, { drain: { ...from.drain, done: true } })

    case 'running': {
      const replaced =
        from.goal === 'started' &&
        from.drain !== null &&
        command.configGeneration === from.configGeneration
      return replaced ? changed(from, { drain: null, stop: null }) : unchanged(from)
    }

    case 'overtake':
      return overtaken(from, command, now)

    default:
      return assertNever(command)
  }
}

/** What exists of a version that the server does not know is replaced, unless it is the one that is wanted. */
function overtaken(
  from: Assignment,
  heard: Extract<MachineCommand, { kind: 'overtake' }>,
  now: Instant,
): RequestResult {
  const last = Math.max(heard.generation, heard.configGeneration)
  const isNewer = last > from.generation || heard.configGeneration > from.configGeneration
  if (!isNewer) return unchanged(from)
  const known =
    heard.configGeneration < from.configGeneration ||
    (heard.configGeneration === from.configGeneration && heard.instanceId === from.instanceId)
  const beyond = { ...from, generation: Math.max(last, from.generation) }
  if (known) return changed(beyond, {})
  return changed(beyond, {
    configGeneration: beyond.generation + 1,
    startGeneration: from.goal === 'started' ? beyond.generation + 1 : from.startGeneration,
    drain: from.drain ?? drainOf(from, null, now),
  })
}

const DESTROYABLE: ReadonlySet<MachineState> = new Set<MachineState>([
  'created',
  'suspended',
  'stopped',
  'failed',
  'destroying',
  'destroyed',
])

type StopHow = NonNullable<Assignment['stop']>

function stopOf(
  from: Assignment,
  command: { readonly signal?: StopSignal; readonly timeoutMs?: number },
): StopHow | null {
  if (command.signal === undefined && command.timeoutMs === undefined) return null
  return {
    signal: command.signal ?? from.config.stop_config.signal,
    timeoutMs: Math.min(
      DRAIN_MS_MAX,
      Math.max(0, command.timeoutMs ?? from.config.stop_config.timeout_ms),
    ),
  }
}

function equalStop(a: StopHow | null, b: StopHow | null): boolean {
  return a?.signal === b?.signal && a?.timeoutMs === b?.timeoutMs
}

/**
 * Only what was wanted started may be in use; a cordoned machine too, by connections from before. A second request
 * never moves the deadline of the first.
 */
function drainOf(from: Assignment, stop: StopHow | null, now: Instant): Assignment['drain'] {
  if (from.drain !== null) return from.drain
  if (from.goal !== 'started') return null
  const timeoutMs = stop?.timeoutMs ?? from.config.stop_config.timeout_ms
  const boundMs = Math.min(DRAIN_MS_MAX, Math.max(DRAIN_MS_MIN, timeoutMs))
  return { deadline: now + boundMs, ms: boundMs, done: false }
}

function changed(from: Assignment, change: Partial<Assignment>): RequestResult {
  const to = { ...from, ...change, generation: from.generation + 1 }
  const routed = to.goal === 'started' && !to.cordoned && to.drain === null
  return { kind: 'changed', assignment: { ...to, routed } }
}

function unchanged(assignment: Assignment): RequestResult {
  return { kind: 'unchanged', assignment }
}

function refuse(kind: MachineRefusal['kind'], text: string): RequestResult {
  return { kind: 'refused', refusal: { kind, text } }
}
