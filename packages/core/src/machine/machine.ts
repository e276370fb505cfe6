import type { ContainerStatus } from '../container/container-record.ts'
import type {
  AppName,
  Generation,
  HostId,
  InstanceId,
  Instant,
  MachineId,
  RegionCode,
} from '../id.ts'
import type { MachineConfig, StopSignal } from './config.ts'
import type { MachineHistory } from './history.ts'

/** What a person may ask for: lasting states only. `created` is a machine that was never launched (`skip_launch`). */
export type Goal = 'created' | 'started' | 'suspended' | 'stopped' | 'destroyed'

/**
 * What the server wants of one machine, and all that its host needs for it, also when the server is gone.
 * Changed only by `request`. Its host stores it and refuses one with an older generation.
 */
export interface Assignment {
  readonly id: MachineId
  readonly name: string
  readonly app: AppName
  readonly host: HostId
  readonly region: RegionCode
  readonly goal: Goal
  /** Grows with every change of anything in this record. */
  readonly generation: Generation
  /** The generation at which config or image last changed: what runs from an older one must be replaced. */
  readonly configGeneration: Generation
  /** The generation at which a start was last asked for: what ended by itself starts again when this changes. */
  readonly startGeneration: Generation
  readonly instanceId: InstanceId
  readonly config: MachineConfig
  /** `sha256:…` of the manifest to run, resolved when the image was accepted. */
  readonly imageDigest: string
  /**
   * Of the images of `config.containers` by their names, and of those that `config.volumes` take their files from by
   * `volume/<name>`. Absent when the machine has no containers.
   */
  readonly containerDigests?: ContainerDigests
  /** Image labels, for the API. */
  readonly privateIpv4: string
  readonly privateIpv6: string
  /** A person took it out of rotation; stays over starts and stops. */
  readonly cordoned: boolean
  /** False: out of rotation on every edge, whatever its state (cordoned, draining or not wanted started). */
  readonly routed: boolean
  /** Set when the machine must leave rotation before it is stopped. It may be stopped once `done`, or when the time is over. */
  readonly drain: Drain | null
  /** How to stop it this time, where that differs from `config.stop_config`. */
  readonly stop: { readonly signal: StopSignal; readonly timeoutMs: number } | null
  /** Secrets as environment, sealed for the host's key; null when the app has none. */
  readonly sealedSecrets: string | null
  readonly primaryRegion: RegionCode | null
  /** From when its schedule is counted, by the server's clock. Absent in what was stored before there were schedules. */
  readonly createdAt?: Instant
}

/**
 * Its host counts `ms` from when it first heard of it, by its own clock: that of the server may be hours apart. `deadline` is
 * by the server's clock, and tells one drain from another; without `ms` (from an older server) it is what counts.
 */
export interface Drain {
  readonly deadline: Instant
  readonly ms?: number
  readonly done: boolean
}

export type ContainerDigests = Readonly<Record<string, string>>

/** States in the Machines API's words. `starting`, `suspending`, `stopping` and `destroying` are passing: observed, never asked for. */
export type MachineState =
  | 'created'
  | 'starting'
  | 'started'
  | 'suspending'
  | 'suspended'
  | 'stopping'
  | 'stopped'
  | 'failed'
  | 'destroying'
  | 'destroyed'

/** What its host last saw of a machine, as it tells the server and the edges. */
export interface MachineStatus {
  readonly id: MachineId
  readonly host: HostId
  readonly state: MachineState
  /** The assignment's generation that the host was acting on. */
  readonly generation: Generation
  /** Of what exists (or last existed) on the host. */
  readonly instanceId: InstanceId
  readonly configGeneration: Generation
  /** Grows with each status of this machine; an older one is ignored. */
  readonly sequence: number
  readonly startedAt: Instant | null
  readonly updatedAt: Instant
  readonly exit: MachineExit | null
  /** Why it is `failed` or being waited for, in words for a person; null when all is well. */
  readonly reason: string | null
  readonly restartCount: number
  readonly checks: readonly CheckStatus[]
  /** In the order of the configuration; absent where it has none. */
  readonly containers?: readonly ContainerStatus[]
  /** Absent where a host keeps none. Edges don't hear it. */
  readonly history?: MachineHistory
}

export interface MachineExit {
  readonly code: number
  readonly signal: number
  readonly oomKilled: boolean
  /** A person or a release asked for the stop. */
  readonly requested: boolean
  /** Why it ended, when it was Roost or its host that ended it, in words for a person: "its log copier died". Else null. */
  readonly cause: string | null
  readonly at: Instant
  /** Whose end it was, in a machine of several containers. */
  readonly container?: string
  /** Why Roost ended it, when that counts as a failure of the program's: "its check \"live\" failed". */
  readonly because?: string
  /** A row of restarts was used up before it counted as an end: `on-failure` begins no other. */
  readonly spent?: boolean
}

export interface CheckStatus {
  /**
   * Service checks are called `servicecheck-NN-tcp-PORT`, those of containers `<container>/<check>`. Those of services and those
   * of the kind `readiness` decide about routing.
   */
  readonly name: string
  /** `warning`: a container's that has neither passed nor failed often enough yet. */
  readonly status: 'passing' | 'warning' | 'critical'
  readonly kind?: 'readiness' | 'liveness'
  readonly output: string
  readonly updatedAt: Instant
  /** When the connection was refused: what the machine's programs listen on instead, `127.0.0.1:8080`; see `describeListening`. */
  readonly listening?: readonly string[]
}

function decidesRouting({ name, kind }: CheckStatus): boolean {
  return name.startsWith('servicecheck-') || kind === 'readiness'
}

/** Started, and every check that decides about it passes: it may be sent requests. */
export function isReady(status: MachineStatus): boolean {
  return (
    status.state === 'started' &&
    status.checks.every((c) => !decidesRouting(c) || c.status === 'passing')
  )
}
