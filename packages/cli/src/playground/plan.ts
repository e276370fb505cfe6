import { join } from 'node:path'
import { type Failure, usage } from '../failure/failure.ts'
import { PLAYGROUND_STATE } from '../host/machine-record.ts'

/** Where everything of one playground lies, worked out from its name, its network and its regions alone. */
export interface PlaygroundPlan {
  readonly name: string
  readonly domain: string
  /** First two numbers of its addresses: `198.18`. */
  readonly network: string
  readonly regions: readonly RegionPlan[]
  /** Survives; on disk. */
  readonly stateDir: string
  /** A tmpfs: sockets, secrets, pid files. */
  readonly runDir: string
  readonly wanNetns: string
  /** This machine's own end of a cable into the playground. */
  readonly machine: { readonly device: string; readonly address: string }
  readonly resolverAddress: string
}

export interface RegionPlan {
  readonly code: string
  /** 1 for the first, which also runs the server. */
  readonly number: number
  readonly netns: string
  readonly address: string
  readonly client: { readonly netns: string; readonly address: string }
  /** Addresses whose nearest region this is by the owner's word. */
  readonly clientNetwork: string
}

export const DEFAULT_NAME = 'roost'
export const DEFAULT_DOMAIN = 'roost.test'
export const DEFAULT_NETWORK = '198.18'
const RUN_ROOT = '/run/roost'
/** Names of network devices have 15 characters, and some are made from a playground's name. */
const NAME = /^[a-z][a-z0-9]{0,10}$/
const REGION = /^[a-z][a-z0-9]{1,11}$/
const REGIONS_MAX = 16

export function planPlayground(options: {
  readonly name?: string | undefined
  readonly domain?: string | undefined
  readonly network?: string | undefined
  readonly regions: readonly string[]
}): PlaygroundPlan {
  const { name = DEFAULT_NAME, domain = DEFAULT_DOMAIN, network = DEFAULT_NETWORK } = options
  checkName(name)
  if (!/^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(domain))
    throw invalid(`"${domain}" is no domain such as ${DEFAULT_DOMAIN}`)
  if (!/^\d{1,3}\.\d{1,3}$/.test(network) || network.split('.').some((part) => Number(part) > 255))
    throw invalid(`"${network}" is not the first half of an IPv4 address such as 198.18`)
  if (options.regions.length === 0) throw invalid('at least one region is needed: --regions ams')
  if (options.regions.length > REGIONS_MAX)
    throw invalid(`at most ${REGIONS_MAX} regions fit on one machine`)
  options.regions.forEach((code, n) => {
    if (!REGION.test(code))
      throw invalid(`"${code}" is no region code: 2 to 12 small letters and digits, such as ams`)
    if (code === 'wan' || code === 'client') throw invalid(`no region may be called ${code}`)
    if (options.regions.indexOf(code) !== n) throw invalid(`region ${code} is named twice`)
  })
  return {
    name,
    domain,
    network,
    stateDir: stateDirOf(name),
    runDir: join(RUN_ROOT, name),
    wanNetns: `${name}-wan`,
    machine: { device: `${name}-wan`, address: `${network}.0.1` },
    resolverAddress: `${network}.0.53`,
    regions: options.regions.map((code, n) => ({
      code,
      number: n + 1,
      netns: `${name}-${code}`,
      address: `${network}.${n + 1}.1`,
      client: { netns: `${name}-client-${code}`, address: `${network}.${n + 1}.100` },
      clientNetwork: `${network}.${n + 1}.0/24`,
    })),
  }
}

export function checkName(name: string): void {
  if (name === 'host') throw invalid('"host" is what a real host is called')
  if (!NAME.test(name))
    throw invalid(
      `"${name}" is no name for a playground: 1 to 11 small letters and digits, the first a letter`,
    )
}

export function stateDirOf(name: string): string {
  return join(PLAYGROUND_STATE, name)
}

function invalid(message: string): Failure {
  return usage(message)
}
