import type { ApiClient } from '@roost/api'
import type { ContainerToml, FileToml, HealthcheckToml, VolumeToml } from './container-toml.ts'

type MachineInput = Parameters<ApiClient['createRelease']>[0]['body']['config']
type Known<T> = { [K in keyof T as string extends K ? never : K]: T[K] }
type Container = Known<NonNullable<MachineInput['containers']>[number]>
type Healthcheck = NonNullable<Container['healthchecks']>[number]
type Files = NonNullable<MachineInput['files']>

/** The content of a file of the user's in base64, by its path as fly.toml has it. */
export type LocalFile = (path: string) => string

export const MAIN_CONTAINER = 'app'

/**
 * The containers of a machine: those that are asked for, and the app itself, which has the built image and the command of its
 * process group. It is the one that `main` names; where that is not among them it comes first.
 */
export function containersOf(
  asked: readonly ContainerToml[],
  volumes: readonly VolumeToml[],
  app: {
    readonly main: string
    readonly init: Pick<Container, 'exec' | 'entrypoint' | 'cmd'>
    readonly localFile: LocalFile
  },
): Pick<MachineInput, 'containers' | 'volumes'> {
  if (asked.length === 0) return {}
  const whole = asked.some(({ name }) => name === app.main) ? asked : [{ name: app.main }, ...asked]
  const named = new Set(whole.flatMap(({ mounts = [] }) => mounts.map(({ name }) => name ?? '')))
  const undeclared = [...named].filter((name) => !volumes.some((volume) => volume.name === name))
  const all = [...volumes, ...undeclared.map((name): VolumeToml => ({ name }))]
  return {
    containers: whole.map((container) => ({
      ...(container.name === app.main ? app.init : {}),
      ...containerOf(container, app.localFile),
    })),
    ...(all.length === 0 ? {} : { volumes: all.map(volumeOf) }),
  }
}

function containerOf(container: ContainerToml, localFile: LocalFile): Container {
  const { name = '', image, user, env, secrets, restart, kill_signal, kill_timeout } = container
  const { depends_on, healthchecks, mounts, files } = container
  return {
    name,
    ...(image === undefined ? {} : { image }),
    ...commandOf(container),
    ...(user === undefined ? {} : { user }),
    ...(env === undefined ? {} : { env }),
    ...(secrets === undefined
      ? {}
      : { secrets: secrets.map((secret) => ({ env_var: secret, name: secret })) }),
    ...(files === undefined ? {} : { files: filesOf(files, localFile) }),
    ...(restart === undefined
      ? {}
      : {
          restart: {
            ...(restart.policy === undefined
              ? {}
              : { policy: restart.policy === 'never' ? 'no' : restart.policy }),
            ...(restart.retries === undefined ? {} : { max_retries: restart.retries }),
          },
        }),
    ...(kill_signal === undefined && kill_timeout === undefined
      ? {}
      : {
          stop: {
            ...(kill_signal === undefined ? {} : { signal: kill_signal }),
            ...(kill_timeout === undefined ? {} : { timeout: `${kill_timeout}ms` }),
          },
        }),
    ...(depends_on === undefined
      ? {}
      : {
          depends_on: depends_on.map((one) => ({
            name: one.name ?? '',
            condition: one.condition ?? 'started',
          })),
        }),
    ...(healthchecks === undefined
      ? {}
      : { healthchecks: healthchecks.map((check, n) => healthcheckOf(check, n)) }),
    ...(mounts === undefined
      ? {}
      : { mounts: mounts.map((one) => ({ name: one.name ?? '', path: one.path ?? '' })) }),
  }
}

function commandOf({
  exec,
  entrypoint,
  cmd,
}: ContainerToml): Pick<Container, 'exec' | 'entrypoint' | 'cmd'> {
  return {
    ...(exec === undefined ? {} : { exec: [...exec] }),
    ...(entrypoint === undefined ? {} : { entrypoint: [...entrypoint] }),
    ...(cmd === undefined ? {} : { cmd: [...cmd] }),
  }
}

/** Times go as whole seconds. */
function healthcheckOf(check: HealthcheckToml, n: number): Healthcheck {
  const { name, kind, unhealthy, http, tcp, exec, success_threshold, failure_threshold } = check
  const seconds = (ms: number | undefined) => Math.max(1, Math.round((ms ?? 0) / 1000))
  return {
    name: name ?? `check-${n + 1}`,
    ...(kind === undefined ? {} : { kind }),
    ...(unhealthy === undefined ? {} : { unhealthy }),
    ...(check.interval === undefined ? {} : { interval: seconds(check.interval) }),
    ...(check.timeout === undefined ? {} : { timeout: seconds(check.timeout) }),
    ...(check.grace_period === undefined ? {} : { grace_period: seconds(check.grace_period) }),
    ...(success_threshold === undefined ? {} : { success_threshold }),
    ...(failure_threshold === undefined ? {} : { failure_threshold }),
    ...(tcp?.port === undefined ? {} : { tcp: { port: tcp.port } }),
    ...(exec === undefined ? {} : { exec: { command: [...(exec.command ?? [])] } }),
    ...(http?.port === undefined
      ? {}
      : {
          http: {
            port: http.port,
            ...(http.method === undefined ? {} : { method: http.method.toUpperCase() }),
            ...(http.path === undefined ? {} : { path: http.path }),
            ...(http.scheme === undefined ? {} : { scheme: http.scheme }),
            ...(http.tls_skip_verify === undefined
              ? {}
              : { tls_skip_verify: http.tls_skip_verify }),
            ...(http.tls_server_name === undefined
              ? {}
              : { tls_server_name: http.tls_server_name }),
            ...(http.headers === undefined
              ? {}
              : {
                  headers: Object.entries(http.headers).map(([header, value]) => ({
                    name: header,
                    values: [value],
                  })),
                }),
          },
        }),
  }
}

function volumeOf({ name = '', storage_type, size, image }: VolumeToml) {
  if (image !== undefined) return { name, image }
  return {
    name,
    temp_dir: {
      storage_type: storage_type ?? ('disk' as const),
      ...(size === undefined ? {} : { size_mb: size }),
    },
  }
}

/** `raw_value` is the content itself, as flyctl takes it; on its way it is base64. */
export function filesOf(files: readonly FileToml[], localFile: LocalFile): Files {
  return files.map(({ guest_path = '', local_path, raw_value, secret_name, mode }) => ({
    guest_path,
    ...(local_path === undefined ? {} : { raw_value: localFile(local_path) }),
    ...(raw_value === undefined ? {} : { raw_value: Buffer.from(raw_value).toString('base64') }),
    ...(secret_name === undefined ? {} : { secret_name }),
    ...(mode === undefined ? {} : { mode }),
  }))
}
