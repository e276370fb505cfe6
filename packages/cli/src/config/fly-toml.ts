import { basename } from 'node:path'
import { whyRefused } from '@roost/core'
import { ConfigError } from './config-error.ts'
import { MAIN_CONTAINER } from './container-config.ts'
import { containerToml, type FileToml, fileToml, SIGNALS, volumeToml } from './container-toml.ts'
import { GUEST_SIZES } from './guest.ts'
import {
  anyScalar,
  anything,
  clamped,
  complain,
  duration,
  either,
  flag,
  idle,
  int,
  list,
  named,
  nearest,
  number,
  oneOf,
  type Reader,
  type Reading,
  sectionsOf,
  shellWords,
  sizeMb,
  table,
  tables,
  text,
  words,
} from './reader.ts'
import { newTable, type Place, type TomlNode, type TomlTable, tomlTree } from './toml-tree.ts'

/**
 * Fly's configuration file, every key of it. What Roost acts on is read into values, what it does not act on yet is
 * wrapped in `idle` and named in one warning, and what nobody knows is an error with the nearest right name.
 */

const PROTOCOLS = ['http', 'https'] as const

const processes = list(text)
const checkTimes = {
  interval: serviceCheckTime(),
  timeout: serviceCheckTime(),
  grace_period: duration('ms'),
  restart_limit: idle(anything),
}
const httpCheck = {
  method: text,
  path: text,
  protocol: oneOf(...PROTOCOLS),
  tls_skip_verify: flag,
  tls_server_name: text,
  headers: either(
    named(anyScalar),
    list(table({ name: text, value: anyScalar, values: list(text) })),
    'a table of headers',
  ),
}
const machineChecks = idle(
  tables(
    table({
      command: words,
      image: text,
      entrypoint: words,
      kill_signal: text,
      kill_timeout: duration('s'),
    }),
  ),
  'they are not run',
  isEmpty,
)
const concurrency = table({
  type: oneOf('connections', 'requests'),
  soft_limit: int(0),
  hard_limit: int(0),
})
const httpOptions = table({
  compress: flag,
  h2_backend: flag,
  idle_timeout: int(0),
  headers_read_timeout: idle(int(0)),
  response: table({ headers: named(anything), pristine: flag }),
  replay_cache: tables(
    table({
      path_prefix: text,
      ttl_seconds: int(10),
      type: oneOf('cookie', 'header'),
      name: text,
      allow_bypass: flag,
    }),
  ),
})
const tlsOptions = table({
  alpn: list(text),
  versions: list(text),
  default_self_signed: flag,
})
const serviceBasics = {
  internal_port: int(1, 65535),
  auto_stop_machines: idle(
    either(oneOf('off', 'stop', 'suspend'), flag, '"off", "stop", "suspend", true or false'),
    'machines do not sleep',
  ),
  auto_start_machines: idle(flag),
  min_machines_running: idle(int(0)),
  processes,
  concurrency,
  machine_checks: machineChecks,
}
const vmBasics = {
  size: oneOf(...GUEST_SIZES),
  memory: sizeMb,
  memory_mb: int(64),
  cpus: int(1, 128),
  cpu_kind: oneOf('shared', 'performance'),
  /** Roost's own. */
  isolation: oneOf('runc', 'gvisor'),
  max_memory_mb: idle(int(64)),
  gpus: idle(int(0)),
  gpu_kind: idle(text),
  host_dedication_id: idle(text),
  kernel_args: idle(list(text)),
  persist_rootfs: idle(oneOf('never', 'restart', 'always')),
  processes,
}

