import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RouteName } from '../../packages/api/src/index.ts'
import { type Clock, type Logger, PlatformError } from '../../packages/base/src/index.ts'
import type { Instant, MachineId, MachineStatus } from '../../packages/core/src/index.ts'
import { trialHost } from '../../packages/server/src/http/trial-host.ts'
import type { Deed } from './deed.ts'
import { CALM, FAULTS, type Fault, type FaultPlan } from './faults.ts'
import { createInvariants, type Invariants } from './invariants.ts'
import { configOf, imageOf, type Wish } from './person.ts'
import { createProcess } from './process.ts'
import type { Random } from './random.ts'
import type { OnDeed } from './sim-agent.ts'
import { createSimClock, type SimClock, settle } from './sim-clock.ts'
import { createSimDisk } from './sim-disk.ts'
import { createSimHost, type SimHost } from './sim-host.ts'
import { createSimNetwork, type SimNetwork } from './sim-network.ts'
import {
  APP,
  createSimServer,
  RELEASED_APP,
  type SimServer,
  type SimServerHooks,
} from './sim-server.ts'
import { unsettled } from './unsettled.ts'
import { createWallClock, type WallClock } from './wall-clock.ts'
import type { HostSpec } from './world.ts'

const START = Date.UTC(2026, 0, 1)
const EVENTS_MAX = 600_000
/** Long enough for the longest pause, drain and stop after each other, and for releases that wait for each other. */
const SETTLE_MS_MAX = 300_000
const CONFIRM_MS = 2_000
const LOOK_EACH_MS = 1_000
/** A host may be removed when it was silent for so long. */
const SILENT_MS = 11_000
const ASK_AGAIN_MS = 2_000
const ASKS_MAX = 100
const STEPS_MAX = 600

/** One server, hosts with their agents and edges, a person, and what happens to them. */
export interface SimWorld {
  readonly clock: SimClock
  readonly server: SimServer
  readonly serverWall: WallClock
  readonly hosts: readonly SimHost[]
  readonly network: SimNetwork
  readonly invariants: Invariants
  readonly timeline: readonly string[]
  readonly problems: string[]
  readonly faults: ReadonlyMap<Fault, number>
  plan(): FaultPlan
  usePlan(plan: FaultPlan): void
  say(what: string): void
  perform(deed: Deed): Promise<void>
  /** Until that time of the simulation; `between` after each event. */
  run(until: Instant, between?: (elapsedMs: number) => void): Promise<void>
  /** Everything that lasts ends: all programs run, all ways are open, all disks have room. */
  heal(): void
  /** What is not as it was asked. */
  unsettled(): Promise<readonly string[]>
  /** Waits for something that may need time to go on: a store that is slow. */
  whileTimePasses<T>(work: Promise<T>): Promise<T>
  /** Until all is as it was asked, and stays so. Returns how long that took; what is still open then is a problem. */
  settles(confirmMs?: number): Promise<number>
  machinesMade(): number
  events(): number
  elapsedMs(): number
  close(): Promise<void>
}

/** For tests that kill programs at their steps. */
export interface WorldHooks extends SimServerHooks {
  /** Before and after each deed of a host's agent. */
  readonly onDeed?: OnDeed
}

