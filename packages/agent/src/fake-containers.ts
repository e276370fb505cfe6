import { type Clock, PlatformError } from '@roost/base'
import {
  containerConfigsOf,
  containersOf,
  exitOfAll,
  type Instant,
  MACHINE_SIGNALS,
  type MachineId,
  type MachineSignal,
  stopOrder,
} from '@roost/core'
import type { FakeMachine, Misbehaviour } from './fake-runtime.ts'
import type {
  ContainerStart,
  MachineSpec,
  RuntimeContainer,
  RuntimeExit,
  StopHow,
} from './runtime.ts'

/** One container of a fake machine. */
export interface FakeContainer {
  readonly name: string
  readonly behaviour: Misbehaviour
  state: RuntimeContainer['state']
  startedAt: Instant | null
  exit: RuntimeExit | null
  runs: number
  started: ContainerStart
  /** Aborts when this run ends. */
  ended: AbortController
}

/** What fakes of machines lend to those of their containers. */
export interface FakeTools {
  readonly clock: Clock
  readonly hostClock: Clock
  readonly hint: (id: MachineId) => void
  readonly count: (fault: string) => void
  readonly pause: (ms: number, signal?: AbortSignal) => Promise<void>
  readonly failIf: (
    key: string,
    deed: string,
    times: Misbehaviour['startFails'],
    final?: boolean,
  ) => void
}

/** null where the machine is one program itself. Each is told how to misbehave by `MISBEHAVIOUR` in its own environment. */
export function fakeContainersOf({ config }: MachineSpec): FakeContainer[] | null {
  return (
    containerConfigsOf(config)?.map(({ name, env }) => ({
      name,
      behaviour: env['MISBEHAVIOUR'] ? (JSON.parse(env['MISBEHAVIOUR']) as Misbehaviour) : {},
      state: 'created' as const,
      startedAt: null,
      exit: null,
      runs: 0,
      started: { environment: {} },
      ended: new AbortController(),
    })) ?? null
  )
}

export function shownContainers(all: readonly FakeContainer[]): readonly RuntimeContainer[] {
  return all.map(({ name, state, startedAt, exit }) => ({ name, state, startedAt, exit }))
}

/** The machine begins anew: what they did before is over. */
export function resetContainers(all: readonly FakeContainer[]): void {
  for (const one of all) {
    one.ended.abort()
    one.state = 'created'
    one.startedAt = null
    one.exit = null
    one.runs++
  }
}

export async function startFakeContainer(
  machine: FakeMachine,
  name: string,
  start: ContainerStart,
  tools: FakeTools,
  signal: AbortSignal,
): Promise<void> {
  const { id } = machine.spec
  const container = containerOf(machine, name)
  await tools.pause(container.behaviour.startBlocksMs ?? 1, signal)
  if (machine.state !== 'running')
    throw new PlatformError('precondition_failed', `start container ${name} of ${id}`, {
      cause: new Error('the machine does not run'),
      retry: 'later',
    })
  if (container.state === 'running') return
  const { startFails, startImpossible } = container.behaviour
  tools.failIf(`${id}.${name}`, 'start', startFails, startImpossible)
  container.state = 'running'
  container.startedAt = tools.clock.now()
  container.exit = null
  container.started = start
  container.ended = new AbortController()
  container.runs++
  tools.hint(id)
  void exitLater(machine, container, tools)
}

async function exitLater(
  machine: FakeMachine,
  container: FakeContainer,
  tools: FakeTools,
): Promise<void> {
  const { exitsAfterMs, exits = Infinity, exitCode = 0, oomKilled = false } = container.behaviour
  if (exitsAfterMs === undefined || container.runs > exits) return
  const run = container.runs
  await tools.hostClock.sleep(exitsAfterMs)
  const exit = () => {
    if (container.runs !== run || container.state !== 'running') return
    tools.count('a container exited by itself')
    end(machine, container, { code: exitCode, signal: oomKilled ? 9 : 0, oomKilled }, tools)
  }
  if (machine.state !== 'suspended') exit()
  else {
    const before = machine.due
    machine.due = () => {
      before?.()
      exit()
    }
  }
}

