import type { Instant } from '../id.ts'
import type { MachineExit } from '../machine/machine.ts'

/** What a host sees of one container of a machine that runs. */
export interface ObservedContainer {
  readonly name: string
  /** `created`: not started yet since the machine was. */
  readonly state: ContainerState
  readonly startedAt: Instant | null
  /** null: it runs, or nobody knows how it ended. */
  readonly exit: Omit<MachineExit, 'requested'> | null
  readonly health: ContainerHealth
}

export type ContainerState = 'created' | 'running' | 'exited'

/** What its checks say together. */
export interface ContainerHealth {
  /** All pass; also where there are none. */
  readonly healthy: boolean
  /** A check that failed so often that something must be done. */
  readonly failing: { readonly check: string; readonly stopsMachine: boolean } | null
}

/** All that a host remembers of one container, since its machine was started. Changed only by `observeContainers`. */
export interface ContainerRecord extends ObservedContainer {
  /** When its machine was started: a record of another run is none. */
  readonly run: Instant
  readonly exit: MachineExit | null
  /** By its policy, in a row. */
  readonly restarts: number
  /** Those of them that the program was not to blame for. */
  readonly blameless: number
  /** It was told to stop since it was last started. */
  readonly stopAsked: boolean
  /** Why it was told so, where that was for its own good. */
  readonly because: string | null
  readonly failure: ContainerFailure | null
}

/** A start that failed, perhaps several times in a row. */
export interface ContainerFailure {
  readonly count: number
  readonly reason: string
  readonly at: Instant
  /** The same can't work if it is tried again. */
  readonly final: boolean
}

export function newContainerRecord(name: string, run: Instant): ContainerRecord {
  return {
    name,
    run,
    state: 'created',
    startedAt: null,
    exit: null,
    health: UNKNOWN_HEALTH,
    restarts: 0,
    blameless: 0,
    stopAsked: false,
    because: null,
    failure: null,
  }
}

export const UNKNOWN_HEALTH: ContainerHealth = { healthy: false, failing: null }

/** In the words of the API's `containers[].state`. */
export interface ContainerStatus {
  readonly name: string
  readonly state: 'created' | 'started' | 'stopped'
}