export async function createSimWorld(options: {
  readonly hosts: readonly HostSpec[]
  readonly random: Random
  readonly hooks?: WorldHooks
  /** False: nobody stays on a machine that left rotation. Default true. */
  readonly sessions?: boolean
}): Promise<SimWorld> {
  const { random } = options
  const clock = createSimClock(START)
  const timeline: string[] = []
  // Where there is one, a file system in memory: a hundred worlds write a lot.
  const folder = mkdtempSync(join(memoryFolder(), 'roost-sim-'))
  const say = (what: string) => {
    timeline.push(
      `${((clock.now() - START) / 1000).toFixed(3).padStart(8)}  ${what.replaceAll(folder, '…')}`,
    )
  }
  const faults = new Map<Fault, number>(FAULTS.map((fault) => [fault, 0]))
  const count = (fault: Fault, times = 1) => faults.set(fault, (faults.get(fault) ?? 0) + times)
  let plan: FaultPlan = CALM
  let events = 0
  let made = 0
  const problems: string[] = []

  const serverWall = createWallClock(clock)
  const serverDisk = createSimDisk()
  const server = await createSimServer({
    clock,
    wall: serverWall,
    random: random.fork(),
    log: loggerTo((what) => say(`server: ${what}`)),
    disk: serverDisk,
    folder,
    onRefused: () => count('write refused by the server'),
    ...(options.hooks === undefined ? {} : { hooks: options.hooks }),
  })
  const network = createSimNetwork({ clock, random: random.fork(), plan: () => plan, count })
  const join_ = (spec: HostSpec) => server.addHost(joining(spec))
  const hosts: SimHost[] = []
  for (const spec of options.hosts) {
    const { id } = await join_(spec)
    hosts.push(
      createSimHost({
        spec,
        id,
        clock,
        random: random.fork(),
        network,
        server,
        folder,
        log: loggerTo((what) => say(`${spec.name} agent: ${what}`)),
        onRefused: () => count('write refused by an agent'),
        ...(options.sessions === undefined ? {} : { sessions: options.sessions }),
        ...(options.hooks?.onDeed === undefined ? {} : { onDeed: options.hooks.onDeed }),
        onStatus: (status) => say(`${spec.name} says ${describeStatus(status)}`),
      }),
    )
  }
  const invariants = createInvariants({ clock, hosts, server, problems, say })
  const person = network.link(createProcess('person'), 'person')
  const running = new Set<Promise<void>>()
  /** What ends when its time is over, or when the faults stop. */
  const lasting = new Set<() => void>()
  const serverHolds = { count: 0 }
  let restoring = false

  const after = (ms: number, deed: () => void) => void clock.sleep(ms).then(deed)
  /** `end` is called once. */
  function lasts(forMs: number, end: () => void): void {
    const once = () => {
      if (!lasting.delete(once)) return
      end()
    }
    lasting.add(once)
    after(forMs, once)
  }
  function holdServer(): () => void {
    serverHolds.count++
    server.kill()
    invariants.disturbed()
    return () => {
      serverHolds.count = Math.max(0, serverHolds.count - 1)
      if (serverHolds.count > 0) return
      say('server starts')
      server.start()
      invariants.disturbed()
    }
  }
  const hostAt = (n: number): SimHost => {
    const host = hosts[n % hosts.length]
    if (host === undefined) throw new Error('a world without hosts')
    return host
  }
  const callServer = (name: RouteName, input: Parameters<SimServer['call']>[1]) =>
    person.call(() => server.call(name, input), new AbortController().signal)

  async function ask(wish: Wish): Promise<void> {
    switch (wish.kind) {
      case 'create': {
        const { version, region, launch } = wish
        tellPulls(APP, wish)
        made++
        say(`asks: create v${version.number} in ${region} ${JSON.stringify(version.misbehaviour)}`)
        await callServer('createMachine', {
          params: { app: APP },
          body: { region, config: configOf(APP, version), skip_launch: !launch },
        })
        return
      }
      case 'deploy': {
        const { version, scale, waitTimeoutMs, how = {} } = wish
        tellPulls(RELEASED_APP, wish)
        say(
          `asks: deploy v${version.number} ${JSON.stringify(scale)} ${JSON.stringify(how)} ${JSON.stringify(version.misbehaviour)}`,
        )
        await callServer('createRelease', {
          params: { app: RELEASED_APP },
          body: {
            config: configOf(RELEASED_APP, version),
            scale,
            wait_timeout: waitTimeoutMs / 1000,
            ...how,
          },
        })
        return
      }
      case 'scale':
        say(`asks: scale ${JSON.stringify(wish.scale)}`)
        await callServer('setScale', {
          params: { app: RELEASED_APP },
          body: { scale: wish.scale },
        })
        return
      case 'secrets':
        say('asks: secrets')
        await callServer('setSecrets', {
          params: { app: RELEASED_APP },
          body: { values: { KEY: String(clock.now()) } },
        })
        return
      case 'rollback':
        say('asks: rollback')
        await callServer('createRollback', {
          params: { app: RELEASED_APP },
          body: {},
        })
        return
      default:
        await askMachine(wish)
    }
  }

  async function askMachine(
    wished: Exclude<Wish, { kind: 'create' | 'deploy' | 'scale' | 'secrets' | 'rollback' }>,
  ): Promise<void> {
    const app = wished.kind === 'lease' && wished.released ? RELEASED_APP : APP
    const all = await server.machines(app)
    const suspended = all.filter(({ assignment }) => assignment.goal === 'suspended')
    const running = ({ assignment: { goal }, status }: (typeof all)[number]) =>
      goal === 'started' && status?.state === 'started'
    // Where there is nothing to resume, something is suspended.
    const none = wished.kind === 'resume' && suspended.length === 0
    const wish = none ? ({ kind: 'suspend', nth: wished.nth } as const) : wished
    const suit = { suspend: all.filter(running), resume: suspended }
    const machines = wish.kind === 'suspend' || wish.kind === 'resume' ? suit[wish.kind] : all
    const machine = machines[wish.nth % Math.max(1, machines.length)]
    if (machine === undefined) return
    const { id } = machine.assignment
    const params = { app, id }
    say(`asks: ${wish.kind} ${id}`)
    switch (wish.kind) {
      case 'update':
        tellPulls(APP, wish)
        await callServer('updateMachine', {
          params,
          body: { config: configOf(APP, wish.version), skip_launch: !wish.launch },
        })
        return
      case 'start':
      case 'resume':
        await callServer('startMachine', { params })
        return
      case 'suspend':
        await callServer('suspendMachine', { params })
        return
      case 'restart':
        await callServer('restartMachine', { params })
        return
      case 'cordon':
        await callServer('cordonMachine', { params })
        return
      case 'uncordon':
        await callServer('uncordonMachine', { params })
        return
      case 'stop':
        await callServer('stopMachine', {
          params,
          body: wish.timeoutMs === undefined ? {} : { timeout: `${wish.timeoutMs}ms` },
        })
        return
      case 'destroy':
        await callServer('deleteMachine', { params, query: wish.force ? { force: 'true' } : {} })
        return
      case 'lease':
        await callServer('takeLease', { params, body: { ttl: Math.ceil(wish.ttlMs / 1000) } })
    }
  }

  function tellPulls(app: string, wish: Extract<Wish, { version: unknown }>): void {
    const repository = imageOf(app, wish.version).replace(/:1$/, '')
    for (const { fake } of hosts) fake.pulls.set(repository, wish.version.misbehaviour)
  }

  function performNow(deed: Exclude<Deed, { do: 'ask' | 'remove host' | 'restore' }>): void {
    switch (deed.do) {
      case 'kill agent': {
        const host = hostAt(deed.host)
        if (!host.agent.alive()) return
        count('agent killed')
        if (hasSuspended(host)) count('agent killed beside what is suspended')
        say(`${host.name} agent killed${deed.loseDisk ? ', and its disk lost' : ''}`)
        const start = host.hold('agent')
        if (deed.loseDisk) {
          count('disk of an agent lost')
          host.agent.loseDisk()
        }
        lasts(deed.forMs, () => {
          say(`${host.name} agent starts`)
          start()
        })
        return
      }
      case 'kill edge': {
        const host = hostAt(deed.host)
        if (!host.edge.alive()) return
        count('edge killed')
        say(`${host.name} edge killed`)
        invariants.disturbed()
        const start = host.hold('edge')
        lasts(deed.forMs, () => {
          start()
          invariants.disturbed()
        })
        return
      }
      case 'kill server': {
        if (!server.alive()) return
        count('server killed')
        say('server killed')
        lasts(deed.forMs, holdServer())
        return
      }
      case 'power off': {
        const host = hostAt(deed.host)
        if (!host.agent.alive()) return
        host.agent.snapshot()
        after(deed.lostMs, () => {
          count('host powered off')
          if (hasSuspended(host)) count('power lost beside what is suspended')
          say(`${host.name} loses power`)
          invariants.disturbed()
          const on = host.losePower()
          if (host.agent.rewind()) count('unsynced writes lost')
          lasts(deed.forMs, () => {
            say(`${host.name} has power`)
            on()
            invariants.disturbed()
          })
        })
        return
      }
      case 'cut': {
        const { programs, way, forMs } = deed
        const cut = deed.hosts.map(hostAt)
        const names = cut.map((host) => host.name).join(', ')
        const whole = way === 'both' && programs.length === 2
        count(
          way !== 'both'
            ? 'half-open partition'
            : whole && cut.length === 1
              ? 'host cut off'
              : 'partition',
        )
        say(`${names}: ${programs.join(' and ')} cut off (${way})`)
        invariants.disturbed()
        const heals = cut.flatMap((host) =>
          programs.flatMap((program) => {
            const node = `${host.name}/${program}`
            return [
              ...(way === 'from server' ? [] : [network.block(node, 'server')]),
              ...(way === 'to server' ? [] : [network.block('server', node)]),
            ]
          }),
        )
        lasts(forMs, () => {
          say(`${names}: ${programs.join(' and ')} reachable`)
          for (const heal of heals) heal()
          invariants.disturbed()
        })
        return
      }
      case 'set clock': {
        const wall = deed.of === 'server' ? serverWall : hostAt(deed.of).wall
        count(deed.of === 'server' ? 'clock of the server set' : 'clock of a host set')
        say(
          `clock of ${deed.of === 'server' ? 'the server' : hostAt(deed.of).name} set by ${deed.byMs} ms`,
        )
        wall.set(deed.byMs)
        invariants.clockSet(deed.of === 'server' ? deed.byMs : 0)
        return
      }
      case 'drift': {
        const wall = deed.of === 'server' ? serverWall : hostAt(deed.of).wall
        count('clock drifts')
        wall.drift(deed.ratio)
        return
      }
      case 'fill disk': {
        if (deed.of === 'server') {
          if (serverDisk.full) return
          count('disk of the server full')
          say('disk of the server is full')
          serverDisk.full = true
          invariants.disturbed()
          lasts(deed.forMs, () => {
            say('disk of the server has room')
            serverDisk.full = false
            invariants.disturbed()
          })
          return
        }
        const host = hostAt(deed.of)
        if (host.disk.full) return
        count('disk of an agent full')
        say(`disk of ${host.name} is full`)
        host.disk.full = true
        host.fake.full = true
        lasts(deed.forMs, () => {
          say(`disk of ${host.name} has room`)
          host.disk.full = false
          host.fake.full = false
        })
        return
      }
      case 'slow disk': {
        if (serverDisk.slowMs > 0) return
        count('disk of the server slow')
        say(`each write of the server takes ${deed.writeMs} ms`)
        serverDisk.slowMs = deed.writeMs
        invariants.disturbed()
        lasts(deed.forMs, () => {
          serverDisk.slowMs = 0
          invariants.disturbed()
        })
        return
      }
      case 'back up':
        say('the server is backed up')
        server.backUp()
        return
      case 'lose container': {
        const { fake, name } = hostAt(deed.host)
        const ids = [...fake.machines.keys()]
        const id = ids[deed.nth % Math.max(1, ids.length)]
        if (id === undefined) return
        count('container vanished')
        say(`${name}: container of ${id} vanishes`)
        fake.machines.delete(id)
        return
      }
      case 'stray container':
        count('stray container')
        say(`${hostAt(deed.host).name}: stray container ${deed.id}`)
        addStray(hostAt(deed.host), deed.id as MachineId, clock)
    }
  }

  async function restore(forMs: number): Promise<void> {
    if (restoring) return
    restoring = true
    const start = holdServer()
    const restored = await server.restore()
    restoring = false
    if (restored) {
      count('server restored from a backup')
      say('the server gets its last backup back')
      invariants.restored()
    }
    lasts(forMs, start)
  }

  /** It goes on when the faults have stopped: somebody means it. */
  async function removeHost(n: number, forMs: number, wiped: boolean): Promise<void> {
    const host = hostAt(n)
    const spec = options.hosts[hosts.indexOf(host)]
    if (spec === undefined || removing.has(host)) return
    removing.add(host)
    say(`${host.name} is taken away${wiped ? ', and its disk' : ''}`)
    const old = host.id()
    let on = host.losePower()
    invariants.disturbed()
    await clock.sleep(SILENT_MS)
    await untilDone(() => server.call('removeHost', { params: { host: old } }))
    count('host removed')
    say(`${host.name} is removed`)
    invariants.hostRemoved(host.region)
    await clock.sleep(forMs)
    if (wiped) host.wipe()
    const joined = await untilDone(() => join_(spec))
    count('host joined again')
    say(`${host.name} joins again`)
    host.become(joined.id)
    removing.delete(host)
    // The faults may have stopped meanwhile, and nothing holds it any more.
    on()
    on = () => {}
    invariants.disturbed()
  }
  const removing = new Set<SimHost>()

  async function untilDone<T>(work: () => Promise<T>): Promise<T> {
    for (let n = 0; ; n++) {
      try {
        return await work()
      } catch (error) {
        const gone = error instanceof PlatformError && error.code === 'not_found'
        if (gone) return undefined as T
        if (n >= ASKS_MAX) throw error
        await clock.sleep(ASK_AGAIN_MS)
      }
    }
  }

  function perform(deed: Deed): Promise<void> {
    if (deed.do === 'ask')
      return ask(deed.wish).catch((error: unknown) => say(`not done: ${describe(error)}`))
    if (deed.do === 'restore') return restore(deed.forMs)
    if (deed.do === 'remove host') {
      const work = removeHost(deed.host, deed.forMs, deed.wiped)
      running.add(work)
      return work.finally(() => running.delete(work))
    }
    performNow(deed)
    return Promise.resolve()
  }

  const world: SimWorld = {
    clock,
    server,
    serverWall,
    hosts,
    network,
    invariants,
    timeline,
    problems,
    faults,
    plan: () => plan,
    usePlan: (next) => {
      plan = next
    },
    say,
    perform,
    async run(until, between = () => {}) {
      while (clock.now() < until) {
        if (++events > EVENTS_MAX) throw new Error(`more than ${EVENTS_MAX} events: somebody spins`)
        const before = clock.now()
        await clock.step(until)
        invariants.look()
        between(clock.now() - before)
      }
    },
    heal() {
      plan = CALM
      say('the faults stop')
      for (const end of [...lasting]) end()
      network.heal()
      // One whose store is being put back must not be started on what it had.
      serverHolds.count = restoring ? 1 : 0
      if (!restoring) server.start()
      for (const host of hosts) if (!removing.has(host)) host.letRun()
    },
    async unsettled() {
      if (running.size > 0) return ['a host is still being replaced']
      return world.whileTimePasses(unsettled(world))
    },
    async whileTimePasses(work) {
      const state = { done: false }
      const ended = () => {
        state.done = true
      }
      work.then(ended, ended)
      await settle()
      for (let n = 0; !state.done && n < STEPS_MAX; n++) await world.run(clock.now() + 100)
      return state.done ? work : Promise.reject(new Error('the store does not answer'))
    },
    async settles(confirmMs = CONFIRM_MS) {
      const from = clock.now()
      let quietSince: number | null = null
      for (;;) {
        await world.run(clock.now() + LOOK_EACH_MS)
        await settle()
        const open = await world.unsettled()
        if (open.length > 0) quietSince = null
        else quietSince ??= clock.now()
        if (quietSince !== null && clock.now() - quietSince >= confirmMs) return quietSince - from
        if (problems.length > 0) return clock.now() - from
        if (clock.now() < from + SETTLE_MS_MAX) continue
        problems.push(...open)
        return SETTLE_MS_MAX
      }
    },
    machinesMade: () => made,
    events: () => events,
    elapsedMs: () => clock.now() - START,
    async close() {
      for (const host of hosts) {
        host.agent.kill()
        host.edge.kill()
        for (const [fault, times] of host.fake.faults) count(fault as Fault, times)
      }
      await world.whileTimePasses(server.close())
      rmSync(folder, { recursive: true, force: true })
      for (const problem of problems) say(`PROBLEM ${problem}`)
    },
  }
  return world
}

