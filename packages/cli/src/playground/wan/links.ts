import { estimatedRoundTripMs, knownRegion } from '@roost/core'

/**
 * How far places are from each other and what is wrong between them: pure data. Round trips in milliseconds; a frame takes half.
 * Endpoints are regions (`ams`: its host), clients (`client-ams`), `machine` (this machine itself) and `resolver`.
 */
/** Round trips that distance alone gets wrong, as measured on the public internet, rounded. */
const MEASURED: Readonly<Record<string, number>> = {
  'ams-iad': 80,
  'ams-lhr': 8,
  'ams-fra': 8,
  'ams-cdg': 10,
  'ams-syd': 250,
  'iad-syd': 200,
  'iad-lhr': 76,
  'iad-lax': 62,
  'iad-sjc': 64,
  'sin-syd': 94,
  'nrt-syd': 104,
}
const CLIENT_MS = 3
const RESOLVER_MS = 1
const UNKNOWN_PLACE_MS = 100

export function roundTripMs(a: string, b: string): number {
  if (a === b || a === 'machine' || b === 'machine') return 0
  if (a === 'resolver' || b === 'resolver') return RESOLVER_MS
  const [regionA, regionB] = [regionOf(a), regionOf(b)]
  const access = (a === regionA ? 0 : CLIENT_MS) + (b === regionB ? 0 : CLIENT_MS)
  return access + (regionA === regionB ? 0 : betweenRegionsMs(regionA, regionB))
}

/** `client-ams` → `ams`. */
export function regionOf(endpoint: string): string {
  return endpoint.startsWith('client-') ? endpoint.slice('client-'.length) : endpoint
}

function betweenRegionsMs(a: string, b: string): number {
  const measured = MEASURED[[a, b].sort().join('-')]
  if (measured !== undefined) return measured
  const [placeA, placeB] = [knownRegion(a), knownRegion(b)]
  if (placeA === null || placeB === null) return UNKNOWN_PLACE_MS
  return Math.round(estimatedRoundTripMs(placeA, placeB))
}

/** What was done to the network on purpose. Pairs are unordered: both directions suffer. */
export interface Faults {
  readonly pairs: readonly PairFault[]
  /** Endpoints whose port is down: nothing in, nothing out. */
  readonly down: readonly string[]
}

export interface PairFault {
  readonly a: string
  readonly b: string
  readonly cut: boolean
  /** Replaces the round trip; null: as usual. */
  readonly delayMs: number | null
  readonly lossPercent: number
}

export const NO_FAULTS: Faults = { pairs: [], down: [] }

/** Faults with one pair changed; a pair with nothing wrong any more is left out. */
export function withPair(
  faults: Faults,
  a: string,
  b: string,
  change: Partial<Omit<PairFault, 'a' | 'b'>>,
): Faults {
  const [first, second] = [a, b].sort() as [string, string]
  const isPair = (pair: PairFault) => pair.a === first && pair.b === second
  const before = faults.pairs.find(isPair) ?? {
    a: first,
    b: second,
    cut: false,
    delayMs: null,
    lossPercent: 0,
  }
  const after = { ...before, ...change }
  const others = faults.pairs.filter((pair) => !isPair(pair))
  const harmless = !after.cut && after.delayMs === null && after.lossPercent === 0
  return { ...faults, pairs: harmless ? others : [...others, after] }
}

export function withPort(faults: Faults, endpoint: string, up: boolean): Faults {
  const others = faults.down.filter((name) => name !== endpoint)
  return { ...faults, down: up ? others : [...others, endpoint] }
}

/** What the switch does with a frame from `from` to `to`. */
export interface Link {
  readonly oneWayMs: number
  /** 0–1; 1 lets nothing through. */
  readonly loss: number
}

/** `links[from][to]`, by position in `endpoints`. */
export function linksFor(endpoints: readonly string[], faults: Faults): Link[][] {
  return endpoints.map((from) =>
    endpoints.map((to) => {
      const [a, b] = [from, to].sort()
      const fault = faults.pairs.find((pair) => pair.a === a && pair.b === b)
      const dead = fault?.cut === true || faults.down.includes(from) || faults.down.includes(to)
      return {
        oneWayMs: (fault?.delayMs ?? roundTripMs(from, to)) / 2,
        loss: dead ? 1 : (fault?.lossPercent ?? 0) / 100,
      }
    }),
  )
}
