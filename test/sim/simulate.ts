import type { Deed } from './deed.ts'
import { CHAOS, type Fault, type FaultPlan } from './faults.ts'
import { createPerson } from './person.ts'
import { createRandom, type Random } from './random.ts'
import { createSimWorld, hasSuspended, type SimWorld } from './sim-world.ts'
import { regionsOf, type World, worldOf } from './world.ts'

export interface SimResult {
  readonly seed: number
  /** What is wrong; empty when the world settled. */
  readonly problems: readonly string[]
  readonly faults: ReadonlyMap<Fault, number>
  readonly timeline: readonly string[]
  readonly hosts: number
  readonly machines: number
  /** Simulated time until the world had settled, from when the faults stopped. */
  readonly settledMs: number
  readonly events: number
  /** How the releases ended. */
  readonly releases: { readonly complete: number; readonly failed: number }
}

const CHAOS_MS = 24_000
/** What is asked while nothing goes wrong, after all has settled. */
const QUIET_ACTIVE_MS = 8_000
const CONFIRM_AGAIN_MS = 1_000
/** A large world costs much: it lasts less long, and less happens to each of its hosts. */
const LARGE_CHAOS_MS = 7_000
const LARGE_QUIET_MS = 4_000
const USUAL_HOSTS = 6

/**
 * One server, hosts with an agent and an edge each, a person who keeps changing their mind, and everything going wrong, from
 * one seed. Then the faults stop, and the world must come to what was asked.
 */
