/** Everything that can go wrong, each counted: a simulation in which a fault never happened has not tested it. */
export const FAULTS = [
  'agent killed',
  'edge killed',
  'server killed',
  'host powered off',
  'unsynced writes lost',
  'host cut off',
  'partition',
  'half-open partition',
  'request lost',
  'reply lost',
  'message doubled',
  'message late',
  'stream broken',
  'stream silent',
  'clock of a host set',
  'clock of the server set',
  'clock drifts',
  'disk of an agent lost',
  'disk of an agent full',
  'disk of the server full',
  'disk of the server slow',
  'write refused by an agent',
  'write refused by the server',
  'no space for an image',
  'no space for a container',
  'server restored from a backup',
  'host removed',
  'host joined again',
  'request of a person doubled',
  'pull failed',
  'create failed',
  'start failed',
  'remove failed',
  'suspend failed',
  'resume failed',
  'suspended',
  'resumed',
  'agent killed beside what is suspended',
  'power lost beside what is suspended',
  'exited by itself',
  'ran out of memory',
  'check flapped',
  'stop ignored',
  'hint withheld',
  'container vanished',
  'stray container',
] as const
export type Fault = (typeof FAULTS)[number]

/** How often, as data. Probabilities are of one message; `everyMs` is the mean time between two, for each program. */
export interface FaultPlan {
  readonly requestLost: number
  readonly replyLost: number
  readonly doubled: number
  readonly late: number
  readonly lateMsMax: number
  readonly streamBroken: number
  readonly streamSilent: number
  readonly delayMsMax: number
  readonly agentKilledEveryMs: number
  readonly edgeKilledEveryMs: number
  readonly serverKilledEveryMs: number
  readonly powerOffEveryMs: number
  readonly cutEveryMs: number
  /** Of the whole network. */
  readonly partitionEveryMs: number
  readonly clockSetEveryMs: number
  readonly serverClockSetEveryMs: number
  readonly diskFullEveryMs: number
  readonly serverDiskFullEveryMs: number
  readonly serverDiskSlowEveryMs: number
  readonly containerVanishesEveryMs: number
  readonly strayEveryMs: number
  /** Of the deaths of an agent, how many take its disk with them. */
  readonly diskLost: number
  /** Of machines, how many misbehave in some way. */
  readonly misbehaving: number
}

export const CHAOS: FaultPlan = {
  requestLost: 0.05,
  replyLost: 0.05,
  doubled: 0.1,
  late: 0.05,
  lateMsMax: 8_000,
  streamBroken: 0.01,
  streamSilent: 0.003,
  delayMsMax: 120,
  agentKilledEveryMs: 20_000,
  edgeKilledEveryMs: 30_000,
  serverKilledEveryMs: 20_000,
  powerOffEveryMs: 80_000,
  cutEveryMs: 60_000,
  partitionEveryMs: 40_000,
  clockSetEveryMs: 80_000,
  serverClockSetEveryMs: 60_000,
  diskFullEveryMs: 80_000,
  serverDiskFullEveryMs: 60_000,
  serverDiskSlowEveryMs: 60_000,
  containerVanishesEveryMs: 100_000,
  strayEveryMs: 200_000,
  diskLost: 0.1,
  misbehaving: 0.5,
}

const NEVER = Number.POSITIVE_INFINITY

export const CALM: FaultPlan = {
  requestLost: 0,
  replyLost: 0,
  doubled: 0,
  late: 0,
  lateMsMax: 0,
  streamBroken: 0,
  streamSilent: 0,
  delayMsMax: 120,
  agentKilledEveryMs: NEVER,
  edgeKilledEveryMs: NEVER,
  serverKilledEveryMs: NEVER,
  powerOffEveryMs: NEVER,
  cutEveryMs: NEVER,
  partitionEveryMs: NEVER,
  clockSetEveryMs: NEVER,
  serverClockSetEveryMs: NEVER,
  diskFullEveryMs: NEVER,
  serverDiskFullEveryMs: NEVER,
  serverDiskSlowEveryMs: NEVER,
  containerVanishesEveryMs: NEVER,
  strayEveryMs: NEVER,
  diskLost: 0,
  misbehaving: 0,
}