export const flyToml = table({
  app: text,
  primary_region: text,
  kill_signal: oneOf(...SIGNALS),
  kill_timeout: clamped(
    duration('s'),
    0,
    300_000,
    () => 'is longer than the 300 s that a machine may take to stop: 300 s are used',
  ),
  swap_size_mb: idle(int(0)),
  console_command: text,
  host_dedication_id: idle(text),
  machine_config: text,
  container: text,
  experimental: table({
    cmd: words,
    entrypoint: words,
    exec: words,
    auto_rollback: idle(
      flag,
      'a failed release always leaves the old one serving',
      (value) => value,
    ),
    enable_consul: idle(flag),
    enable_etcd: idle(flag),
    lazy_load_images: idle(flag),
    attached: idle(table({ secrets: table({ export: named(text) }) })),
    machine_config: idle(text),
    allowed_public_ports: idle(list(anything), null, isEmpty),
    private_network: idle(flag, null, (value) => value),
  }),
  build: table({
    builder: idle(text),
    buildpacks: idle(list(text)),
    builtin: idle(text),
    settings: idle(named(anything)),
    image: text,
    dockerfile: text,
    ignorefile: text,
    'build-target': text,
    args: named(anyScalar),
    compose: table({ file: text }),
    compression: idle(oneOf('gzip', 'zstd')),
    compression_level: idle(int(0, 9)),
  }),
  deploy: table({
    // `recreate` is Roost's own word: for machines that can't run twice.
    strategy: oneOf('rolling', 'immediate', 'canary', 'bluegreen', 'recreate'),
    max_unavailable: number,
    wait_timeout: duration('s'),
    release_command: idle(text, 'it is not run'),
    release_command_timeout: idle(duration('s')),
    release_command_vm: idle(table(vmBasics)),
    seed_command: idle(text, 'it is not run'),
  }),
  env: named(anyScalar),
  processes: named(text),
  mounts: idle(
    tables(
      table({
        source: text,
        destination: text,
        initial_size: anyScalar,
        snapshot_retention: int(1, 60),
        scheduled_snapshots: flag,
        auto_extend_size_threshold: int(50, 99),
        auto_extend_size_increment: anyScalar,
        auto_extend_size_limit: anyScalar,
        processes,
      }),
    ),
    'what is written there is lost with the machine',
    isEmpty,
  ),
  http_service: table({
    ...serviceBasics,
    force_https: flag,
    http_options: httpOptions,
    tls_options: tlsOptions,
    checks: tables(table({ ...checkTimes, ...httpCheck })),
  }),
  services: tables(
    table({
      ...serviceBasics,
      protocol: oneOf('tcp', 'udp'),
      ports: tables(
        table({
          port: int(1, 65535),
          start_port: int(1, 65535),
          end_port: int(1, 65535),
          handlers: list(oneOf('http', 'tls', 'pg_tls', 'proxy_proto')),
          force_https: flag,
          http_options: httpOptions,
          tls_options: tlsOptions,
          proxy_proto_options: table({ version: oneOf('v1', 'v2') }),
        }),
      ),
      tcp_checks: tables(table(checkTimes)),
      http_checks: tables(table({ ...checkTimes, ...httpCheck })),
      script_checks: idle(anything, null, isEmpty),
    }),
  ),
  checks: named(
    table({
      ...httpCheck,
      type: oneOf('http', 'tcp'),
      port: int(1, 65535),
      interval: clamped(
        duration('ms'),
        2000,
        Number.MAX_SAFE_INTEGER,
        () => 'is shorter than 2 s: 2 s are used',
      ),
      timeout: clamped(
        duration('ms'),
        0,
        60_000,
        () => 'is longer than a minute: a minute is used',
      ),
      grace_period: duration('ms'),
      restart_limit: idle(anything),
      processes,
    }),
  ),
  machine_checks: machineChecks,
  files: tables(fileToml),
  containers: tables(containerToml),
  volumes: tables(volumeToml),
  restart: tables(
    table({ policy: oneOf('always', 'never', 'on-failure'), retries: int(0), processes }),
  ),
  vm: tables(table(vmBasics)),
  statics: tables(
    table({
      guest_path: text,
      url_prefix: text,
      tigris_bucket: idle(text),
      index_document: idle(text),
    }),
  ),
  metrics: idle(
    tables(table({ port: int(1, 65535), path: text, https: flag, processes })),
    null,
    isEmpty,
  ),
})

export type FlyToml = NonNullable<typeof flyToml extends Reader<infer T> ? T : never>

export interface ReadConfig {
  readonly config: FlyToml
  /** One line each, for a person: keys that do nothing yet, values brought into range. */
  readonly warnings: readonly string[]
}

