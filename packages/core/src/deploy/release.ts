import type { AppName, HostId, Instant, MachineId, RegionCode } from '../id.ts'
import type { MachineConfig, MachineGuest } from '../machine/config.ts'
import type { ContainerDigests } from '../machine/machine.ts'
import { groupIn, groupOf, type ReleasedGroup } from './group.ts'

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
  /** As in `Assignment`. */
  readonly containerDigests?: ContainerDigests
  /** Of the default process group. */
  readonly config: MachineConfig
  /** Of the other process groups, by name. All have the same image. Absent: there are none. */
  readonly groups?: Readonly<Record<string, ReleasedGroup>>
  readonly primaryRegion: RegionCode | null
  readonly ask: ReleaseAsk
  readonly strategy: DeployStrategy
  /** Below 1 a fraction of the machines that run, else a number of them; null: as the strategy has it. */
  readonly maxUnavailable: number | null
  /** Which versions of which secrets its machines have. Taken when it begins; null before, and of releases of older servers. */
  readonly secrets: SecretVersions | null
  /** Of a `rollback` at work: what the next release would have brought without it, for the case that it fails. */
  readonly secretsBefore: SecretVersions | null
  /** Of a `rollback`: the release whose image, configuration and secrets it brings back; null otherwise. */
  readonly rollbackOf: number | null
  /** The release that served when it began, to which everything returns when it fails; 0: there was none. */
  readonly returnTo: number
  /** Empty while it is pending: the plan is made from what runs when the roll-out begins. */
  readonly plan: readonly Replacement[]
  /** The way back, made when it is given up: from this release's machines to those of `returnTo`. */
  readonly undo: readonly Replacement[]
  readonly createdAt: Instant
  /** Changes with every step. */
  readonly updatedAt: Instant
  /** How long the machines of one wave may take to become ready. */
  readonly waitTimeoutMs: number
  /**
   * Of the wave that is under way. `starting`: give up when its machines are not ready by then. `reverting`: go on by then.
   * Without meaning in other states.
   */
  readonly deadline: Instant
  /** Why it failed, for a person; null otherwise. */
  readonly reason: string | null
  /** It failed, and everything runs `returnTo` again; false: not everything, `reason` says what. null: it has not failed. */
  readonly returned: boolean | null
  readonly createdBy: string
  /** The `fly.toml` that it was made from. */
  readonly source: string | null
}

/**
 * `deploy` brings its own image and configuration and replaces every machine. `secrets` replaces every machine, `scale`
 * none; both take image and configuration of the release that serves when they begin. `rollback` replaces every machine
 * by image, configuration and secrets of an earlier release.
 */
export type ReleaseCause = 'deploy' | 'secrets' | 'scale' | 'rollback'

/**
 * Fly's words. New machines start beside the old ones in all but `recreate`, which is for machines that can't run twice.
 *
 * `rolling`: up to `maxUnavailable` (a third) of the machines at a time. `canary`: one first, watched for longer, then
 * rolling. `bluegreen`: all at once, and none is sent a request before all are ready. `immediate`: all at once, without
 * waiting for checks. `recreate`: each stops before its new version starts, one at a time unless `maxUnavailable` says more.
 */
export type DeployStrategy = 'rolling' | 'canary' | 'bluegreen' | 'immediate' | 'recreate'
export const DEPLOY_STRATEGIES = [
  'rolling',
  'canary',
  'bluegreen',
  'immediate',
  'recreate',
] as const satisfies readonly DeployStrategy[]

/** Version by name. A secret that is not named did not exist. */
export type SecretVersions = Readonly<Record<string, number>>

/**
 * `pending` waits for an earlier release of the same app. `draining`: it serves, and is watched a little longer while the old
 * machines go. `reverting`: it was given up, and everything returns to the release before it.
 */
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
  /** The same for each process group that is named here; `scale` is the default group's. */
  readonly groups?: Readonly<Record<string, Scale>>
  /** Of a `scale`: another size for the machines of these groups, all of which are replaced. */
  readonly guests?: Readonly<Record<string, Partial<MachineGuest>>>
  /** Of a `deploy`: groups whose size nobody named. They keep the one that they have in the release that serves. */
  readonly keepGuests?: readonly string[]
  /** Regions that must have a machine: of the default group, and of those with services. */
  readonly regions: readonly RegionCode[]
  /** A first release with one region makes two machines, or one without `ha`. */
  readonly ha: boolean
}

/**
 * One machine more, one machine less, one for another, or (source and target are the same) a new version in place. Both
 * null never occurs.
 */
export interface Replacement {
  readonly region: RegionCode
  /** Process group of the machine that comes, or of the one that goes. Absent: the default group. */
  readonly group?: string
  /** The machine of the earlier release that goes. */
  readonly source: MachineId | null
  /** The machine of this release that comes; its id is fixed by the plan, so that a repeated step makes no second one. */
  readonly target: MachineId | null
  /** Where the target runs; null without target. */
  readonly host: HostId | null
  /** 0, 1, 2 …: a wave takes over when the machines of all earlier waves serve. */
  readonly wave: number
  /**
   * 0, 1, 2 …: the machines of a round are created together (and pull their image) before their wave starts them; a round
   * begins when the sources of the one before are gone. More than one only where room is short.
   */
  readonly round: number
}

export function isInPlace(replacement: Replacement): boolean {
  return replacement.source !== null && replacement.source === replacement.target
}

/** What a deploy asks for: how many machines in which region. */
export type Scale = Readonly<Record<RegionCode, number>>

export function isFinal(status: ReleaseStatus): boolean {
  return status === 'complete' || status === 'failed'
}

/** The release that this machine is of, as its metadata says; null: of none. */
export function releaseOf(config: Pick<MachineConfig, 'metadata'>): number | null {
  const version = Number(config.metadata['fly_release_version'])
  return Number.isInteger(version) && version > 0 ? version : null
}

/** Releases look after machines that carry Fly's release metadata; those made by hand are left alone. */
export function isOfRelease(config: Pick<MachineConfig, 'metadata'>): boolean {
  const { metadata } = config
  return metadata['fly_release_version'] !== undefined || metadata['fly_platform_version'] === 'v2'
}

/** The configuration of a machine of this release: its group's, with the metadata by which it is known again. */
export function configOfRelease(
  release: Pick<Release, 'app' | 'version' | 'config' | 'groups'>,
  group?: string,
): MachineConfig {
  const { config } = groupIn(release, group)
  return {
    ...config,
    metadata: {
      ...config.metadata,
      fly_platform_version: 'v2',
      fly_process_group: groupOf(config),
      fly_release_id: `${release.app}-v${release.version}`,
      fly_release_version: String(release.version),
    },
  }
}
