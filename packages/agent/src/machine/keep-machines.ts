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
  type CheckStatus,
  checksOf,
  type Deed,
  formatStamp,
  type HostId,
  imageRepository,
  isVersion,
  type MachineId,
  type MachineRecord,
  type MachineStatus,
  machineEnvironment,
  newRecord,
  nextStep,
  type Observation,
  type Observed,
  observe,
  parseStamp,
  type Step,
  statusOf,
  uncheckedStatuses,
} from '@roost/core'
import type { Checks } from '../checks.ts'
import type { Environment, Runtime, RuntimeMachine } from '../runtime.ts'
import type { RecordStore } from './record-store.ts'
import { createSlots } from './slots.ts'

/**
 * Brings the machines of this host to what is wanted of them: one loop for each, which looks at the runtime, asks core for
 * the next step, does it, and looks again.
 *
 * - Nothing is touched before the first `setAssignments`: an agent that has not heard the server destroys nothing.
 * - At most one step of a machine at a time. One that is no longer wanted is left in the middle.
 * - What is remembered is written down before a step begins and when it ended, so death at any point is survived.
 */
export interface MachineKeeper {
  /** Everything that is wanted on this host. What is missing in it is unwanted; older generations are refused. */
  setAssignments(assignments: readonly Assignment[]): void
  /** The last status of each machine. */
  statuses(): readonly MachineStatus[]
  /** Something may have changed: look soon. */
  wake(id?: MachineId): void
  /** What runs goes on running. */
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
  /** Machines that are pulled, created, started or removed at the same time. Default 4. */
  readonly atOnce?: number
  /** Core's, unless a test plants a bug. */
  readonly decide?: typeof nextStep
}

/** Stops mostly wait, so they have a bound of their own and never hold up a start. */
const STOPS_AT_ONCE = 64
const STEPS_PER_LAP_MAX = 20
const LOOK_PERIOD_MS = 60_000
const SWEEP_PERIOD_MS = 10_000
const LOOK_MS_MAX = 30_000
const LOOK_PAUSE_MS = 500
const DEED_MS_MAX: Readonly<Record<Deed, number>> = {
  pull: 900_000,
  create: 120_000,
  start: 120_000,
  stop: 30_000,
  remove: 120_000,
}

interface Entry {
  readonly id: MachineId
  readonly loop: Loop
  record: MachineRecord
  statusSequence: number
  status: MachineStatus | null
  checks: readonly CheckStatus[]
  checking: { readonly key: string; readonly end: () => void } | null
  /** The step that is being done, and how to leave it. */
  current: { readonly step: Step; readonly leave: AbortController } | null
  /** Ends the pause before the next lap. */
  pause: AbortController | null
}

type Doable = Extract<Step, { kind: Deed }>
type Doers = {
  readonly [K in Deed]: (
    step: Extract<Step, { kind: K }>,
    assignment: Assignment | null,
    id: MachineId,
    signal: AbortSignal,
  ) => Promise<void>
}

