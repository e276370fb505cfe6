import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Checks } from '../../packages/agent/src/checks.ts'
import type { ControlPlane } from '../../packages/agent/src/control-plane.ts'
import {
  createFakeRuntime,
  type FakeHost,
  misbehaviourOf,
} from '../../packages/agent/src/fake-runtime.ts'
import {
  type ControlPlaneLink,
  followControlPlane,
} from '../../packages/agent/src/machine/follow-control-plane.ts'
import {
  createMachineKeeper,
  type MachineKeeper,
} from '../../packages/agent/src/machine/keep-machines.ts'
import { openRecordStore } from '../../packages/agent/src/machine/record-store.ts'
import type { Runtime } from '../../packages/agent/src/runtime.ts'
import type { RecordValues } from '../../packages/api/src/index.ts'
import { type Clock, createRecordCache, type Logger } from '../../packages/base/src/index.ts'
import type { Assignment, HostId, MachineId, MachineStatus } from '../../packages/core/src/index.ts'
import { createProcess, type SimProcess } from './process.ts'
import { copyDatabase, openOn, type SimDisk } from './sim-disk.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimServer } from './sim-server.ts'

export interface SimAgent {
  /** What it last heard that is wanted; null when it is dead or nobody wants it. */
  heard(id: MachineId): Assignment | null
  alive(): boolean
  kill(): void
  start(as: HostId): void
  /** Machines that its memory holds, whether it lives or not. */
  remembered(): readonly MachineId[]
  loseDisk(): void
  /** What it wrote after `snapshot` is lost when `rewind` is called. */
  snapshot(): void
  rewind(): boolean
}

type DeedName = 'pull' | 'create' | 'start' | 'suspend' | 'resume' | 'stop' | 'remove'
export type OnDeed = (moment: {
  readonly host: string
  readonly deed: DeedName
  readonly when: 'before' | 'after'
}) => void

const FILES = ['records.db', 'machines.db']

/** The agent's real loop and link over a fake runtime. What it keeps in files survives its deaths, containers do too. */
export function createSimAgent(options: {
  readonly name: string
  readonly host: HostId
  readonly fake: FakeHost
  readonly folder: string
  readonly clock: Clock
  /** The clock on the wall of its host. */
  readonly wall: Clock
  readonly disk: SimDisk
  readonly network: SimNetwork
  readonly server: SimServer
  readonly log: Logger
  readonly onRefused: () => void
  readonly onDeed?: OnDeed
  readonly onAssignments: (assignments: readonly Assignment[]) => void
  readonly onStatus: (status: MachineStatus) => void
}): SimAgent {
  const { name, fake, clock, wall, network, server, log } = options
  const folder = join(options.folder, name)
  const saved = join(options.folder, `${name}-saved`)
  mkdirSync(folder, { recursive: true })
  const open = openOn(options.disk, options.onRefused)
  let hasSnapshot = false

  function boot(host: HostId) {
    const process = createProcess(`agent ${name}`)
    const own = process.clock(wall)
    const file = (which: string) => join(folder, which)
    const cache = createRecordCache<RecordValues>({
      file: file('records.db'),
      log,
      owner: host,
      open,
    })
    const store = openRecordStore({ file: file('machines.db'), log, open })
    let link: ControlPlaneLink | null = null
    const keeper: MachineKeeper = createMachineKeeper({
      runtime: gatedRuntime(process, fake, wall, options),
      checks: simChecks(fake, own, clock),
      clock: own,
      log,
      store,
      host: { id: host, publicAddress: '198.18.1.1' },
      unseal: async () => ({}),
      onStatus: (status) => {
        options.onStatus(status)
        link?.report(status)
      },
    })
    link = followControlPlane({
      controlPlane: controlPlane(process, host),
      cache,
      clock: own,
      log,
      onRecords: () => {
        const assignments = cache.list('assignment')
        options.onAssignments(assignments)
        keeper.setAssignments(assignments)
      },
      statuses: () => keeper.statuses(),
      onAhead: (id, sequence) => keeper.goBeyond(id, sequence),
    })
    return { process, cache, store }
  }

  function controlPlane(process: SimProcess, host: HostId): ControlPlane {
    const to = network.link(process, `${name}/agent`)
    return {
      watch: (since, signal) =>
        to.stream((within) => server.watch('agent', host, since, within), signal),
      report: (statuses, signal) =>
        to.call(async () => ({ ahead: await server.report(host, statuses) }), signal),
      heartbeat: (beat, signal) => to.call(() => server.heartbeat('agent', host, beat), signal),
      registryToken: async () => 'token',
    }
  }

  let running: ReturnType<typeof boot> | null = boot(options.host)
  return {
    heard: (id) => running?.cache.get('assignment', id) ?? null,
    alive: () => running !== null,
    kill: () => {
      if (running === null) return
      running.process.kill()
      fake.listeners.clear()
      // Nothing of it runs any more, so nobody finds them closed.
      running.cache.close()
      running.store.close()
      running = null
    },
    start: (as) => {
      running ??= boot(as)
    },
    remembered: () => running?.store.load().map(({ record }) => record.id) ?? [],
    loseDisk: () => {
      hasSnapshot = false
      rmSync(folder, { recursive: true })
      mkdirSync(folder)
    },
    snapshot: () => {
      if (running === null) return
      for (const which of FILES) copyDatabase(join(folder, which), join(saved, which))
      hasSnapshot = true
    },
    rewind: () => {
      if (!hasSnapshot) return false
      for (const which of FILES) copyDatabase(join(saved, which), join(folder, which))
      hasSnapshot = false
      return true
    },
  }
}

