import type { MachineConfigInput } from '@roost/api'
import { PlatformError } from '@roost/base'
import type { MachineCheck, MachineService } from '@roost/core'
import { quote } from './config-rules.ts'
import { portOf } from './port-config.ts'

type ServiceInput = NonNullable<MachineConfigInput['services']>[number]
export type CheckInput = NonNullable<MachineConfigInput['checks']>[string]

export function serviceOf(service: ServiceInput, n: number): MachineService {
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
    ports: (service.ports ?? []).map((port, m) => portOf(port, service, `${path}.ports[${m}]`)),
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

export function checkOf(
  check: CheckInput,
  path: string,
  defaultPort: number | undefined,
): MachineCheck {
  const port = check.port ?? defaultPort
  if (port === undefined) throw new PlatformError('invalid', `${path}.port is missing`)
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
    ...(check.kind === 'readiness' ? { kind: check.kind } : {}),
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

export function headersOf(
  headers: NonNullable<CheckInput['headers']>,
  path: string,
): { readonly name: string; readonly values: readonly string[] }[] {
  if (headers.length > HEADERS_MAX)
    throw new PlatformError('invalid', `${path}: at most ${HEADERS_MAX} headers`)
  for (const { name, values } of headers) {
    if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name))
      throw new PlatformError('invalid', `${path}: ${quote(name)} is no name of a header`)
    const bad = values.find((one) => one.length > HEADER_CHARS_MAX || !/^[\t\x20-\x7e]*$/.test(one))
    if (bad !== undefined)
      throw new PlatformError('invalid', `${path}: the value of ${name} can not be sent`)
  }
  return headers.map(({ name, values }) => ({ name, values }))
}

function between(ms: number, minMs: number, maxMs: number): number {
  return Math.min(maxMs, Math.max(minMs, Math.round(ms)))
}
