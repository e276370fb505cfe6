import type { MachineConfig, MachineId, MachineSignal, RunEnd } from '@roost/core'
import type { ExecLimits, ExecRequest, ExecResult, ExecSession } from './exec/exec-session.ts'

/**
 * What the agent needs of a container runtime, in its own words. Every method is idempotent: doing what is already done
 * is no error. Every method throws PlatformError; `retry: 'never'` means that the same call can't work (a broken image).
 */
export interface Runtime {
  /** Everything of ours that exists on this host, running or not, whoever made it. The truth after any crash. */
  list(): Promise<readonly RuntimeMachine[]>
  /** What `list` shows of this one; null when it shows nothing. Costs the same however many others there are. */
  look(id: MachineId): Promise<RuntimeMachine | null>
  /** Fetches and unpacks, unless it is there. */
  pull(image: ImageToPull, signal: AbortSignal): Promise<void>
  /** Network namespace, root file system and container, ready to start. What exists of the same id and stamp stays. */
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>
  /**
   * Starts a created or exited machine (with a new root file system if it had run). One with containers runs from then on,
   * with empty temporary folders, and none of its containers does yet: `environment` and `files` are theirs to get.
   */
  start(
    id: MachineId,
    environment: Environment,
    signal: AbortSignal,
    files?: readonly FileContent[],
  ): Promise<void>
  /** Starts one container of a machine that runs, with a new root file system. One that runs stays. */
  startContainer(
    id: MachineId,
    name: string,
    start: ContainerStart,
    signal: AbortSignal,
  ): Promise<void>
  /** Stops one container as `stop` does a machine, which itself goes on running. */
  stopContainer(
    id: MachineId,
    name: string,
    how: Omit<StopHow, 'exit'>,
    signal?: AbortSignal,
  ): Promise<void>
  /**
   * Freezes all that runs of it; it keeps its memory and connections. Returns when everything stands still. What does not run
   * can't be suspended: that throws.
   */
  suspend(id: MachineId): Promise<void>
  /** What is suspended goes on where it was. Anything else is left as it is. */
  resume(id: MachineId): Promise<void>
  /**
   * Signals, waits at most `timeoutMs`, kills. Returns when no process is left. When `signal` aborts it throws at once and
   * kills nothing: somebody wants it stopped in another way, or not any more. What is suspended is resumed for it, since it
   * could take no signal. Containers are stopped before those that they depend on, each in its own way and time, and
   * altogether in `timeoutMs`.
   */
  stop(id: MachineId, how: StopHow, signal?: AbortSignal): Promise<void>
  /**
   * Sends a signal to the machine's program, or to that of each of its containers, and to nothing that this has started. It
   * returns when the signal is sent, whatever becomes of the program; its end counts as its own. Refuses with
   * `precondition_failed` where nothing runs.
   */
  signal(id: MachineId, signal: MachineSignal): Promise<void>
  /** Removes all that `list` would show of it, and its network, secrets and cgroups. Kills it if it runs. */
  remove(id: MachineId): Promise<void>
  /**
   * Starts a program in a running machine. When `signal` aborts before it runs nothing of it is left; later it does nothing.
   * Refuses with `precondition_failed` where the machine or its container does not run, or is suspended:
   * the kernel would freeze what is started in it.
   */
  openSession(id: MachineId, request: ExecRequest, signal: AbortSignal): Promise<ExecSession>
  /** The same for who only wants what comes of it. Nothing of it is left when this returns or throws. */
  exec(id: MachineId, request: ExecRequest & ExecLimits, signal: AbortSignal): Promise<ExecResult>
  /** Hints that `list` would show something new. Lost ones do no harm. Returns a function that ends it. */
  onChange(heard: (id: MachineId) => void): () => void
}

/** Environment by name. Reaches the program through a file on tmpfs and never through the container record. */
export type Environment = Readonly<Record<string, string>>

/** A file with what is in it. It lies on tmpfs, since it may be a secret. */
export interface FileContent {
  /** One of the `guest_path`s in the configuration of the machine or the container. */
  readonly path: string
  readonly content: Uint8Array | { readonly imageConfigOf: string }
}

export interface ContainerStart {
  readonly environment: Environment
  readonly files?: readonly FileContent[]
}

export interface StopHow {
  readonly signal: string
  readonly timeoutMs: number
  /** Of a machine with containers: how its run counts as having ended. Absent: by the exits of its containers. */
  readonly exit?: RunEnd | undefined
}

export interface ImageToPull {
  /** `registry.internal/shop` or `docker.io/library/debian`, without tag or digest. */
  readonly repository: string
  readonly digest: string
}

export interface MachineSpec {
  readonly id: MachineId
  /** Opaque text that comes back in `list`: the agent keeps generation and instance in it. */
  readonly stamp: string
  readonly image: ImageToPull
  /** Of each of `config.containers`, by its name; absent where there are none. */
  readonly containerImages?: Readonly<Record<string, ImageToPull>>
  readonly config: MachineConfig
  readonly hostname: string
  readonly ipv4: string
  readonly ipv6: string
}

export interface RuntimeMachine {
  readonly id: MachineId
  readonly stamp: string
  /** `suspended` is what the kernel says, whoever froze it and whatever died since. */
  readonly state: 'created' | 'running' | 'suspended' | 'exited' | 'broken'
  readonly startedAt: number | null
  /** Of the last run; the same values each time it is looked at. null: it did not run yet, or nobody knows how it ended. */
  readonly exit: RuntimeExit | null
  /**
   * In the order of the configuration, where it has some. The machine runs from its start until its stop, whatever becomes of
   * them.
   */
  readonly containers?: readonly RuntimeContainer[]
}

export interface RuntimeContainer {
  readonly name: string
  /** `created`: it was not started since the machine was. */
  readonly state: 'created' | 'running' | 'exited'
  readonly startedAt: number | null
  readonly exit: RuntimeExit | null
}

/** `cause`: why, when not the program ended but Roost or the host ended it. */
export type RuntimeExit = RunEnd