function gatedRuntime(
  process: SimProcess,
  fake: FakeHost,
  clock: Clock,
  { name, onDeed }: { readonly name: string; readonly onDeed?: OnDeed },
): Runtime {
  const noted = async <T>(deed: DeedName, work: () => Promise<T>): Promise<T> => {
    onDeed?.({ host: name, deed, when: 'before' })
    // Killed at its first line: not even that was done.
    if (!process.alive()) return new Promise<never>(() => {})
    const done = await process.gate(work())
    onDeed?.({ host: name, deed, when: 'after' })
    return process.gate(Promise.resolve(done))
  }
  // The agent's part of a deed stops where it is when the agent dies; programs go on by the host's own clock.
  const runtime = createFakeRuntime(fake, process.clock(clock), clock)
  return {
    ...runtime,
    list: () => process.gate(runtime.list()),
    look: (...args) => process.gate(runtime.look(...args)),
    pull: (...args) => noted('pull', () => runtime.pull(...args)),
    create: (...args) => noted('create', () => runtime.create(...args)),
    start: (...args) => noted('start', () => runtime.start(...args)),
    suspend: (...args) => noted('suspend', () => runtime.suspend(...args)),
    resume: (...args) => noted('resume', () => runtime.resume(...args)),
    stop: (...args) => noted('stop', () => runtime.stop(...args)),
    remove: (...args) => noted('remove', () => runtime.remove(...args)),
  }
}

const CHECK_MS = 300

/** What runs passes after a moment; some fail now and then for a while, as often as they are told to. */
function simChecks(fake: FakeHost, clock: Clock, time: Clock): Checks {
  return {
    start(target, heard) {
      const ended = new AbortController()
      const say = (status: 'passing' | 'critical') => {
        if (ended.signal.aborted || fake.machines.get(target.id)?.state !== 'running') return
        heard(
          target.specs.map(({ name }) => ({
            name,
            status,
            output: status === 'passing' ? 'connected' : 'connection refused',
            updatedAt: clock.now(),
          })),
        )
      }
      const flap = async () => {
        await time.sleep(CHECK_MS, ended.signal)
        say('passing')
        const { checkFlapsEveryMs, checkFlaps = 0 } = misbehaviourOf(fake, target.id)
        if (checkFlapsEveryMs === undefined) return
        for (let n = 0; n < checkFlaps && !ended.signal.aborted; n++) {
          await time.sleep(checkFlapsEveryMs, ended.signal)
          if (ended.signal.aborted) return
          fake.faults.set('check flapped', (fake.faults.get('check flapped') ?? 0) + 1)
          say('critical')
          await time.sleep(checkFlapsEveryMs, ended.signal)
          say('passing')
        }
      }
      void flap()
      return () => ended.abort(ENDED)
    },
  }
}

const ENDED = new Error('ended')
