import {
  anyScalar,
  duration,
  flag,
  int,
  list,
  named,
  oneOf,
  type Reader,
  sizeMb,
  table,
  tables,
  text,
  words,
} from './reader.ts'

/** `[[containers]]` and `[[volumes]]`, Roost's own addition to fly.toml: what runs beside the app in each of its machines. */

export const SIGNALS = [
  'SIGINT',
  'SIGTERM',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGKILL',
  'SIGHUP',
] as const
const processes = list(text)

export const fileToml = table({
  guest_path: text,
  local_path: text,
  raw_value: text,
  secret_name: text,
  mode: int(0, 0o7777),
  processes,
})

const healthcheckToml = table({
  name: text,
  kind: oneOf('readiness', 'liveness'),
  unhealthy: oneOf('stop'),
  interval: duration('s'),
  timeout: duration('s'),
  grace_period: duration('s'),
  success_threshold: int(1),
  failure_threshold: int(1),
  http: table({
    port: int(1, 65535),
    method: text,
    path: text,
    scheme: oneOf('http', 'https'),
    headers: named(anyScalar),
    tls_skip_verify: flag,
    tls_server_name: text,
  }),
  tcp: table({ port: int(1, 65535) }),
  exec: table({ command: words }),
})

export const containerToml = table({
  name: text,
  image: text,
  exec: words,
  entrypoint: words,
  cmd: words,
  user: text,
  env: named(anyScalar),
  /** Names; absent: all of the app. */
  secrets: list(text),
  files: tables(fileToml),
  restart: table({ policy: oneOf('always', 'never', 'on-failure'), retries: int(0) }),
  kill_signal: oneOf(...SIGNALS),
  kill_timeout: duration('s'),
  depends_on: tables(
    table({ name: text, condition: oneOf('started', 'healthy', 'exited_successfully') }),
  ),
  healthchecks: tables(healthcheckToml),
  mounts: tables(table({ name: text, path: text })),
  processes,
})

export const volumeToml = table({
  name: text,
  storage_type: oneOf('disk', 'memory'),
  size: sizeMb,
  image: text,
})

type Of<R> = R extends Reader<infer T> ? T : never
export type FileToml = Of<typeof fileToml>
export type ContainerToml = Of<typeof containerToml>
export type HealthcheckToml = Of<typeof healthcheckToml>
export type VolumeToml = Of<typeof volumeToml>
