import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  createFakeHost,
  type FakeHost,
  type Misbehaviour,
} from '../../packages/agent/src/fake-runtime.ts'
import { type Logger, silentLogger } from '../../packages/base/src/index.ts'
import {
  type Host,
  type HostId,
  type MachineCommand,
  type MachineConfig,
  type MachineId,
  parseStamp,
  type RegionCode,
} from '../../packages/core/src/index.ts'
import { CALM, CHAOS, FAULTS, type Fault, type FaultPlan } from './faults.ts'
import { createRandom, type Random } from './random.ts'
import { createSimAgent } from './sim-agent.ts'
import { createSimClock, settle } from './sim-clock.ts'
import { createSimEdge } from './sim-edge.ts'
import { createSimNetwork } from './sim-network.ts'
import { APP, createSimServer, RELEASED_APP, type SimServer } from './sim-server.ts'
import { unsettled } from './unsettled.ts'

export interface SimResult {
  readonly seed: number
  /** What is wrong; empty when the world settled. */
  readonly problems: readonly string[]
  readonly faults: ReadonlyMap<Fault, number>
  readonly timeline: readonly string[]
  readonly machines: number
  /** Simulated time until the world had settled, from when the faults stopped. */
  readonly settledMs: number
  readonly events: number
  /** How the releases ended. */
  readonly releases: { readonly complete: number; readonly failed: number }
}

const START = Date.UTC(2026, 0, 1)
const CHAOS_MS = 40_000
/** Long enough for the longest pause, drain and stop after each other, and for releases that wait for each other. */
const SETTLE_MS_MAX = 240_000
const CONFIRM_MS = 4_000
/** What is asked while nothing goes wrong, after all has settled. */
const QUIET_ACTIVE_MS = 10_000
const MACHINES_MAX = 10
const RELEASES_MAX = 4
/** So long after the last disturbance the server knows all edges, and they all records. */
const QUIET_MS = 10_000
const EVENTS_MAX = 400_000
const REGIONS = ['ams', 'iad', 'syd'] as const

/**
 * One server, an agent and an edge in each of three regions, a person who keeps changing their mind, and everything going
 * wrong, from one seed. Then the faults stop, and the world must come to what was asked.
 */