/** `path` is only for what is said. Throws a ConfigError. */
export function readFlyToml(content: string, path = 'fly.toml'): ReadConfig {
  const tree = tomlTree(content)
  if ('problem' in tree) throw new ConfigError(path, [tree.problem], content)
  const reading: Reading = {
    keyAt: { line: 1, column: 1 },
    problems: [],
    idle: [],
    notes: [],
    sectionsWith: sectionsOf(flyToml),
  }
  withAliases(tree.table, reading)
  const config = flyToml.read(tree.table, '', reading)
  if (config !== undefined) checkValues(config, tree.table, reading)
  if (reading.problems.length > 0 || config === undefined) {
    const problems = [...reading.problems].sort(
      (a, b) => a.at.line - b.at.line || a.at.column - b.at.column,
    )
    throw new ConfigError(path, problems, content)
  }
  return { config, warnings: warningsOf(reading, basename(path)) }
}

function warningsOf(reading: Reading, file: string): string[] {
  const named = reading.idle.map(
    ({ at, path, note }) => `${path} (line ${at.line}${note === null ? '' : `: ${note}`})`,
  )
  const one =
    named.length === 0
      ? []
      : [
          `${file}: ${named.length === 1 ? 'this key does' : 'these keys do'} nothing yet: ${named.join(', ')}`,
        ]
  return [...one, ...reading.notes.map(({ at, message }) => `${file}:${at.line}: ${message}`)]
}

/** What no single key can tell. */
function checkValues(config: FlyToml, root: TomlTable, reading: Reading): void {
  const env = root.entries.get('env')?.value
  if (env?.kind === 'table')
    for (const [name, entry] of env.entries)
      if (name.startsWith('FLY_'))
        complain(reading, entry, `env.${name}: names that start with FLY_ are set by the platform`)

  for (const [name, command] of Object.entries(config.processes ?? {}))
    if (
      words.read({ kind: 'value', at: root.at, value: command }, '', {
        ...reading,
        problems: [],
      }) === undefined
    )
      complain(
        reading,
        entryAt(root, 'processes', name),
        `processes.${name} has a quote that does not end`,
      )

  const services = root.entries.get('services')?.value
  const items = services?.kind === 'array' ? services.items : services ? [services] : []
  for (const [n, service] of (config.services ?? []).entries()) {
    const at = items[n] ?? root
    if (service.protocol === undefined)
      complain(reading, at, `services[${n}] needs protocol = "tcp" or "udp"`)
    for (const [m, port] of (service.ports ?? []).entries()) {
      const path = `services[${n}].ports[${m}]`
      const why = whyNoPort(service, port)
      if (why !== null) complain(reading, at, `${path}${why}`)
    }
  }

  checkGroups(config, root, reading)
  for (const [n, file] of (config.files ?? []).entries())
    checkFile(file, itemAt(root, 'files', n), `files[${n}]`, reading)
  for (const [n, one] of (config.statics ?? []).entries())
    for (const key of ['guest_path', 'url_prefix'] as const)
      if (!one[key]?.startsWith('/'))
        complain(
          reading,
          itemAt(root, 'statics', n),
          key === 'guest_path'
            ? `statics[${n}].guest_path is the absolute path of a folder in the image`
            : `statics[${n}].url_prefix is the beginning of a path, such as "/assets"`,
        )
  checkContainers(config, root, reading)
  if (config.console_command !== undefined && shellWords(config.console_command) === null)
    complain(reading, root, 'console_command has a quote that does not end')

  for (const [name, check] of Object.entries(config.checks ?? {})) {
    const at = entryAt(root, 'checks', name)
    if (check.type === undefined)
      complain(reading, at, `checks.${name} needs type = "http" or "tcp"`)
    if (check.port === undefined && config.http_service === undefined)
      complain(reading, at, `checks.${name} needs a port, since there is no [http_service]`)
  }
}

/** Sections that name a process group that there is not would be in none. */
function checkGroups(config: FlyToml, root: TomlTable, reading: Reading): void {
  const names = groupNames(config)
  for (const name of names)
    if (!/^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(name))
      complain(
        reading,
        entryAt(root, 'processes', name),
        `processes.${name}: a process group is named with letters, digits, - and _`,
      )
  const sections = ['services', 'files', 'restart', 'vm', 'containers', 'http_service'] as const
  for (const section of sections)
    for (const [n, { processes: said = [] }] of [config[section] ?? []].flat().entries())
      for (const name of said) {
        if (names.includes(name)) continue
        const near = nearest(name, names, (one) => one)
        complain(
          reading,
          itemAt(root, section, n),
          `${section}: there is no process group "${name}"${near === null ? `; there are: ${names.join(', ')}` : `: did you mean "${near}"?`}`,
        )
      }
}

