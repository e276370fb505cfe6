import type { HostId, RegionCode } from '../id.ts'
import type { Coordinates } from '../region/region.ts'

/** Where a client seems to be. `region`: the owner said so for its network. */
export type ClientPlace =
  | { readonly kind: 'region'; readonly region: RegionCode }
  | ({ readonly kind: 'coordinates' } & Coordinates)
  | { readonly kind: 'unknown' }

export interface ZoneEdge {
  readonly host: HostId
  readonly name: string
  readonly region: RegionCode
  /** IPv4. */
  readonly publicAddress: string
  /** By the judgement of the edge that answers. */
  readonly alive: boolean
}

/** All that an answer depends on. */
export interface Zone {
  /** Lower case, without a final dot. */
  readonly domain: string
  /** Of the SOA record, 32 bits. */
  readonly serial: number
  /** The region of the edge that answers. */
  readonly region: RegionCode
  readonly hasApp: (name: string) => boolean
  /** What authorities are to find under the name that a delegated `_acme-challenge.<hostname>` leads to. */
  readonly challengeTexts: (hostname: string) => readonly string[]
  readonly edges: readonly ZoneEdge[]
  /** Measured from any host of one region to another; null where nobody measured. */
  readonly roundTripMs: (from: RegionCode, to: RegionCode) => number | null
}

export type ZoneRecord =
  | { readonly name: string; readonly type: 'A'; readonly ttl: number; readonly address: string }
  | { readonly name: string; readonly type: 'NS'; readonly ttl: number; readonly target: string }
  | { readonly name: string; readonly type: 'TXT'; readonly ttl: number; readonly text: string }
  | {
      readonly name: string
      readonly type: 'SOA'
      readonly ttl: number
      readonly serial: number
      readonly primary: string
      readonly mailbox: string
      readonly refresh: number
      readonly retry: number
      readonly expire: number
      readonly minimum: number
    }

/** `refused`: not our zone. `unknown`: no such name. An answer without records is NODATA. */
export interface ZoneAnswer {
  readonly kind: 'answer' | 'unknown' | 'refused'
  readonly answers: readonly ZoneRecord[]
  readonly authorities: readonly ZoneRecord[]
  readonly additionals: readonly ZoneRecord[]
}
