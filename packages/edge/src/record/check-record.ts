import { isIPv4 } from 'node:net'
import type { MachineView, RecordKind, RecordValues, Settings } from '@roost/api'
import type { App, Certificate, Host, Hostname, PortHandler } from '@roost/core'

/**
 * Is this what it says it is? The server writes only good records; one that is not (a fault, a version that is ahead of ours) must
 * not take an edge down with it. What passes here can be worked with, and holds no text that would mean something to HAProxy.
 */
export type CheckedKind = Extract<
  RecordKind,
  'settings' | 'host' | 'app' | 'machine' | 'hostname' | 'certificate'
>
export type Checked<K extends CheckedKind> =
  | { readonly kind: 'good'; readonly value: RecordValues[K] }
  | { readonly kind: 'bad'; readonly why: string }

const APP_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const ID = /^[0-9a-f]{14}$/
const REGION = /^[a-z][a-z0-9]{1,11}$/
const DOMAIN =
  /^(?=.{1,190}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/

type Problems = (value: Record<string, unknown>) => Generator<string>

const HOSTNAME =
  /^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$/
const HOSTNAME_CHARS_MAX = 180

const problems: { readonly [K in CheckedKind]: Problems } = {
  *settings(value) {
    const { domain, clientNetworks } = value as Partial<Settings>
    if (!matches(DOMAIN, domain)) yield `domain is ${show(domain)}`
    if (!Array.isArray(clientNetworks)) yield 'clientNetworks is no list'
    else
      for (const network of clientNetworks as readonly unknown[])
        if (!isObject(network) || typeof network['cidr'] !== 'string')
          yield `a client network is ${show(network)}`
  },
  *host(value) {
    const host = value as Partial<Host>
    if (!matches(ID, host.id)) yield `id is ${show(host.id)}`
    if (!matches(APP_NAME, host.name)) yield `name is ${show(host.name)}`
    if (!matches(REGION, host.region)) yield `region is ${show(host.region)}`
    if (!isWhole(host.number, 1, 63)) yield `number is ${show(host.number)}`
    if (!isAddress(host.publicAddress)) yield `publicAddress is ${show(host.publicAddress)}`
  },
  *app(value) {
    const { name } = value as Partial<App>
    if (!matches(APP_NAME, name)) yield `name is ${show(name)}`
  },
  *hostname(value) {
    const { name, app, acme } = value as Partial<Hostname>
    if (!isHostname(name)) yield `name is ${show(name)}`
    if (!matches(APP_NAME, app)) yield `app is ${show(app)}`
    if (typeof acme !== 'boolean') yield `acme is ${show(acme)}`
  },
  *certificate(value) {
    const certificate = value as Partial<Certificate>
    const { hostname, source, chain, sealedKeys } = certificate
    if (!isHostname(hostname)) yield `hostname is ${show(hostname)}`
    if (source !== 'acme' && source !== 'custom') yield `source is ${show(source)}`
    if (!isPem(chain)) yield `chain is ${show(chain)}`
    if (!matches(/^[0-9a-f]{64}$/, certificate.fingerprint)) yield 'fingerprint is none'
    for (const key of ['notBefore', 'notAfter', 'gotAt'] as const)
      if (!Number.isFinite(certificate[key])) yield `${key} is ${show(certificate[key])}`
    if (!isObject(sealedKeys) || !Object.values(sealedKeys).every((one) => typeof one === 'string'))
      yield `sealedKeys is ${show(sealedKeys)}`
  },
  *machine(value) {
    const machine = value as Partial<MachineView>
    if (!matches(ID, machine.id)) yield `id is ${show(machine.id)}`
    if (!matches(APP_NAME, machine.app)) yield `app is ${show(machine.app)}`
    if (!matches(ID, machine.host)) yield `host is ${show(machine.host)}`
    if (!matches(REGION, machine.region)) yield `region is ${show(machine.region)}`
    if (!isAddress(machine.privateIpv4)) yield `privateIpv4 is ${show(machine.privateIpv4)}`
    if (typeof machine.routed !== 'boolean') yield `routed is ${show(machine.routed)}`
    if (machine.coming !== undefined && machine.coming !== null && !isComing(machine.coming))
      yield `coming is ${show(machine.coming)}`
    if (machine.status !== null) {
      if (!isObject(machine.status)) yield `status is ${show(machine.status)}`
      else if (!Array.isArray(machine.status.checks) || !machine.status.checks.every(isCheck))
        yield `status.checks is ${show(machine.status.checks)}`
    }
    if (machine.statics !== undefined && !isStatics(machine.statics))
      yield `statics is ${show(machine.statics)}`
    if (!Array.isArray(machine.services)) yield `services is ${show(machine.services)}`
    else
      for (const service of machine.services as readonly unknown[])
        if (!isService(service)) yield `a service is ${show(service)}`
  },
}

export function checkRecord<K extends CheckedKind>(kind: K, value: unknown): Checked<K> {
  if (!isObject(value)) return { kind: 'bad', why: `it is ${show(value)}` }
  const [why] = problems[kind](value)
  return why === undefined
    ? { kind: 'good', value: value as unknown as RecordValues[K] }
    : { kind: 'bad', why }
}

/** Also the payload of a command of HAProxy's, which ends at an empty line. */
export function isPem(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length < 100_000 &&
    /^(-----BEGIN [A-Z ]+-----\n([A-Za-z0-9+/=]+\n)+-----END [A-Z ]+-----\n?)+$/.test(value)
  )
}

