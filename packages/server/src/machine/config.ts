import type { MachineConfigInput } from '@roost/api'
import { PlatformError } from '@roost/base'
import type {
  MachineCheck,
  MachineConfig,
  MachineGuest,
  MachinePort,
  MachineService,
} from '@roost/core'

/**
 * A configuration as clients send it, made whole with the Machines API's defaults. What would need something that Roost doesn't do
 * is refused with the name of its key; what only asks for something not to be done is let through.
 */
export function machineConfig(input: MachineConfigInput): MachineConfig {
  refuseUnsupported(input)
  const services = (input.services ?? []).map(serviceOf)
  return {
    image: input.image,
    env: input.env ?? {},
    init: initOf(input),
    guest: guestOf(input),
    services,
    checks: Object.fromEntries(
      Object.entries(input.checks ?? {}).map(([name, check]) => [
        checkName(name),
        checkOf(check, `config.checks.${name}`, services[0]?.internal_port),
      ]),
    ),
    restart: {
      policy: input.restart?.policy ?? 'on-failure',
      max_retries: input.restart?.max_retries ?? 10,
    },
    stop_config: {
      signal: input.stop_config?.signal ?? 'SIGINT',
      timeout_ms: stopTimeout(input.stop_config?.timeout ?? 5000),
    },
    metadata: input.metadata ?? {},
    auto_destroy: input.auto_destroy ?? false,
  }
}

const KNOWN = {
  config:
    'image env init guest size services checks restart stop_config metadata auto_destroy disable_machine_autostart',
  init: 'exec entrypoint cmd tty swap_size_mb kernel_args',
  guest:
    'cpu_kind cpus memory_mb max_memory_mb gpus gpu_kind host_dedication_id persist_rootfs kernel_args',
  service:
    'protocol internal_port autostop autostart min_machines_running ports checks concurrency force_instance_key force_instance_description',
  port: 'port start_port end_port handlers force_https tls_options http_options proxy_proto_options',
}
/** Keys that the Machines API has and Roost lets through only while they are empty. */
const INERT: Record<keyof typeof KNOWN, string> = {
  config: '',
  init: 'tty swap_size_mb kernel_args',
  guest: 'max_memory_mb gpus gpu_kind host_dedication_id persist_rootfs kernel_args',
  service: 'force_instance_key force_instance_description',
  port: 'tls_options http_options proxy_proto_options',
}

function refuseUnsupported(input: MachineConfigInput): void {
  refuseKeys('config', 'config', input)
  if (input.init) refuseKeys('init', 'config.init', input.init)
  if (input.guest) refuseKeys('guest', 'config.guest', input.guest)
  for (const [n, service] of (input.services ?? []).entries()) {
    refuseKeys('service', `config.services[${n}]`, service)
    for (const [m, port] of (service.ports ?? []).entries())
      refuseKeys('port', `config.services[${n}].ports[${m}]`, port)
  }
}

function refuseKeys(kind: keyof typeof KNOWN, path: string, value: object): void {
  const known = new Set(KNOWN[kind].split(' '))
  const inert = new Set(INERT[kind].split(' '))
  for (const [key, inside] of Object.entries(value)) {
    if (isEmpty(inside)) continue
    if (known.has(key) && !inert.has(key)) continue
    throw new PlatformError('unsupported', `${path}.${key} is not supported`)
  }
}

/** Go clients send empty values for what was never set. */
function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false || value === 0)
    return true
  if (value === 'none' || value === 'never') return true
  if (Array.isArray(value)) return value.length === 0
  return typeof value === 'object' && Object.values(value).every(isEmpty)
}

function initOf(input: MachineConfigInput): MachineConfig['init'] {
  const { exec, entrypoint, cmd } = input.init ?? {}
  return {
    ...(exec?.length ? { exec } : {}),
    ...(entrypoint?.length ? { entrypoint } : {}),
    ...(cmd?.length ? { cmd } : {}),
  }
}

const CPUS = {
  shared: [1, 2, 4, 6, 8],
  performance: [1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64, 128],
}

