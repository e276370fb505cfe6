import type { CheckSpec, CheckStatus, Instant, MachineId } from '@roost/core'

/** Health checks of machines that run. */
export interface Checks {
  /**
   * Checks until the returned function is called. `heard` gets the statuses of all specs, in their order, whenever one
   * of them became another than in `known`, which an agent that was restarted remembers from before. Until its first
   * pass a check is tried several times a second, so that a machine is ready as soon as it listens; then every
   * `interval_ms`. In the grace period after `startedAt` a failure is not said.
   */
  start(target: CheckTarget, heard: (statuses: readonly CheckStatus[]) => void): () => void
}

export interface CheckTarget {
  readonly id: MachineId
  /** Private IPv4 of the machine. */
  readonly address: string
  readonly startedAt: Instant
  /** Whose they are, in a machine of several. */
  readonly container?: string
  readonly specs: readonly CheckSpec[]
  /** One for each spec, in their order: where it stands now. */
  readonly known: readonly CheckStatus[]
}
