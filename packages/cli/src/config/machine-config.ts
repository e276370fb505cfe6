import type { ApiClient } from '@roost/api'
import { containersOf, filesOf, type LocalFile, MAIN_CONTAINER } from './container-config.ts'
import { defaultGroup, type FlyToml } from './fly-toml.ts'
import { GUEST_SIZE_DEFAULT, guestPreset } from './guest.ts'
import { shellWords } from './reader.ts'

type MachineInput = Parameters<ApiClient['createRelease']>[0]['body']['config']
/** All of a machine's configuration but the image, which the build gives. */
export type MachineTemplate = Omit<Known<MachineInput>, 'image'>
type Service = Known<NonNullable<MachineTemplate['services']>[number]>
type Check = NonNullable<Service['checks']>[number]

/** The schema lets unknown keys through; what is made here has none. */
type Known<T> = { [K in keyof T as string extends K ? never : K]: T[K] }

export interface MachineConfigOptions {
  readonly primaryRegion?: string | undefined
  /** Process group; default: the default group. */
  readonly group?: string
  /** For `[[files]]`. Default: what is there is left out. */
  readonly localFile?: LocalFile
  /** `machine_config`, read: what fly.toml has no word for. */
  readonly base?: Partial<MachineTemplate>
}

/** Of one process group, as flyctl makes it of the same file; durations go as Go writes them. */
export function machineConfigOf(
  config: FlyToml,
  options: MachineConfigOptions = {},
): MachineTemplate {
  const first = defaultGroup(config)
  const { group = first, base = {}, localFile = () => '' } = options
  // What names no group is for the default group; of `[[vm]]` alone it is for all.
  const mine: IsMine = ({ processes = [] }) =>
    processes.length === 0 ? group === first : processes.includes(group)
  const primaryRegion = options.primaryRegion ?? config.primary_region
  const command = config.processes?.[group]
  const init = {
    ...(config.experimental?.entrypoint && { entrypoint: [...config.experimental.entrypoint] }),
    ...(config.experimental?.exec && { exec: [...config.experimental.exec] }),
    ...(config.experimental?.cmd && { cmd: [...config.experimental.cmd] }),
    ...(command !== undefined && { cmd: shellWords(command) ?? [] }),
  }
  const files = (config.files ?? []).filter(mine)
  // Of every group: they know none.
  const statics = (config.statics ?? []).map(({ guest_path = '', url_prefix = '' }) => ({
    guest_path,
    url_prefix,
  }))
  const services = servicesOf(config, mine)
  const main = config.container ?? MAIN_CONTAINER
  return {
    ...base,
    env: {
      ...base.env,
      ...config.env,
      FLY_PROCESS_GROUP: group,
      ...(primaryRegion === undefined ? {} : { PRIMARY_REGION: primaryRegion }),
    },
    init: { ...base.init, ...init },
    services: services.length === 0 ? (base.services ?? []) : services,
    checks: { ...base.checks, ...checksOf(config, mine) },
    metadata: { ...base.metadata, fly_platform_version: 'v2', fly_process_group: group },
    ...(files.length === 0 ? {} : { files: filesOf(files, localFile) }),
    ...(statics.length === 0 ? {} : { statics }),
    ...containersOf((config.containers ?? []).filter(mine), config.volumes ?? [], {
      main,
      init,
      localFile,
    }),
    ...guestOf(config, group),
    ...restartOf(config, mine),
    ...stopOf(config),
  }
}

type IsMine = (section: { readonly processes?: readonly string[] }) => boolean

function servicesOf(config: FlyToml, mine: IsMine): Service[] {
  const http = config.http_service
  const own: Service[] =
    http === undefined || !mine(http)
      ? []
      : [
          {
            ...basicsOf(http),
            protocol: 'tcp',
            ports: [
              {
                port: 80,
                handlers: ['http'],
                force_https: http.force_https ?? false,
                ...optionsOf({ http_options: http.http_options }),
              },
              { port: 443, handlers: ['tls', 'http'], ...optionsOf(http) },
            ],
            checks: (http.checks ?? []).map((check) => checkOf('http', check)),
          },
        ]
  const more = (config.services ?? []).flatMap((service): Service[] => {
    const { protocol = 'tcp', ports = [] } = service
    if (ports.length === 0 || !mine(service)) return []
    return [
      {
        ...basicsOf(service),
        protocol,
        ports: ports.map(({ port, start_port, end_port, handlers, force_https, ...options }) => ({
          ...(port === undefined ? {} : { port }),
          ...(port !== undefined || start_port === undefined ? {} : { start_port }),
          ...(port !== undefined || end_port === undefined ? {} : { end_port }),
          handlers: [...(handlers ?? [])],
          ...(force_https === undefined ? {} : { force_https }),
          ...optionsOf(options),
        })),
        checks: [
          ...(service.tcp_checks ?? []).map((check) => checkOf('tcp', check)),
          ...(service.http_checks ?? []).map((check) => checkOf('http', check)),
        ],
      },
    ]
  })
  return [...own, ...more]
}

type Port = NonNullable<Service['ports']>[number]
type TomlPort = NonNullable<NonNullable<FlyToml['services']>[number]['ports']>[number]

type TomlOptions = {
  readonly [K in 'http_options' | 'tls_options' | 'proxy_proto_options']?: TomlPort[K] | undefined
}

/** What edges do with requests and handshakes, without what they do not do. */
function optionsOf({ http_options, tls_options, proxy_proto_options }: TomlOptions): Partial<Port> {
  const { headers_read_timeout: _, replay_cache, ...rest } = http_options ?? {}
  const http = { ...rest, ...(replay_cache === undefined ? {} : replayCacheOf(replay_cache)) }
  return {
    ...(Object.keys(http).length === 0 ? {} : { http_options: http }),
    ...(tls_options === undefined || Object.keys(tls_options).length === 0
      ? {}
      : { tls_options: structuredClone(tls_options) as NonNullable<Port['tls_options']> }),
    ...(proxy_proto_options === undefined ? {} : { proxy_proto_options }),
  }
}

