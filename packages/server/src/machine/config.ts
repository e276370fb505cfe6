import { isIP } from 'node:net'
import { type MachineConfigInput, machineId } from '@roost/api'
import { PlatformError } from '@roost/base'
import {
  type DnsConfig,
  type MachineConfig,
  type MachineGuest,
  type MachineId,
  type MachineRootfs,
  mainContainer,
} from '@roost/core'
import {
  absolutePath,
  invalid,
  plainName,
  quote,
  refuseMore,
  restartOf,
  stopOf,
  wholeBetween,
} from './config-rules.ts'
import { containersOf, volumesOf } from './container-config.ts'
import { refuseUnsupported } from './not-supported.ts'
import { filesOf, processesOf } from './process-config.ts'
import { checkOf, serviceOf } from './service-config.ts'

/**
 * A configuration as clients send it, made whole with the Machines API's defaults. What would need something that Roost doesn't do
 * is refused with the name of its key; what only asks for something not to be done is let through.
 */
export function machineConfig(input: MachineConfigInput): MachineConfig {
  refuseUnsupported(input)
  return readConfig(input)
}

/** The same, also with what no program acts on yet. */
export function readConfig(input: MachineConfigInput): MachineConfig {
  const services = (input.services ?? []).map(serviceOf)
  const rest = laterKeys(input)
  const image = input.image || mainContainer(rest)?.image
  if (!image) throw invalid('config.image', 'is missing')
  return {
    image,
    env: input.env ?? {},
    init: initOf(input),
    guest: guestOf(input.guest ?? {}, input.size),
    services,
    checks: Object.fromEntries(
      Object.entries(input.checks ?? {}).map(([name, check]) => [
        checkName(name),
        checkOf(check, `config.checks.${name}`, services[0]?.internal_port),
      ]),
    ),
    restart: restartBySchedule(input),
    stop_config: stopOf(input.stop_config ?? {}, 'config.stop_config'),
    metadata: input.metadata ?? {},
    auto_destroy: input.auto_destroy ?? false,
    ...rest,
  }
}

/** What runs by the clock ends by itself: `always` would start it again at once. */
function restartBySchedule({ schedule, restart }: MachineConfigInput): MachineConfig['restart'] {
  const given = restartOf(restart ?? {})
  if (schedule && given.policy === 'always')
    throw invalid(
      'config.restart.policy',
      'a machine with a schedule can not be restarted always: use on-failure or no',
    )
  return given
}

type LaterKeys = Omit<
  MachineConfig,
  | 'image'
  | 'env'
  | 'init'
  | 'guest'
  | 'services'
  | 'checks'
  | 'restart'
  | 'stop_config'
  | 'metadata'
  | 'auto_destroy'
>

/** Keys that are absent where they were not set. */
function laterKeys(input: MachineConfigInput): LaterKeys {
  const files = filesOf(input.files ?? [], 'config.files')
  const processes = processesOf(input.processes ?? [], 'config.processes')
  const volumes = volumesOf(input.volumes ?? [])
  const containers = containersOf(input, volumes)
  refuseBeside(input)
  const dns = dnsOf(input.dns ?? {})
  const { metrics } = input
  const rootfs = rootfsOf(input)
  return {
    ...(files.length === 0 ? {} : { files }),
    ...(processes.length === 0 ? {} : { processes }),
    ...(containers.length === 0 ? {} : { containers }),
    ...(volumes.length === 0 ? {} : { volumes }),
    ...(Object.keys(dns).length === 0 ? {} : { dns }),
    ...(metrics
      ? {
          metrics: {
            port: metrics.port,
            path: httpPath(metrics.path || '/metrics', 'config.metrics.path'),
            https: metrics.https ?? false,
          },
        }
      : {}),
    ...(input.standbys?.length ? { standbys: input.standbys.map(standbyOf) } : {}),
    ...(input.statics?.length ? { statics: staticsOf(input.statics) } : {}),
    ...(input.schedule ? { schedule: input.schedule } : {}),
    ...(input.isolation === 'gvisor' ? { isolation: input.isolation } : {}),
    ...(rootfs === null ? {} : { rootfs }),
    ...(input.cache_drive?.size_mb ? { cache_drive: { size_mb: input.cache_drive.size_mb } } : {}),
    ...(input.mounts?.length ? { mounts: mountsOf(input.mounts) } : {}),
  }
}

/** What says twice what is to run. */
function refuseBeside(input: MachineConfigInput): void {
  const { init, containers, processes } = input
  const initSays = Boolean(init?.exec?.length || init?.entrypoint?.length || init?.cmd?.length)
  if (containers?.length && processes?.length)
    throw invalid('config.processes', 'a machine has containers or processes, not both')
  if (containers?.length && initSays)
    throw invalid('config.init', 'a machine with containers runs these: say it in each of them')
  if (processes?.length && initSays)
    throw invalid('config.init', 'a machine with processes runs these: say it in each of them')
  if (input.isolation === 'gvisor' && (containers?.length || processes?.length))
    throw new PlatformError(
      'unsupported',
      'config.isolation: a machine of several programs can not run in gVisor: leave isolation out, or make each of them a machine of its own',
    )
  if (input.statics?.length && containers?.length)
    throw invalid('config.statics', 'a machine with containers has no image of its own with files')
  if (input.volumes?.length && !containers?.length)
    throw invalid('config.volumes', 'only containers mount them, and there are none')
}

