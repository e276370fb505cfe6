import { type Clock, PlatformError } from '@roost/base'
import { type Instant, type MachineConfig, type MachineId, mainContainer } from '@roost/core'
import { collectSession } from './exec/collect.ts'
import {
  containerOf,
  exitBy,
  type FakeContainer,
  type FakeTools,
  fakeContainersOf,
  resetContainers,
  shownContainers,
  signalFakeContainers,
  startFakeContainer,
  stopFakeContainer,
  stopFakeContainers,
} from './fake-containers.ts'
import { startFakeProgram } from './fake-exec.ts'
import type { Environment, MachineSpec, Runtime, RuntimeMachine } from './runtime.ts'

/** How often something goes wrong before it works. */
export type Times = 'never' | 'once' | 'twice' | 'always'

/** What is wrong with a machine or its image, as data. Absent: nothing. */
export interface Misbehaviour {
  readonly pullFails?: Times
  readonly pullBlocksMs?: number
  readonly createFails?: Times
  readonly startFails?: Times
  /** The error says that the same can't work again. */
  readonly startImpossible?: boolean
  readonly startBlocksMs?: number
  /** After each start, or after the first `exits` starts. */
  readonly exitsAfterMs?: number
  readonly exits?: number
  readonly exitCode?: number
  readonly oomKilled?: boolean
  /** Ignores every signal but SIGKILL. */
  readonly ignoresStop?: boolean
  readonly stopTakesMs?: number
  readonly suspendFails?: Times
  readonly resumeFails?: Times
  readonly removeFails?: Times
  /** Its checks fail and pass again, so often, after so long each. */
  readonly checkFlaps?: number
  readonly checkFlapsEveryMs?: number
  /** Hints by `onChange` are not given. */
  readonly silent?: boolean
}

/** The containers of one host. They outlive the agent that made them, so they are a value that is passed to the next. */
export interface FakeHost {
  readonly machines: Map<MachineId, FakeMachine>
  readonly images: Set<string>
  /** Digests that no registry has. */
  readonly missing: Set<string>
  /** By machine; a machine's own `MISBEHAVIOUR` in its configuration's env goes before, as JSON. */
  readonly misbehaviours: Map<MachineId, Misbehaviour>
  /** How pulls go, by repository. */
  readonly pulls: Map<string, Misbehaviour>
  /** There is no room for images and containers; what runs goes on. */
  full: boolean
  /** How often each deed has failed by now, by machine. */
  readonly failed: Map<string, number>
  /** Every stop of something that ran, when it began. */
  readonly stops: { readonly id: MachineId; readonly signal: string; readonly at: Instant }[]
  /** Every suspension of something that ran, when it began. */
  readonly suspends: { readonly id: MachineId; readonly at: Instant }[]
  /** Every start that happened, oldest first. */
  readonly starts: { readonly id: MachineId; readonly stamp: string; readonly at: Instant }[]
  readonly listeners: Set<(id: MachineId) => void>
  /** What went wrong, by kind: a simulation proves with it that its faults did happen. */
  readonly faults: Map<string, number>
}

export interface FakeMachine {
  readonly spec: MachineSpec
  state: RuntimeMachine['state']
  startedAt: Instant | null
  exit: RuntimeMachine['exit']
  runs: number
  environment: Environment
  /** Aborts when this run ends. */
  ended: AbortController
  /** null: it is one program itself. */
  readonly containers: FakeContainer[] | null
  /** Its program would have ended while it was suspended: what happens at once when it goes on. */
  due: (() => void) | null
}

export function createFakeHost(): FakeHost {
  return {
    machines: new Map(),
    images: new Set(),
    missing: new Set(),
    misbehaviours: new Map(),
    pulls: new Map(),
    full: false,
    failed: new Map(),
    stops: [],
    suspends: [],
    starts: [],
    listeners: new Set(),
    faults: new Map(),
  }
}

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
}
const TIMES: Readonly<Record<Times, number>> = { never: 0, once: 1, twice: 2, always: Infinity }

