import type { Misbehaviour } from '../../packages/agent/src/fake-runtime.ts'
import type { BuildEvent } from '../../packages/api/src/index.ts'
import type { PeerClient } from '../../packages/base/src/index.ts'
import { isFinal, type RegionCode } from '../../packages/core/src/index.ts'
import { createBuild } from '../../packages/server/src/http/builds.ts'
import { listHosts } from '../../packages/server/src/store/hosts.ts'
import { configOf, type DeployHow, type Version } from './person.ts'
import { createProcess, type SimProcess } from './process.ts'
import { createRandom } from './random.ts'
import { RELEASED_APP } from './sim-server.ts'
import { createSimWorld, type SimWorld } from './sim-world.ts'

/** One deploy of three machines as a person does it, and who takes part. */
export const VICTIMS = ['server', 'cli', 'agent', 'edge', 'builder'] as const
export type Victim = (typeof VICTIMS)[number]

/** A moment of a deploy: a step of the release, a deed of an agent, a word of the builder, a line of the command line. */
export type Moment = string

export interface Story {
  readonly name: string
  readonly how: DeployHow
  /** Of the version that is deployed when somebody is killed. */
  readonly misbehaviour: Misbehaviour
  /** Another deploy is asked for at the same time: the first waits for it. */
  readonly two: boolean
}

export const STORIES: readonly Story[] = [
  { name: 'rolling', how: {}, misbehaviour: {}, two: false },
  { name: 'recreate', how: { strategy: 'recreate' }, misbehaviour: {}, two: false },
  { name: 'bluegreen', how: { strategy: 'bluegreen' }, misbehaviour: {}, two: false },
  {
    name: 'a version that fails',
    how: { strategy: 'rolling', max_unavailable: 1 },
    misbehaviour: { exitsAfterMs: 1500, exitCode: 3 },
    two: false,
  },
  {
    name: 'a version that fails in place',
    how: { strategy: 'recreate' },
    misbehaviour: { exitsAfterMs: 500, exitCode: 3 },
    two: false,
  },
  {
    name: 'a version that fails when it serves',
    how: { strategy: 'bluegreen' },
    misbehaviour: { exitsAfterMs: 2800, exitCode: 3 },
    two: false,
  },
  { name: 'two at once', how: {}, misbehaviour: {}, two: true },
]

const REGIONS = ['ams', 'iad', 'syd'] as RegionCode[]
/** The keeper of a host's programs starts them again after about a second. */
const BACK_MS = 1_000
const NEXT_MS_MAX = 15_000
const END_MS_MAX = 120_000
const STEP_MS = 100

export interface Rehearsal {
  /** All moments of one deploy in which nobody is killed, in the order in which they first came. */
  moments(): Promise<readonly Moment[]>
  /**
   * Deploys, and kills that one there. What is wrong afterwards, in words: with this deploy, or with that of the kill before,
   * after which it is the next. `reached`: the moment came.
   */
  kill(
    victim: Victim,
    at: Moment,
  ): Promise<{ readonly reached: boolean; readonly wrong: readonly string[] }>
  /** Deploys what works. What is wrong afterwards. */
  deployWell(): Promise<readonly string[]>
  close(): Promise<void>
}

