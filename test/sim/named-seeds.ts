import type { RegionCode } from '../../packages/core/src/index.ts'
import type { Deed } from './deed.ts'
import type { Version } from './person.ts'
import type { HostSpec } from './world.ts'

/**
 * Bugs that were found once, by the simulator or by somebody else, each told as data: it settles, and every invariant holds. What
 * chance draws from a seed changes with the simulator; a story does not.
 */
export interface NamedSeed {
  readonly name: string
  /** What went wrong then. */
  readonly was: string
  readonly hosts: readonly HostSpec[]
  /** In order of time, from the start of the world. */
  readonly deeds: readonly { readonly atMs: number; readonly deed: Deed }[]
  /** From then on nothing goes wrong, and what holds only in quiet times must hold. Default: never. */
  readonly quietAtMs?: number
  readonly forMs: number
  /** What the world must have come to, beyond being settled. */
  readonly ends?: {
    readonly releases?: readonly ('complete' | 'failed')[]
    /** The longest that may take from `forMs` on. */
    readonly settledWithinMs?: number
  }
}

const host = (region: string, n = 1): HostSpec => ({
  name: `${region}${n}`,
  region: region as RegionCode,
  cpus: 4,
  memoryMb: 4096,
})
const AMS = 'ams' as RegionCode

function version(number: number, change: Partial<Version> = {}): Version {
  return {
    number,
    misbehaviour: {},
    restart: { policy: 'on-failure', max_retries: 2 },
    stopTimeoutMs: 3000,
    autoDestroy: false,
    memoryMb: 256,
    ...change,
  }
}
const deploy = (
  number: number,
  scale: Readonly<Record<string, number>>,
  change: Partial<Version> = {},
  waitTimeoutMs = 30_000,
): Deed => ({
  do: 'ask',
  wish: { kind: 'deploy', version: version(number, change), scale, waitTimeoutMs },
})
const create = (number: number, change: Partial<Version> = {}): Deed => ({
  do: 'ask',
  wish: { kind: 'create', region: AMS, version: version(number, change), launch: true },
})
const update = (number: number, change: Partial<Version> = {}): Deed => ({
  do: 'ask',
  wish: { kind: 'update', nth: 0, version: version(number, change), launch: true },
})
const at = (atMs: number, ...deeds: Deed[]) => deeds.map((deed) => ({ atMs, deed }))

const HOUR_MS = 3_600_000
const ONE = [host('ams')]
const TWO = [host('ams'), host('iad')]
const THREE = [host('ams'), host('iad'), host('syd')]

