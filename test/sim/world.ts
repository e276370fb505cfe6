import type { RegionCode } from '../../packages/core/src/index.ts'
import type { Random } from './random.ts'

export interface HostSpec {
  readonly name: string
  readonly region: RegionCode
  readonly cpus: number
  readonly memoryMb: number
  /** Default false. */
  readonly builder?: boolean
}

/** What a seed's world is made of. */
export interface World {
  readonly hosts: readonly HostSpec[]
  /** A large world costs much: it gets fewer events. */
  readonly large: boolean
  /** What may happen only once, and not both: a host that joined later is unknown to an older backup. */
  readonly once: 'restore' | 'remove host' | null
}

const REGIONS = ['ams', 'iad', 'syd', 'nrt', 'gru'] as RegionCode[]
const LARGE_HOSTS = 50
const LARGE_EVERY = 50

/** Mostly three to eight hosts in two to four regions; each fiftieth seed fifty. */
export function worldOf(seed: number, random: Random): World {
  const large = seed % LARGE_EVERY === LARGE_EVERY - 1
  const count = large ? LARGE_HOSTS : random.pick([3, 3, 4, 4, 5, 5, 6, 7, 8])
  const regions = REGIONS.slice(0, large ? REGIONS.length : random.int(2, Math.min(4, count)))
  const hosts = Array.from({ length: count }, (_, n): HostSpec => {
    const region = regions[n] ?? random.pick(regions)
    return {
      name: `${region}${n + 1}`,
      region,
      cpus: random.int(2, 16),
      memoryMb: 512 * random.int(3, 16),
    }
  })
  const once = large ? null : random.pick(['restore', 'remove host', null] as const)
  return { hosts, large, once }
}

export function regionsOf(world: World): readonly RegionCode[] {
  return [...new Set(world.hosts.map((host) => host.region))]
}