function guestOf(input: MachineConfigInput): MachineGuest {
  const preset = input.size ? presetOf(input.size) : null
  const cpu_kind = input.guest?.cpu_kind ?? preset?.cpu_kind ?? 'shared'
  const cpus = input.guest?.cpus ?? preset?.cpus ?? 1
  const perCpu = cpu_kind === 'shared' ? 256 : 2048
  const memory_mb = input.guest?.memory_mb ?? perCpu * cpus
  if (!CPUS[cpu_kind].includes(cpus))
    throw new PlatformError(
      'invalid',
      `config.guest.cpus: invalid number of CPUs ${cpus} for ${cpu_kind}; allowed are ${CPUS[cpu_kind].join(', ')}`,
    )
  return { cpu_kind, cpus, memory_mb }
}

function presetOf(size: string): { cpu_kind: MachineGuest['cpu_kind']; cpus: number } {
  const match = /^(shared-cpu|performance)-(\d+)x$/.exec(size)
  if (!match)
    throw new PlatformError('invalid', `config.size: ${size} is no size such as shared-cpu-1x`)
  return { cpu_kind: match[1] === 'performance' ? 'performance' : 'shared', cpus: Number(match[2]) }
}

/** The names of services' checks are the ones that decide about routing. */
function checkName(name: string): string {
  if (name.length <= 100 && !name.startsWith('servicecheck-')) return name
  throw new PlatformError(
    'invalid',
    `config.checks: a check can not be called ${quote(name)}: names have at most 100 characters and do not begin with servicecheck-`,
  )
}

type ServiceInput = NonNullable<MachineConfigInput['services']>[number]
type CheckInput = NonNullable<MachineConfigInput['checks']>[string]

function serviceOf(service: ServiceInput, n: number): MachineService {
  const path = `config.services[${n}]`
  const { concurrency } = service
  if (concurrency && concurrency.type !== 'connections' && concurrency.type !== 'requests')
    throw new PlatformError(
      'invalid',
      `${path}.concurrency.type: ${concurrency.type} is neither connections nor requests`,
    )
  const soft = concurrency?.soft_limit ?? 20
  const hard = concurrency?.hard_limit ? concurrency.hard_limit : null
  return {
    protocol: service.protocol,
    internal_port: service.internal_port,
    ports: (service.ports ?? []).map((port, m) => portOf(port, `${path}.ports[${m}]`)),
    checks: (service.checks ?? []).map((check, m) =>
      checkOf(check, `${path}.checks[${m}]`, service.internal_port),
    ),
    concurrency: {
      type: concurrency?.type === 'requests' ? 'requests' : 'connections',
      // A hard limit alone is also where a machine counts as loaded.
      soft_limit: concurrency?.soft_limit === undefined && hard !== null ? hard : soft,
      hard_limit: hard,
    },
    autostop: autostopOf(service.autostop),
    autostart: service.autostart ?? false,
    min_machines_running: service.min_machines_running ?? 0,
  }
}

function autostopOf(value: ServiceInput['autostop']): MachineService['autostop'] {
  if (value === true) return 'stop'
  if (value === false || value === null || value === undefined) return 'off'
  return value
}

function portOf(port: NonNullable<ServiceInput['ports']>[number], path: string): MachinePort {
  const range = port.start_port !== undefined || port.end_port !== undefined
  if (range && port.start_port !== port.end_port)
    throw new PlatformError('unsupported', `${path}.start_port: port ranges are not supported`)
  const number = port.port ?? port.start_port
  if (number === undefined) throw new PlatformError('invalid', `${path}.port is missing`)
  const handlers = (port.handlers ?? []).map((handler) => {
    if (handler === 'http' || handler === 'tls') return handler
    throw new PlatformError('unsupported', `${path}.handlers: ${handler} is not supported`)
  })
  return { port: number, handlers, force_https: port.force_https ?? false }
}

