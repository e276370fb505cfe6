import type { WatchEvent } from '../../packages/api/src/index.ts'
import { type Clock, type Logger, PlatformError } from '../../packages/base/src/index.ts'
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
  type Revision,
  reservedBy,
} from '../../packages/core/src/index.ts'
import { createIds } from '../../packages/server/src/ids.ts'
import { startDrainLap } from '../../packages/server/src/laps/drain-lap.ts'
import { commandMachine } from '../../packages/server/src/machine/command.ts'
import { insertNewMachine } from '../../packages/server/src/machine/insert.ts'
import { networkNumber, putApp } from '../../packages/server/src/store/apps.ts'
import { listHosts, putHost } from '../../packages/server/src/store/hosts.ts'
import {
  getMachine,
  listMachines,
  reservedByHost,
  type StoredMachine,
  siblingsOf,
} from '../../packages/server/src/store/machines.ts'
import { openSqlite } from '../../packages/server/src/store/sqlite/open-sqlite.ts'
import type { Store } from '../../packages/server/src/store/store.ts'
import { acceptStatuses } from '../../packages/server/src/watch/accept-statuses.ts'
import { createPresence } from '../../packages/server/src/watch/presence.ts'
import { watch } from '../../packages/server/src/watch/watch.ts'
import { createProcess } from './process.ts'
import type { Random } from './random.ts'

export const APP = 'shop' as AppName

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
  machines(): Promise<readonly StoredMachine[]>
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
    await putApp(tx, {
      name: APP,
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
    startDrainLap({ store, clock: own, log, presence })
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
        const deps = { ids, now: clock.now(), secrets: { sealForHost: async () => null } }
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
    machines: () => store.read((reader) => listMachines(reader, {})),
  }
}
