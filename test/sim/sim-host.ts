import { createFakeHost, type FakeHost, powerOff } from '../../packages/agent/src/fake-runtime.ts'
import { type Clock, type Logger, silentLogger } from '../../packages/base/src/index.ts'
import type {
  Assignment,
  HostId,
  Instant,
  MachineId,
  MachineStatus,
  RegionCode,
} from '../../packages/core/src/index.ts'
import type { Random } from './random.ts'
import { createSimAgent, type OnDeed, type SimAgent } from './sim-agent.ts'
import { createSimDisk, type SimDisk } from './sim-disk.ts'
import { createSimEdge, type SimEdge } from './sim-edge.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimServer } from './sim-server.ts'
import { createWallClock, type WallClock } from './wall-clock.ts'
import type { HostSpec } from './world.ts'

export type HostProgram = 'agent' | 'edge'

/** One host: its two programs, what runs on it, its clock and its disk. */
export interface SimHost {
  readonly name: string
  readonly region: RegionCode
  /** Another one after it was removed and joined again. */
  id(): HostId
  readonly fake: FakeHost
  readonly wall: WallClock
  readonly disk: SimDisk
  readonly agent: SimAgent
  readonly edge: SimEdge
  /** When its agent first heard of that drain, in true time. */
  heardOfDrain(id: MachineId, deadline: Instant): Instant | null
  /** Kept from running until the returned function is called: a program with several reasons starts after the last. */
  hold(program: HostProgram): () => void
  /** All programs of machines end, too. */
  losePower(): () => void
  /** Nothing keeps its programs from running any more. */
  letRun(): void
  /** It joins again, as somebody else. */
  become(id: HostId): void
  /** A disk of its own no more: as a new one. */
  wipe(): void
}

export function createSimHost(options: {
  readonly spec: HostSpec
  readonly id: HostId
  readonly clock: Clock
  readonly random: Random
  readonly network: SimNetwork
  readonly server: SimServer
  readonly folder: string
  readonly log: Logger
  readonly onRefused: () => void
  readonly sessions?: boolean
  readonly onDeed?: OnDeed
  readonly onStatus: (status: MachineStatus) => void
}): SimHost {
  const { spec, clock, network, server, folder, log } = options
  let id = options.id
  const fake = createFakeHost()
  const wall = createWallClock(clock)
  const disk = createSimDisk()
  const drains = new Map<string, Instant>()

  const noteDrains = (assignments: readonly Assignment[]) => {
    for (const { id: machine, drain } of assignments) {
      if (drain === null) continue
      const key = `${machine} ${drain.deadline}`
      if (!drains.has(key)) drains.set(key, clock.now())
    }
  }
  const agent = createSimAgent({
    name: spec.name,
    host: id,
    fake,
    folder,
    clock,
    wall,
    disk,
    network,
    server,
    log,
    onRefused: options.onRefused,
    onAssignments: noteDrains,
    ...(options.onDeed === undefined ? {} : { onDeed: options.onDeed }),
    onStatus: options.onStatus,
  })
  const edge = createSimEdge({
    name: spec.name,
    host: id,
    clock,
    random: options.random,
    network,
    server,
    log: silentLogger,
    ...(options.sessions === undefined ? {} : { sessions: options.sessions }),
  })
  const programs = { agent, edge }
  const holds = { agent: 0, edge: 0 }

  const hold = (program: HostProgram) => {
    holds[program]++
    programs[program].kill()
    let held = true
    return () => {
      if (!held) return
      held = false
      holds[program] = Math.max(0, holds[program] - 1)
      if (holds[program] === 0) programs[program].start(id)
    }
  }

  return {
    name: spec.name,
    region: spec.region,
    id: () => id,
    fake,
    wall,
    disk,
    agent,
    edge,
    heardOfDrain: (machine, deadline) => drains.get(`${machine} ${deadline}`) ?? null,
    hold,
    losePower: () => {
      const back = [hold('agent'), hold('edge')]
      powerOff(fake)
      return () => {
        for (const on of back) on()
      }
    },
    letRun: () => {
      for (const program of ['agent', 'edge'] as const) {
        holds[program] = 0
        programs[program].start(id)
      }
    },
    become: (to) => {
      id = to
    },
    wipe: () => {
      agent.loseDisk()
      fake.machines.clear()
      fake.images.clear()
    },
  }
}