function checkOf(check: CheckInput, path: string, defaultPort: number | undefined): MachineCheck {
  const port = check.port ?? defaultPort
  if (port === undefined) throw new PlatformError('invalid', `${path}.port is missing`)
  if (check.kind === 'readiness')
    throw new PlatformError(
      'unsupported',
      `${path}.kind: only the checks of services decide about requests; readiness is not supported`,
    )
  const https = check.protocol === 'https'
  if (check.method !== undefined && !/^[A-Za-z]{1,16}$/.test(check.method))
    throw new PlatformError('invalid', `${path}.method: ${quote(check.method)} is no method`)
  if (check.path !== undefined && !/^\/[\x21-\x7e]*$/.test(check.path))
    throw new PlatformError(
      'invalid',
      `${path}.path: ${quote(check.path)} does not begin with / or has a character that must be escaped`,
    )
  const headers = check.type === 'http' ? headersOf(check.headers ?? [], `${path}.headers`) : []
  return {
    type: check.type,
    port,
    interval_ms: between(check.interval ?? 15_000, 1000, CHECK_INTERVAL_MS_MAX),
    timeout_ms: between(check.timeout ?? 10_000, 100, CHECK_TIMEOUT_MS_MAX),
    grace_period_ms: between(check.grace_period ?? 0, 0, CHECK_INTERVAL_MS_MAX),
    ...(check.method === undefined ? {} : { method: check.method.toUpperCase() }),
    ...(check.path === undefined ? {} : { path: check.path }),
    ...(https ? { protocol: 'https' as const } : {}),
    ...(https && check.tls_skip_verify ? { tls_skip_verify: true } : {}),
    ...(https && check.tls_server_name ? { tls_server_name: check.tls_server_name } : {}),
    ...(headers.length === 0 ? {} : { headers }),
  }
}

const CHECK_INTERVAL_MS_MAX = 3_600_000
const CHECK_TIMEOUT_MS_MAX = 60_000
const HEADERS_MAX = 20
const HEADER_CHARS_MAX = 2_000

function headersOf(
  headers: NonNullable<CheckInput['headers']>,
  path: string,
): NonNullable<MachineCheck['headers']> {
  if (headers.length > HEADERS_MAX)
    throw new PlatformError('invalid', `${path}: at most ${HEADERS_MAX} headers`)
  for (const { name, values } of headers) {
    if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name))
      throw new PlatformError('invalid', `${path}: ${quote(name)} is no name of a header`)
    const bad = values.find((one) => one.length > HEADER_CHARS_MAX || !/^[\t\x20-\x7e]*$/.test(one))
    if (bad !== undefined)
      throw new PlatformError('invalid', `${path}: the value of ${name} can not be sent`)
  }
  return headers
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100))
}

function between(ms: number, minMs: number, maxMs: number): number {
  return Math.min(maxMs, Math.max(minMs, Math.round(ms)))
}

const STOP_MS_MAX = 300_000

function stopTimeout(ms: number): number {
  if (ms < 0 || ms > STOP_MS_MAX)
    throw new PlatformError('invalid', 'config.stop_config.timeout: at most 300s')
  return Math.round(ms)
}

/** As the Machines API shows it: durations as Go strings, `off` and `stop` as booleans. */
export function configReply(config: MachineConfig): Record<string, unknown> {
  return {
    image: config.image,
    env: config.env,
    init: config.init,
    guest: config.guest,
    services: config.services.map((service) => ({
      protocol: service.protocol,
      internal_port: service.internal_port,
      autostop: service.autostop === 'suspend' ? 'suspend' : service.autostop === 'stop',
      autostart: service.autostart,
      min_machines_running: service.min_machines_running,
      ports: service.ports,
      checks: service.checks.map(checkReply),
      concurrency: {
        type: service.concurrency.type,
        soft_limit: service.concurrency.soft_limit,
        ...(service.concurrency.hard_limit === null
          ? {}
          : { hard_limit: service.concurrency.hard_limit }),
      },
      force_instance_key: null,
    })),
    checks: Object.fromEntries(
      Object.entries(config.checks).map(([name, check]) => [name, checkReply(check)]),
    ),
    restart: config.restart,
    stop_config: {
      signal: config.stop_config.signal,
      timeout: goDuration(config.stop_config.timeout_ms),
    },
    metadata: config.metadata,
    auto_destroy: config.auto_destroy,
  }
}

function checkReply(check: MachineCheck): Record<string, unknown> {
  const { interval_ms, timeout_ms, grace_period_ms, ...rest } = check
  return {
    ...rest,
    interval: goDuration(interval_ms),
    timeout: goDuration(timeout_ms),
    grace_period: goDuration(grace_period_ms),
  }
}

/** As Go prints it: `1m30s`, `1.5s`, `250ms`, `0s`. */
export function goDuration(ms: number): string {
  if (ms === 0) return '0s'
  if (ms < 1000) return `${ms}ms`
  const hours = Math.floor(ms / 3_600_000)
  const minutes = Math.floor((ms % 3_600_000) / 60_000)
  const seconds = (ms % 60_000) / 1000
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`
}
