import type { WatchEvent } from '../../packages/api/src/index.ts'
import {
  type Clock,
  type Logger,
  type PeerClient,
  PlatformError,
} from '../../packages/base/src/index.ts'
import {
  type AppName,
  type Draining,
  describePlacementRefusal,
  type Host,
  type HostId,
  type MachineCommand,
  type MachineConfig,
  type MachineId,
  type MachineStatus,
  place,
  type RegionCode,
  type Release,
  type Revision,
  reservedBy,
} from '../../packages/core/src/index.ts'
import { createIds } from '../../packages/server/src/ids.ts'
import { startDrainLap } from '../../packages/server/src/laps/drain-lap.ts'
import { startReleaseLap } from '../../packages/server/src/laps/release-lap.ts'
import { commandMachine } from '../../packages/server/src/machine/command.ts'
import { insertNewMachine } from '../../packages/server/src/machine/insert.ts'
import {
  createRelease,
  type ReleaseRequest,
} from '../../packages/server/src/release/create-release.ts'
import { getApp, networkNumber, putApp } from '../../packages/server/src/store/apps.ts'
import { listHosts, putHost } from '../../packages/server/src/store/hosts.ts'
import {
  getMachine,
  listMachines,
  reservedByHost,
  type StoredMachine,
  siblingsOf,
} from '../../packages/server/src/store/machines.ts'
import { listReleases } from '../../packages/server/src/store/releases.ts'
import { openSqlite } from '../../packages/server/src/store/sqlite/open-sqlite.ts'
import type { Store } from '../../packages/server/src/store/store.ts'
import { acceptStatuses } from '../../packages/server/src/watch/accept-statuses.ts'
import { createPresence } from '../../packages/server/src/watch/presence.ts'
import { watch } from '../../packages/server/src/watch/watch.ts'
import { createProcess } from './process.ts'
import type { Random } from './random.ts'

/** Its machines are made by hand, one by one. */
export const APP = 'shop' as AppName
/** Its machines are those of its releases. */
export const RELEASED_APP = 'site' as AppName

type Program = 'agent' | 'edge'

/** The real server behind its HTTP layer: its store in memory, its functions, its laps. Dies and starts again on the same store. */
export interface SimServer {
  readonly store: Store
  alive(): boolean
  kill(): void
  start(): void
  /** Each throws when the server is dead, as a connection would. */
  watch(
    program: Program,
    host: HostId,
    since: Revision,
    signal: AbortSignal,
  ): AsyncIterable<WatchEvent>
  report(host: HostId, statuses: readonly MachineStatus[]): Promise<void>
  heartbeat(
    program: Program,
    host: HostId,
    beat: { readonly applied: Revision; readonly draining: readonly Draining[] },
  ): Promise<void>
  createMachine(input: {
    readonly region: RegionCode
    readonly config: MachineConfig
    readonly imageDigest: string
    readonly launch: boolean
    /** Before its host can hear of it. */
    readonly prepare: (id: MachineId) => void
  }): Promise<MachineId>
  command(id: MachineId, command: MachineCommand): Promise<void>
  newInstance(): StoredMachine['assignment']['instanceId']
  release(wish: Pick<ReleaseRequest, 'cause' | 'ask' | 'what' | 'waitTimeoutMs'>): Promise<void>
  machines(app?: AppName): Promise<readonly StoredMachine[]>
  /** Of the released app, newest first, and which of them serves; 0: none. */
  releases(): Promise<{ readonly all: readonly Release[]; readonly serving: number }>
}