function isHostname(value: unknown): boolean {
  return matches(HOSTNAME, value) && String(value).length <= HOSTNAME_CHARS_MAX
}

function isCheck(value: unknown): boolean {
  return isObject(value) && typeof value['name'] === 'string' && typeof value['status'] === 'string'
}

function isComing(value: unknown): boolean {
  if (!isObject(value)) return false
  const { kind, stopsAt } = value
  return (
    (kind === 'replaced' || kind === 'starting') &&
    (stopsAt === null || typeof stopsAt === 'number')
  )
}

/** Prefixes stand in a map of HAProxy's, which ends a key at a space. */
function isStatics(value: unknown): boolean {
  if (!isObject(value) || !matches(/^sha256:[0-9a-f]{64}$/, value['image'])) return false
  const { folders } = value
  return (
    Array.isArray(folders) &&
    folders.every(
      (folder) =>
        isObject(folder) &&
        matches(/^\/[\x21-\x3a\x3c-\x5b\x5d-\x7e]*$/, folder['url_prefix']) &&
        matches(/^\//, folder['guest_path']),
    )
  )
}

function isService(value: unknown): boolean {
  if (!isObject(value) || !isObject(value['concurrency'])) return false
  const { soft_limit: soft, hard_limit: hard } = value['concurrency']
  return (
    (value['protocol'] === 'tcp' || value['protocol'] === 'udp') &&
    isWhole(value['internal_port'], 1, 65535) &&
    isWhole(soft, 0, 10_000_000) &&
    (hard === null || isWhole(hard, 0, 10_000_000)) &&
    Array.isArray(value['ports']) &&
    value['ports'].every(isPort)
  )
}

const HANDLERS: readonly unknown[] = [
  'http',
  'tls',
  'pg_tls',
  'proxy_proto',
] satisfies PortHandler[]

/**
 * Ports and options stand in rules of the kernel and in HAProxy's lists as they are. A handler that is not known is none that may be
 * left out: what it is to keep away would come through.
 */
function isPort(value: unknown): boolean {
  if (!isObject(value) || !Array.isArray(value['handlers'])) return false
  if (!value['handlers'].every((handler) => HANDLERS.includes(handler))) return false
  const { port, end_port, http_options = {}, tls_options = {} } = value
  if (!isWhole(port, 1, 65535) || !isObject(http_options) || !isObject(tls_options)) return false
  const { alpn = [], versions = [] } = tls_options
  const { idle_timeout = 0, response = {}, replay_cache = [] } = http_options
  return (
    (end_port === undefined || isWhole(end_port, port as number, 65535)) &&
    Array.isArray(alpn) &&
    alpn.every((name) => matches(/^[A-Za-z0-9][A-Za-z0-9./_-]{0,31}$/, name)) &&
    Array.isArray(versions) &&
    versions.every((version) => matches(/^TLSv1\.[23]$/, version)) &&
    isWhole(idle_timeout, 0, 10_000_000) &&
    Array.isArray(replay_cache) &&
    replay_cache.every(isReplayCacheRule) &&
    isObject(response) &&
    (response['headers'] === undefined ||
      (isObject(response['headers']) && Object.values(response['headers']).every(isHeader)))
  )
}

function isReplayCacheRule(value: unknown): boolean {
  if (!isObject(value)) return false
  const { path_prefix, ttl_seconds, type, name } = value
  return (
    matches(/\//, path_prefix) &&
    typeof name === 'string' &&
    (type === 'cookie' || type === 'header') &&
    isWhole(ttl_seconds, 0, 1_000_000_000)
  )
}

function isHeader(value: unknown): boolean {
  const values = Array.isArray(value) ? value : [value]
  return value === false || values.every((one) => typeof one === 'string')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
function matches(pattern: RegExp, value: unknown): boolean {
  return typeof value === 'string' && pattern.test(value)
}
function isWhole(value: unknown, min: number, max: number): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
}
function isAddress(value: unknown): boolean {
  return typeof value === 'string' && isIPv4(value) && value !== '0.0.0.0'
}
function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'missing').slice(0, 100)
}
