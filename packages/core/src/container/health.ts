import type { Instant } from '../id.ts'
import type { CheckStatus } from '../machine/machine.ts'
import type { Container, ContainerCheck } from './container.ts'
import { type ContainerHealth, UNKNOWN_HEALTH } from './container-record.ts'

/** How a check stands between its thresholds. */
export interface CheckTally {
  /** `warning`: it has said neither yet. */
  readonly status: CheckStatus['status']
  /** In a row. */
  readonly successes: number
  readonly failures: number
  /** When the last failure was counted. */
  readonly failedAt: Instant | null
}

export const NEW_TALLY: CheckTally = {
  status: 'warning',
  successes: 0,
  failures: 0,
  failedAt: null,
}

/**
 * One more result. A check may be tried more often than its interval says, to see soon that a program listens; so a failure
 * counts only an interval after the last that did, and never before an interval after the grace period: a program that has
 * just been started is not sick.
 */
export function tally(
  check: Pick<
    ContainerCheck,
    'intervalMs' | 'gracePeriodMs' | 'successThreshold' | 'failureThreshold'
  >,
  before: CheckTally,
  result: { readonly passing: boolean; readonly startedAt: Instant },
  now: Instant,
): CheckTally {
  if (result.passing) {
    const successes = before.successes + 1
    const status = successes >= check.successThreshold ? 'passing' : before.status
    return { status, successes, failures: 0, failedAt: null }
  }
  const from =
    before.failedAt ?? (before.status === 'passing' ? null : result.startedAt + check.gracePeriodMs)
  const counts = from === null || Math.abs(now - from) >= check.intervalMs
  const early = now < result.startedAt + check.gracePeriodMs
  if (!counts || early) return { ...before, successes: 0 }
  const failures = before.failures + 1
  const status = failures >= check.failureThreshold ? 'critical' : before.status
  return { status, successes: 0, failures, failedAt: now }
}

/** What the statuses of its checks, one for each in their order, say of a container that runs. */
export function healthOf(
  { checks }: Pick<Container, 'checks'>,
  statuses: readonly Pick<CheckStatus, 'status'>[],
): ContainerHealth {
  if (statuses.length !== checks.length) return UNKNOWN_HEALTH
  const healthy = statuses.every(({ status }) => status === 'passing')
  const failing = checks.find(
    (check, n) =>
      statuses[n]?.status === 'critical' && (check.kind === 'liveness' || check.stopsMachine),
  )
  return {
    healthy,
    failing: failing ? { check: failing.name, stopsMachine: failing.stopsMachine } : null,
  }
}
