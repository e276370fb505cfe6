import type { ContainerRecord, ObservedContainer } from '../container/container-record.ts'
import type { ContainerStep, RunEnd } from '../container/next-container-step.ts'
import type { Generation, InstanceId, Instant, MachineId } from '../id.ts'
import { type MachineHistory, NO_HISTORY } from './history.ts'
import type { MachineExit } from './machine.ts'

/** What a container was made from. The runtime keeps it beside the container, so that it is known after any crash. */
export interface Stamp {
  readonly configGeneration: Generation
  readonly instanceId: InstanceId
}

/** What the runtime shows of one machine. */
export type Observed =
  | { readonly state: 'absent' }
  | (Stamp & { readonly state: 'created' })
  /** One with containers runs from its start until its stop, whatever becomes of them. */
  | (Stamp & {
      readonly state: 'running'
      readonly startedAt: Instant
      readonly containers?: readonly ObservedContainer[]
    })
  /** Frozen: all its processes are there, and none of them gets to run. */
  | (Stamp & { readonly state: 'suspended'; readonly startedAt: Instant })
  /** `exit: null`: how it ended is not known, as after a reboot. */
  | (Stamp & {
      readonly state: 'exited'
      readonly startedAt: Instant | null
      readonly exit: Omit<MachineExit, 'requested'> | null
    })
  | (Stamp & { readonly state: 'broken' })

/** Exactly one thing to do next, as data. */
export type Step =
  | { readonly kind: 'pull'; readonly image: string; readonly digest: string }
  | { readonly kind: 'create'; readonly stamp: Stamp }
  /** `slot`: the time of its schedule for which it is started. */
  | {
      readonly kind: 'start'
      readonly startGeneration: Generation
      readonly slot?: Instant
    }
  | { readonly kind: 'suspend' }
  | { readonly kind: 'resume' }
  | { readonly kind: 'stop'; readonly signal: string; readonly timeoutMs: number }
  | { readonly kind: 'remove' }
  | Extract<ContainerStep, { readonly kind: 'startContainer' | 'stopContainer' | 'end' }>
  /** Nothing before `until`, for a reason that users are shown. */
  | { readonly kind: 'wait'; readonly until: Instant; readonly why: string }
  | { readonly kind: 'settled' }

/** A step that is done by somebody, so that it can fail. */
export type Deed = Exclude<Step['kind'], 'wait' | 'settled'>

/** All that a host knows of one machine: what is there, and what it must remember over its own death. Changed only by `observe`. */
export interface MachineRecord {
  readonly id: MachineId
  /** Of the last observation; grows over the death of the host's programs too. */
  readonly sequence: number
  readonly observed: Observed
  /** The highest that was heard of what is wanted. */
  readonly generation: Generation
  /** What is being done to it now. */
  readonly doing: Deed | null
  /** The image that is known to be unpacked here. */
  readonly pulledDigest: string | null
  /** While nothing is there: all of them, of a machine that needs several. */
  readonly pulledDigests?: readonly string[]
  /** Of what exists or last existed. */
  readonly stamp: Stamp | null
  /** For which request the last start was that led to something, and for which one a start is being tried. */
  readonly startedFor: Generation | null
  readonly startingFor: Generation | null
  /** The same for the time of its schedule; null where it was not started by one. */
  readonly slot: Instant | null
  readonly startingSlot: Instant | null
  /** It was told to stop since it last started. */
  readonly stopAsked: boolean
  /** What was started last has ended, by `exit`. */
  readonly ended: boolean
  readonly startedAt: Instant | null
  readonly exit: MachineExit | null
  /** By the restart policy, since a start was asked for or since it last ran for long. */
  readonly restarts: number
  /** Those of them that the program was not to blame for (`MachineExit.cause`): they count for no limit. */
  readonly blameless: number
  readonly failure: Failure | null
  /** Since when this host knows of the drain that has this deadline. */
  readonly drain: { readonly deadline: Instant; readonly since: Instant } | null
  readonly history: MachineHistory
  /** Of the run that goes on, or was the last one. */
  readonly containers?: readonly ContainerRecord[]
  /** How the run that began then is being ended. */
  readonly ending?: { readonly run: Instant; readonly exit: RunEnd } | null
}

/** A deed that failed, perhaps several times in a row. */
export interface Failure {
  readonly deed: Deed
  /** What was being tried: a newer request makes it forgotten. See `attemptKey`. */
  readonly key: Generation
  readonly count: number
  readonly reason: string
  readonly at: Instant
  /** The same can't work if it is tried again. */
  readonly final: boolean
}

export function newRecord(id: MachineId): MachineRecord {
  return {
    id,
    sequence: 0,
    observed: { state: 'absent' },
    generation: 0,
    doing: null,
    pulledDigest: null,
    stamp: null,
    startedFor: null,
    startingFor: null,
    slot: null,
    startingSlot: null,
    stopAsked: false,
    ended: false,
    startedAt: null,
    exit: null,
    restarts: 0,
    blameless: 0,
    failure: null,
    drain: null,
    history: NO_HISTORY,
  }
}

/** As the text that a runtime keeps. */
export function formatStamp(stamp: Stamp): string {
  return `${stamp.configGeneration}/${stamp.instanceId}`
}

/** What is unreadable was made by nobody that we know: a generation that nothing asks for, so that it is replaced. */
export function parseStamp(text: string): Stamp {
  const match = /^(\d+)\/(\w+)$/.exec(text)
  return {
    configGeneration: match ? Number(match[1]) : -1,
    instanceId: (match?.[2] ?? '') as InstanceId,
  }
}