export async function simulate(seed: number): Promise<SimResult> {
  const random = createRandom(seed)
  const shape = worldOf(seed, random.fork())
  const world = await createSimWorld({ hosts: shape.hosts, random: random.fork() })
  let settledMs = 0
  try {
    settledMs = await live(world, shape, random)
  } catch (error) {
    world.problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  const ended = await world
    .whileTimePasses(world.server.releases())
    .then(({ all }) => all.map(({ status }) => status))
    .catch(() => [])
  await world.close()
  return {
    seed,
    problems: world.problems,
    faults: world.faults,
    timeline: world.timeline,
    hosts: shape.hosts.length,
    machines: world.machinesMade(),
    settledMs,
    events: world.events(),
    releases: {
      complete: ended.filter((status) => status === 'complete').length,
      failed: ended.filter((status) => status === 'failed').length,
    },
  }
}

async function live(world: SimWorld, shape: World, random: Random): Promise<number> {
  const plan = {
    ...(shape.large ? thinned(CHAOS, shape.hosts.length / USUAL_HOSTS) : CHAOS),
    // What neither server nor host remembers can't be kept from coming back.
    ...(shape.once === 'restore' ? { diskLost: 0 } : {}),
  }
  const chaos = createChaos(world, shape, random.fork())
  const wishes = createPerson(random.fork(), regionsOf(shape))
  const dice = random.fork()
  const asking = (everyMsMax: number, misbehaving: number) => {
    let next = world.clock.now()
    return () => {
      if (world.clock.now() < next) return
      next = world.clock.now() + dice.int(200, everyMsMax)
      const wish = wishes({ machinesMax: 10, releasesMax: 4, misbehaving })
      void world.perform({ do: 'ask', wish })
    }
  }

  world.usePlan(plan)
  const asksInChaos = asking(shape.large ? 1500 : 2500, CHAOS.misbehaving)
  const chaosMs = shape.large ? LARGE_CHAOS_MS : CHAOS_MS
  await world.run(world.clock.now() + chaosMs, (elapsedMs) => {
    chaos(elapsedMs)
    asksInChaos()
  })
  world.heal()
  const settledMs = await world.settles()
  if (world.problems.length > 0) return settledMs

  world.say('the person goes on, in quiet times')
  world.invariants.settled()
  const { serving } = await world.whileTimePasses(world.server.releases())
  if (serving > 0) world.invariants.quiet()
  const quietMs = shape.large ? LARGE_QUIET_MS : QUIET_ACTIVE_MS
  await world.run(world.clock.now() + quietMs, asking(2000, 0))
  await world.settles(CONFIRM_AGAIN_MS)
  return settledMs
}

/** Chance draws what happens, so often as the plan says. */
function createChaos(world: SimWorld, shape: World, dice: Random): (elapsedMs: number) => void {
  const { hosts } = shape
  const anyHost = () => dice.int(0, hosts.length - 1)
  /** Little is ever suspended: what must be tried beside it would nearly never happen. */
  const besideSuspended = () => {
    const of = world.hosts.flatMap((host, n) => (hasSuspended(host) ? [n] : []))
    return of.length > 0 && dice.chance(0.5) ? dice.pick(of) : anyHost()
  }
  const some = (): number[] => {
    const of = hosts.map((_, n) => n).filter(() => dice.chance(0.5))
    return of.length === 0 ? [anyHost()] : of
  }
  const programs = () =>
    dice.pick([['agent'], ['edge'], ['agent', 'edge']] as const) as ('agent' | 'edge')[]
  /** Seconds mostly, days now and then, forth and back. */
  const jump = () =>
    dice.pick([1000, 5000, 20_000, 3_600_000, 86_400_000 * 3]) *
    dice.pick([-1, 1]) *
    (0.5 + dice.next())

  /** Mean time between two in the whole world, by what happens. */
  const kinds = (plan: FaultPlan): readonly (readonly [everyMs: number, draw: () => Deed])[] => [
    [
      plan.agentKilledEveryMs / hosts.length,
      () => ({
        do: 'kill agent',
        host: besideSuspended(),
        forMs: dice.int(10, 6000),
        loseDisk: dice.chance(plan.diskLost),
      }),
    ],
    [
      plan.edgeKilledEveryMs / hosts.length,
      () => ({ do: 'kill edge', host: anyHost(), forMs: dice.int(10, 15_000) }),
    ],
    [plan.serverKilledEveryMs, () => ({ do: 'kill server', forMs: dice.int(10, 8000) })],
    [
      plan.powerOffEveryMs / hosts.length,
      () => ({
        do: 'power off',
        host: besideSuspended(),
        forMs: dice.int(1000, 12_000),
        lostMs: dice.int(1, 1500),
      }),
    ],
    [
      plan.cutEveryMs / hosts.length,
      () => ({
        do: 'cut',
        hosts: [anyHost()],
        programs: ['agent', 'edge'],
        way: 'both',
        forMs: dice.int(500, 25_000),
      }),
    ],
    [
      plan.partitionEveryMs,
      () => ({
        do: 'cut',
        hosts: some(),
        programs: programs(),
        way: dice.pick(['both', 'both', 'to server', 'from server'] as const),
        forMs: dice.int(500, 20_000),
      }),
    ],
    [
      plan.clockSetEveryMs / hosts.length,
      () =>
        dice.chance(0.2)
          ? { do: 'drift', of: anyHost(), ratio: dice.pick([-0.05, 0.02, 0.1]) }
          : { do: 'set clock', of: anyHost(), byMs: Math.round(jump()) },
    ],
    [
      plan.serverClockSetEveryMs,
      () =>
        dice.chance(0.2)
          ? { do: 'drift', of: 'server', ratio: dice.pick([-0.05, 0.02, 0.1]) }
          : { do: 'set clock', of: 'server', byMs: Math.round(jump()) },
    ],
    [
      plan.diskFullEveryMs / hosts.length,
      () => ({ do: 'fill disk', of: anyHost(), forMs: dice.int(1000, 15_000) }),
    ],
    [
      plan.serverDiskFullEveryMs,
      () => ({ do: 'fill disk', of: 'server', forMs: dice.int(500, 10_000) }),
    ],
    [
      plan.serverDiskSlowEveryMs,
      () => ({ do: 'slow disk', writeMs: dice.int(50, 3000), forMs: dice.int(1000, 8000) }),
    ],
    [
      plan.containerVanishesEveryMs / hosts.length,
      () => ({ do: 'lose container', host: anyHost(), nth: dice.int(0, 100) }),
    ],
    [
      plan.strayEveryMs / hosts.length,
      () => ({
        do: 'stray container',
        host: anyHost(),
        id: dice.int(0, 0xffffff).toString(16).padStart(14, 'f'),
      }),
    ],
  ]

  const drawn = { plan: world.plan(), kinds: kinds(world.plan()) }
  const once = onceFrom(shape, dice, anyHost)
  const startedAt = world.clock.now()
  return (elapsedMs) => {
    for (const { atMs, deed } of once.splice(0, once.length)) {
      if (world.clock.now() - startedAt < atMs) once.push({ atMs, deed })
      else void world.perform(deed)
    }
    if (elapsedMs > 0 && drawn.plan !== world.plan()) {
      drawn.plan = world.plan()
      drawn.kinds = kinds(drawn.plan)
    }
    for (const [everyMs, draw] of drawn.kinds)
      if (dice.chance(elapsedMs / everyMs)) void world.perform(draw())
    // Also between two events at the same instant, where an interval of time never falls.
    if (dice.chance(0.0005))
      void world.perform({ do: 'kill agent', host: anyHost(), forMs: dice.int(10, 6000) })
    if (dice.chance(0.0002)) void world.perform({ do: 'kill server', forMs: dice.int(10, 4000) })
  }
}

/** What happens once in a world at most, and when. */
function onceFrom(
  shape: World,
  dice: Random,
  anyHost: () => number,
): { readonly atMs: number; readonly deed: Deed }[] {
  switch (shape.once) {
    case 'restore':
      return [
        { atMs: dice.int(1000, 14_000), deed: { do: 'back up' } },
        {
          atMs: dice.int(15_000, 23_000),
          deed: { do: 'restore', forMs: dice.int(10, 5000) },
        },
      ]
    case 'remove host':
      return [
        {
          atMs: dice.int(4000, 16_000),
          deed: {
            do: 'remove host',
            host: anyHost(),
            forMs: dice.int(10, 8000),
            wiped: dice.chance(0.5),
          },
        },
      ]
    case null:
      return []
  }
}

function thinned(plan: FaultPlan, by: number): FaultPlan {
  const entries = Object.entries(plan).map(([name, value]) =>
    name.endsWith('EveryMs') ? [name, value * by] : [name, value],
  )
  return Object.fromEntries(entries) as unknown as FaultPlan
}