function checkFile(
  file: FileToml,
  at: { readonly at: Place },
  path: string,
  reading: Reading,
): void {
  const sources = [file.local_path, file.raw_value, file.secret_name].filter(
    (one) => one !== undefined,
  )
  if (!file.guest_path?.startsWith('/'))
    complain(reading, at, `${path}.guest_path is the absolute path in the machine`)
  if (sources.length !== 1)
    complain(reading, at, `${path} needs one of local_path, raw_value and secret_name`)
}

function checkContainers(config: FlyToml, root: TomlTable, reading: Reading): void {
  const containers = config.containers ?? []
  const main = config.container ?? MAIN_CONTAINER
  const names = containers.map(({ name }) => name)
  for (const [n, container] of containers.entries()) {
    const at = itemAt(root, 'containers', n)
    const path = `containers[${n}]`
    const { name, image, healthchecks = [], depends_on = [], mounts = [], files = [] } = container
    if (name === undefined) complain(reading, at, `${path} needs a name`)
    else if (names.indexOf(name) < n)
      complain(reading, at, `${path}: there are two containers "${name}"`)
    if (image === undefined && name !== main)
      complain(
        reading,
        at,
        `${path} needs an image; the one that is built here is "${main}" (container = "…" changes that)`,
      )
    for (const [m, check] of healthchecks.entries())
      if ([check.http, check.tcp, check.exec].filter((one) => one !== undefined).length !== 1)
        complain(reading, at, `${path}.healthchecks[${m}] needs one of http, tcp and exec`)
    for (const { name: other } of depends_on)
      if (other === undefined || (other !== main && !names.includes(other)))
        complain(reading, at, `${path}.depends_on: there is no container "${other ?? ''}"`)
    for (const mount of mounts)
      if (mount.name === undefined || !mount.path?.startsWith('/'))
        complain(reading, at, `${path}.mounts needs a name and an absolute path`)
    for (const [m, file] of files.entries()) checkFile(file, at, `${path}.files[${m}]`, reading)
  }
  for (const [n, { name }] of (config.volumes ?? []).entries())
    if (name === undefined)
      complain(reading, itemAt(root, 'volumes', n), `volumes[${n}] needs a name`)
}

/** The n-th of a section that may be there several times. */
function itemAt(root: TomlTable, section: string, n: number): { readonly at: Place } {
  const entry = root.entries.get(section)
  return (entry?.value.kind === 'array' ? entry.value.items[n] : entry) ?? root
}

/** All process groups, the default group first. */
export function groupNames(config: FlyToml): readonly string[] {
  const first = defaultGroup(config)
  const others = Object.keys(config.processes ?? {}).filter((name) => name !== first)
  return [first, ...others.sort()]
}

/** The process group that sections without `processes` belong to: `app`, else the first by name. */
export function defaultGroup(config: FlyToml): string {
  const names = Object.keys(config.processes ?? {}).sort()
  return names.length === 0 || names.includes('app') ? 'app' : (names[0] ?? 'app')
}

type Service = NonNullable<FlyToml['services']>[number]
type Port = NonNullable<Service['ports']>[number]

/** Why edges can't have such a port; null: they can. What follows its path. */
function whyNoPort({ protocol = 'tcp', internal_port = 8080 }: Service, port: Port): string | null {
  const { port: single, start_port, end_port, handlers = [], force_https = false } = port
  const from = single ?? start_port
  const to = single ?? end_port
  if (from === undefined || to === undefined) return ' needs port, or start_port and end_port'
  const { http_options, tls_options, proxy_proto_options } = port
  const why = whyRefused(
    protocol,
    {
      port: from,
      ...(to === from ? {} : { end_port: to }),
      handlers,
      force_https,
      ...(isEmpty(http_options ?? {})
        ? {}
        : { http_options: { h2_backend: http_options?.h2_backend ?? false } }),
      ...(isEmpty(tls_options ?? {}) ? {} : { tls_options: {} }),
      ...(proxy_proto_options?.version === undefined
        ? {}
        : { proxy_proto_options: { version: proxy_proto_options.version } }),
    },
    internal_port,
  )
  return why === null ? null : `: ${why}`
}

function entryAt(root: TomlTable, section: string, key: string): { readonly at: Place } {
  const inside = root.entries.get(section)
  const entry = inside?.value.kind === 'table' ? inside.value.entries.get(key) : undefined
  return entry ?? inside ?? root
}

