import { join } from 'node:path'
import type { RouteName, WatchEvent } from '../../packages/api/src/index.ts'
import type { Clock, Logger, PeerClient } from '../../packages/base/src/index.ts'
import type {
  AppName,
  Draining,
  Host,
  HostId,
  Instant,
  MachineId,
  MachineStatus,
  Release,
  Revision,
} from '../../packages/core/src/index.ts'
import {
  type ControlPlane,
  createControlPlane,
  memoryDeps,
  openSqlite,
  type Store,
} from '../../packages/server/src/control-plane.ts'
import { type JoiningHost, SILENCE_MS } from '../../packages/server/src/http/hosts.ts'
import type { StepMoment } from '../../packages/server/src/laps/release-lap.ts'
import { getApp } from '../../packages/server/src/store/apps.ts'
import { listHosts } from '../../packages/server/src/store/hosts.ts'
import { listMachines, type StoredMachine } from '../../packages/server/src/store/machines.ts'
import { getRelease, listReleases } from '../../packages/server/src/store/releases.ts'
import { createProcess, type SimProcess } from './process.ts'
import type { Random } from './random.ts'
import { copyDatabase, fullError, type SimDisk } from './sim-disk.ts'

/** Its machines are made by hand, one by one. */
export const APP = 'shop' as AppName
/** Its machines are those of its releases. */
export const RELEASED_APP = 'site' as AppName

type Program = 'agent' | 'edge'

/** For tests that kill the server at one of its steps. */
export interface SimServerHooks {
  /** Before and after each transaction of a server that lives, with the keys of what it changed. */
  readonly onCommit?: (when: 'before' | 'after', keys: ReadonlySet<string>) => void
  /** Before and after each step of a release. */
  readonly onStep?: (moment: StepMoment) => void
  /** What hosts answer when they are called. Default: nothing. */
  readonly agent?: (host: Host) => PeerClient
}

/** The real control plane without its HTTP layer. Dies and starts again on the same file. */
export interface SimServer {
  alive(): boolean
  kill(): void
  start(): void
  close(): Promise<void>
  /** To be called between two events. */
  backUp(): void
  /** Kills it, if it runs; it starts with what the last backup holds. False: there is none. */
  restore(): Promise<boolean>
  /** Each throws when the server is dead, as a connection would. */
  call(name: RouteName, input?: Parameters<ControlPlane['call']>[1]): Promise<unknown>
  addHost(host: JoiningHost): Promise<{ readonly id: HostId; readonly number: number }>
  watch(
    program: Program,
    host: HostId,
    since: Revision,
    signal: AbortSignal,
  ): AsyncIterable<WatchEvent>
  report(
    host: HostId,
    statuses: readonly MachineStatus[],
  ): Promise<Readonly<Record<MachineId, number>>>
  heartbeat(
    program: Program,
    host: HostId,
    beat: { readonly applied: Revision; readonly draining: readonly Draining[] },
  ): Promise<void>
  /** The rest looks into the store, whether the server lives or not. */
  machines(app?: AppName): Promise<readonly StoredMachine[]>
  /** Of the released app, newest first, and which of them serves; 0: none. */
  releases(newest?: number): Promise<{ readonly all: readonly Release[]; readonly serving: number }>
  /** Of the released app. */
  release(version: number): Promise<Release | null>
  hosts(): Promise<readonly Host[]>
  /** What this start of it heard of the agent of a host last, by the simulated clock, and how long it had been silent before. */
  lastWord(host: HostId): Word
  store(): Store
}

export interface Word {
  readonly at: Instant
  /** When a silence ended that was long enough to be taken for unreachable. */
  readonly silentUntil: Instant
}

export interface SimServerOptions {
  readonly clock: Clock
  /** The clock on the wall of its host. */
  readonly wall: Clock
  readonly random: Random
  readonly log: Logger
  readonly disk: SimDisk
  readonly folder: string
  readonly onRefused: () => void
  readonly hooks?: SimServerHooks
}

