import type { Clock } from '@roost/base'
import {
  type Assignment,
  type CheckStatus,
  checksOf,
  checksOfContainer,
  containersOf,
  type Instant,
  isClean,
  isVersion,
  type Observed,
} from '@roost/core'
import type { Checks } from '../checks.ts'
import { type CheckGroup, createCheckGroup } from './check-group.ts'

/** The checks of one machine: they run while it does, and what they found outlives the agent. */
export interface MachineChecks {
  /** Its own, then those of its containers. */
  statuses(): readonly CheckStatus[]
  /** Those of one container, of the run that began then. */
  ofContainer(name: string, startedAt: Instant): readonly CheckStatus[]
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
  const { remembered } = options
  const own = createCheckGroup({ ...options, remembered: remembered.filter(isOwn) })
  const ofContainers = new Map<string, CheckGroup>()

  function groupOf(container: string): CheckGroup {
    const known = ofContainers.get(container)
    if (known) return known
    const mine = remembered.filter((one) => !isOwn(one) && one.name.startsWith(`${container}/`))
    const group = createCheckGroup({ ...options, remembered: mine })
    ofContainers.set(container, group)
    return group
  }

  function followContainers(
    observed: Extract<Observed, { state: 'running' }>,
    assignment: Assignment,
  ): void {
    const containers = containersOf(assignment.config) ?? []
    for (const container of containers) {
      const group = groupOf(container.name)
      const seen = observed.containers?.find(({ name }) => name === container.name)
      const specs = checksOfContainer(container)
      const { id, privateIpv4: address } = assignment
      if (seen?.state === 'running' && seen.startedAt !== null)
        group.run({ id, address, startedAt: seen.startedAt, specs, container: container.name })
      // What has done its work holds up nobody; what is to run again is not well until it is.
      else if (seen?.exit && isClean({ ...seen.exit, requested: false })) group.forget([])
      else group.forget(specs)
    }
    for (const [name, group] of ofContainers)
      if (!containers.some((one) => one.name === name)) {
        group.end()
        ofContainers.delete(name)
      }
  }

  function end(): void {
    for (const group of [own, ...ofContainers.values()]) group.end()
  }

  return {
    statuses: () => [own, ...ofContainers.values()].flatMap((group) => group.statuses()),
    ofContainer: (name, startedAt) => groupOf(name).statusesOf(startedAt),
    follow(observed, assignment) {
      if (assignment === null || observed.state !== 'running') {
        end()
        return
      }
      // An older version on its way out keeps its checks: this assignment no longer knows them.
      if (own.isRunning() && !isVersion(assignment, observed)) return
      const { id, privateIpv4: address, config } = assignment
      own.run({ id, address, startedAt: observed.startedAt, specs: checksOf(config) })
      followContainers(observed, assignment)
    },
    end,
  }
}

/** A slash is in no name of a check that a machine's configuration can give. */
function isOwn({ kind, name }: CheckStatus): boolean {
  return kind === undefined || !name.includes('/')
}
