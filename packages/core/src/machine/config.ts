/**
 * A machine's configuration as the Machines API speaks it: snake_case, one document, stored and replaced as a whole.
 * Only the keys that Roost acts on are here; the schema in `api` decides what is refused.
 * Durations are milliseconds here; the API accepts Go strings and nanoseconds and converts at its door.
 */
export interface MachineConfig {
  /** Image reference as asked for, with or without a digest: `registry.internal/shop:deployment-01J…`. */
  readonly image: string
  readonly env: Readonly<Record<string, string>>
  readonly init: MachineInit
  readonly guest: MachineGuest
  readonly services: readonly MachineService[]
  /** Top-level checks by name; they never affect routing. */
  readonly checks: Readonly<Record<string, MachineCheck>>
  readonly restart: MachineRestart
  readonly stop_config: StopConfig
  readonly metadata: Readonly<Record<string, string>>
  readonly auto_destroy: boolean
}

export interface MachineInit {
  /** Replaces entrypoint and cmd of the image together. */
  readonly exec?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly cmd?: readonly string[]
}

export interface MachineGuest {
  readonly cpu_kind: 'shared' | 'performance'
  /** 1–128. A shared cpu is a sixteenth of a core guaranteed, a whole one in bursts. */
  readonly cpus: number
  /** 64–1,048,576. */
  readonly memory_mb: number
}

export interface MachineService {
  readonly protocol: 'tcp' | 'udp'
  /** 1–65535: where the app listens. */
  readonly internal_port: number
  readonly ports: readonly MachinePort[]
  readonly checks: readonly MachineCheck[]
  readonly concurrency: MachineConcurrency
  readonly autostop: 'off' | 'stop' | 'suspend'
  readonly autostart: boolean
  readonly min_machines_running: number
}

export interface MachinePort {
  readonly port: number
  readonly handlers: readonly ('http' | 'tls')[]
  readonly force_https: boolean
}

export interface MachineConcurrency {
  readonly type: 'connections' | 'requests'
  readonly soft_limit: number
  /** null: no limit. */
  readonly hard_limit: number | null
}

export interface MachineCheck {
  readonly type: 'tcp' | 'http'
  readonly port: number
  readonly interval_ms: number
  readonly timeout_ms: number
  readonly grace_period_ms: number
  /** http only. */
  readonly method?: string
  readonly path?: string
  /** Default http. */
  readonly protocol?: 'http' | 'https'
  /** https only. */
  readonly tls_skip_verify?: boolean
  readonly tls_server_name?: string
  readonly headers?: readonly { readonly name: string; readonly values: readonly string[] }[]
}

export interface MachineRestart {
  readonly policy: 'no' | 'always' | 'on-failure'
  readonly max_retries: number
}

export interface StopConfig {
  readonly signal: StopSignal
  /** 0–300,000. */
  readonly timeout_ms: number
}

export type StopSignal =
  | 'SIGHUP'
  | 'SIGINT'
  | 'SIGQUIT'
  | 'SIGKILL'
  | 'SIGUSR1'
  | 'SIGUSR2'
  | 'SIGTERM'