export async function simulate(seed: number): Promise<SimResult> {
  const random = createRandom(seed)
  const clock = createSimClock(START)
  const timeline: string[] = []
  const say = (what: string) =>
    timeline.push(`${((clock.now() - START) / 1000).toFixed(3).padStart(8)}  ${what}`)
  const counts = new Map<Fault, number>(FAULTS.map((fault) => [fault, 0]))
  const count = (fault: Fault, times = 1) => counts.set(fault, (counts.get(fault) ?? 0) + times)
  let plan: FaultPlan = CHAOS

  // Where there is one, a file system in memory: a hundred worlds write a lot.
  const folder = mkdtempSync(join(memoryFolder(), 'roost-sim-'))
  const log = loggerTo(say)
  const hosts = REGIONS.map(hostIn)
  const fakes = new Map<HostId, FakeHost>(hosts.map((host) => [host.id, createFakeHost()]))
  const server = await createSimServer({ clock, random: random.fork(), log, hosts })
  const network = createSimNetwork({ clock, random: random.fork(), plan: () => plan, count })
  const programs = { clock, network, server }
  const agents = hosts.map((host) =>
    createSimAgent({
      ...programs,
      host,
      fake: fakes.get(host.id) ?? createFakeHost(),
      folder,
      log: loggerTo((what) => say(`${host.name} agent: ${what}`)),
      onStatus: (s) =>
        say(
          `${host.name} says ${s.id} ${s.state} v${s.configGeneration} gen ${s.generation}${s.reason === null ? '' : ` (${s.reason})`}`,
        ),
    }),
  )
  const edges = hosts.map((host) =>
    createSimEdge({ ...programs, host, random: random.fork(), log: silentLogger }),
  )
  const misbehaviours = new Map<MachineId, Misbehaviour>()
  const problems: string[] = []
  let events = 0
  let seenStarts = 0
  /** All has settled, a release serves, and nothing goes wrong any more. */
  let quiet = false
  const seenStops = new Map<HostId, number>()
  /** When something last happened to a host's edge, its connection or the server. */
  const disturbedAt = new Map<string, number>()

  /** It never goes back: what starts is never older than what started before. */
  function watchStarts(): void {
    const all = [...fakes.values()].reduce((sum, fake) => sum + fake.starts.length, 0)
    if (all === seenStarts) return
    seenStarts = all
    for (const fake of fakes.values()) {
      const last = fake.starts.at(-1)
      if (last === undefined) continue
      const version = parseStamp(last.stamp).configGeneration
      const newest = Math.max(
        ...fake.starts
          .filter((s) => s.id === last.id)
          .map((s) => parseStamp(s.stamp).configGeneration),
      )
      if (version < newest)
        problems.push(`${last.id} started version ${version} after version ${newest}`)
    }
  }

  /** Nothing is stopped before its drain is over, nor, in quiet times, while somebody uses it through an edge. */
  function watchStops(): void {
    for (const agent of agents) {
      const { stops } = agent.fake
      for (const { id, signal } of stops.slice(seenStops.get(agent.host.id) ?? 0)) {
        const heard = agent.heard(id)
        if (quiet && heard?.app === RELEASED_APP && !servedWithout(id))
          problems.push(`${id} was stopped, and nothing else of ${RELEASED_APP} is in rotation`)
        const drain = heard?.drain
        if (!drain || clock.now() >= drain.deadline) continue
        if (!drain.done) problems.push(`${id} was stopped (${signal}) in the middle of its drain`)
        for (const edge of edges) {
          const quietMs = clock.now() - Math.max(0, ...disturbedAt.values())
          if (edge.alive() && quietMs >= QUIET_MS && edge.sessions().has(id))
            problems.push(`${id} was stopped though ${edge.host.name} has sessions on it`)
        }
      }
      seenStops.set(agent.host.id, stops.length)
    }
  }

  /** A release starts first: some other machine of the app runs, and every edge sends it requests. */
  function servedWithout(stopped: MachineId): boolean {
    return edges.every((edge) =>
      edge
        .inRotation(RELEASED_APP)
        .some(
          (id) =>
            id !== stopped &&
            [...fakes.values()].some((fake) => fake.machines.get(id)?.state === 'running'),
        ),
    )
  }

  async function run(until: number, between: (elapsedMs: number) => void): Promise<void> {
    while (clock.now() < until) {
      if (++events > EVENTS_MAX) throw new Error(`more than ${EVENTS_MAX} events: somebody spins`)
      const before = clock.now()
      await clock.step(until)
      watchStarts()
      watchStops()
      between(clock.now() - before)
      await settle()
    }
  }

  const dice = random.fork()
  const disturb = (what: string) => disturbedAt.set(what, clock.now())
  const inMs = (ms: number, deed: () => void) => void clock.sleep(ms).then(deed)
  const happens = (elapsedMs: number, everyMs: number) => dice.chance(elapsedMs / everyMs)

  function chaos(elapsedMs: number): void {
    for (const [n, agent] of agents.entries()) {
      // Also between two events at the same instant, where an interval of time never falls.
      if (agent.alive() && (happens(elapsedMs, plan.agentKilledEveryMs) || dice.chance(0.0003))) {
        const loseDisk = dice.chance(plan.diskLost)
        count('agent killed')
        if (loseDisk) count('disk of an agent lost')
        say(`${agent.host.name} agent killed${loseDisk ? ', and its disk lost' : ''}`)
        agent.kill({ loseDisk })
        inMs(dice.int(10, 6000), () => {
          say(`${agent.host.name} agent starts`)
          agent.start()
        })
      }
      const edge = edges[n]
      if (edge?.alive() && happens(elapsedMs, plan.edgeKilledEveryMs)) {
        count('edge killed')
        say(`${edge.host.name} edge killed`)
        edge.kill()
        disturb(edge.host.name)
        inMs(dice.int(10, 15_000), () => {
          edge.start()
          disturb(edge.host.name)
        })
      }
      if (!network.isCut(agent.host.name) && happens(elapsedMs, plan.cutEveryMs)) {
        say(`${agent.host.name} cut off`)
        network.cut(agent.host.name)
        disturb(agent.host.name)
        inMs(dice.int(500, 25_000), () => {
          say(`${agent.host.name} healed`)
          network.heal(agent.host.name)
          disturb(agent.host.name)
        })
      }
      if (happens(elapsedMs, plan.containerVanishesEveryMs)) vanish(agent.fake)
      if (happens(elapsedMs, plan.strayEveryMs)) stray(agent.fake)
    }
    if (server.alive() && happens(elapsedMs, plan.serverKilledEveryMs)) {
      count('server killed')
      say('server killed')
      server.kill()
      disturb('server')
      inMs(dice.int(10, 8000), () => {
        say('server starts')
        server.start()
        disturb('server')
      })
    }
  }
  function vanish(fake: FakeHost): void {
    const ids = [...fake.machines.keys()]
    if (ids.length === 0) return
    const id = dice.pick(ids)
    say(`container of ${id} vanishes`)
    count('container vanished')
    fake.machines.delete(id)
  }

  /** One that runs and that nobody knows, as after a restored backup of the server. */
  function stray(fake: FakeHost): void {
    const id = dice.int(0, 0xffffff).toString(16).padStart(14, 'f') as MachineId
    say(`stray container ${id}`)
    count('stray container')
    const config = configFrom(dice, 0)
    fake.machines.set(id, {
      spec: {
        id,
        stamp: '1/STRAY',
        image: { repository: 'registry.internal/stray', digest: 'sha256:stray' },
        config,
        hostname: id,
        ipv4: '10.210.4.99',
        ipv6: 'fdaa::99',
      },
      state: 'running',
      startedAt: clock.now(),
      exit: null,
      runs: 1,
      environment: {},
    })
  }

  const person = createPerson(random.fork(), say, async (wish) => {
    if (!server.alive()) return
    if (wish.kind === 'release') {
      await server.release(wish.release)
      const { what, ask } = wish.release
      say(`asked: release ${JSON.stringify(what?.config.env)} ${JSON.stringify(ask.scale)}`)
      return
    }
    if (wish.kind === 'create') {
      const { misbehaviour } = wish
      const id = await server.createMachine({
        region: wish.region,
        config: wish.config,
        imageDigest: wish.imageDigest,
        launch: wish.launch,
        prepare: (made) => {
          misbehaviours.set(made, misbehaviour)
          for (const fake of fakes.values()) fake.misbehaviours.set(made, misbehaviour)
        },
      })
      say(`asked: create ${id} in ${wish.region} ${JSON.stringify(misbehaviour)}`)
      return
    }
    const machines = await server.machines(APP)
    const machine = machines[wish.nth % Math.max(1, machines.length)]
    if (machine === undefined) return
    const command: MachineCommand =
      wish.command.kind === 'update'
        ? { ...wish.command, instanceId: server.newInstance() }
        : wish.command
    await server.command(machine.assignment.id, command).then(
      () => say(`asked: ${command.kind} ${machine.assignment.id}`),
      (error: unknown) => say(`refused: ${command.kind} ${machine.assignment.id} (${error})`),
    )
  })

  /** Until all is as it was asked, and stays so. Returns how long that took. */
  async function settles(look: () => Promise<readonly string[]>): Promise<number> {
    const from = clock.now()
    let quietSince: number | null = null
    for (;;) {
      await run(clock.now() + 1000, () => {})
      const open = await look()
      if (open.length > 0) quietSince = null
      else quietSince ??= clock.now()
      if (quietSince !== null && clock.now() - quietSince >= CONFIRM_MS) return quietSince - from
      if (clock.now() < from + SETTLE_MS_MAX) continue
      problems.push(...open)
      return SETTLE_MS_MAX
    }
  }

  let settledMs = 0
  try {
    let nextWish = clock.now()
    await run(START + CHAOS_MS, (elapsedMs) => {
      chaos(elapsedMs)
      if (clock.now() < nextWish) return
      nextWish = clock.now() + dice.int(200, 2500)
      void person(plan)
    })

    plan = CALM
    say('the faults stop')
    server.start()
    for (const [n, agent] of agents.entries()) {
      network.heal(agent.host.name)
      agent.start()
      edges[n]?.start()
    }
    const look = async () => {
      const { all, serving } = await server.releases()
      const machines = await server.machines()
      return unsettled({ machines, fakes, misbehaviours, releases: all, serving })
    }
    settledMs = await settles(look)
    if (problems.length === 0) {
      say('the person goes on, in quiet times')
      quiet = (await server.releases()).serving > 0
      let next = clock.now()
      await run(clock.now() + QUIET_ACTIVE_MS, () => {
        if (clock.now() < next) return
        next = clock.now() + dice.int(200, 2000)
        void person(plan)
      })
      await settles(look)
    }
  } catch (error) {
    problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }

  const ended = (await server.releases()).all.map(({ status }) => status)
  const releases = {
    complete: ended.filter((status) => status === 'complete').length,
    failed: ended.filter((status) => status === 'failed').length,
  }
  for (const agent of agents) agent.kill()
  for (const edge of edges) edge.kill()
  server.kill()
  await server.store.close()
  rmSync(folder, { recursive: true, force: true })
  for (const fake of fakes.values())
    for (const [fault, times] of fake.faults) count(fault as Fault, times)
  for (const problem of problems) say(`PROBLEM ${problem}`)
  return {
    seed,
    problems,
    faults: counts,
    timeline,
    machines: misbehaviours.size,
    settledMs,
    events,
    releases,
  }
}

