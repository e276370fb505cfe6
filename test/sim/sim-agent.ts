import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Checks } from '../../packages/agent/src/checks.ts'
import type { ControlPlane } from '../../packages/agent/src/control-plane.ts'
import { createFakeRuntime, type FakeHost } from '../../packages/agent/src/fake-runtime.ts'
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
import type { Assignment, Host, MachineId, MachineStatus } from '../../packages/core/src/index.ts'
import { createProcess, type SimProcess } from './process.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimServer } from './sim-server.ts'

export interface SimAgent {
  readonly host: Host
  readonly fake: FakeHost
  /** What it last heard that is wanted; null when it is dead or nobody wants it. */
  heard(id: MachineId): Assignment | null
  alive(): boolean
  kill(options?: { readonly loseDisk?: boolean }): void
  start(): void
}

/** The agent's real loop and link over a fake runtime. What it keeps in files survives its deaths, containers do too. */
export function createSimAgent(options: {
  readonly host: Host
  readonly fake: FakeHost
  readonly folder: string
  readonly clock: Clock
  readonly network: SimNetwork
  readonly server: SimServer
  readonly log: Logger
  readonly onStatus: (status: MachineStatus) => void
}): SimAgent {
  const { host, fake, clock, network, server, log } = options
  const folder = join(options.folder, host.name)
  mkdirSync(folder, { recursive: true })

  function boot() {
    const process = createProcess(`agent ${host.name}`)
    const own = process.clock(clock)
    const cache = createRecordCache<RecordValues>({ file: join(folder, 'records.db'), log })
    const store = openRecordStore({ file: join(folder, 'machines.db'), log })
    let link: ControlPlaneLink | null = null
    const keeper: MachineKeeper = createMachineKeeper({
      runtime: gatedRuntime(process, fake, clock),
      checks: simChecks(fake, own),
      clock: own,
      log,
      store,
      host: { id: host.id, publicAddress: host.publicAddress },
      unseal: async () => ({}),
      onStatus: (status) => {
        options.onStatus(status)
        link?.report(status)
      },
    })
    link = followControlPlane({
      controlPlane: controlPlane(process),
      cache,
      clock: own,
      log,
      onRecords: () => keeper.setAssignments(cache.list('assignment')),
      statuses: () => keeper.statuses(),
    })
    return { process, cache, store }
  }

  function controlPlane(process: SimProcess): ControlPlane {
    const to = network.link(process, host.name)
    return {
      watch: (since, signal) =>
        to.stream((within) => server.watch('agent', host.id, since, within), signal),
      report: (statuses, signal) => to.call(() => server.report(host.id, statuses), signal),
      heartbeat: (beat, signal) => to.call(() => server.heartbeat('agent', host.id, beat), signal),
      registryToken: async () => 'token',
    }
  }

  let running: ReturnType<typeof boot> | null = boot()
  return {
    host,
    fake,
    heard: (id) => running?.cache.get('assignment', id) ?? null,
    alive: () => running !== null,
    kill: ({ loseDisk = false } = {}) => {
      if (running === null) return
      running.process.kill()
      fake.listeners.clear()
      // Nothing of it runs any more, so nobody finds them closed.
      running.cache.close()
      running.store.close()
      running = null
      if (!loseDisk) return
      rmSync(folder, { recursive: true })
      mkdirSync(folder)
    },
    start: () => {
      running ??= boot()
    },
  }
}

function gatedRuntime(process: SimProcess, fake: FakeHost, clock: Clock): Runtime {
  // The agent's part of a deed stops where it is when the agent dies; programs go on by the host's own clock.
  const runtime = createFakeRuntime(fake, process.clock(clock), clock)
  return {
    ...runtime,
    list: () => process.gate(runtime.list()),
    look: (...args) => process.gate(runtime.look(...args)),
    pull: (...args) => process.gate(runtime.pull(...args)),
    create: (...args) => process.gate(runtime.create(...args)),
    start: (...args) => process.gate(runtime.start(...args)),
    stop: (...args) => process.gate(runtime.stop(...args)),
    remove: (...args) => process.gate(runtime.remove(...args)),
  }
}

const CHECK_MS = 300

/** What runs passes after a moment. */
function simChecks(fake: FakeHost, clock: Clock): Checks {
  return {
    start(target, heard) {
      const ended = new AbortController()
      void clock.sleep(CHECK_MS, ended.signal).then(() => {
        if (ended.signal.aborted || fake.machines.get(target.id)?.state !== 'running') return
        heard(
          target.specs.map(({ name }) => ({
            name,
            status: 'passing',
            output: 'connected',
            updatedAt: clock.now(),
          })),
        )
      })
      return () => ended.abort()
    },
  }
}
