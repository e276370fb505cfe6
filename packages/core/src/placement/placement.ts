import type { HostId, RegionCode } from '../id.ts'

/** One machine to be placed. */
export interface PlacementRequest {
  readonly region: RegionCode
  readonly cpus: number
  readonly memoryMb: number
  /** Hosts that already hold machines of the same app: others are preferred. One entry per machine. */
  readonly siblings: readonly HostId[]
}

export type Placement =
  | { readonly kind: 'placed'; readonly host: HostId }
  | { readonly kind: 'no-host'; readonly region: RegionCode }
  | {
      readonly kind: 'no-room'
      readonly region: RegionCode
      readonly freeMemoryMb: number
      readonly neededMemoryMb: number
    }
  | {
      readonly kind: 'unknown-region'
      readonly region: RegionCode
      readonly known: readonly RegionCode[]
    }
