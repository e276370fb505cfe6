import type { AppName, Instant, MachineId, RegionCode } from '../id.ts'
import type { MachineConfig } from '../machine/config.ts'

/** One release: what to run where, and how far its roll-out has come. Stored whole, so that any server can go on with it. */
export interface Release {
  readonly app: AppName
  /** 1, 2, 3 … per app. */
  readonly version: number
  readonly status: ReleaseStatus
  /** Image reference with digest. */
  readonly image: string
  readonly config: MachineConfig
  readonly plan: readonly Replacement[]
  readonly createdAt: Instant
  readonly updatedAt: Instant
  /** Give up when the machines of this release are not ready by then. */
  readonly deadline: Instant
  /** Why it failed, for a person; null otherwise. */
  readonly reason: string | null
  readonly createdBy: string
}

/** `pending` waits for an earlier release of the same app; `reverting` removes what it started, the old one serves on. */
export type ReleaseStatus =
  | 'pending'
  | 'starting'
  | 'draining'
  | 'complete'
  | 'reverting'
  | 'failed'

/** One machine more, one machine less, or one for another. Both null never occurs. */
export interface Replacement {
  readonly region: RegionCode
  /** The machine of the earlier release that goes. */
  readonly source: MachineId | null
  /** The machine of this release that comes; its id is fixed by the plan, so that a repeated step makes no second one. */
  readonly target: MachineId | null
}

/** What a deploy asks for: how many machines in which region. */
export type Scale = Readonly<Record<RegionCode, number>>
