import type { MachineId } from '../id.ts'
import type { ContainerConfig, VolumeConfig } from './container-config.ts'
import type { DnsConfig } from './dns-config.ts'
import type { MachineFile, MachineProcess } from './process-config.ts'

/**
 * A machine's configuration as the Machines API speaks it: snake_case, one document, stored and replaced as a whole.
 * What no program acts on yet is refused by the server by name (`NOT_SUPPORTED` there), so that whatever is stored is honoured.
 * Durations are milliseconds here; the API accepts Go strings and nanoseconds and converts at its door.
 * Keys that came later are optional and absent when they were not set: what was stored before them stays as it is.
 */
export interface MachineConfig {
  /**
   * Image reference as asked for, with or without a digest: `registry.internal/shop:deployment-01J…`. Of a machine with
   * containers that names none: that of its `mainContainer`.
   */
  readonly image: string
  readonly env: Readonly<Record<string, string>>
  readonly init: MachineInit
  readonly guest: MachineGuest
  readonly services: readonly MachineService[]
  /** Top-level checks by name; only those of the kind `readiness` affect routing. */
  readonly checks: Readonly<Record<string, MachineCheck>>
  readonly restart: MachineRestart
  readonly stop_config: StopConfig
  readonly metadata: Readonly<Record<string, string>>
  readonly auto_destroy: boolean
  /** Written into the file system of the machine before its program starts. Paths are unique. */
  readonly files?: readonly MachineFile[]
  /** Several programs of the one image beside each other, in place of the image's own. */
  readonly processes?: readonly MachineProcess[]
  /** Containers that share the machine's network. `image`, `init` and `processes` start nothing then. Names are unique. */
  readonly containers?: readonly ContainerConfig[]
  /** What `containers[].mounts` name. */
  readonly volumes?: readonly VolumeConfig[]
  readonly dns?: DnsConfig
  /** Where the machine tells its metrics, for Prometheus. */
  readonly metrics?: MachineMetrics
  /** Ids of machines for which this one stands by: it starts when their host is lost. */
  readonly standbys?: readonly MachineId[]
  readonly statics?: readonly MachineStatic[]
  /** Started so often, counted from when it was created. */
  readonly schedule?: MachineSchedule
  /** Roost's own: its programs see a kernel of their own (gVisor) instead of the host's. Absent: runc. */
  readonly isolation?: 'gvisor'
  readonly rootfs?: MachineRootfs
  readonly cache_drive?: { readonly size_mb: number }
  readonly mounts?: readonly MachineMount[]
}

export type MachineSchedule = 'hourly' | 'daily' | 'weekly' | 'monthly'

export interface MachineMetrics {
  readonly port: number
  readonly path: string
  readonly https: boolean
}

/** Files of the machine that edges serve without asking it. */
export interface MachineStatic {
  readonly guest_path: string
  readonly url_prefix: string
  readonly tigris_bucket?: string
  readonly index_document?: string
}

export interface MachineRootfs {
  /** Whether the root file system outlives a stop. Default never. */
  readonly persist: 'never' | 'always' | 'restart'
  readonly size_gb?: number
}

export interface MachineMount {
  /** Id of a volume. */
  readonly volume: string
  readonly path: string
  readonly name?: string
  readonly encrypted?: boolean
  readonly size_gb?: number
  readonly extend_threshold_percent?: number
  readonly add_size_gb?: number
  readonly size_gb_limit?: number
}

export interface MachineInit {
  /** Replaces entrypoint and cmd of the image together. */
  readonly exec?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly cmd?: readonly string[]
  /** Its program has a terminal. */
  readonly tty?: boolean
  /** 1–1,048,576. */
  readonly swap_size_mb?: number
  readonly kernel_args?: readonly string[]
}

export interface MachineGuest {
  readonly cpu_kind: 'shared' | 'performance'
  /** 1–128. A shared cpu is a sixteenth of a core guaranteed, a whole one in bursts. */
  readonly cpus: number
  /** 64–1,048,576. */
  readonly memory_mb: number
  readonly max_memory_mb?: number
  readonly gpus?: number
  readonly gpu_kind?: string
  readonly host_dedication_id?: string
  readonly persist_rootfs?: MachineRootfs['persist']
  readonly kernel_args?: readonly string[]
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
  /** The only one, or the first of a range. */
  readonly port: number
  /** The last of a range. */
  readonly end_port?: number
  /** None: bytes pass as they come. */
  readonly handlers: readonly PortHandler[]
  readonly force_https: boolean
  readonly http_options?: HttpOptions
  readonly tls_options?: TlsOptions
  /** Of the handler `proxy_proto`. Default v1. */
  readonly proxy_proto_options?: { readonly version: 'v1' | 'v2' }
}

export type PortHandler = 'http' | 'tls' | 'pg_tls' | 'proxy_proto'

/** What edges do with the requests and answers of a port. */
export interface HttpOptions {
  readonly compress?: boolean
  /** The app speaks HTTP/2 without TLS. */
  readonly h2_backend?: boolean
  /** Seconds. */
  readonly idle_timeout?: number
  readonly response?: {
    /** `false` takes a header away. Names are lower case. */
    readonly headers?: Readonly<Record<string, string | readonly string[] | false>>
    /** Nothing is added of the edge's own. */
    readonly pristine?: boolean
  }
  /** The longest prefix that fits counts. At most 20. */
  readonly replay_cache?: readonly ReplayCacheRule[]
}

/** Where requests of one session were sent on, its later ones go at once. */
export interface ReplayCacheRule {
  /** `/path` or `host/path`. */
  readonly path_prefix: string
  /** At least 10. */
  readonly ttl_seconds: number
  /** What tells sessions apart. */
  readonly type: 'cookie' | 'header'
  readonly name: string
  /** Clients may ask for the app itself. */
  readonly allow_bypass?: boolean
}

export interface TlsOptions {
  readonly alpn?: readonly string[]
  readonly versions?: readonly TlsVersion[]
  readonly default_self_signed?: boolean
}
export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'

export interface MachineConcurrency {
  readonly type: 'connections' | 'requests'
  readonly soft_limit: number
  /** null: no limit. */
  readonly hard_limit: number | null
}

export interface MachineCheck {
  /** Of a top-level check: nothing is sent to the machine before it passes. Default `informational`: it only tells. */
  readonly kind?: 'readiness'
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
