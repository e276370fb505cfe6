import type { MachineConfig } from '../machine/config.ts'
import type { ContainerDigests } from '../machine/machine.ts'
import type { Release } from './release.ts'

/**
 * Process groups, as Fly has them: one image, several commands, each with its own machines (docs: launch/processes).
 * The default group comes first; a file without `[processes]` has only that.
 */

/** What machines are in that say nothing of a group. */
export const GROUP_DEFAULT = 'app'
export const GROUPS_MAX = 20

export function groupOf(config: Pick<MachineConfig, 'metadata'>): string {
  return config.metadata['fly_process_group'] || GROUP_DEFAULT
}

/** What the machines of one group are made of. */
export interface ReleasedGroup {
  readonly config: MachineConfig
  /** As in `Assignment`. */
  readonly containerDigests?: ContainerDigests
}

type Grouped = Pick<Release, 'config' | 'containerDigests' | 'groups'>

/** The groups of a release, the default group first. */
export function groupsOf(release: Grouped): ReadonlyMap<string, ReleasedGroup> {
  const { config, containerDigests, groups } = release
  const first = { config, ...(containerDigests === undefined ? {} : { containerDigests }) }
  return new Map([[groupOf(config), first], ...Object.entries(groups ?? {})])
}

/** The same release with another configuration of each group. */
export function withConfigs<R extends Grouped>(
  release: R,
  change: (config: MachineConfig, group: string) => MachineConfig,
): R {
  const groups = Object.entries(release.groups ?? {}).map(
    ([name, group]) => [name, { ...group, config: change(group.config, name) }] as const,
  )
  return {
    ...release,
    config: change(release.config, groupOf(release.config)),
    ...(groups.length === 0 ? {} : { groups: Object.fromEntries(groups) }),
  }
}

/** The group of this release; the default group where it has none of that name. */
export function groupIn(release: Grouped, name: string | undefined): ReleasedGroup {
  const groups = groupsOf(release)
  return (name === undefined ? undefined : groups.get(name)) ?? firstOf(groups)
}

function firstOf(groups: ReadonlyMap<string, ReleasedGroup>): ReleasedGroup {
  for (const group of groups.values()) return group
  throw new Error('a release has a group')
}

/**
 * Which group of a release takes over a machine; null: none, the machine's group was removed. When the default group is only
 * called differently now, its machines are replaced like any others instead of going while new ones come.
 */
export function groupTakingOver(
  machineGroup: string,
  groups: readonly string[],
  formerDefault: string,
): string | null {
  if (groups.includes(machineGroup)) return machineGroup
  const [first = null] = groups
  return machineGroup === formerDefault || machineGroup === GROUP_DEFAULT ? first : null
}