type Wish =
  | { readonly kind: 'release'; readonly release: Parameters<SimServer['release']>[0] }
  | {
      readonly kind: 'create'
      readonly region: RegionCode
      readonly config: MachineConfig
      readonly imageDigest: string
      readonly launch: boolean
      readonly misbehaviour: Misbehaviour
    }
  | {
      readonly kind: 'command'
      readonly nth: number
      readonly command:
        | Exclude<MachineCommand, { kind: 'update' }>
        | Omit<Extract<MachineCommand, { kind: 'update' }>, 'instanceId'>
    }

/** Somebody who creates, changes and destroys machines without waiting for anything. */
function createPerson(
  random: Random,
  say: (what: string) => void,
  ask: (wish: Wish) => Promise<void>,
): (plan: FaultPlan) => Promise<void> {
  let versions = 0
  let made = 0
  let released = 0
  const version = () => ({
    config: configFrom(random, ++versions),
    imageDigest: `sha256:${versions}`,
  })
  const wishFor = (plan: FaultPlan): Wish => {
    const nth = random.int(0, 1000)
    const roll = random.int(1, 100)
    if (released < RELEASES_MAX && (released === 0 || random.chance(0.12))) {
      released++
      return releaseFrom(random, version(), plan)
    }
    const command = (c: Extract<Wish, { kind: 'command' }>['command']): Wish => ({
      kind: 'command',
      nth,
      command: c,
    })
    if (made < 3 || (roll <= 25 && made < MACHINES_MAX)) {
      made++
      return {
        kind: 'create',
        region: random.pick(REGIONS) as RegionCode,
        ...version(),
        launch: random.chance(0.9),
        misbehaviour: random.chance(plan.misbehaving) ? misbehaviourFrom(random) : {},
      }
    }
    if (roll <= 40) return command({ kind: 'start' })
    if (roll <= 55)
      return command({
        kind: 'stop',
        ...(random.chance(0.3) ? { timeoutMs: random.int(0, 10_000) } : {}),
      })
    if (roll <= 80) return command({ kind: 'update', ...version(), launch: random.chance(0.85) })
    if (roll <= 88) return command({ kind: 'destroy' })
    if (roll <= 92) return command({ kind: 'destroy', force: true })
    return command({ kind: random.chance(0.4) ? 'cordon' : 'uncordon' })
  }
  return async (plan) => {
    try {
      await ask(wishFor(plan))
    } catch (error) {
      say(`not done: ${error}`)
    }
  }
}

