import type { Clock } from '@roost/base'
import { type CheckSpec, type CheckStatus, type Instant, uncheckedStatuses } from '@roost/core'
import type { Checks, CheckTarget } from '../checks.ts'

/** Checks that begin and end together: those of a machine, or those of one of its containers. */
export interface CheckGroup {
  statuses(): readonly CheckStatus[]
  /** Of the run that began then; none where it is another's, or nothing is known of it. */
  statusesOf(startedAt: Instant): readonly CheckStatus[]
  /** Begins, unless just these are running. */
  run(target: Omit<CheckTarget, 'known'>): void
  isRunning(): boolean
  /** What was found stays. */
  end(): void
  /** Ends, and nothing is known any more of these. */
  forget(specs: readonly CheckSpec[]): void
}

export function createCheckGroup(options: {
  readonly checks: Checks
  readonly clock: Clock
  /** From before the agent was restarted. */
  readonly remembered: readonly CheckStatus[]
  readonly onChange: () => void
}): CheckGroup {
  const { checks, clock, onChange } = options
  let statuses = options.remembered
  let running: {
    readonly key: string
    readonly startedAt: Instant
    readonly end: () => void
  } | null = null

  function end(): void {
    running?.end()
    running = null
  }

  return {
    statuses: () => statuses,
    statusesOf(startedAt) {
      if (running !== null) return running.startedAt === startedAt ? statuses : []
      return statuses.every(({ updatedAt }) => updatedAt >= startedAt) ? statuses : []
    },
    run(target) {
      const { specs, startedAt } = target
      const key = JSON.stringify([startedAt, specs])
      if (running?.key === key) return
      // Who was ready before the agent was restarted stays in rotation: it is the same run.
      const same =
        running === null &&
        statuses.length === specs.length &&
        statuses.every(
          ({ name, updatedAt }, n) => name === specs[n]?.name && updatedAt >= startedAt,
        )
      end()
      if (!same) statuses = uncheckedStatuses(specs, clock.now())
      const ended = new AbortController()
      const endThem =
        specs.length === 0
          ? () => {}
          : checks.start({ ...target, known: statuses }, (found) => {
              if (ended.signal.aborted) return
              statuses = found
              onChange()
            })
      running = {
        key,
        startedAt,
        end: () => {
          ended.abort()
          endThem()
        },
      }
    },
    isRunning: () => running !== null,
    end,
    forget(specs) {
      end()
      const known = statuses.every(({ status }) => status === 'warning')
      if (!known || statuses.length !== specs.length)
        statuses = uncheckedStatuses(specs, clock.now())
    },
  }
}
