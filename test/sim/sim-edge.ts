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
  type Host,
  isReady,
  type MachineId,
} from '../../packages/core/src/index.ts'
import { createProcess } from './process.ts'
import type { Random } from './random.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimServer } from './sim-server.ts'

/** As much of an edge as a machine notices: it hears records, carries them out after a moment, and has sessions that end late or never. */
export interface SimEdge {
  readonly host: Host
  alive(): boolean
  kill(): void
  start(): void
  /** Sessions that it holds on machines that left rotation. */
  sessions(): ReadonlyMap<MachineId, number>
  /** What it sends requests to. */
  inRotation(app: AppName): readonly MachineId[]
}

const NEVER = Number.POSITIVE_INFINITY

export function createSimEdge(options: {
  readonly host: Host
  readonly clock: Clock
  readonly random: Random
  readonly network: SimNetwork
  readonly server: SimServer
  readonly log: Logger
}): SimEdge {
  const { host, clock, random, network, server, log } = options

  function boot() {
    const process = createProcess(`edge ${host.name}`)
    const own = process.clock(clock)
    const cache = createRecordCache<RecordValues>({ file: ':memory:', log })
    const to = network.link(process, host.name)
    const routed = new Set<MachineId>()
    /** Machines that left rotation, with the time at which the last session on them ends. */
    const leaving = new Map<MachineId, number>()
    let applied = 0

    const carryOut = () => {
      const views = cache.list('machine')
      for (const view of views) {
        if (view.routed && view.status?.state === 'started') {
          routed.add(view.id)
          leaving.delete(view.id)
        } else if (routed.delete(view.id))
          leaving.set(view.id, random.chance(0.15) ? NEVER : own.now() + random.int(0, 8000))
      }
      for (const id of [...routed, ...leaving.keys()]) {
        const view = views.find((v) => v.id === id)
        // Sessions end with the machine.
        if (view?.status?.state === 'started') continue
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
        const called = to.call(() => server.heartbeat('edge', host.id, beat), signal)
        await Promise.race([called, own.sleep(5000, signal)])
      },
    })
    void follow({
      connect: (since, signal) =>
        to.stream((within) => server.watch('edge', host.id, since, within), signal),
      cache,
      onChange: () => {
        carryOut()
        beating.wake()
      },
      clock: own,
      log,
      signal: process.gone,
    })
    const inRotation = (app: AppName) =>
      cache
        .list('machine')
        .filter((v) => v.app === app && v.routed && v.status !== null && isReady(v.status))
        .map((v) => v.id)
    return { process, cache, draining, inRotation }
  }

  let running: ReturnType<typeof boot> | null = boot()
  return {
    host,
    alive: () => running !== null,
    kill: () => {
      running?.process.kill()
      running?.cache.close()
      running = null
    },
    start: () => {
      running ??= boot()
    },
    inRotation: (app) => running?.inRotation(app) ?? [],
    sessions: () =>
      new Map(running?.draining().map(({ machine, sessions }) => [machine, sessions]) ?? []),
  }
}