function initOf(input: MachineConfigInput): MachineConfig['init'] {
  const { exec, entrypoint, cmd, tty, swap_size_mb, kernel_args } = input.init ?? {}
  return {
    ...(exec?.length ? { exec } : {}),
    ...(entrypoint?.length ? { entrypoint } : {}),
    ...(cmd?.length ? { cmd } : {}),
    ...(tty ? { tty } : {}),
    ...(swap_size_mb
      ? { swap_size_mb: wholeBetween(swap_size_mb, 1, 1_048_576, 'config.init.swap_size_mb') }
      : {}),
    ...(kernel_args?.length ? { kernel_args } : {}),
  }
}

const CPUS = {
  shared: [1, 2, 4, 6, 8],
  performance: [1, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64, 128],
}

/** Made whole: memory by the number of cpus, where none is named. */
export function guestOf(
  guest: NonNullable<MachineConfigInput['guest']>,
  size: MachineConfigInput['size'] = null,
): MachineGuest {
  const preset = size ? presetOf(size) : null
  const cpu_kind = guest.cpu_kind ?? preset?.cpu_kind ?? 'shared'
  const cpus = guest.cpus ?? preset?.cpus ?? 1
  const perCpu = cpu_kind === 'shared' ? 256 : 2048
  const memory_mb = guest.memory_mb ?? perCpu * cpus
  if (!CPUS[cpu_kind].includes(cpus))
    throw new PlatformError(
      'invalid',
      `config.guest.cpus: invalid number of CPUs ${cpus} for ${cpu_kind}; allowed are ${CPUS[cpu_kind].join(', ')}`,
    )
  const persist = persistOf(guest.persist_rootfs)
  return {
    cpu_kind,
    cpus,
    memory_mb,
    ...(guest.max_memory_mb ? { max_memory_mb: guest.max_memory_mb } : {}),
    ...(guest.gpus ? { gpus: guest.gpus } : {}),
    ...(guest.gpu_kind ? { gpu_kind: guest.gpu_kind } : {}),
    ...(guest.host_dedication_id ? { host_dedication_id: guest.host_dedication_id } : {}),
    ...(persist === 'never' ? {} : { persist_rootfs: persist }),
    ...(guest.kernel_args?.length ? { kernel_args: guest.kernel_args } : {}),
  }
}

function presetOf(size: string): { cpu_kind: MachineGuest['cpu_kind']; cpus: number } {
  const match = /^(shared-cpu|performance)-(\d+)x$/.exec(size)
  if (!match)
    throw new PlatformError('invalid', `config.size: ${size} is no size such as shared-cpu-1x`)
  return { cpu_kind: match[1] === 'performance' ? 'performance' : 'shared', cpus: Number(match[2]) }
}

/** Clients written in Go also send its number. */
function persistOf(value: string | number | null | undefined): MachineRootfs['persist'] {
  const named = typeof value === 'number' ? ['none', 'never', 'restart', 'always'][value] : value
  return named === 'restart' || named === 'always' ? named : 'never'
}

function rootfsOf({ rootfs }: MachineConfigInput): MachineRootfs | null {
  const persist = persistOf(rootfs?.persist)
  const size_gb = rootfs?.size_gb ?? 0
  if (persist === 'never' && size_gb === 0) return null
  return { persist, ...(size_gb === 0 ? {} : { size_gb }) }
}

/** The names of services' checks are the ones that decide about routing. */
function checkName(name: string): string {
  if (name.length <= 100 && !name.startsWith('servicecheck-')) return name
  throw new PlatformError(
    'invalid',
    `config.checks: a check can not be called ${quote(name)}: names have at most 100 characters and do not begin with servicecheck-`,
  )
}

const NAMESERVERS_MAX = 3
const SEARCHES_MAX = 6
const DNS_ENTRIES_MAX = 20