/** Older spellings that flyctl still accepts, brought to today's before anything is read. */
function withAliases(root: TomlTable, reading: Reading): void {
  for (const old of ['compute', 'computes']) rename(root, old, 'vm', reading)
  rename(root, 'mount', 'mounts', reading)
  rename(root, 'metric', 'metrics', reading)
  const build = tableAt(root, 'build')
  if (build !== null) rename(build, 'build_target', 'build-target', reading)

  const experimental = tableAt(root, 'experimental')
  if (experimental !== null) {
    const timeout = experimental.entries.get('kill_timeout')
    if (timeout !== undefined) {
      experimental.entries.delete('kill_timeout')
      if (!root.entries.has('kill_timeout')) root.entries.set('kill_timeout', timeout)
    }
    const port = experimental.entries.get('metrics_port')
    const path = experimental.entries.get('metrics_path')
    experimental.entries.delete('metrics_port')
    experimental.entries.delete('metrics_path')
    const first = port ?? path
    if (first !== undefined && !root.entries.has('metrics')) {
      const metrics = newTable(first.at)
      if (port !== undefined) metrics.entries.set('port', port)
      if (path !== undefined) metrics.entries.set('path', path)
      root.entries.set('metrics', { name: 'metrics', at: first.at, value: metrics })
    }
  }

  byName(root, 'processes', (item) => item.entries.get('command')?.value)
  byName(root, 'checks', (item) => {
    item.entries.delete('name')
    return item
  })
  mergeEnv(root)

  const services = root.entries.get('services')?.value
  const items = services?.kind === 'array' ? services.items : services ? [services] : []
  for (const service of items) {
    if (service.kind !== 'table') continue
    const limits = service.entries.get('concurrency')
    if (limits?.value.kind === 'value') {
      const [, soft, hard] = /^\s*(\d+)\s*,\s*(\d+)\s*$/.exec(String(limits.value.value)) ?? []
      if (soft === undefined || hard === undefined) continue
      const at = limits.value.at
      const value = newTable(at)
      for (const [name, one] of [
        ['type', 'requests'],
        ['soft_limit', Number(soft)],
        ['hard_limit', Number(hard)],
      ] as const)
        value.entries.set(name, { name, at, value: { kind: 'value', at, value: one } })
      service.entries.set('concurrency', { ...limits, value })
    }
  }
}

function rename(parent: TomlTable, old: string, name: string, reading: Reading): void {
  const entry = parent.entries.get(old)
  if (entry === undefined) return
  if (parent.entries.has(name)) {
    complain(reading, entry, `${old} is an older name of ${name}: use one of them`)
    parent.entries.delete(old)
    return
  }
  parent.entries.delete(old)
  parent.entries.set(name, { ...entry, name })
}

function tableAt(parent: TomlTable, key: string): TomlTable | null {
  const value = parent.entries.get(key)?.value
  return value?.kind === 'table' ? value : null
}

/** `[[checks]] name = "x"` is taken as `[checks.x]`. */
function byName(
  root: TomlTable,
  section: string,
  insideOf: (item: TomlTable) => TomlNode | undefined,
): void {
  const entry = root.entries.get(section)
  if (entry?.value.kind !== 'array') return
  const value = newTable(entry.value.at)
  for (const item of entry.value.items) {
    const name = item.kind === 'table' ? item.entries.get('name') : undefined
    if (item.kind !== 'table' || name?.value.kind !== 'value') return
    const inside = insideOf(item)
    if (inside === undefined) return
    const key = String(name.value.value)
    value.entries.set(key, { name: key, at: item.at, value: inside })
  }
  root.entries.set(section, { ...entry, value })
}

function mergeEnv(root: TomlTable): void {
  const entry = root.entries.get('env')
  if (entry?.value.kind !== 'array') return
  const value = newTable(entry.value.at)
  for (const item of entry.value.items) {
    if (item.kind !== 'table') return
    for (const [key, one] of item.entries) value.entries.set(key, one)
  }
  root.entries.set('env', { ...entry, value })
}

function serviceCheckTime(): Reader<number> {
  return clamped(duration('ms'), 1000, 60_000, (limit) =>
    limit === 'min'
      ? 'is shorter than a second: a second is used'
      : 'is longer than a minute: a minute is used',
  )
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}