/**
 * The port without an engine: passes the same conformance suite as the real one, and misbehaves as it is told. `clock` is
 * the agent's, and stops with it in the middle of anything; what runs exits by `hostClock`, whatever becomes of the agent.
 */
export function createFakeRuntime(host: FakeHost, clock: Clock, hostClock = clock): Runtime {
  const behaviour = (id: MachineId) => misbehaviourOf(host, id)
  const count = (fault: string) => host.faults.set(fault, (host.faults.get(fault) ?? 0) + 1)
  const hint = (id: MachineId) => {
    if (behaviour(id).silent) {
      count('hint withheld')
      return
    }
    for (const listener of host.listeners) listener(id)
  }

  function refuseFull(doing: string, fault: string): void {
    if (!host.full) return
    count(fault)
    throw new PlatformError('disk_full', `${doing}: no space left on device`, { retry: 'later' })
  }
  function failIf(id: string, deed: string, times: Times | undefined, final = false): void {
    const key = `${id} ${deed}`
    const before = host.failed.get(key) ?? 0
    if (before >= TIMES[times ?? 'never']) return
    host.failed.set(key, before + 1)
    count(`${deed} failed`)
    throw new PlatformError('internal', `${deed} ${id}: told to fail`, {
      retry: final ? 'never' : 'later',
    })
  }
  async function pause(ms: number, signal?: AbortSignal): Promise<void> {
    await clock.sleep(ms, signal)
    if (signal?.aborted) throw new PlatformError('internal', 'aborted', { retry: 'now' })
  }
  function end(machine: FakeMachine, exit: { code: number; signal: number; oomKilled: boolean }) {
    machine.state = 'exited'
    machine.exit = { cause: null, at: clock.now(), ...exit }
    machine.ended.abort()
    hint(machine.spec.id)
  }
  /** By itself, unless it was ended or started anew before. */
  async function exitLater(machine: FakeMachine): Promise<void> {
    const {
      exitsAfterMs,
      exits = Infinity,
      exitCode = 0,
      oomKilled = false,
    } = behaviour(machine.spec.id)
    if (exitsAfterMs === undefined || machine.runs > exits) return
    const run = machine.runs
    await hostClock.sleep(exitsAfterMs)
    const same = host.machines.get(machine.spec.id) === machine && machine.runs === run
    if (!same || !isAlive(machine)) return
    const exit = () => {
      count(oomKilled ? 'ran out of memory' : 'exited by itself')
      end(machine, { code: exitCode, signal: oomKilled ? 9 : 0, oomKilled })
    }
    if (machine.state === 'suspended') machine.due = exit
    else exit()
  }
  function thaw(machine: FakeMachine): void {
    if (machine.state !== 'suspended') return
    machine.state = 'running'
    const { due } = machine
    machine.due = null
    due?.()
  }

  const tools: FakeTools = { clock, hostClock, hint, count, pause, failIf }

  const openSession: Runtime['openSession'] = async (id, request, signal) => {
    await pause(1, signal)
    const machine = existing(host, id, 'exec')
    const named = request.container ?? mainContainer(machine.spec.config)?.name
    if (named !== undefined && machine.containers === null)
      throw new PlatformError('not_found', `machine ${id} has no container "${named}"`)
    const first = machine.containers?.[0]?.name
    const name = named ?? first
    const container = name === undefined ? null : containerOf(machine, name)
    refuseStill(machine)
    if (container !== null && container.state !== 'running')
      throw new PlatformError(
        'precondition_failed',
        `container ${container.name} of machine ${id} does not run`,
      )
    return startFakeProgram(request, hostClock, (container ?? machine).ended.signal)
  }

  return {
    async list() {
      await clock.sleep(1)
      return [...host.machines.values()].map(shown)
    },

    async look(id) {
      await clock.sleep(1)
      const machine = host.machines.get(id)
      return machine ? shown(machine) : null
    },

    async pull(image, signal) {
      const told = host.pulls.get(image.repository) ?? {}
      await pause(told.pullBlocksMs ?? 5, signal)
      if (host.images.has(image.digest)) return
      refuseFull(`pull ${image.repository}`, 'no space for an image')
      if (host.missing.has(image.digest))
        throw new PlatformError('image_not_found', `pull ${image.repository}: no such image`)
      failIf(image.repository, 'pull', told.pullFails)
      host.images.add(image.digest)
    },

    async create(spec, signal) {
      await pause(2, signal)
      const existing = host.machines.get(spec.id)
      if (existing) {
        if (existing.spec.stamp === spec.stamp && existing.state !== 'broken') return
        throw new PlatformError('conflict', `create ${spec.id}: it exists of another version`)
      }
      if (!host.images.has(spec.image.digest))
        throw new PlatformError('image_not_found', `create ${spec.id}: no such image`, {
          retry: 'later',
        })
      refuseFull(`create ${spec.id}`, 'no space for a container')
      const told = { ...host.misbehaviours.get(spec.id), ...toldBy(spec.config) }
      failIf(spec.id, 'create', told.createFails)
      const machine: FakeMachine = {
        spec,
        state: 'broken',
        startedAt: null,
        exit: null,
        runs: 0,
        environment: {},
        ended: new AbortController(),
        containers: fakeContainersOf(spec),
        due: null,
      }
      host.machines.set(spec.id, machine)
      // Who dies here leaves half a machine.
      await clock.sleep(1)
      machine.state = 'created'
      hint(spec.id)
    },

    async start(id, environment, signal) {
      const told = behaviour(id)
      await pause(told.startBlocksMs ?? 2, signal)
      const machine = existing(host, id, 'start')
      if (isAlive(machine)) return
      refuseFull(`start ${id}`, 'no space for a container')
      failIf(id, 'start', told.startFails, told.startImpossible)
      machine.state = 'running'
      machine.startedAt = clock.now()
      machine.exit = null
      machine.due = null
      machine.environment = environment
      machine.ended = new AbortController()
      machine.runs++
      resetContainers(machine.containers ?? [])
      host.starts.push({ id, stamp: machine.spec.stamp, at: clock.now() })
      hint(id)
      if (machine.containers === null) void exitLater(machine)
    },

    async startContainer(id, name, start, signal) {
      const machine = existing(host, id, 'start')
      refuseFull(`start ${id}`, 'no space for a container')
      await startFakeContainer(machine, name, start, tools, signal)
    },

    async stopContainer(id, name, how, signal) {
      const machine = host.machines.get(id)
      if (machine === undefined) return
      const number = SIGNAL_NUMBERS[how.signal] ?? 15
      await stopFakeContainer(machine, name, { number, timeoutMs: how.timeoutMs }, tools, signal)
    },

    async suspend(id) {
      const machine = existing(host, id, 'suspend')
      if (machine.state === 'suspended') return
      host.suspends.push({ id, at: clock.now() })
      await clock.sleep(1)
      failIf(id, 'suspend', behaviour(id).suspendFails)
      if (machine.state === 'running') machine.state = 'suspended'
      if (machine.state !== 'suspended')
        throw new PlatformError('internal', `suspend ${id}: it does not run`, { retry: 'later' })
      count('suspended')
      // Who dies here does not know that it is.
      await clock.sleep(1)
    },

    async resume(id) {
      const machine = existing(host, id, 'resume')
      if (machine.state !== 'suspended') return
      await clock.sleep(1)
      failIf(id, 'resume', behaviour(id).resumeFails)
      thaw(machine)
      count('resumed')
      await clock.sleep(1)
    },

    async stop(id, how, signal) {
      const machine = host.machines.get(id)
      // What stands still serves nobody.
      const served = machine?.state === 'running'
      if (machine !== undefined) thaw(machine)
      if (machine?.state !== 'running') return
      if (served) host.stops.push({ id, signal: how.signal, at: clock.now() })
      const run = machine.runs
      if (machine.containers !== null) {
        const numberOf = (name: string) => SIGNAL_NUMBERS[name] ?? 15
        const exit = await stopFakeContainers(machine, how, numberOf, tools, signal)
        if (machine.state === 'running' && machine.runs === run) end(machine, exit)
        return
      }
      const { ignoresStop = false, stopTakesMs = 1 } = behaviour(id)
      const number = SIGNAL_NUMBERS[how.signal] ?? 15
      const deaf = ignoresStop && number !== 9
      const killed = deaf || stopTakesMs > how.timeoutMs
      if (killed && number !== 9) count('stop ignored')
      await pause(killed ? how.timeoutMs : stopTakesMs, signal)
      if (machine.state !== 'running' || machine.runs !== run) return
      const by = killed ? 9 : number
      end(machine, { code: 128 + by, signal: by, oomKilled: false })
    },

    async remove(id) {
      await clock.sleep(1)
      if (!host.machines.has(id)) return
      failIf(id, 'remove', behaviour(id).removeFails)
      host.machines.get(id)?.ended.abort()
      resetContainers(host.machines.get(id)?.containers ?? [])
      host.machines.delete(id)
      hint(id)
    },

    async signal(id, signal) {
      await clock.sleep(1)
      const machine = existing(host, id, 'signal')
      refuseStill(machine)
      if (machine.containers !== null) {
        if (signalFakeContainers(machine, signal, tools)) return
        throw new PlatformError('precondition_failed', `no container of machine ${id} runs`)
      }
      const exit = exitBy(behaviour(id), signal)
      if (exit !== null) end(machine, exit)
    },

    openSession,
    async exec(id, request, signal) {
      return collectSession(await openSession(id, request, signal), request, signal)
    },

    onChange(heard) {
      host.listeners.add(heard)
      return () => host.listeners.delete(heard)
    },
  }
}