export async function createSimServer(options: SimServerOptions): Promise<SimServer> {
  const { clock, wall, random, log, hooks = {} } = options
  const file = join(options.folder, 'server', 'store.sqlite')
  const backup = join(options.folder, 'backup', 'store.sqlite')
  const leap = () => 2 ** 24 + random.int(0, 2 ** 24)
  const open = () => openSqlite({ file, clock: wall, leap })
  let store = open()
  let backedUp = false
  let bootedAt = clock.now()
  const words = new Map<HostId, Word>()
  /** While the store is put back, nobody can look into it. */
  let whole: Promise<void> = Promise.resolve()
  const look = <T>(work: Parameters<typeof store.read<T>>[0]) => whole.then(() => store.read(work))

  function boot() {
    bootedAt = clock.now()
    words.clear()
    const process = createProcess('server')
    const own = process.clock(wall)
    const gated = gatedStore(store, process, options)
    const deps = memoryDeps({
      clock: own,
      randomBytes: (count) => random.bytes(count),
      store: gated.store,
      change: { log, ...(hooks.agent === undefined ? {} : { agent: hooks.agent }) },
    })
    const onStep = (moment: StepMoment) => {
      if (process.alive()) hooks.onStep?.(moment)
    }
    const control = createControlPlane(Object.assign(deps, { onStep }))
    const stop = control.start()
    return { process, control, stop, unhear: gated.unhear }
  }
  let running: ReturnType<typeof boot> | null = boot()
  await running.control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  for (const name of [APP, RELEASED_APP])
    await running.control.call('createApp', { body: { app_name: name, org_slug: 'personal' } })

  function up() {
    if (running === null) throw new Error('connection refused')
    return running
  }
  function kill() {
    running?.unhear()
    running?.process.kill()
    running = null
  }

  return {
    alive: () => running !== null,
    kill,
    start: () => {
      running ??= boot()
    },
    close: async () => {
      kill()
      await store.close()
    },
    backUp: () => {
      copyDatabase(file, backup)
      backedUp = true
    },
    async restore() {
      if (!backedUp) return false
      kill()
      // A write that is under way ends first, and that takes its time on a slow disk.
      whole = store.close().then(() => {
        copyDatabase(backup, file)
        store = open()
      })
      await whole
      return true
    },
    call: async (name, input) => {
      const { process, control } = up()
      const reply = await process.linked(control.call(name, input))
      // Lines come for as long as the connection lasts.
      return typeof reply === 'function'
        ? (signal: AbortSignal) => linkedLines(process, reply(signal))
        : reply
    },
    addHost: async (host) => {
      const { process, control } = up()
      return process.linked(control.addHost(host))
    },
    async *watch(program, host, since, signal) {
      const { process, control } = up()
      await process.linked(control.refuseUnknown({ program, host }))
      yield* linkedLines(process, control.watch({ program, host }, since, signal))
    },
    async report(host, statuses) {
      const { process, control } = up()
      return process.linked(control.report(host, statuses))
    },
    async heartbeat(program, host, beat) {
      const { process, control } = up()
      // Not when it is answered: on a slow disk that may be long after it was heard.
      const at = clock.now()
      await process.linked(control.heartbeat({ program, host }, beat))
      if (program !== 'agent') return
      const before = lastWord(host)
      words.set(host, { at, silentUntil: isSilence(before.at, at) ? at : before.silentUntil })
    },
    machines: (app) => look((reader) => listMachines(reader, app === undefined ? {} : { app })),
    releases: (newest = 100) =>
      look(async (reader) => ({
        all: await listReleases(reader, RELEASED_APP, newest),
        serving: (await getApp(reader, RELEASED_APP))?.release ?? 0,
      })),
    release: (version) => look((reader) => getRelease(reader, RELEASED_APP, version)),
    hosts: () => look(listHosts),
    lastWord,
    store: () => store,
  }

  function lastWord(host: HostId): Word {
    return words.get(host) ?? { at: bootedAt, silentUntil: bootedAt }
  }

  /** What a server sees of its store: it may be killed before and after each commit, and the disk may be full or slow. */
  function gatedStore(inner: Store, process: SimProcess, how: SimServerOptions) {
    const unhears: (() => void)[] = []
    const gatedOne: Store = {
      ...inner,
      read: (work) => process.gate(inner.read(work)),
      transaction: (work) => {
        const keys = new Set<string>()
        const done = inner.transaction(async (tx) => {
          const noted = {
            ...tx,
            touch: (key: string) => {
              keys.add(key)
              tx.touch(key)
            },
          }
          const result = await work(noted)
          if (how.disk.slowMs > 0) await clock.sleep(how.disk.slowMs)
          if (how.disk.full) {
            how.onRefused()
            throw fullError()
          }
          if (process.alive()) how.hooks?.onCommit?.('before', keys)
          if (!process.alive()) throw new Error('killed before its commit')
          return result
        })
        return process.gate(
          done.then((result) => {
            if (process.alive()) how.hooks?.onCommit?.('after', keys)
            return result
          }),
        )
      },
      onChange: (heard) => {
        const unhear = inner.onChange((change) => {
          if (process.alive()) heard(change)
        })
        unhears.push(unhear)
        return unhear
      },
      close: async () => {},
    }
    return {
      store: gatedOne,
      unhear: () => {
        for (const end of unhears) end()
      },
    }
  }
}

/** The fastest clock gains a tenth. */
export const isSilence = (since: Instant, until: Instant): boolean =>
  until - since > SILENCE_MS * 0.85

/** What the server says to somebody: its death breaks the connection. */
async function* linkedLines<T>(process: SimProcess, lines: AsyncIterable<T>): AsyncGenerator<T> {
  const iterator = lines[Symbol.asyncIterator]()
  try {
    for (;;) {
      if (!process.alive()) throw new Error('connection reset')
      const next = await process.linked(iterator.next())
      if (next.done) return
      yield next.value
    }
  } finally {
    void iterator.return?.()
  }
}
