import type { ContainerDependency } from '../container/container.ts'
import type { MachineConfig, MachineRestart, StopConfig } from './config.ts'
import type { ContainerDigests } from './machine.ts'
import type { EnvFrom, MachineFile, MachineSecret } from './process-config.ts'

/**
 * One container of a machine that has several. All share the machine's network, address and guest size; each has its own image
 * and file system. The server resolves each image and gives its digest in `Assignment.containerDigests` under the name.
 */
export interface ContainerConfig {
  /** Letters and digits, with single `-`, `_` or `.` between them, at most 61; unique in the machine. */
  readonly name: string
  /** Image reference; that of the machine where the request named none. */
  readonly image: string
  /** Replaces entrypoint and cmd of the image together. */
  readonly exec?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly cmd?: readonly string[]
  /** `user`, `uid`, `user:group` or `uid:gid`, in place of the image's. */
  readonly user?: string
  /** Goes before the machine's. */
  readonly env: Readonly<Record<string, string>>
  /** The only secrets that it gets; absent: all of the app. */
  readonly secrets?: readonly MachineSecret[]
  readonly env_from: readonly EnvFrom[]
  readonly files: readonly MachineFile[]
  /** Of this container alone; absent: the machine's. */
  readonly restart?: MachineRestart
  /** Absent: the machine's. */
  readonly stop?: StopConfig
  /** It starts once all of these hold. Has no cycles, and names containers of this machine only. */
  readonly depends_on: readonly ContainerDependency[]
  readonly healthchecks: readonly ContainerHealthcheck[]
  /** Paths are unique; names are of `MachineConfig.volumes`. */
  readonly mounts: readonly ContainerMount[]
}

export interface ContainerMount {
  readonly name: string
  /** Absolute, in the container. */
  readonly path: string
}

/** One way of looking whether a container is well. Exactly one of `http`, `tcp` and `exec`. */
export interface ContainerHealthcheck {
  /** Unique in its container. */
  readonly name: string
  readonly interval_ms: number
  readonly timeout_ms: number
  /** After a start: what fails in it does not count. */
  readonly grace_period_ms: number
  /** In a row, before it counts as healthy, at least 1. */
  readonly success_threshold: number
  /** In a row, before it counts as unhealthy, at least 1. */
  readonly failure_threshold: number
  /** `readiness`: whether it may be depended on and sent requests; `liveness`: whether it still lives. */
  readonly kind: 'readiness' | 'liveness'
  /** What is done once it is unhealthy: the machine is stopped. Absent: with `liveness` this container is started again. */
  readonly unhealthy?: 'stop'
  readonly http?: HttpHealthcheck
  readonly tcp?: { readonly port: number }
  readonly exec?: { readonly command: readonly string[] }
}

export interface HttpHealthcheck {
  readonly port: number
  readonly method: string
  readonly path: string
  readonly headers: readonly { readonly name: string; readonly values: readonly string[] }[]
  readonly scheme: 'http' | 'https'
  readonly tls_skip_verify?: boolean
  readonly tls_server_name?: string
}

/** A place for files that containers of one machine may share. Exactly one of `temp_dir` and `image`. */
export interface VolumeConfig {
  /** Unique in the machine. */
  readonly name: string
  /** Empty at each start of the machine. `size_mb` is its limit; absent: 1 GB on `disk`, the machine's memory in `memory`. */
  readonly temp_dir?: { readonly storage_type: 'disk' | 'memory'; readonly size_mb?: number }
  /** Reference of an image whose files it has, read-only. */
  readonly image?: string
}

/** The container that stands for its machine where only one can: that called `app`, else the first. null: it has none. */
export function mainContainer(config: Pick<MachineConfig, 'containers'>): ContainerConfig | null {
  const containers = config.containers ?? []
  return containers.find(({ name }) => name === 'app') ?? containers[0] ?? null
}

/** Image and digest of each container and of each volume that is filled from one. */
export function containerImages(
  config: Pick<MachineConfig, 'containers' | 'volumes'>,
  digests: ContainerDigests | undefined,
): { readonly image: string; readonly digest: string }[] {
  const named = [
    ...(config.containers ?? []).map(({ name, image }) => ({ key: name, image })),
    ...(config.volumes ?? []).map(({ name, image }) => ({ key: `volume/${name}`, image })),
  ]
  return named.flatMap(({ key, image }) => {
    const digest = digests?.[key]
    return image === undefined || digest === undefined ? [] : [{ image, digest }]
  })
}
