import type { WatchEvent } from '@roost/api'
import type { Draining, HostDisk, MachineId, MachineStatus, Revision } from '@roost/core'

/** What the server had heard already of machines whose status was older than that, by their sequence. */
export interface Heard {
  readonly ahead: Readonly<Record<MachineId, number>>
}

/** What the agent needs of the server. The adapter speaks mTLS; the simulator's loses, doubles and delays what is said. */
export interface ControlPlane {
  /** Lists, then goes on until the connection breaks (throws) or `signal` aborts (returns). */
  watch(since: Revision, signal: AbortSignal): AsyncIterable<WatchEvent>
  /** Idempotent; throws when it was not acknowledged. */
  report(statuses: readonly MachineStatus[], signal: AbortSignal): Promise<Heard | undefined>
  heartbeat(
    beat: { applied: Revision; draining: readonly Draining[]; disk?: HostDisk | null },
    signal: AbortSignal,
  ): Promise<void>
  /** A short-lived token to pull one repository. */
  registryToken(repository: string, push: boolean, signal: AbortSignal): Promise<string>
}
