import type { Host, Instant, MachineId, Revision } from '@roost/core'
import type { EdgePresence, Presence } from '../watch/presence.ts'

/** An edge that was silent for this long is dead as far as releases and drains are concerned: they don't wait for it. */
export const EDGE_SILENT_MS = 10_000

/**
 * The edges that may send requests to machines now. `null` is one that has not been heard: this server has only just started and
 * knows of it, or it has only just begun to hear what there is. Nothing may be concluded before it has spoken, or was silent for
 * too long.
 */
export function edgesInCharge(
  presence: Presence,
  hosts: readonly Host[],
  startedAt: Instant,
  now: Instant,
): readonly (EdgePresence | null)[] {
  return hosts.flatMap((host) => {
    const edge = presence.edge(host.id)
    const isRecent = (at: Instant | null) => at !== null && now - at <= EDGE_SILENT_MS
    if (edge !== null && isRecent(edge.seenAt)) return [edge]
    const known = edge === null && host.edgeSeenAt !== null
    const expected = (known && isRecent(startedAt)) || isRecent(presence.edgeExpectedAt(host.id))
    return expected ? [null] : []
  })
}

/** All of them have carried out that revision. True when there is no edge. */
export function allCarried(edges: readonly (EdgePresence | null)[], revision: Revision): boolean {
  return edges.every((edge) => edge !== null && edge.applied >= revision)
}

/** All of them have taken it out of rotation, and nobody uses it through any of them. */
export function allDrained(
  edges: readonly (EdgePresence | null)[],
  revision: Revision,
  machine: MachineId,
): boolean {
  return (
    allCarried(edges, revision) &&
    edges.every((edge) => !edge?.draining.some((d) => d.machine === machine && d.sessions > 0))
  )
}