export const NAMED_SEEDS: readonly NamedSeed[] = [
  {
    name: 'a host whose clock is ahead',
    was: 'the time to drain was compared with the clock of the server: machines were stopped under their requests',
    hosts: THREE,
    deeds: [
      ...at(0, { do: 'set clock', of: 0, byMs: 20_000 }, deploy(1, { ams: 1, iad: 1, syd: 1 })),
      ...at(20_000, deploy(2, { ams: 1, iad: 1, syd: 1 })),
    ],
    quietAtMs: 18_000,
    forMs: 40_000,
    ends: { releases: ['complete', 'complete'] },
  },
  {
    name: 'a host whose clock is days behind',
    was: 'a deadline that far ahead counted as over, and machines were stopped under their requests',
    hosts: TWO,
    deeds: [
      ...at(0, { do: 'set clock', of: 0, byMs: -72 * HOUR_MS }, deploy(1, { ams: 2, iad: 1 })),
      ...at(20_000, deploy(2, { ams: 2, iad: 1 })),
    ],
    quietAtMs: 18_000,
    forMs: 40_000,
    ends: { releases: ['complete', 'complete'] },
  },
  {
    name: "the server's clock is set back while a release waits",
    was: 'its deadline was as far away as the clock was set: it waited for days, and all others behind it',
    hosts: TWO,
    deeds: [
      ...at(0, deploy(1, { ams: 1, iad: 1 })),
      ...at(
        15_000,
        deploy(2, { ams: 1, iad: 1 }, { misbehaviour: { startBlocksMs: 60_000 } }, 10_000),
      ),
      ...at(16_000, { do: 'set clock', of: 'server', byMs: -48 * HOUR_MS }),
      ...at(17_000, deploy(3, { ams: 1, iad: 1 })),
    ],
    forMs: 60_000,
    ends: { releases: ['complete', 'failed', 'complete'] },
  },
  {
    name: "the server's clock is set back while it is down",
    was: 'the same, over its death',
    hosts: TWO,
    deeds: [
      ...at(0, deploy(1, { ams: 1, iad: 1 })),
      ...at(
        15_000,
        deploy(2, { ams: 1, iad: 1 }, { misbehaviour: { startBlocksMs: 60_000 } }, 10_000),
      ),
      ...at(16_000, { do: 'kill server', forMs: 2000 }),
      ...at(17_000, { do: 'set clock', of: 'server', byMs: -48 * HOUR_MS }),
    ],
    forMs: 60_000,
    ends: { releases: ['complete', 'failed'], settledWithinMs: 150_000 },
  },
  {
    name: "the server's clock is set forward in the middle of a release",
    was: 'every host had been silent for days: the release failed at once, and those behind it',
    hosts: TWO,
    deeds: [
      ...at(0, deploy(1, { ams: 1, iad: 1 })),
      ...at(15_000, deploy(2, { ams: 1, iad: 1 }, { misbehaviour: { startBlocksMs: 3000 } })),
      ...at(16_000, { do: 'set clock', of: 'server', byMs: 96 * HOUR_MS }),
    ],
    forMs: 40_000,
    ends: { releases: ['complete', 'complete'] },
  },
  {
    name: "the server's clock is set back after its disk was full",
    was: 'releases were given back the time again and again without an end: the server did nothing else any more',
    hosts: TWO,
    deeds: [
      ...at(0, deploy(1, { ams: 1, iad: 1 })),
      ...at(15_000, deploy(2, { ams: 1, iad: 1 }, { misbehaviour: { startBlocksMs: 6000 } })),
      ...at(16_000, { do: 'fill disk', of: 'server', forMs: 3000 }),
      ...at(18_500, { do: 'set clock', of: 'server', byMs: -60_000 }),
    ],
    forMs: 50_000,
    ends: { releases: ['complete', 'complete'] },
  },
  {
    name: 'a store that is put back from a copy',
    was: 'hosts had heard newer generations than the server knew, and refused everything for as long as their agents lived',
    hosts: TWO,
    deeds: [
      ...at(0, deploy(1, { ams: 1, iad: 1 }), create(10)),
      ...at(12_000, { do: 'back up' }),
      ...at(13_000, update(11), deploy(2, { ams: 1, iad: 1 })),
      ...at(16_000, { do: 'ask', wish: { kind: 'stop', nth: 0 } }),
      ...at(30_000, { do: 'restore', forMs: 1000 }),
      ...at(36_000, update(12)),
      ...at(40_000, { do: 'kill agent', host: 0, forMs: 500 }),
    ],
    forMs: 60_000,
  },
  {
    name: 'a copy that is put back, and more is written than was lost',
    was: 'revisions were given anew for something else: whoever had heard the lost ones never heard the others',
    hosts: TWO,
    deeds: [
      ...at(0, create(10), create(11)),
      ...at(10_000, { do: 'back up' }),
      ...at(11_000, { do: 'ask', wish: { kind: 'stop', nth: 0 } }),
      ...at(
        20_000,
        {
          do: 'cut',
          hosts: [0, 1],
          programs: ['agent', 'edge'],
          way: 'both',
          forMs: 20_000,
        },
        { do: 'restore', forMs: 500 },
      ),
      ...at(22_000, create(12), create(13), create(14), create(15), update(16)),
    ],
    forMs: 60_000,
  },
  {
    name: 'a copy that is put back, and much is asked before a host is heard',
    was: 'the generations of the server had passed those of the host by then, and an older version replaced what ran',
    hosts: ONE,
    deeds: [
      ...at(0, create(10)),
      ...at(8_000, { do: 'back up' }),
      ...at(9_000, update(11)),
      ...at(
        18_000,
        { do: 'cut', hosts: [0], programs: ['agent'], way: 'to server', forMs: 12_000 },
        { do: 'restore', forMs: 500 },
      ),
      ...at(20_000, { do: 'ask', wish: { kind: 'cordon', nth: 0 } }),
      ...at(21_000, { do: 'ask', wish: { kind: 'uncordon', nth: 0 } }),
      ...at(22_000, { do: 'ask', wish: { kind: 'cordon', nth: 0 } }),
      ...at(23_000, { do: 'ask', wish: { kind: 'uncordon', nth: 0 } }),
    ],
    forMs: 40_000,
  },
  {
    name: 'a host that is removed and joins again with its old disk',
    was: 'nobody told it that the machines of its former self were gone: it kept them for ever',
    hosts: [host('ams'), host('ams', 2), host('iad')],
    deeds: [
      ...at(0, create(10), create(11), create(12)),
      ...at(10_000, { do: 'remove host', host: 0, forMs: 2000, wiped: false }),
    ],
    forMs: 60_000,
  },
  {
    name: 'an agent that starts on a full disk',
    was: 'it took a cache that it could not open for writing for a broken one, and threw away what it knew',
    hosts: ONE,
    deeds: [
      ...at(0, create(10)),
      ...at(8_000, { do: 'fill disk', of: 0, forMs: 20_000 }, { do: 'kill server', forMs: 15_000 }),
      ...at(9_000, { do: 'kill agent', host: 0, forMs: 500 }),
      ...at(12_000, { do: 'lose container', host: 0, nth: 0 }),
    ],
    forMs: 40_000,
  },
  {
    name: 'a disk that is full when a machine is removed',
    was: 'a removal that could not be written was forgotten, and the agent remembered the machine for ever',
    hosts: ONE,
    deeds: [
      ...at(0, create(10), create(11)),
      ...at(8_000, { do: 'fill disk', of: 0, forMs: 15_000 }),
      ...at(9_000, { do: 'ask', wish: { kind: 'destroy', nth: 0, force: true } }),
      ...at(40_000, update(12)),
    ],
    forMs: 50_000,
  },
  {
    name: 'a disk lost while the clock is behind',
    was: 'the agent counted its statuses from below what the server had heard, and was passed over for hours',
    hosts: ONE,
    deeds: [
      ...at(0, create(10)),
      ...at(8_000, { do: 'set clock', of: 0, byMs: -6 * HOUR_MS }),
      ...at(9_000, { do: 'kill agent', host: 0, forMs: 500, loseDisk: true }),
      ...at(15_000, update(11)),
    ],
    forMs: 40_000,
  },
  {
    name: 'a server that was away when the time of a release was over',
    was: 'it called the time over before it had heard of machines that were ready all along',
    hosts: TWO,
    deeds: [
      ...at(0, deploy(1, { ams: 1, iad: 1 })),
      ...at(15_000, deploy(2, { ams: 1, iad: 1 }, {}, 5000)),
      ...at(15_300, { do: 'kill server', forMs: 8000 }),
    ],
    forMs: 40_000,
    ends: { releases: ['complete', 'complete'] },
  },
  {
    name: 'a power cut',
    was: 'how a machine ended that was cut off from power is not known: it was taken for an end of its own and stayed stopped',
    hosts: ONE,
    deeds: [
      ...at(0, create(10, { restart: { policy: 'no', max_retries: 0 } })),
      ...at(10_000, { do: 'power off', host: 0, forMs: 5000, lostMs: 800 }),
    ],
    forMs: 40_000,
  },
  {
    name: 'a restored server and a stray container',
    was: 'an agent that had not heard the server yet must destroy nothing, and one that has must leave nothing that nobody knows',
    hosts: ONE,
    deeds: [
      ...at(0, { do: 'back up' }, create(10)),
      ...at(5_000, { do: 'stray container', host: 0, id: 'ffffffffffff01' }),
      ...at(10_000, { do: 'restore', forMs: 3000 }),
      ...at(11_000, { do: 'kill agent', host: 0, forMs: 500 }),
    ],
    forMs: 40_000,
  },
  {
    name: 'a restored server and a machine that was destroyed since',
    was: 'a machine that its host had forgotten is made anew as the copy has it, which is of an older version: the simulator complained',
    hosts: ONE,
    deeds: [
      ...at(0, create(10)),
      ...at(3_000, { do: 'back up' }),
      ...at(4_000, update(11)),
      ...at(10_000, { do: 'ask', wish: { kind: 'destroy', nth: 0, force: true } }),
      ...at(16_000, { do: 'restore', forMs: 3000 }),
    ],
    forMs: 40_000,
  },
  {
    name: 'an edge that dies while a machine drains',
    was: 'nobody waited for an edge that was dead, nor must anybody for one that comes back',
    hosts: TWO,
    deeds: [
      ...at(0, deploy(1, { ams: 1, iad: 1 })),
      ...at(15_000, deploy(2, { ams: 1, iad: 1 })),
      ...at(17_000, { do: 'kill edge', host: 1, forMs: 30_000 }),
    ],
    forMs: 60_000,
    ends: { releases: ['complete', 'complete'] },
  },
]
