import {
  type Clock,
  describeError,
  type Logger,
  type Loop,
  PlatformError,
  startLoop,
} from '@roost/base'
import {
  type Assignment,
  attemptKey,
  type ContainerHealth,
  containersOf,
  type Deed,
  type HostId,
  healthOf,
  type MachineId,
  type MachineRecord,
  type MachineStatus,
  newRecord,
  nextStep,
  type Observation,
  observe,
  type RunEnd,
  type Step,
  statusOf,
  UNKNOWN_HEALTH,
} from '@roost/core'
import type { Checks } from '../checks.ts'
import type { Environment, Runtime, RuntimeMachine } from '../runtime.ts'
import { createDoers, DEED_MS_MAX, type Doable, doStep } from './doers.ts'
import { createMachineChecks, type MachineChecks } from './machine-checks.ts'
import { observedFrom } from './observed-from.ts'
import type { RecordStore } from './record-store.ts'
import { createSlots } from './slots.ts'
import { within } from './within.ts'

/**
 * Brings the machines of this host to what is wanted of them: one loop for each, which looks at the runtime, asks core for
 * the next step, does it, and looks again.
 *
 * - Nothing is touched before the first `setAssignments`: an agent that has not heard the server destroys nothing.
 * - At most one step of a machine at a time. One that is no longer wanted is left in the middle.
 * - What is remembered is written down before a step begins and when it ended, so death at any point is survived.
 */
export interface MachineKeeper {
  /** Everything that is wanted on this host. What is missing in it is unwanted. */
  setAssignments(assignments: readonly Assignment[]): void
  /** The last status of each machine. */
  statuses(): readonly MachineStatus[]
  /** The server has heard a status with that sequence: the next goes beyond, and is told at once. */
  goBeyond(id: MachineId, sequence: number): void
  /** Something may have changed: look soon. */
  wake(id?: MachineId): void
  /**
   * What runs goes on running. What is half done, creating, starting or removing a machine, is brought to its end, for a few
   * seconds at most; what may take long is left: an image that comes in, a program that has been told to stop.
   */
  stop(): Promise<void>
}

export interface MachineKeeperOptions {
  readonly runtime: Runtime
  readonly checks: Checks
  readonly clock: Clock
  readonly log: Logger
  readonly store: RecordStore
  readonly host: { readonly id: HostId; readonly publicAddress?: string }
  /** Opens `sealedSecrets` with this host's key. */
  readonly unseal: (sealed: string, assignment: Assignment) => Promise<Environment>
  /** Each status that differs from the one before. Must not throw. */
  readonly onStatus: (status: MachineStatus) => void
  /** So many images are pulled at the same time, and so many machines created, started or removed. Default 4. */
  readonly atOnce?: number
}

/** Stops mostly wait, for as long as programs take. */
const STOPS_AT_ONCE = 64
/** Each takes a millisecond, and somebody may be waiting. */
const FREEZES_AT_ONCE = 64
const SLOT_OF = {
  pull: 'pull',
  create: 'make',
  start: 'make',
  suspend: 'freeze',
  resume: 'freeze',
  stop: 'stop',
  remove: 'make',
  startContainer: 'make',
  stopContainer: 'stop',
  end: 'stop',
} as const satisfies Record<Deed, string>
/** What is left when the agent stops: it waits for others. */
const MAY_TAKE_LONG: ReadonlySet<Step['kind']> = new Set(['pull', 'stop', 'stopContainer', 'end'])
const STEPS_PER_LAP_MAX = 20
const LOOK_PERIOD_MS = 60_000
const SWEEP_PERIOD_MS = 10_000
const LOOK_MS_MAX = 30_000
const LOOK_PAUSE_MS = 500
/** What is due much later is looked at again before: clocks are set, and timers do not reach that far. */
const WAKE_MS_MAX = 3_600_000
const FINISH_MS_MAX = 3000
/** One reason for all: an error of its own for each pause would cost its stack. */
const OVER = new Error('over')

