import type { Clock } from '@roost/base'
import {
  type Assignment,
  type CheckSpec,
  type CheckStatus,
  checksOf,
  isVersion,
  type Observed,
  uncheckedStatuses,
} from '@roost/core'
import type { Checks } from '../checks.ts'

/** The checks of one machine: they run while it does, and what they found outlives the agent. */
export interface MachineChecks {
  statuses(): readonly CheckStatus[]
  /** After each look: begins, goes on or ends. */
  follow(observed: Observed, assignment: Assignment | null): void
  end(): void
}

export function createMachineChecks(options: {
  readonly checks: Checks
  readonly clock: Clock
  /** From before the agent was restarted. */
  readonly remembered: readonly CheckStatus[]
  readonly onChange: () => void
}): MachineChecks {
  const { checks, clock, onChange } = options
  let statuses = options.remembered
  let running: { readonly key: string; readonly end: () => void } | null = null

  function end(): void {
    running?.end()
    running = null
  }

  function begin(
    key: string,
    specs: readonly CheckSpec[],
    observed: Extract<Observed, { state: 'running' }>,
    assignment: Assignment,
  ): void {
    // Who was ready before the agent was restarted stays in rotation: it is the same run.
    const same =
      running === null &&
      statuses.length === specs.length &&
      statuses.every(
        ({ name, updatedAt }, n) => name === specs[n]?.name && updatedAt >= observed.startedAt,
      )
    end()
    if (!same) statuses = uncheckedStatuses(specs, clock.now())
    const ended = new AbortController()
    const target = {
      id: assignment.id,
      address: assignment.privateIpv4,
      startedAt: observed.startedAt,
      specs,
      known: statuses,
    }
    const endThem =
      specs.length === 0
        ? () => {}
        : checks.start(target, (found) => {
            if (ended.signal.aborted) return
            statuses = found
            onChange()
          })
    running = {
      key,
      end: () => {
        ended.abort()
        endThem()
      },
    }
  }

  return {
    statuses: () => statuses,
    follow(observed, assignment) {
      if (assignment === null || observed.state !== 'running') {
        end()
        return
      }
      // An older version on its way out keeps its checks: this assignment no longer knows them.
      if (running !== null && !isVersion(assignment, observed)) return
      const specs = checksOf(assignment.config)
      const key = JSON.stringify([observed.startedAt, specs])
      if (running?.key !== key) begin(key, specs, observed, assignment)
    },
    end,
  }
}
