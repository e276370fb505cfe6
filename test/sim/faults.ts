/** Everything that can go wrong, each counted: a simulation in which a fault never happened has not tested it. */
export const FAULTS = [
  'agent killed',
  'edge killed',
  'server killed',
  'host cut off',
  'request lost',
  'reply lost',
  'message doubled',
  'message late',
  'stream broken',
  'stream silent',
  'disk of an agent lost',
  'pull failed',
  'create failed',
  'start failed',
  'remove failed',
  'exited by itself',
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
  readonly cutEveryMs: number
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
  agentKilledEveryMs: 12_000,
  edgeKilledEveryMs: 20_000,
  serverKilledEveryMs: 20_000,
  cutEveryMs: 30_000,
  containerVanishesEveryMs: 60_000,
  strayEveryMs: 120_000,
  diskLost: 0.1,
  misbehaving: 0.5,
}

export const CALM: FaultPlan = {
  ...CHAOS,
  requestLost: 0,
  replyLost: 0,
  doubled: 0,
  late: 0,
  streamBroken: 0,
  streamSilent: 0,
  agentKilledEveryMs: Number.POSITIVE_INFINITY,
  edgeKilledEveryMs: Number.POSITIVE_INFINITY,
  serverKilledEveryMs: Number.POSITIVE_INFINITY,
  cutEveryMs: Number.POSITIVE_INFINITY,
  containerVanishesEveryMs: Number.POSITIVE_INFINITY,
  strayEveryMs: Number.POSITIVE_INFINITY,
  misbehaving: 0,
}
