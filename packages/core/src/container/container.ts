import type { MachineRestart, StopConfig } from '../machine/config.ts'

/**
 * One program of a machine that runs several (`config.containers`, or `config.processes`), with every default filled in:
 * see `containersOf`. All of them share the machine's network, its limits and one fate when its host dies; each has its own
 * root file system, processes, environment and log.
 */
export interface Container {
  readonly name: string
  readonly restart: MachineRestart
  /** It names no policy of its own: the machine's counts, for one row of attempts and not for a row of rows. */
  readonly inheritsRestart: boolean
  readonly stop: StopConfig
  readonly dependsOn: readonly ContainerDependency[]
  /** However it ends, the machine ends with it. So it is with `processes`. */
  readonly essential: boolean
  readonly checks: readonly ContainerCheck[]
}

export interface ContainerDependency {
  readonly name: string
  /**
   * `started`: it was started since the machine was. `healthy`: it runs and all its checks pass. `exited_successfully`: it
   * ended with code 0.
   */
  readonly condition: 'started' | 'healthy' | 'exited_successfully'
}

/** Fly's `healthchecks` of a container, in milliseconds. */
export interface ContainerCheck {
  readonly name: string
  readonly probe:
    | {
        readonly type: 'http'
        readonly port: number
        readonly method?: string
        readonly path?: string
        readonly scheme?: 'http' | 'https'
        readonly headers?: readonly { readonly name: string; readonly values: readonly string[] }[]
        readonly tls_skip_verify?: boolean
        readonly tls_server_name?: string
      }
    | { readonly type: 'tcp'; readonly port: number }
    | { readonly type: 'exec'; readonly command: readonly string[] }
  readonly intervalMs: number
  readonly timeoutMs: number
  readonly gracePeriodMs: number
  /** So many in a row, at least 1. */
  readonly successThreshold: number
  readonly failureThreshold: number
  /** `liveness`: who fails it is stopped and started again. `readiness`: who waits for it waits, and no request is sent. */
  readonly kind: 'readiness' | 'liveness'
  /** When it fails, the whole machine stops. */
  readonly stopsMachine: boolean
}