export function createMachineKeeper(options: MachineKeeperOptions): MachineKeeper {
  const { runtime, checks, clock, log, store, host, onStatus } = options
  const decide = options.decide ?? nextStep
  const heavy = createSlots(options.atOnce ?? 4)
  const stops = createSlots(STOPS_AT_ONCE)
  const stopping = new AbortController()
  const entries = new Map<MachineId, Entry>()
  const kept = new Map(store.load().map((machine) => [machine.record.id, machine]))
  let wanted: ReadonlyMap<MachineId, Assignment> | null = null

  /** One complaint for all machines, when the runtime falls silent. */
  let silent = false
  const doers = createDoers(options)

  async function within<T>(work: Promise<T>, ms: number, doing: string): Promise<T> {
    const over = new AbortController()
    work.catch(() => {})
    const limit = clock.sleep(ms, AbortSignal.any([over.signal, stopping.signal])).then(() => {
      throw new PlatformError('timeout', stopping.signal.aborted ? `${doing}: stopping` : doing, {
        cause: new Error(`no end after ${ms} ms`),
        retry: 'later',
      })
    })
    limit.catch(() => {})
    try {
      return await Promise.race([work, limit])
    } finally {
      over.abort()
    }
  }

  function enter(id: MachineId): Entry {
    const known = entries.get(id)
    if (known) return known
    const memory = kept.get(id)
    const entry: Entry = {
      id,
      record: memory ? { ...memory.record, doing: null } : newRecord(id),
      statusSequence: memory?.statusSequence ?? 0,
      status: null,
      checks: memory?.checks ?? [],
      checking: null,
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
      checks: entry.checks,
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
    const said = statusOf(entry.record, assignment, { host: host.id, now, checks: entry.checks })
    const { sequence: _, updatedAt: __, ...last } = entry.status ?? { sequence: 0, updatedAt: 0 }
    if (JSON.stringify(said) === JSON.stringify(last)) return
    entry.statusSequence = after(entry.statusSequence)
    entry.status = { ...said, sequence: entry.statusSequence, updatedAt: now }
    save(entry)
    onStatus(entry.status)
  }

  async function lap(entry: Entry, signal: AbortSignal): Promise<void> {
    entry.pause?.abort()
    for (let n = 0; n < STEPS_PER_LAP_MAX && !signal.aborted; n++) {
      const shown = await lookAt(entry)
      if (shown === undefined) return
      // Nothing was heard yet, or this machine was forgotten while we looked.
      if (wanted === null || entries.get(entry.id) !== entry) return
      const assignment = assignmentOf(entry.id)
      note(entry, { kind: 'seen', observed: observedFrom(shown), assignment })
      check(entry, assignment)
      tell(entry)
      const step = decide(assignment, entry.record, clock.now())
      if (step.kind === 'settled') {
        if (assignment === null && entry.record.observed.state === 'absent') forget(entry)
        return
      }
      if (step.kind === 'wait') {
        wakeAt(entry, step.until)
        return
      }
      await perform(entry, step, assignment)
    }
    entry.loop.wake()
  }

  /** undefined: the runtime did not answer, and it will be tried again. */
  async function lookAt(entry: Entry): Promise<RuntimeMachine | null | undefined> {
    try {
      const shown = await within(runtime.look(entry.id), LOOK_MS_MAX, 'look at the runtime')
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
    const signal = AbortSignal.any([leave.signal, stopping.signal])
    const deed = step.kind
    entry.current = { step, leave }
    try {
      await (deed === 'stop' ? stops : heavy).use(async () => {
        if (signal.aborted) return
        const startGeneration = step.kind === 'start' ? step.startGeneration : null
        note(entry, { kind: 'began', deed, startGeneration })
        tell(entry)
        const ms = DEED_MS_MAX[deed] + (step.kind === 'stop' ? step.timeoutMs : 0)
        const doing = `${deed} machine ${entry.id}`
        await within(run(step, assignment, entry.id, signal), ms, doing)
        const digest = step.kind === 'pull' ? { digest: step.digest } : {}
        note(entry, { kind: 'done', deed, ...digest })
      })
    } catch (error) {
      if (signal.aborted) note(entry, { kind: 'left', deed })
      else {
        const reason = describeError(error)
        const final = error instanceof PlatformError && error.retry === 'never'
        log.warn(`${deed} failed`, { machine: entry.id, reason, final })
        note(entry, { kind: 'failed', deed, key: attemptKey(assignment), reason, final })
      }
    } finally {
      // A deed that hangs past its limit is told to end; what it still does is seen at the next look.
      leave.abort()
      entry.current = null
    }
  }

  function run(step: Doable, a: Assignment | null, id: MachineId, signal: AbortSignal) {
    // One call for each member, so that a step which nobody does fails to compile in `Doers`.
    return (doers[step.kind] as Doers[Deed])(step as never, a, id, signal)
  }

  function wakeAt(entry: Entry, until: number): void {
    const pause = new AbortController()
    entry.pause = pause
    const signal = AbortSignal.any([pause.signal, stopping.signal])
    void clock.sleep(Math.max(1, until - clock.now()), signal).then(() => {
      if (!signal.aborted) entry.loop.wake()
    })
  }

  function forget(entry: Entry): void {
    endChecks(entry)
    entries.delete(entry.id)
    kept.delete(entry.id)
    store.remove(entry.id)
    // Not awaited: this is called from the loop that it ends.
    void entry.loop.stop()
  }

  function endChecks(entry: Entry): void {
    entry.checking?.end()
    entry.checking = null
  }

  /** Checks what runs, for as long as it runs. */
  function check(entry: Entry, assignment: Assignment | null): void {
    const { observed } = entry.record
    if (assignment === null || observed.state !== 'running') {
      endChecks(entry)
      return
    }
    // While an older version is on its way out its own checks go on: they are not known any more to this assignment.
    if (!isVersion(assignment, observed) && entry.checking) return
    const specs = checksOf(assignment.config)
    const key = JSON.stringify([observed.startedAt, specs])
    if (entry.checking?.key === key) return
    const adopted =
      entry.checking === null &&
      entry.checks.length === specs.length &&
      entry.checks.every(
        ({ name, updatedAt }, n) => name === specs[n]?.name && updatedAt >= observed.startedAt,
      )
    endChecks(entry)
    if (!adopted) entry.checks = uncheckedStatuses(specs, clock.now())
    if (specs.length === 0) {
      entry.checking = { key, end: () => {} }
      return
    }
    const target = {
      id: entry.id,
      address: assignment.privateIpv4,
      startedAt: observed.startedAt,
      specs,
      known: entry.checks,
    }
    let ended = false
    const end = checks.start(target, (statuses) => {
      if (ended) return
      entry.checks = statuses
      tell(entry)
    })
    entry.checking = {
      key,
      end: () => {
        ended = true
        end()
      },
    }
  }

  /** Finds what changed without a hint, and what exists though nobody knows it. */
  async function sweep(): Promise<void> {
    if (wanted === null) return
    const all = await within(runtime.list(), LOOK_MS_MAX, 'look at the runtime')
    const shown = new Map(all.map((machine) => [machine.id, machine]))
    for (const id of shown.keys()) if (!entries.has(id)) enter(id)
    for (const entry of entries.values()) {
      const now = observedFrom(shown.get(entry.id) ?? null)
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
      wanted = new Map(
        assignments.map((next) => {
          const known = before?.get(next.id)
          return [next.id, known && known.generation > next.generation ? known : next]
        }),
      )
      for (const id of [...wanted.keys(), ...kept.keys()]) enter(id)
      for (const entry of entries.values()) {
        const assignment = assignmentOf(entry.id)
        const generation = before?.get(entry.id)?.generation
        if (before !== null && generation === assignment?.generation) continue
        if (entry.current) {
          const step = decide(assignment, entry.record, clock.now())
          if (JSON.stringify(step) !== JSON.stringify(entry.current.step))
            entry.current.leave.abort()
        }
        entry.loop.wake()
      }
      sweeping.wake()
    },
    statuses: () => [...entries.values()].flatMap(({ status }) => (status ? [status] : [])),
    wake(id) {
      if (id === undefined) sweeping.wake()
      for (const entry of id === undefined ? entries.values() : [entries.get(id)])
        entry?.loop.wake()
    },
    async stop() {
      stopping.abort()
      unhear()
      const all = [...entries.values()]
      for (const entry of all) endChecks(entry)
      await Promise.all([sweeping.stop(), ...all.map((entry) => entry.loop.stop())])
    },
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never

function createDoers(options: MachineKeeperOptions): Doers {
  const { runtime, host, unseal } = options
  const known = (assignment: Assignment | null, id: MachineId): Assignment => {
    if (assignment === null) throw new Error(`nobody knows machine ${id}`)
    return assignment
  }
  return {
    pull: ({ image, digest }, _, __, signal) =>
      runtime.pull({ repository: imageRepository(image), digest }, signal),
    create: ({ stamp }, a, id, signal) => {
      const assignment = known(a, id)
      const { config, imageDigest } = assignment
      return runtime.create(
        {
          id,
          stamp: formatStamp(stamp),
          image: { repository: imageRepository(config.image), digest: imageDigest },
          config,
          hostname: id,
          ipv4: assignment.privateIpv4,
          ipv6: assignment.privateIpv6,
        },
        signal,
      )
    },
    start: async (_, a, id, signal) => {
      const assignment = known(a, id)
      const { sealedSecrets } = assignment
      const secrets = sealedSecrets === null ? {} : await unseal(sealedSecrets, assignment)
      const publicIp = host.publicAddress === undefined ? {} : { publicIp: host.publicAddress }
      await runtime.start(id, machineEnvironment(assignment, { secrets, ...publicIp }), signal)
    },
    stop: ({ signal: name, timeoutMs }, _, id, signal) =>
      runtime.stop(id, { signal: name, timeoutMs }, signal),
    remove: (_, __, id) => runtime.remove(id),
  }
}

function observedFrom(shown: RuntimeMachine | null): Observed {
  if (shown === null) return { state: 'absent' }
  const stamp = parseStamp(shown.stamp)
  const { startedAt, exit } = shown
  switch (shown.state) {
    case 'created':
      return { state: 'created', ...stamp }
    case 'running':
      return { state: 'running', ...stamp, startedAt: startedAt ?? 0 }
    case 'exited':
      return { state: 'exited', ...stamp, startedAt, exit }
    case 'broken':
      return { state: 'broken', ...stamp }
  }
}