export function hasSuspended({ fake }: SimHost): boolean {
  return [...fake.machines.values()].some(({ state }) => state === 'suspended')
}

function joining(spec: HostSpec) {
  const { name, region, cpus, memoryMb, builder = false } = spec
  return trialHost(name, { region, cpus, memory_mb: memoryMb, builder })
}

/** One that runs and that nobody knows, as after a restored backup of the server. */
function addStray(host: SimHost, id: MachineId, clock: Clock): void {
  host.fake.machines.set(id, {
    spec: {
      id,
      stamp: '1/STRAY',
      image: { repository: 'registry.internal/stray', digest: 'sha256:stray' },
      config: {
        image: 'registry.internal/stray:1',
        env: {},
        init: {},
        guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 64 },
        services: [],
        checks: {},
        restart: { policy: 'no', max_retries: 0 },
        stop_config: { signal: 'SIGINT', timeout_ms: 1000 },
        metadata: {},
        auto_destroy: false,
      },
      hostname: id,
      ipv4: '10.210.4.99',
      ipv6: 'fdaa::99',
    },
    state: 'running',
    startedAt: clock.now(),
    exit: null,
    runs: 1,
    environment: {},
    ended: new AbortController(),
    containers: null,
    due: null,
  })
}

function describeStatus({ id, state, configGeneration, generation, reason }: MachineStatus) {
  return `${id} ${state} v${configGeneration} gen ${generation}${reason === null ? '' : ` (${reason})`}`
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function memoryFolder(): string {
  try {
    mkdirSync('/dev/shm', { recursive: true })
    return '/dev/shm'
  } catch {
    return tmpdir()
  }
}

function loggerTo(say: (what: string) => void): Logger {
  const write = (message: string, fields?: Readonly<Record<string, unknown>>) =>
    say(
      `${message}${
        fields === undefined
          ? ''
          : ` ${Object.entries(fields)
              .map(([k, v]) => `${k}=${v instanceof Error ? describe(v) : v}`)
              .join(' ')}`
      }`,
    )
  const logger: Logger = {
    debug() {},
    info: write,
    warn: write,
    error: write,
    child: () => logger,
  }
  return logger
}
