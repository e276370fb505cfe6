import type { HostDisk } from '../host/disk.ts'
import type { HostId, RegionCode } from '../id.ts'

/** One machine to be placed. */
export interface PlacementRequest {
  readonly region: RegionCode
  /** Whole cpus to reserve: those of the `performance` kind. Shared ones are not reserved. */
  readonly cpus: number
  readonly memoryMb: number
  /** Hosts that already hold machines of the same app: others are preferred. One entry per machine. */
  readonly siblings: readonly HostId[]
}

export type Placement =
  | { readonly kind: 'placed'; readonly host: HostId }
  | { readonly kind: 'no-host'; readonly region: RegionCode }
  | {
      /** Where there are hosts, their disks are full. */
      readonly kind: 'disk-full'
      readonly region: RegionCode
      readonly hosts: readonly { readonly name: string; readonly disk: HostDisk }[]
    }
  | {
      readonly kind: 'no-room'
      readonly region: RegionCode
      /** Of the host with the most free memory there. */
      readonly freeMemoryMb: number
      readonly freeCpus: number
      readonly neededMemoryMb: number
      readonly neededCpus: number
      /** Of the host with the most free memory in each other region. */
      readonly elsewhere: readonly { readonly region: RegionCode; readonly freeMemoryMb: number }[]
    }
  | {
      readonly kind: 'unknown-region'
      readonly region: RegionCode
      readonly known: readonly RegionCode[]
    }

export type PlacementRefusal = Exclude<Placement, { readonly kind: 'placed' }>

/** What the machines of a host hold already; machines that are stopped count, since they may be started at any time. */
export interface Reserved {
  readonly cpus: number
  readonly memoryMb: number
}