function dnsOf(input: NonNullable<MachineConfigInput['dns']>): DnsConfig {
  const { skip_registration, hostname, hostname_fqdn } = input
  const [nameservers, searches] = [input.nameservers ?? [], input.searches ?? []]
  const options = (input.options ?? []).map(({ name, value }) => ({ name, value: value ?? '' }))
  const rules = input.dns_forward_rules ?? []
  refuseMore(nameservers, NAMESERVERS_MAX, 'config.dns.nameservers')
  refuseMore(searches, SEARCHES_MAX, 'config.dns.searches')
  refuseMore(options, DNS_ENTRIES_MAX, 'config.dns.options')
  refuseMore(rules, DNS_ENTRIES_MAX, 'config.dns.dns_forward_rules')
  for (const [n, address] of nameservers.entries())
    if (isIP(address) === 0)
      throw invalid(`config.dns.nameservers[${n}]`, `${quote(address)} is no IP address`)
  for (const [n, name] of searches.entries()) domainName(name, `config.dns.searches[${n}]`)
  for (const [n, { name, value }] of options.entries())
    if (!/^[a-z0-9-]{1,40}$/.test(name) || !/^[0-9]{0,4}$/.test(value))
      throw invalid(
        `config.dns.options[${n}]`,
        `${quote(`${name}:${value}`)} is no option of resolv.conf`,
      )
  for (const [n, { basename, addr }] of rules.entries()) {
    domainName(basename, `config.dns.dns_forward_rules[${n}].basename`)
    const bare = addr.replace(/:\d{1,5}$/, '').replace(/^\[(.*)\]$/, '$1')
    if (isIP(addr) === 0 && isIP(bare) === 0)
      throw invalid(`config.dns.dns_forward_rules[${n}].addr`, `${quote(addr)} is no address`)
  }
  return {
    ...(skip_registration ? { skip_registration } : {}),
    ...(nameservers.length === 0 ? {} : { nameservers }),
    ...(searches.length === 0 ? {} : { searches }),
    ...(options.length === 0 ? {} : { options }),
    ...(rules.length === 0
      ? {}
      : { dns_forward_rules: rules.map(({ basename, addr }) => ({ basename, addr })) }),
    ...(hostname ? { hostname: domainName(hostname, 'config.dns.hostname') } : {}),
    ...(hostname_fqdn
      ? { hostname_fqdn: domainName(hostname_fqdn, 'config.dns.hostname_fqdn') }
      : {}),
  }
}

function domainName(value: string, path: string): string {
  const labels = value.replace(/\.$/, '').split('.')
  const fits = labels.every((label) =>
    /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label),
  )
  if (fits && value.length <= 253) return value
  throw invalid(path, `${quote(value)} is no domain name`)
}

function standbyOf(id: string, n: number): MachineId {
  if (machineId.safeParse(id).success) return id as MachineId
  throw invalid(`config.standbys[${n}]`, `${quote(id)} is no id of a machine`)
}

const STATICS_MAX = 10

function staticsOf(
  input: NonNullable<MachineConfigInput['statics']>,
): NonNullable<MachineConfig['statics']> {
  refuseMore(input, STATICS_MAX, 'config.statics')
  const prefixes = input.map(({ url_prefix }) => url_prefix.replace(/\/$/, ''))
  const twice = prefixes.findIndex((prefix, n) => prefixes.indexOf(prefix) !== n)
  if (twice !== -1)
    throw invalid(
      `config.statics[${twice}].url_prefix`,
      `${quote(input[twice]?.url_prefix ?? '')} is there already: each prefix stands for one folder`,
    )
  return input.map(({ guest_path, url_prefix, tigris_bucket, index_document }, n) => ({
    guest_path: absolutePath(guest_path, `config.statics[${n}].guest_path`),
    url_prefix: plainPath(url_prefix, `config.statics[${n}].url_prefix`),
    ...(tigris_bucket ? { tigris_bucket } : {}),
    ...(index_document ? { index_document } : {}),
  }))
}

/** As it stands in a URL: compared with what clients ask for, letter by letter. */
function plainPath(value: string, path: string): string {
  if (/^\/[\w.~!$&'()*+,=:@%/-]{0,999}$/.test(value) && !value.includes('//')) return value
  throw invalid(path, `${quote(value)} is no beginning of a path, such as /assets`)
}

function httpPath(value: string, path: string): string {
  if (/^\/[\x21-\x7e]{0,999}$/.test(value)) return value
  throw invalid(
    path,
    `${quote(value)} does not begin with / or has a character that must be escaped`,
  )
}

function mountsOf(
  input: NonNullable<MachineConfigInput['mounts']>,
): NonNullable<MachineConfig['mounts']> {
  refuseMore(input, 1, 'config.mounts')
  return input.map((mount, n) => ({
    volume: plainName(mount.volume, `config.mounts[${n}].volume`),
    path: absolutePath(mount.path, `config.mounts[${n}].path`),
    ...(mount.name ? { name: mount.name } : {}),
    ...(mount.encrypted ? { encrypted: true } : {}),
    ...(mount.size_gb ? { size_gb: mount.size_gb } : {}),
    ...(mount.extend_threshold_percent
      ? { extend_threshold_percent: mount.extend_threshold_percent }
      : {}),
    ...(mount.add_size_gb ? { add_size_gb: mount.add_size_gb } : {}),
    ...(mount.size_gb_limit ? { size_gb_limit: mount.size_gb_limit } : {}),
  }))
}