/** A new version of the released app, in some regions; some versions can't work, and their releases must fail. */
function releaseFrom(
  random: Random,
  { config, imageDigest }: { readonly config: MachineConfig; readonly imageDigest: string },
  plan: FaultPlan,
): Wish {
  const broken = random.pick<Misbehaviour>([
    { startFails: 'always', startImpossible: true },
    { exitsAfterMs: 200, exitCode: 1 },
    { startFails: 'once' },
    { startBlocksMs: 3000 },
  ])
  const env = random.chance(plan.misbehaving / 2)
    ? { ...config.env, MISBEHAVIOUR: JSON.stringify(broken) }
    : config.env
  const scale = { ams: random.int(1, 2), iad: random.int(0, 2), syd: random.int(0, 1) }
  return {
    kind: 'release',
    release: {
      cause: 'deploy',
      ask: { scale, regions: [], ha: true },
      what: {
        image: 'registry.internal/site:1',
        imageDigest,
        config: {
          ...config,
          env,
          restart: { policy: 'on-failure', max_retries: 2 },
          auto_destroy: false,
        },
        primaryRegion: null,
        source: null,
      },
      waitTimeoutMs: random.int(5_000, 12_000),
    },
  }
}

function configFrom(random: Random, version: number): MachineConfig {
  return {
    image: 'registry.internal/shop',
    env: { VERSION: String(version) },
    init: {},
    guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
    services: [
      {
        protocol: 'tcp',
        internal_port: 8080,
        ports: [],
        checks: [],
        concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
        autostop: 'off',
        autostart: true,
        min_machines_running: 0,
      },
    ],
    checks: {},
    restart: {
      policy: random.pick(['no', 'always', 'on-failure', 'on-failure']),
      max_retries: random.int(1, 4),
    },
    stop_config: { signal: 'SIGINT', timeout_ms: random.int(0, 8000) },
    metadata: {},
    auto_destroy: random.chance(0.05),
  }
}

