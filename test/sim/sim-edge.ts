import type { RecordValues } from '../../packages/api/src/index.ts'
import {
  type Clock,
  createRecordCache,
  follow,
  type Logger,
  startLoop,
} from '../../packages/base/src/index.ts'
import {
  type AppName,
  type Draining,
  type HostId,
  type Instant,
  isReady,
  type MachineId,
} from '../../packages/core/src/index.ts'
import { createProcess } from './process.ts'
import type { Random } from './random.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimServer } from './sim-server.ts'

/** As much of an edge as a machine notices: it hears records, carries them out after a moment, and has sessions that end late or never. */
export interface SimEdge {
  readonly name: string
  alive(): boolean
  kill(): void
  start(as: HostId): void
  /** Sessions that it holds on machines that left rotation. */
  sessions(): ReadonlyMap<MachineId, number>
  /** When the last session on a machine that left rotation ends; null: it never sent it anything, or does so still. */
  lastSessionEnds(id: MachineId): Instant | null
  /** What it sends requests to. */
  inRotation(app: AppName): readonly MachineId[]
  /** The server has told it something within the time in which it always does. A stream may die unnoticed. */
  hears(): boolean
}

const NEVER = Number.POSITIVE_INFINITY
/** The server says something every 5 s, and a message takes its time. */
const HEARD_MS = 6_000
const ANSWERED = new Error('answered')

export function createSimEdge(options: {
  readonly name: string
  readonly host: HostId
  readonly clock: Clock
  readonly random: Random
  readonly network: SimNetwork
  readonly server: SimServer
  readonly log: Logger
  /** False: nobody stays on a machine that left rotation. Default true. */
  readonly sessions?: boolean
}): SimEdge {
  const { name, clock, random, network, server, log, sessions = true } = options

  function boot(host: HostId) {
    const process = createProcess(`edge ${name}`)
    const own = process.clock(clock)
    const cache = createRecordCache<RecordValues>({ file: ':memory:', log })
    const to = network.link(process, `${name}/edge`)
    const routed = new Set<MachineId>()
    /** Machines that left rotation, with the time at which the last session on them ends. */
    const leaving = new Map<MachineId, number>()
    let rotation = new Map<string, MachineId[]>()
    let applied = 0
    let heardAt = Number.NEGATIVE_INFINITY

    async function* heard<T extends { readonly type: string }>(
      events: AsyncIterable<T>,
    ): AsyncIterable<T> {
      for await (const event of events) {
        yield event
        // Asked for the next one: this one is carried out.
        if (event.type === 'synced') heardAt = own.now()
      }
    }
    const carryOut = () => {
      const views = cache.list('machine')
      const byId = new Map(views.map((view) => [view.id, view]))
      rotation = new Map()
      for (const view of views) {
        if (view.routed && view.status !== null && isReady(view.status)) {
          const others = rotation.get(view.app)
          if (others === undefined) rotation.set(view.app, [view.id])
          else others.push(view.id)
        }
        if (view.routed && view.status?.state === 'started') {
          routed.add(view.id)
          leaving.delete(view.id)
        } else if (routed.delete(view.id) && sessions)
          leaving.set(view.id, random.chance(0.15) ? NEVER : own.now() + random.int(0, 8000))
      }
      for (const id of [...routed, ...leaving.keys()]) {
        // Sessions end with the machine.
        if (byId.get(id)?.status?.state === 'started') continue
        routed.delete(id)
        leaving.delete(id)
      }
      applied = cache.revision()
    }
    const draining = (): Draining[] =>
      [...leaving].flatMap(([machine, until]) =>
        until > own.now() ? [{ machine, sessions: 1 }] : [],
      )
    const beating = startLoop({
      name: 'heartbeat',
      periodMs: 2000,
      clock: own,
      log,
      lap: async (signal) => {
        const beat = { applied, draining: draining() }
        const answered = new AbortController()
        const called = to.call(() => server.heartbeat('edge', host, beat), signal)
        const late = own.sleep(5000, AbortSignal.any([signal, answered.signal]))
        try {
          await Promise.race([called, late])
        } finally {
          answered.abort(ANSWERED)
        }
      },
    })
    void follow({
      connect: (since, signal) =>
        heard(to.stream((within) => server.watch('edge', host, since, within), signal)),
      cache,
      onChange: () => {
        carryOut()
        beating.wake()
      },
      clock: own,
      log,
      signal: process.gone,
    })
    return {
      process,
      cache,
      draining,
      inRotation: (app: AppName) => rotation.get(app) ?? [],
      hears: () => own.now() - heardAt < HEARD_MS,
      lastSessionEnds: (id: MachineId) => leaving.get(id) ?? null,
    }
  }

  let running: ReturnType<typeof boot> | null = boot(options.host)
  return {
    name,
    alive: () => running !== null,
    kill: () => {
      running?.process.kill()
      running?.cache.close()
      running = null
    },
    start: (as) => {
      running ??= boot(as)
    },
    lastSessionEnds: (id) => running?.lastSessionEnds(id) ?? null,
    inRotation: (app) => running?.inRotation(app) ?? [],
    hears: () => running?.hears() ?? false,
    sessions: () =>
      new Map(running?.draining().map(({ machine, sessions }) => [machine, sessions]) ?? []),
  }
}