/** One world, in which one deploy after another is tried: each kill goes on from what the one before left. */
export async function rehearse(story: Story): Promise<Rehearsal> {
  const seen: Moment[] = []
  const armed: { at: Moment | null; fire: () => void } = { at: null, fire: () => {} }
  const people: { cli: SimProcess; builder: SimProcess } = {
    cli: createProcess('cli'),
    builder: createProcess('builder'),
  }
  const reach = (moment: Moment) => {
    if (!seen.includes(moment)) seen.push(moment)
    if (armed.at !== moment) return
    armed.at = null
    armed.fire()
  }
  const world: SimWorld = await createSimWorld({
    hosts: REGIONS.map((region, n) => ({
      name: `${region}${n + 1}`,
      region,
      cpus: 4,
      memoryMb: 4096,
      builder: n === 0,
    })),
    random: createRandom(7),
    sessions: false,
    hooks: {
      onStep: ({ status, step, when }) => reach(`${when} ${status} ${step}`),
      onDeed: ({ host, deed, when }) => {
        if (host === 'ams1') reach(`${when} the agent's ${deed}`)
      },
      agent: () => builderClient(world, people.builder, reach),
    },
  })
  let versions = 0

  const version = (misbehaviour: Misbehaviour): Version => ({
    number: ++versions,
    misbehaviour,
    restart: { policy: 'on-failure', max_retries: 1 },
    stopTimeoutMs: 1000,
    autoDestroy: false,
    memoryMb: 128,
  })

  /** As the command line does it: build, ask, follow. Returns what it was told at last. */
  async function deploy(
    by: SimProcess,
    what: Version,
    how: DeployHow,
    seenBy: (moment: Moment) => void,
  ): Promise<string> {
    const hosts = await world.server.store().read(listHosts)
    const events = await by.gate(
      createBuild(
        { hosts: () => hosts, agent: () => builderClient(world, people.builder, seenBy) },
        { app: RELEASED_APP, header: undefined, body: nothing(), signal: by.gone },
      ),
    )
    for await (const event of gatedLines(by, events)) {
      seenBy(`the command line hears of the build: ${event.kind}`)
      if (event.kind === 'failed') return `build failed: ${event.message}`
    }
    seenBy('before the command line asks for the release')
    const reply = (await by.gate(
      world.server.call('createRelease', {
        params: { app: RELEASED_APP },
        body: {
          config: configOf(RELEASED_APP, what),
          scale: Object.fromEntries(REGIONS.map((region) => [region, 1])),
          wait_timeout: 20,
          ...how,
        },
      }),
    )) as { version: number }
    seenBy('after the command line asked for the release')
    return follow(by, reply.version, seenBy)
  }

  /** Again and again, as the command line does it when the server is away. */
  async function follow(
    by: SimProcess,
    release: number,
    seenBy: (moment: Moment) => void,
  ): Promise<string> {
    for (;;) {
      try {
        const open = (await by.gate(
          world.server.call('followRelease', {
            params: { app: RELEASED_APP, version: String(release) },
          }),
        )) as (signal: AbortSignal) => AsyncIterable<{ status: string }>
        for await (const { status } of gatedLines(by, open(by.gone))) {
          seenBy(`the command line hears: ${status}`)
          if (status === 'complete' || status === 'failed') return status
        }
      } catch {
        // The server is away: it is asked again.
      }
      await by.clock(world.clock).sleep(500)
    }
  }

  const all = async () => (await world.whileTimePasses(world.server.releases(5))).all
  async function untilEnded(state: { done: boolean }, msMax: number): Promise<boolean> {
    const until = world.clock.now() + msMax
    while (!state.done && world.clock.now() < until) await world.run(world.clock.now() + STEP_MS)
    return state.done
  }
  function begin(what: Version, how: DeployHow, seenBy: (moment: Moment) => void) {
    people.cli = createProcess('cli')
    const state: { done: boolean; said: string } = { done: false, said: '' }
    const told = (said: string) => {
      state.done = true
      state.said = said
    }
    deploy(people.cli, what, how, seenBy).then(told, (error: unknown) => told(`error: ${error}`))
    return state
  }

  /** Runs until a deploy that was begun has ended, or who asked for it is dead. How long it waited to begin. */
  async function untilOver(
    state: { readonly done: boolean },
    before: number,
    goOn: () => boolean,
  ): Promise<readonly string[]> {
    const from = world.clock.now()
    let beganAfterMs: number | null = null
    while (!state.done && goOn() && world.clock.now() - from < END_MS_MAX) {
      await world.run(world.clock.now() + STEP_MS)
      if (beganAfterMs !== null) continue
      const mine = (await all()).find((release) => release.version > before)
      const waits = mine === undefined || mine.status === 'pending'
      if (!waits) beganAfterMs = world.clock.now() - from
      else if (world.clock.now() - from > NEXT_MS_MAX && goOn() && !story.two)
        return [`it did not begin within ${NEXT_MS_MAX / 1000} s`]
    }
    return []
  }

  async function deployWell(): Promise<readonly string[]> {
    const before = (await all())[0]?.version ?? 0
    const state = begin(version({}), {}, () => {})
    const late = await untilOver(state, before, () => true)
    const ended = state.said === 'complete' ? [] : [`a deploy ended so: ${state.said || 'never'}`]
    return [...late, ...ended, ...(await leftovers(String(versions)))]
  }

  /** What is left that nobody wants; `running`: the only version that may run, where that is known. */
  async function leftovers(running: string | null): Promise<readonly string[]> {
    await world.settles(0)
    const { problems } = world
    const machines = await world.server.machines()
    const containers = world.hosts.flatMap(({ fake }) => [...fake.machines.keys()])
    const leases = await world.server
      .store()
      .read(({ db }) => db.selectFrom('machine_leases').selectAll().execute())
    const now = machines.map(({ assignment }) => assignment.id)
    const strangers = world.hosts.flatMap(({ edge }) =>
      edge.inRotation(RELEASED_APP).filter((id) => !now.includes(id)),
    )
    const others = machines.filter(
      ({ assignment: a }) => running !== null && a.config.env['VERSION'] !== running,
    )
    return [
      ...problems.splice(0, problems.length),
      ...(machines.length === REGIONS.length ? [] : [`${machines.length} machines are left`]),
      ...(others.length === 0 ? [] : [`${others.length} machines are not of the last deploy`]),
      ...(containers.length === REGIONS.length ? [] : [`${containers.length} containers are left`]),
      ...(leases.length === 0 ? [] : [`${leases.length} leases are left`]),
      ...(strangers.length === 0 ? [] : [`edges have routes to ${strangers.join(', ')}`]),
    ]
  }

  /** The first deploy, from nothing. */
  const first = begin(version({}), {}, () => {})
  await untilEnded(first, END_MS_MAX)
  if (first.said !== 'complete') throw new Error(`the first deploy: ${first.said}`)
  await world.settles()

  async function play(seenBy: (moment: Moment) => void) {
    if (!story.two) return begin(version(story.misbehaviour), story.how, seenBy)
    const other = createProcess('another person')
    void deploy(other, version({}), {}, () => {}).catch(() => {})
    await world.run(world.clock.now() + 300)
    return begin(version(story.misbehaviour), story.how, seenBy)
  }

  return {
    async moments() {
      seen.length = 0
      const state = await play(reach)
      await untilEnded(state, END_MS_MAX)
      const moments = [...seen]
      const wrong = await deployWell()
      if (wrong.length > 0) throw new Error(`nobody was killed, but ${wrong.join('; ')}`)
      return moments
    },

    async kill(victim, at) {
      let killedAt: number | null = null
      armed.at = at
      armed.fire = () => {
        killedAt = world.clock.now()
        killOne(victim)
      }
      const before = (await all())[0]?.version ?? 0
      const state = await play(reach)
      const mourned = () => killedAt !== null && victim === 'cli'
      const late = await untilOver(state, before, () => !mourned())
      armed.at = null
      // Who follows is told how it ended, unless it was them who died.
      const unsaid = state.done || mourned() ? [] : ['the command line was never told how it ended']
      if (killedAt !== null)
        await world.run(Math.max(world.clock.now(), (killedAt as number) + BACK_MS))
      const left = await leftovers(null)
      const open = (await all()).filter(({ status }) => !isFinal(status))
      return {
        reached: killedAt !== null,
        wrong: [
          ...late,
          ...unsaid,
          ...left,
          ...open.map(({ version: v }) => `release ${v} has not ended`),
        ],
      }
    },

    deployWell,
    close: () => world.close(),
  }

  function killOne(victim: Victim): void {
    switch (victim) {
      case 'server':
        void world.perform({ do: 'kill server', forMs: BACK_MS })
        return
      case 'agent':
        void world.perform({ do: 'kill agent', host: 0, forMs: BACK_MS })
        return
      case 'edge':
        void world.perform({ do: 'kill edge', host: 0, forMs: BACK_MS })
        return
      case 'cli':
        people.cli.kill()
        return
      case 'builder': {
        const dead = people.builder
        people.builder = createProcess('builder')
        dead.kill()
      }
    }
  }
}

/** A builder as far as the server sees it: some lines, each after a moment, and a broken connection when it dies. */
function builderClient(
  world: SimWorld,
  builder: SimProcess,
  reach: (moment: Moment) => void,
): PeerClient {
  return {
    json: () => Promise.reject(new Error('connection refused')),
    async *lines<T>() {
      const said: BuildEvent[] = [
        { kind: 'step', name: 'RUN make' },
        { kind: 'output', text: 'made' },
        {
          kind: 'done',
          image: `registry.internal/${RELEASED_APP}:1`,
          size_bytes: 1,
          build_ms: 1,
          push_ms: 1,
        },
      ]
      for (const event of said) {
        if (!builder.alive()) throw new Error('connection reset')
        await builder.linked(world.clock.sleep(20))
        reach(`before the builder says ${event.kind}`)
        if (!builder.alive()) throw new Error('connection reset')
        yield event as T
      }
    },
    close: async () => {},
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** What is read by a program that may die. */
async function* gatedLines<T>(by: SimProcess, lines: AsyncIterable<T>): AsyncGenerator<T> {
  const iterator = lines[Symbol.asyncIterator]()
  for (;;) {
    const next = await by.gate(iterator.next())
    if (next.done) return
    yield next.value
  }
}
