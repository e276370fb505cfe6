import type { MachineConfigInput } from '@roost/api'
import { PlatformError } from '@roost/base'
import {
  CACHE_TTL_SECONDS_MAX,
  CACHE_TTL_SECONDS_MIN,
  type HttpOptions,
  type MachinePort,
  type PortHandler,
  type TlsOptions,
  type TlsVersion,
  whyRefused,
} from '@roost/core'
import { invalid, quote } from './config-rules.ts'

type ServiceInput = NonNullable<MachineConfigInput['services']>[number]
type PortInput = NonNullable<ServiceInput['ports']>[number]
type HttpInput = NonNullable<PortInput['http_options']>

const HANDLERS: readonly PortHandler[] = ['http', 'tls', 'pg_tls', 'proxy_proto']
const TLS_VERSIONS: readonly TlsVersion[] = ['TLSv1.2', 'TLSv1.3']
const HEADERS_MAX = 40
const HEADER_BYTES_MAX = 2000
/** All that a route's answers get, as one word of HAProxy's. */
const HEADERS_BYTES_MAX = 4000
const IDLE_SECONDS_MAX = 86_400
const REPLAY_RULES_MAX = 20

/** One of a service's ports, or a range of them, with what edges do there. */
export function portOf(port: PortInput, service: ServiceInput, path: string): MachinePort {
  const from = port.port ?? port.start_port
  if (from === undefined) throw new PlatformError('invalid', `${path}.port is missing`)
  const to = port.port ?? port.end_port ?? from
  const http = httpOptions(port.http_options ?? {}, `${path}.http_options`)
  const tls = tlsOptions(port.tls_options ?? {}, `${path}.tls_options`)
  const version = port.proxy_proto_options?.version
  if (version && version !== 'v1' && version !== 'v2')
    throw invalid(`${path}.proxy_proto_options.version`, `${quote(version)} is neither v1 nor v2`)
  const read: MachinePort = {
    port: from,
    ...(to === from ? {} : { end_port: to }),
    handlers: (port.handlers ?? []).map((handler) => {
      const known = HANDLERS.find((one) => one === handler)
      if (known !== undefined) return known
      throw new PlatformError('unsupported', `${path}.handlers: ${handler} is not supported`)
    }),
    force_https: port.force_https ?? false,
    ...(http === null ? {} : { http_options: http }),
    ...(tls === null ? {} : { tls_options: tls }),
    ...(version === 'v1' || version === 'v2' ? { proxy_proto_options: { version } } : {}),
  }
  const why = whyRefused(service.protocol, read, service.internal_port)
  if (why !== null) throw new PlatformError('unsupported', `${path}: ${why}`)
  return read
}

function httpOptions(input: HttpInput, path: string): HttpOptions | null {
  const { compress, h2_backend, idle_timeout, response, replay_cache } = input
  if (idle_timeout && idle_timeout > IDLE_SECONDS_MAX)
    throw invalid(`${path}.idle_timeout`, `at most ${IDLE_SECONDS_MAX} seconds`)
  const headers = headersOf(response?.headers ?? {}, `${path}.response.headers`)
  const changes = {
    ...(Object.keys(headers).length === 0 ? {} : { headers }),
    ...(response?.pristine ? { pristine: true } : {}),
  }
  const read: HttpOptions = {
    ...(compress ? { compress } : {}),
    ...(h2_backend ? { h2_backend } : {}),
    ...(idle_timeout ? { idle_timeout } : {}),
    ...(Object.keys(changes).length === 0 ? {} : { response: changes }),
    ...(replay_cache?.length ? { replay_cache: replayCacheOf(replay_cache, path) } : {}),
  }
  return Object.keys(read).length === 0 ? null : read
}

function replayCacheOf(
  input: NonNullable<HttpInput['replay_cache']>,
  path: string,
): NonNullable<HttpOptions['replay_cache']> {
  if (input.length > REPLAY_RULES_MAX)
    throw invalid(`${path}.replay_cache`, `at most ${REPLAY_RULES_MAX}`)
  return input.map(({ path_prefix, ttl_seconds, type, name, allow_bypass }, n) => {
    const at = `${path}.replay_cache[${n}]`
    if (!/^[a-z0-9.-]{0,253}\/[\x21-\x7e]{0,500}$/.test(path_prefix))
      throw invalid(`${at}.path_prefix`, 'a path such as /app, or host.example.com/app')
    if (ttl_seconds < CACHE_TTL_SECONDS_MIN || ttl_seconds > CACHE_TTL_SECONDS_MAX)
      throw invalid(
        `${at}.ttl_seconds`,
        `from ${CACHE_TTL_SECONDS_MIN} to ${CACHE_TTL_SECONDS_MAX}`,
      )
    if (!/^[!#$%&'*+.^`|~0-9A-Za-z_-]{1,100}$/.test(name))
      throw invalid(`${at}.name`, `the name of a ${type}`)
    return { path_prefix, ttl_seconds, type, name, ...(allow_bypass ? { allow_bypass } : {}) }
  })
}

function headersOf(
  input: Readonly<Record<string, unknown>>,
  path: string,
): NonNullable<NonNullable<HttpOptions['response']>['headers']> {
  const entries = Object.entries(input)
  if (entries.length > HEADERS_MAX) throw invalid(path, `at most ${HEADERS_MAX} headers`)
  let bytes = 0
  const read = entries.map(([name, value]) => {
    if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name))
      throw invalid(path, `${quote(name)} is no name of a header`)
    if (value === false) return [name.toLowerCase(), value] as const
    const values: readonly unknown[] = Array.isArray(value) ? value : [value]
    const texts = values.map((one) => {
      if (typeof one === 'string' && one.length <= HEADER_BYTES_MAX && /^[\t\x20-\x7e]*$/.test(one))
        return one
      throw invalid(path, `${name} is neither text that can be sent nor false`)
    })
    bytes += texts.join().length + name.length * texts.length
    const [only = ''] = texts
    return [name.toLowerCase(), Array.isArray(value) ? texts : only] as const
  })
  if (bytes > HEADERS_BYTES_MAX)
    throw invalid(path, `all headers together have at most ${HEADERS_BYTES_MAX} bytes`)
  return Object.fromEntries(read)
}

function tlsOptions(input: NonNullable<PortInput['tls_options']>, path: string): TlsOptions | null {
  const alpn = input.alpn ?? []
  const odd = alpn.find((one) => !/^[a-z0-9][a-z0-9./_-]{0,31}$/i.test(one))
  if (odd !== undefined) throw invalid(`${path}.alpn`, `${quote(odd)} is no name of a protocol`)
  const versions = (input.versions ?? []).map((version) => {
    const known = TLS_VERSIONS.find((one) => one === version)
    if (known !== undefined) return known
    throw invalid(`${path}.versions`, `${quote(version)} is neither TLSv1.2 nor TLSv1.3`)
  })
  const read: TlsOptions = {
    ...(alpn.length === 0 ? {} : { alpn }),
    ...(versions.length === 0 ? {} : { versions }),
    ...(input.default_self_signed ? { default_self_signed: true } : {}),
  }
  return Object.keys(read).length === 0 ? null : read
}