/** What is missing the server asks for. */
function replayCacheOf(
  rules: NonNullable<NonNullable<TomlPort['http_options']>['replay_cache']>,
): Pick<NonNullable<Port['http_options']>, 'replay_cache'> {
  return {
    replay_cache: rules.map(({ path_prefix = '', ttl_seconds = 0, name = '', ...rule }) => ({
      ...{ path_prefix, ttl_seconds, name, type: rule.type ?? 'cookie' },
      ...(rule.allow_bypass === undefined ? {} : { allow_bypass: rule.allow_bypass }),
    })),
  }
}

type TomlBasics = Omit<NonNullable<FlyToml['http_service']>, 'checks' | 'force_https'>

function basicsOf(section: TomlBasics): Pick<Service, 'internal_port'> & Partial<Service> {
  const { concurrency } = section
  return {
    internal_port: section.internal_port ?? 8080,
    ...(section.auto_stop_machines === undefined ? {} : { autostop: section.auto_stop_machines }),
    ...(section.auto_start_machines === undefined
      ? {}
      : { autostart: section.auto_start_machines }),
    ...(section.min_machines_running === undefined
      ? {}
      : { min_machines_running: section.min_machines_running }),
    ...(concurrency === undefined
      ? {}
      : { concurrency: { ...concurrency, type: concurrency.type ?? 'connections' } }),
  }
}

interface TomlCheck {
  readonly port?: number
  readonly interval?: number
  readonly timeout?: number
  readonly grace_period?: number
  readonly method?: string
  readonly path?: string
  readonly protocol?: 'http' | 'https'
  readonly tls_skip_verify?: boolean
  readonly tls_server_name?: string
  readonly headers?:
    | Readonly<Record<string, string>>
    | readonly {
        readonly name?: string
        readonly value?: string
        readonly values?: readonly string[]
      }[]
}

function checkOf(type: 'tcp' | 'http', check: TomlCheck): Check {
  return {
    type,
    ...(check.port === undefined ? {} : { port: check.port }),
    ...(check.interval === undefined ? {} : { interval: goDuration(check.interval) }),
    ...(check.timeout === undefined ? {} : { timeout: goDuration(check.timeout) }),
    ...(check.grace_period === undefined ? {} : { grace_period: goDuration(check.grace_period) }),
    ...(check.method === undefined ? {} : { method: check.method.toUpperCase() }),
    ...(check.path === undefined ? {} : { path: check.path }),
    ...(check.protocol === undefined ? {} : { protocol: check.protocol }),
    ...(check.tls_skip_verify === undefined ? {} : { tls_skip_verify: check.tls_skip_verify }),
    ...(check.tls_server_name === undefined ? {} : { tls_server_name: check.tls_server_name }),
    ...(check.headers === undefined ? {} : { headers: headersOf(check.headers) }),
  }
}

function headersOf(
  headers: NonNullable<TomlCheck['headers']>,
): { name: string; values: string[] }[] {
  const list: Extract<typeof headers, readonly unknown[]> = Array.isArray(headers)
    ? headers
    : Object.entries(headers).map(([name, value]) => ({ name, value }))
  return list.map(({ name = '', value, values = [] }) => ({
    name,
    values: value === undefined ? [...values] : [value],
  }))
}

function checksOf(config: FlyToml, mine: IsMine): Record<string, Check> {
  const made = Object.entries(config.checks ?? {})
    .filter(([, check]) => mine(check))
    .map(([name, check]) => {
      const port = check.port ?? config.http_service?.internal_port ?? 8080
      return [name, checkOf(check.type ?? 'tcp', { ...check, port })] as const
    })
  return Object.fromEntries(made)
}

/** Nothing without a `[[vm]]`: the machines keep the size that they have. */
function guestOf(config: FlyToml, group: string): Partial<MachineTemplate> {
  const sections = config.vm ?? []
  const vm =
    sections.find((one) => one.processes?.includes(group)) ??
    sections.find((one) => one.processes === undefined || one.processes.length === 0)
  if (vm === undefined) return {}
  const preset = guestPreset(vm.size ?? GUEST_SIZE_DEFAULT)
  const memory = vm.memory ?? vm.memory_mb
  return {
    guest: {
      ...preset,
      ...(vm.cpu_kind === undefined ? {} : { cpu_kind: vm.cpu_kind }),
      ...(vm.cpus === undefined ? {} : { cpus: vm.cpus }),
      ...(memory === undefined ? {} : { memory_mb: memory }),
    },
    ...(vm.isolation === undefined ? {} : { isolation: vm.isolation }),
  }
}

/** Nothing without a `[[restart]]`: the server's default. */
function restartOf(config: FlyToml, mine: IsMine): Partial<MachineTemplate> {
  const restart = config.restart?.find(mine)
  if (restart === undefined) return {}
  return {
    restart: {
      ...(restart.policy === undefined
        ? {}
        : { policy: restart.policy === 'never' ? 'no' : restart.policy }),
      ...(restart.retries === undefined ? {} : { max_retries: restart.retries }),
    },
  }
}

function stopOf(config: FlyToml): Partial<MachineTemplate> {
  if (config.kill_signal === undefined && config.kill_timeout === undefined) return {}
  return {
    stop_config: {
      ...(config.kill_signal === undefined ? {} : { signal: config.kill_signal }),
      ...(config.kill_timeout === undefined ? {} : { timeout: goDuration(config.kill_timeout) }),
    },
  }
}

function goDuration(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`
}