function shown({ spec, state, startedAt, exit, containers }: FakeMachine): RuntimeMachine {
  const machine = { id: spec.id, stamp: spec.stamp, state, startedAt, exit }
  return containers === null ? machine : { ...machine, containers: shownContainers(containers) }
}

const isAlive = ({ state }: FakeMachine) => state === 'running' || state === 'suspended'

function refuseStill({ state, spec: { id } }: FakeMachine): void {
  if (state === 'running') return
  throw new PlatformError(
    'precondition_failed',
    state === 'suspended'
      ? `machine ${id} is suspended; resume it first: roost machine resume ${id}`
      : `machine ${id} does not run; start it first: roost machine start ${id}`,
  )
}

function existing(host: FakeHost, id: MachineId, deed: string): FakeMachine {
  const machine = host.machines.get(id)
  if (!machine)
    throw new PlatformError('not_found', `${deed} ${id}: no such container`, { retry: 'later' })
  return machine
}

/** What is told of a machine that exists: by its id, and by its own configuration, which goes before. */
export function misbehaviourOf(host: FakeHost, id: MachineId): Misbehaviour {
  const machine = host.machines.get(id)
  return { ...host.misbehaviours.get(id), ...(machine && toldBy(machine.spec.config)) }
}

function toldBy(config: MachineConfig): Misbehaviour {
  const told = config.env['MISBEHAVIOUR']
  return told === undefined ? {} : (JSON.parse(told) as Misbehaviour)
}

/** All programs end at once, and nobody is left to see how. What is on the disk stays. */
export function powerOff(host: FakeHost): void {
  for (const machine of host.machines.values()) {
    if (!isAlive(machine)) continue
    machine.state = 'exited'
    machine.exit = null
    machine.ended.abort()
    // What still waits for this run to end finds another.
    machine.runs++
    resetContainers(machine.containers ?? [])
  }
}