function misbehaviourFrom(random: Random): Misbehaviour {
  const times = () => random.pick(['once', 'twice'] as const)
  const all: Misbehaviour[] = [
    { pullFails: times(), pullBlocksMs: random.int(1, 5000) },
    { createFails: times() },
    { startFails: times(), startBlocksMs: random.int(1, 3000) },
    { startFails: 'always', startImpossible: true },
    {
      exitsAfterMs: random.int(20, 5000),
      exits: random.int(1, 4),
      exitCode: random.pick([0, 1, 7]),
      oomKilled: random.chance(0.2),
    },
    { ignoresStop: true },
    { stopTakesMs: random.int(100, 6000) },
    { removeFails: times() },
    { silent: true },
  ]
  return { ...random.pick(all), ...random.pick(all) }
}

function hostIn(region: (typeof REGIONS)[number], n: number): Host {
  const number = n + 1
  return {
    id: `${number}`.padStart(14, '0') as HostId,
    name: region,
    region: region as RegionCode,
    number,
    publicAddress: `198.18.${number}.1`,
    wireguard: { endpoint: `198.18.${number}.1:51820`, publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 4, memoryMb: 8192 },
    builder: false,
    availability: 'active',
    agentSeenAt: null,
    edgeSeenAt: null,
    status: 'ok',
  }
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
              .map(([k, v]) => `${k}=${v}`)
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
