import type { MachineConfigInput } from '@roost/api'
import type {
  ContainerConfig,
  ContainerDependency,
  ContainerHealthcheck,
  HttpHealthcheck,
  MachineRestart,
  VolumeConfig,
} from '@roost/core'
import {
  absolutePath,
  containerName,
  invalid,
  plainName,
  quote,
  refuseMore,
  refuseTwice,
  restartOf,
  stopOf,
  wholeBetween,
} from './config-rules.ts'
import { envFromOf, filesOf, programOf, secretsOf } from './process-config.ts'
import { headersOf } from './service-config.ts'

type ContainerInput = NonNullable<MachineConfigInput['containers']>[number]
type VolumeInput = NonNullable<MachineConfigInput['volumes']>[number]
type HealthcheckInput = NonNullable<ContainerInput['healthchecks']>[number]

const CONTAINERS_MAX = 20
const VOLUMES_MAX = 20
const HEALTHCHECKS_MAX = 10
const SIZE_MB_MAX = 1_048_576

export function volumesOf(input: readonly VolumeInput[]): VolumeConfig[] {
  refuseMore(input, VOLUMES_MAX, 'config.volumes')
  refuseTwice(
    input.map(({ name }) => name),
    (n) => `config.volumes[${n}].name`,
  )
  return input.map((volume, n) => {
    const path = `config.volumes[${n}]`
    const { temp_dir, image } = volume
    if (Boolean(temp_dir) === Boolean(image))
      throw invalid(path, 'needs exactly one of temp_dir and image')
    const name = plainName(volume.name, `${path}.name`)
    if (!temp_dir) return { name, image: image ?? '' }
    const { storage_type, size_mb } = temp_dir
    if (!size_mb) return { name, temp_dir: { storage_type } }
    return {
      name,
      temp_dir: {
        storage_type,
        size_mb: wholeBetween(size_mb, 1, SIZE_MB_MAX, `${path}.temp_dir.size_mb`),
      },
    }
  })
}

/** Checked also for what they say of each other. */
export function containersOf(
  machine: MachineConfigInput,
  volumes: readonly VolumeConfig[],
): ContainerConfig[] {
  const input = machine.containers ?? []
  refuseMore(input, CONTAINERS_MAX, 'config.containers')
  refuseTwice(
    input.map(({ name }) => name),
    (n) => `config.containers[${n}].name`,
  )
  const containers = input.map((one, n) => containerOf(machine, one, volumes, pathOf(n)))
  refuseUnmeetable(containers, restartOf(machine.restart ?? {}))
  refuseCycle(containers)
  return containers
}

function pathOf(n: number): string {
  return `config.containers[${n}]`
}

function containerOf(
  machine: MachineConfigInput,
  input: ContainerInput,
  volumes: readonly VolumeConfig[],
  path: string,
): ContainerConfig {
  const image = input.image || machine.image
  if (!image) throw invalid(`${path}.image`, 'is missing, and the machine has none either')
  const mounts = (input.mounts ?? []).map((mount, n) => {
    if (!volumes.some(({ name }) => name === mount.name))
      throw invalid(
        `${path}.mounts[${n}].name`,
        `there is no volume ${quote(mount.name)} in config.volumes`,
      )
    return { name: mount.name, path: absolutePath(mount.path, `${path}.mounts[${n}].path`) }
  })
  refuseTwice(
    mounts.map((mount) => mount.path),
    (n) => `${path}.mounts[${n}].path`,
  )
  const checks = input.healthchecks ?? []
  refuseMore(checks, HEALTHCHECKS_MAX, `${path}.healthchecks`)
  refuseTwice(
    checks.map(({ name }) => name),
    (n) => `${path}.healthchecks[${n}].name`,
  )
  return {
    name: containerName(input.name, `${path}.name`),
    image,
    ...programOf(input, path),
    env: input.env ?? {},
    ...secretsOf(input.secrets, `${path}.secrets`),
    env_from: envFromOf(input.env_from ?? [], `${path}.env_from`),
    files: filesOf(input.files ?? [], `${path}.files`),
    ...(input.restart?.policy ? { restart: restartOf(input.restart) } : {}),
    ...(input.stop?.signal || typeof input.stop?.timeout === 'number'
      ? { stop: stopOf(input.stop, `${path}.stop`) }
      : {}),
    depends_on: (input.depends_on ?? []).map(({ name, condition }) => ({ name, condition })),
    healthchecks: checks.map((check, n) => healthcheckOf(check, `${path}.healthchecks[${n}]`)),
    mounts,
  }
}

