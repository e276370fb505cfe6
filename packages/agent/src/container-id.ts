import type { MachineId } from '@roost/core'

/**
 * The id of a container. A machine that is one program itself has one container with its own id. One with containers has
 * `<machine>.<name>` for each of them, and under its own id a record that runs nothing. Logs and control groups go by the same
 * names.
 */
export type ContainerId = string

/** What containerd takes as an id, at most 76 characters, leaves a name 61 of them. */
export const CONTAINER_NAME = /^(?=.{1,61}$)[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$/

const CONTAINER_ID = /^([0-9a-f]{14})(?:\.(.+))?$/

export function containerIdOf(machine: MachineId, name: string | null): ContainerId {
  return name === null ? machine : `${machine}.${name}`
}

/** null: it is none of ours. */
export function partsOf(
  id: ContainerId,
): { readonly machine: MachineId; readonly name: string | null } | null {
  const match = CONTAINER_ID.exec(id)
  if (!match?.[1]) return null
  return { machine: match[1] as MachineId, name: match[2] ?? null }
}

export const machineOf = (id: ContainerId): MachineId => (partsOf(id)?.machine ?? id) as MachineId
