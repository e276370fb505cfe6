import type { Token } from '../access/token.ts'
import type { DiskSpace } from '../host/disk.ts'
import type { Instant } from '../id.ts'
import type { HostnameFacts } from './hostname-findings.ts'

/** What was looked at to tell whether an installation is well. `findingsOf` concludes. */
export interface DoctorFacts {
  readonly now: Instant
  readonly domain: string
  readonly server: ServerFacts
  /** null: its images lie elsewhere. */
  readonly imageStore: ImageStoreFacts | null
  readonly hosts: readonly HostFacts[]
  readonly apps: readonly AppFacts[]
  readonly dns: readonly NameFacts[]
  readonly certificates: readonly CertificateFacts[]
  readonly tokens?: readonly Token[]
  /** Names of people's own, and whether an authority was chosen to order their certificates from. */
  readonly hostnames?: readonly HostnameFacts[]
  readonly orders?: boolean
}

export interface ServerFacts {
  readonly version: string
  readonly database: { readonly path: string; readonly bytes: number; readonly walBytes: number }
  readonly space: DiskSpace | null
  /** The last write that was refused, if none has worked since. */
  readonly trouble: { readonly message: string; readonly since: Instant } | null
}

export interface ImageStoreFacts {
  /** Why it can't be asked or looked through; null: it can. */
  readonly failure: string | null
  readonly space: DiskSpace | null
  readonly bytes: number
  readonly collectableBytes: number
}

export interface HostFacts {
  readonly name: string
  readonly region: string
  readonly status: 'ok' | 'unreachable'
  /** null: never since the server started. */
  readonly agentSeenAt: Instant | null
  readonly edgeSeenAt: Instant | null
  /** An edge was ever heard there, or the host has just joined and is given time. */
  readonly edgeExpected: boolean
  readonly clockOffsetMs: number | null
  readonly versions: Readonly<Record<string, string>>
  /** Records that its edge can not work with, and why. */
  readonly refusedRecords: readonly string[]
  readonly freeMemoryMb: number
  readonly memoryMb: number
  readonly freeCpus: number
  /** `failure`: its agent did not answer the question, and why. */
  readonly usage:
    | { readonly failure: string }
    | {
        readonly fileSystems: readonly DiskSpace[]
        readonly kinds: readonly UsageKind[]
        /** Deeds that failed for want of room in the last hour. */
        readonly refused: readonly { readonly what: string; readonly path: string }[]
        /** What the host itself finds wrong with its storage, with what mends it. */
        readonly warnings: readonly string[]
      }
}

export interface UsageKind {
  readonly kind: string
  readonly path: string
  /** Where its file system is mounted. */
  readonly fileSystem: string
  readonly bytes: number
  readonly freeableBytes: number
}

export interface AppFacts {
  readonly name: string
  /** The newest that has ended; null: none has. */
  readonly release: {
    readonly version: number
    readonly status: string
    readonly reason: string | null
  } | null
  readonly machines: readonly {
    readonly id: string
    readonly host: string
    readonly state: string
    readonly wanted: string
    readonly reason: string | null
    readonly restarts: number
    readonly lastExitAt: Instant | null
    readonly lastExit: string | null
  }[]
}

/** What one name server answers for a name below the domain. */
export interface NameFacts {
  /** `198.18.1.1` of an edge, or `this server's resolver`. */
  readonly asked: string
  readonly host: string | null
  readonly name: string
  readonly addresses: readonly string[]
  readonly failure: string | null
}

export interface CertificateFacts {
  /** `server`, `agent of ams-1`. */
  readonly of: string
  readonly expiresAt: Instant
  /** Of its whole life; what renews itself has a third of it left at worst. */
  readonly lifeMs: number | null
  /** What makes a new one, where it does not come by itself. */
  readonly fix: string
}