export async function createSimServer(options: {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly hosts: readonly Host[]
}): Promise<SimServer> {
  const { clock, random, log } = options
  const store = openSqlite({ file: ':memory:' })
  const ids = createIds((count) => random.bytes(count))

  await store.transaction(async (tx) => {
    for (const host of options.hosts) await putHost(tx, host)
    const { number } = await networkNumber(tx, 'personal', 'default')
    for (const name of [APP, RELEASED_APP])
      await putApp(tx, {
        name,
        organization: 'personal',
        network: number,
        createdAt: clock.now(),
        primaryRegion: null,
        release: 0,
      })
  })

  function boot() {
    const process = createProcess('server')
    const own = process.clock(clock)
    const presence = createPresence(own.now())
    const deps = { store, clock: own, log, presence }
    startDrainLap(deps)
    startReleaseLap({ ...deps, ids, secrets: noSecrets, agent: () => silentAgent })
    return { process, clock: own, presence }
  }
  let running: ReturnType<typeof boot> | null = boot()

  function up() {
    if (running === null) throw new Error('connection refused')
    return running
  }

  return {
    store,
    alive: () => running !== null,
    kill: () => {
      running?.process.kill()
      running = null
    },
    start: () => {
      running ??= boot()
    },
    async *watch(program, host, since, signal) {
      const { process, clock: own } = up()
      const events = watch({ store, clock: own }, { program, host }, since, signal)
      for (;;) {
        const next = await process.linked(events.next())
        if (next.done) return
        yield next.value
      }
    },
    async report(host, statuses) {
      const { process } = up()
      const work = store.transaction((tx) => acceptStatuses(tx, host, statuses, clock.now()))
      await process.linked(work)
    },
    async heartbeat(program, host, beat) {
      const { presence } = up()
      if (program === 'agent') presence.agentHeard(host, clock.now(), beat.applied)
      else presence.edgeHeard(host, { seenAt: clock.now(), ...beat })
    },
    async createMachine({ region, config, imageDigest, launch, prepare }) {
      const id = ids.machineId()
      await store.transaction(async (tx) => {
        const hosts = await listHosts(tx)
        const wanted = {
          region,
          ...reservedBy(config.guest),
          siblings: await siblingsOf(tx, APP),
        }
        const placement = place(wanted, hosts, await reservedByHost(tx))
        if (placement.kind !== 'placed')
          throw new PlatformError('no_room', describePlacementRefusal(placement))
        const host = hosts.find((h) => h.id === placement.host)
        if (host === undefined) throw new Error('placed on no host')
        prepare(id)
        const deps = { ids, now: clock.now(), secrets: noSecrets }
        const { cpu_kind, cpus, memory_mb } = config.guest
        await insertNewMachine(tx, deps, {
          id,
          app: APP,
          host,
          config: {
            ...config,
            image: `registry.internal/${id}:1`,
            guest: { cpu_kind, cpus, memory_mb },
          },
          imageDigest,
          launch,
          source: 'user',
        })
      })
      return id
    },
    async command(id, command) {
      await store.transaction(async (tx) => {
        const machine = await getMachine(tx, id)
        if (machine === null || machine.destroyedAt !== null) return
        await commandMachine(tx, machine, command, { now: clock.now(), source: 'user' })
      })
    },
    newInstance: () => ids.instanceId(clock.now()),
    async release(wish) {
      const deps = { now: clock.now(), newId: () => ids.machineId() }
      await store.transaction((tx) =>
        createRelease(tx, { ...wish, app: RELEASED_APP, createdBy: 'person' }, deps),
      )
    },
    machines: (app) =>
      store.read((reader) => listMachines(reader, app === undefined ? {} : { app })),
    releases: () =>
      store.read(async (reader) => ({
        all: await listReleases(reader, RELEASED_APP, 100),
        serving: (await getApp(reader, RELEASED_APP))?.release ?? 0,
      })),
  }
}

const noSecrets = {
  sealForHost: async () => null,
  list: async () => [],
  change: async () => false,
}

/** Logs only adorn what a release says. */
const silentAgent: PeerClient = {
  json: () => Promise.reject(new Error('connection refused')),
  // biome-ignore lint/correctness/useYield: it breaks before the first line.
  async *lines() {
    throw new Error('connection refused')
  },
  close: async () => {},
}