interface Entry {
  readonly id: MachineId
  readonly loop: Loop
  readonly checks: MachineChecks
  record: MachineRecord
  statusSequence: number
  status: MachineStatus | null
  /** The step that is being done, and how to leave it. */
  current: { readonly step: Step; readonly leave: AbortController } | null
  /** Ends the pause before the next lap. */
  pause: AbortController | null
}

export function createMachineKeeper(options: MachineKeeperOptions): MachineKeeper {
  const { runtime, checks, clock, log, store, host, onStatus } = options
  const { atOnce = 4 } = options
  // Apart from each other, since a slow registry is no reason not to start, nor a slow stop.
  const slots = {
    pull: createSlots(atOnce),
    make: createSlots(atOnce),
    stop: createSlots(STOPS_AT_ONCE),
    freeze: createSlots(FREEZES_AT_ONCE),
  }
  /** No new step from here on; `stopping` then ends the rest. */
  const ending = new AbortController()
  const stopping = new AbortController()
  const deeds = new Set<Promise<void>>()
  const looking = { clock, ms: LOOK_MS_MAX, signal: stopping.signal }
  const entries = new Map<MachineId, Entry>()
  const kept = new Map(store.load().map((machine) => [machine.record.id, machine]))
  let wanted: ReadonlyMap<MachineId, Assignment> | null = null

  /** One complaint for all machines, when the runtime falls silent. */
  let silent = false
  const doers = createDoers({ runtime, unseal: options.unseal, publicAddress: host.publicAddress })

  function enter(id: MachineId): Entry {
    const known = entries.get(id)
    if (known) return known
    const memory = kept.get(id)
    const entry: Entry = {
      id,
      // Over the fields that an earlier version did not keep.
      record: { ...newRecord(id), ...memory?.record, doing: null },
      statusSequence: memory?.statusSequence ?? 0,
      status: null,
      checks: createMachineChecks({
        checks,
        clock,
        remembered: memory?.checks ?? [],
        onChange: () => {
          tell(entry)
          // What the health of a container means for it and for others is to be decided.
          if (entry.record.containers !== undefined) entry.loop.wake()
        },
      }),
      current: null,
      pause: null,
      loop: startLoop({
        name: `machine ${id}`,
        periodMs: LOOK_PERIOD_MS,
        clock,
        log,
        // The first lap begins before there is an entry; the wake below makes another.
        lap: async (signal) => {
          const known = entries.get(id)
          if (known) await lap(known, signal)
        },
      }),
    }
    entries.set(id, entry)
    entry.loop.wake()
    return entry
  }

  const assignmentOf = (id: MachineId) => wanted?.get(id) ?? null
  /** Grows, also when the memory was lost, as long as the clock does. */
  const after = (last: number) => Math.max(last + 1, clock.now())

  function save(entry: Entry): void {
    store.save({
      record: entry.record,
      statusSequence: entry.statusSequence,
      checks: entry.checks.statuses(),
    })
  }

  function note(entry: Entry, observation: DistributiveOmit<Observation, 'sequence' | 'at'>): void {
    const before = entry.record
    const at = { sequence: after(before.sequence), at: clock.now() }
    entry.record = observe(before, { ...observation, ...at } as Observation)
    const same =
      JSON.stringify({ ...before, sequence: 0 }) ===
      JSON.stringify({ ...entry.record, sequence: 0 })
    if (!same) save(entry)
  }

  function tell(entry: Entry): void {
    const assignment = assignmentOf(entry.id)
    if (assignment === null) return
    const now = clock.now()
    const seen = { host: host.id, now, checks: entry.checks.statuses() }
    const said = statusOf(entry.record, assignment, seen)
    const { sequence: _, updatedAt: __, ...last } = entry.status ?? { sequence: 0, updatedAt: 0 }
    if (JSON.stringify(said) === JSON.stringify(last)) return
    entry.statusSequence = after(entry.statusSequence)
    entry.status = { ...said, sequence: entry.statusSequence, updatedAt: now }
    save(entry)
    onStatus(entry.status)
  }

  async function lap(entry: Entry, signal: AbortSignal): Promise<void> {
    entry.pause?.abort(OVER)
    for (let n = 0; n < STEPS_PER_LAP_MAX && !signal.aborted; n++) {
      const shown = await lookAt(entry)
      if (shown === undefined) return
      // Nothing was heard yet, or this machine was forgotten while we looked.
      if (wanted === null || entries.get(entry.id) !== entry) return
      const assignment = assignmentOf(entry.id)
      const seen = observedFrom(shown, healthIn(entry, assignment))
      note(entry, { kind: 'seen', observed: seen, assignment })
      entry.checks.follow(entry.record.observed, assignment)
      tell(entry)
      const step = nextStep(assignment, entry.record, clock.now())
      if (step.kind === 'settled') {
        if (assignment === null && entry.record.observed.state === 'absent') forget(entry)
        return
      }
      if (step.kind === 'wait') {
        wakeAt(entry, step.until)
        return
      }
      if (ending.signal.aborted) return
      const deed = perform(entry, step, assignment)
      deeds.add(deed)
      await deed
      deeds.delete(deed)
    }
    entry.loop.wake()
  }

  /** undefined: the runtime did not answer, and it will be tried again. */
  async function lookAt(entry: Entry): Promise<RuntimeMachine | null | undefined> {
    try {
      const shown = await within(looking, 'look at the runtime', () => runtime.look(entry.id))
      silent = false
      return shown
    } catch (error) {
      if (stopping.signal.aborted) return undefined
      if (!silent) log.warn('look at the runtime', { error })
      silent = true
      wakeAt(entry, clock.now() + LOOK_PAUSE_MS)
      return undefined
    }
  }

  async function perform(entry: Entry, step: Doable, assignment: Assignment | null): Promise<void> {
    const leave = new AbortController()
    const left = () => leave.signal.aborted || stopping.signal.aborted
    const deed = step.kind
    entry.current = { step, leave }
    try {
      await slots[SLOT_OF[deed]].use(async () => {
        if (left() || ending.signal.aborted) return
        const startGeneration = step.kind === 'start' ? step.startGeneration : null
        const slot = step.kind === 'start' && step.slot !== undefined ? { slot: step.slot } : {}
        note(entry, { kind: 'began', deed, startGeneration, ...slot, ...containerPart(step) })
        tell(entry)
        const ms = DEED_MS_MAX[deed] + ('timeoutMs' in step ? step.timeoutMs : 0)
        const limit = { clock, ms, signal: stopping.signal }
        await within(limit, `${deed} machine ${entry.id}`, (over) =>
          doStep(doers, step, { id: entry.id, assignment }, AbortSignal.any([leave.signal, over])),
        )
        const digest = step.kind === 'pull' ? { digest: step.digest } : {}
        note(entry, { kind: 'done', deed, ...digest })
      })
    } catch (error) {
      if (left()) note(entry, { kind: 'left', deed })
      else {
        const reason = describeError(error)
        const final = error instanceof PlatformError && error.retry === 'never'
        log.warn(`${deed} failed`, { machine: entry.id, reason, final })
        const { container } = containerPart(step)
        const which = container === undefined ? {} : { container }
        note(entry, { kind: 'failed', deed, key: attemptKey(assignment), reason, final, ...which })
      }
    } finally {
      entry.current = null
    }
  }

  function wakeAt(entry: Entry, until: number): void {
    if (stopping.signal.aborted) return
    const pause = new AbortController()
    entry.pause = pause
    const ms = Math.min(WAKE_MS_MAX, Math.max(1, until - clock.now()))
    void clock.sleep(ms, pause.signal).then(() => {
      if (!pause.signal.aborted) entry.loop.wake()
    })
  }

  function forget(entry: Entry): void {
    entry.checks.end()
    entries.delete(entry.id)
    kept.delete(entry.id)
    store.remove(entry.id)
    // Not awaited: this is called from the loop that it ends.
    void entry.loop.stop()
  }

  /** Finds what changed without a hint, and what exists though nobody knows it. */
  async function sweep(): Promise<void> {
    store.flush()
    if (wanted === null) return
    const all = await within(looking, 'look at the runtime', () => runtime.list())
    const shown = new Map(all.map((machine) => [machine.id, machine]))
    for (const id of shown.keys()) if (!entries.has(id)) enter(id)
    for (const entry of entries.values()) {
      const now = observedFrom(shown.get(entry.id) ?? null, healthIn(entry, assignmentOf(entry.id)))
      if (JSON.stringify(now) !== JSON.stringify(entry.record.observed)) entry.loop.wake()
    }
  }

  const sweeping = startLoop({ name: 'sweep', periodMs: SWEEP_PERIOD_MS, clock, log, lap: sweep })
  const unhear = runtime.onChange((id) => {
    const entry = entries.get(id)
    if (entry) entry.loop.wake()
    else sweeping.wake()
  })

  return {
    setAssignments(assignments) {
      const before = wanted
      wanted = new Map(assignments.map((next) => [next.id, next]))
      for (const id of [...wanted.keys(), ...kept.keys()]) enter(id)
      for (const entry of entries.values()) {
        const assignment = assignmentOf(entry.id)
        const known = before?.get(entry.id)
        const same =
          known?.generation === assignment?.generation &&
          known?.instanceId === assignment?.instanceId
        if (before !== null && same) continue
        if (entry.current) {
          const step = nextStep(assignment, entry.record, clock.now())
          if (JSON.stringify(step) !== JSON.stringify(entry.current.step))
            entry.current.leave.abort()
        }
        entry.loop.wake()
      }
      sweeping.wake()
    },
    statuses: () => [...entries.values()].flatMap(({ status }) => (status ? [status] : [])),
    goBeyond(id, sequence) {
      const entry = entries.get(id)
      if (entry === undefined || sequence <= entry.statusSequence) return
      entry.statusSequence = sequence
      entry.status = null
      tell(entry)
    },
    wake(id) {
      if (id === undefined) sweeping.wake()
      for (const entry of id === undefined ? entries.values() : [entries.get(id)])
        entry?.loop.wake()
    },
    async stop() {
      ending.abort()
      for (const { current } of entries.values())
        if (current && MAY_TAKE_LONG.has(current.step.kind)) current.leave.abort()
      const done = new AbortController()
      void Promise.allSettled([...deeds]).then(() => done.abort())
      await clock.sleep(FINISH_MS_MAX, done.signal)
      stopping.abort()
      unhear()
      const all = [...entries.values()]
      for (const entry of all) {
        entry.checks.end()
        entry.pause?.abort(OVER)
      }
      await Promise.all([sweeping.stop(), ...all.map((entry) => entry.loop.stop())])
    },
  }
}

/** What is said of a step about one container, or about the end of all. */
function containerPart(step: Step): { container?: string; because?: string; exit?: RunEnd } {
  switch (step.kind) {
    case 'startContainer':
      return { container: step.name }
    case 'stopContainer':
      return { container: step.name, because: step.because }
    case 'end':
      return { exit: step.exit }
    default:
      return {}
  }
}

/** What is known of the health of each container by now. */
function healthIn(
  { checks }: Entry,
  assignment: Assignment | null,
): (name: string, startedAt: number) => ContainerHealth {
  const containers = assignment === null ? null : containersOf(assignment.config)
  return (name, startedAt) => {
    const container = containers?.find((one) => one.name === name)
    return container ? healthOf(container, checks.ofContainer(name, startedAt)) : UNKNOWN_HEALTH
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never
