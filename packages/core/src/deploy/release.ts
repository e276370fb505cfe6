import type { AppName, HostId, Instant, MachineId, RegionCode } from '../id.ts'
import type { MachineConfig } from '../machine/config.ts'

/** One release: what to run where, and how far its roll-out has come. Stored whole, so that any server can go on with it. */
export interface Release {
  readonly app: AppName
  /** 1, 2, 3 … per app. */
  readonly version: number
  readonly cause: ReleaseCause
  readonly status: ReleaseStatus
  /** Image reference with digest. */
  readonly image: string
  /** `sha256:…` of the manifest. */
  readonly imageDigest: string
  readonly config: MachineConfig
  readonly primaryRegion: RegionCode | null
  readonly ask: ReleaseAsk
  /** Empty while it is pending: the plan is made from what runs when the roll-out begins. */
  readonly plan: readonly Replacement[]
  readonly createdAt: Instant
  readonly updatedAt: Instant
  /** How long the machines of one wave may take to become ready. */
  readonly waitTimeoutMs: number
  /**
   * `starting`: give up when the machines are not ready by then. `draining` and `reverting`: go on by then, though
   * machines that were told to go are still there. Without meaning in other states.
   */
  readonly deadline: Instant
  /** Why it failed, for a person; null otherwise. */
  readonly reason: string | null
  readonly createdBy: string
  /** The `fly.toml` that it was made from. */
  readonly source: string | null
}

/**
 * `deploy` brings its own image and configuration and replaces every machine. `secrets` replaces every machine, `scale`
 * none; both take image and configuration of the release that serves when they begin.
 */
export type ReleaseCause = 'deploy' | 'secrets' | 'scale'

/** `pending` waits for an earlier release of the same app; `reverting` removes what it started, the old one serves on. */
export type ReleaseStatus =
  | 'pending'
  | 'starting'
  | 'draining'
  | 'complete'
  | 'reverting'
  | 'failed'

export interface ReleaseAsk {
  /** null: as now. In a `deploy` regions that it does not name get none, in a `scale` they stay as they are. */
  readonly scale: Scale | null
  /** Regions that must have a machine. */
  readonly regions: readonly RegionCode[]
  /** A first release with one region makes two machines, or one without `ha`. */
  readonly ha: boolean
}

/** One machine more, one machine less, or one for another. Both null never occurs. */
export interface Replacement {
  readonly region: RegionCode
  /** The machine of the earlier release that goes. */
  readonly source: MachineId | null
  /** The machine of this release that comes; its id is fixed by the plan, so that a repeated step makes no second one. */
  readonly target: MachineId | null
  /** Where the target runs; null without target. */
  readonly host: HostId | null
  /** 0, 1, 2 …: a wave starts when the sources of the one before are gone. More than one only where room is short. */
  readonly wave: number
}

/** What a deploy asks for: how many machines in which region. */
export type Scale = Readonly<Record<RegionCode, number>>

export function isFinal(status: ReleaseStatus): boolean {
  return status === 'complete' || status === 'failed'
}

/** Releases look after machines that carry Fly's release metadata; those made by hand are left alone. */
export function isOfRelease(config: Pick<MachineConfig, 'metadata'>): boolean {
  const { metadata } = config
  return metadata['fly_release_version'] !== undefined || metadata['fly_platform_version'] === 'v2'
}

/** The configuration of a machine of this release: the release's, with the metadata by which it is known again. */
export function configOfRelease(
  release: Pick<Release, 'app' | 'version' | 'config'>,
): MachineConfig {
  return {
    ...release.config,
    metadata: {
      ...release.config.metadata,
      fly_platform_version: 'v2',
      fly_process_group: 'app',
      fly_release_id: `${release.app}-v${release.version}`,
      fly_release_version: String(release.version),
    },
  }
}
