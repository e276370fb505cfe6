import type { AppName, Instant, RegionCode } from '../id.ts'

export interface App {
  readonly name: AppName
  readonly organization: string
  /** Number of the private network that its machines are in, 1–65535. 1 is the organization's default. */
  readonly network: number
  readonly createdAt: Instant
  readonly primaryRegion: RegionCode | null
  /** Version of the release that serves, 0 before the first. */
  readonly release: number
}