/** Conditions that never come true: whoever waits for one would wait for ever, without a word. */
function refuseUnmeetable(containers: readonly ContainerConfig[], restart: MachineRestart): void {
  for (const [n, { name, depends_on }] of containers.entries()) {
    const path = `${pathOf(n)}.depends_on`
    refuseTwice(
      depends_on.map((one) => one.name),
      (m) => `${path}[${m}].name`,
    )
    for (const [m, on] of depends_on.entries()) {
      const other = containers.find((one) => one.name === on.name)
      if (on.name === name)
        throw invalid(`${path}[${m}].name`, 'a container can not wait for itself')
      if (other === undefined)
        throw invalid(
          `${path}[${m}].name`,
          `there is no container ${quote(on.name)} in this machine`,
        )
      const why = whyNever(other, on.condition, restart)
      if (why !== null) throw invalid(`${path}[${m}].condition`, why)
    }
  }
}

function whyNever(
  { name, healthchecks, restart }: ContainerConfig,
  condition: ContainerDependency['condition'],
  otherwise: MachineRestart,
): string | null {
  if (condition === 'healthy' && healthchecks.length === 0)
    return `container ${quote(name)} has no healthchecks, so that it never is healthy`
  if (condition === 'exited_successfully' && (restart ?? otherwise).policy === 'always')
    return `container ${quote(name)} is always restarted, so that it never is over`
  return null
}

function refuseCycle(containers: readonly ContainerConfig[]): void {
  const byName = new Map(containers.map((one) => [one.name, one]))
  const done = new Set<string>()
  const visit = (name: string, way: readonly string[]): void => {
    if (done.has(name)) return
    const again = way.indexOf(name)
    if (again !== -1)
      throw invalid(
        `${pathOf(containers.findIndex((one) => one.name === way.at(-1)))}.depends_on`,
        `containers wait for each other: ${[...way.slice(again), name].join(' -> ')}`,
      )
    for (const on of byName.get(name)?.depends_on ?? []) visit(on.name, [...way, name])
    done.add(name)
  }
  for (const { name } of containers) visit(name, [])
}

function healthcheckOf(input: HealthcheckInput, path: string): ContainerHealthcheck {
  const { http, tcp, exec } = input
  if ([http, tcp, exec].filter(Boolean).length !== 1)
    throw invalid(path, 'needs exactly one of http, tcp and exec')
  const seconds = (key: 'interval' | 'timeout' | 'grace_period', otherwise: number, max: number) =>
    wholeBetween(input[key] || otherwise, 0, max, `${path}.${key}`) * 1000
  return {
    name: plainName(input.name, `${path}.name`),
    interval_ms: seconds('interval', 10, 3600),
    timeout_ms: seconds('timeout', 5, 300),
    grace_period_ms: seconds('grace_period', 0, 3600),
    success_threshold: wholeBetween(
      input.success_threshold || 1,
      1,
      100,
      `${path}.success_threshold`,
    ),
    failure_threshold: wholeBetween(
      input.failure_threshold || 3,
      1,
      100,
      `${path}.failure_threshold`,
    ),
    kind: input.kind || 'readiness',
    ...(input.unhealthy ? { unhealthy: input.unhealthy } : {}),
    ...(http ? { http: httpOf(http, `${path}.http`) } : {}),
    ...(tcp ? { tcp: { port: tcp.port } } : {}),
    ...(exec ? { exec: { command: exec.command } } : {}),
  }
}

function httpOf(input: NonNullable<HealthcheckInput['http']>, path: string): HttpHealthcheck {
  const method = input.method || 'GET'
  const at = input.path || '/'
  if (!/^[A-Za-z]{1,16}$/.test(method))
    throw invalid(`${path}.method`, `${quote(method)} is no method`)
  if (!/^\/[\x21-\x7e]*$/.test(at))
    throw invalid(
      `${path}.path`,
      `${quote(at)} does not begin with / or has a character that must be escaped`,
    )
  const https = input.scheme === 'https'
  return {
    port: input.port,
    method: method.toUpperCase(),
    path: at,
    headers: headersOf(input.headers ?? [], `${path}.headers`),
    scheme: https ? 'https' : 'http',
    ...(https && input.tls_skip_verify ? { tls_skip_verify: true } : {}),
    ...(https && input.tls_server_name ? { tls_server_name: input.tls_server_name } : {}),
  }
}