function end(
  { spec }: FakeMachine,
  container: FakeContainer,
  exit: { code: number; signal: number; oomKilled: boolean },
  { clock, hint }: FakeTools,
): void {
  container.state = 'exited'
  container.exit = { cause: null, ...exit, at: clock.now() }
  container.ended.abort()
  hint(spec.id)
}

export async function stopFakeContainer(
  machine: FakeMachine,
  name: string,
  how: { readonly number: number; readonly timeoutMs: number },
  tools: FakeTools,
  signal?: AbortSignal,
): Promise<void> {
  const container = containerOf(machine, name)
  if (container.state !== 'running') return
  const run = container.runs
  const { ignoresStop = false, stopTakesMs = 1 } = container.behaviour
  const deaf = ignoresStop && how.number !== 9
  const killed = deaf || stopTakesMs > how.timeoutMs
  await tools.pause(killed ? how.timeoutMs : stopTakesMs, signal)
  if (container.state !== 'running' || container.runs !== run) return
  const by = killed ? 9 : how.number
  end(machine, container, { code: 128 + by, signal: by, oomKilled: false }, tools)
}

/** How a program takes a signal: `SIGTERM` ends it in its own way, others as the kernel has it. null: not at all. */
export function exitBy(
  { ignoresStop = false }: Misbehaviour,
  signal: MachineSignal,
): { code: number; signal: number; oomKilled: boolean } | null {
  if (ignoresStop && signal !== 'SIGKILL') return null
  const number = MACHINE_SIGNALS[signal]
  const end = signal === 'SIGTERM' ? { code: 0, signal: 0 } : { code: 128 + number, signal: number }
  return { ...end, oomKilled: false }
}

/** To each that runs. False: none does. */
export function signalFakeContainers(
  machine: FakeMachine,
  signal: MachineSignal,
  tools: FakeTools,
): boolean {
  const running = (machine.containers ?? []).filter(({ state }) => state === 'running')
  for (const container of running) {
    const exit = exitBy(container.behaviour, signal)
    if (exit !== null) end(machine, container, exit, tools)
  }
  return running.length > 0
}

/** All of them, in their order; how the machine's run ended by that. */
export async function stopFakeContainers(
  machine: FakeMachine,
  how: StopHow,
  numberOf: (signal: string) => number,
  tools: FakeTools,
  signal?: AbortSignal,
): Promise<RuntimeExit> {
  const { config } = machine.spec
  const all = containersOf(config) ?? []
  const deadline = tools.clock.now() + how.timeoutMs
  const usual = how.signal === config.stop_config.signal
  for (const group of stopOrder(all))
    await Promise.all(
      all
        .filter(({ name }) => group.includes(name))
        .map(({ name, stop }) => {
          const left = Math.max(0, deadline - tools.clock.now())
          const number = numberOf(usual ? stop.signal : how.signal)
          const timeoutMs = Math.min(left, stop.timeout_ms)
          return stopFakeContainer(machine, name, { number, timeoutMs }, tools, signal)
        }),
    )
  const nothing = { code: 0, signal: 0, oomKilled: false, cause: null, at: tools.clock.now() }
  const exits = (machine.containers ?? []).flatMap(({ name, exit }) =>
    exit === null ? [] : [{ ...exit, container: name }],
  )
  return how.exit ?? exitOfAll(exits) ?? nothing
}

export function containerOf(machine: FakeMachine, name: string): FakeContainer {
  const found = machine.containers?.find((one) => one.name === name)
  if (found) return found
  throw new PlatformError('not_found', `machine ${machine.spec.id} has no container "${name}"`, {
    retry: 'later',
  })
}
