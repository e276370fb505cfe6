import type { ReleaseReply } from '@roost/api'
import {
  groupOf,
  groupsOf,
  type Host,
  type HostId,
  isInPlace,
  type Release,
  type Replacement,
} from '@roost/core'

/** A release as the API tells it. `serving`: the version that serves, 0 for none. */
export function releaseReply(
  release: Release,
  hosts: readonly Host[],
  serving: number,
): ReleaseReply {
  const names = new Map<HostId, string>(hosts.map((h) => [h.id, h.name]))
  return {
    app: release.app,
    version: release.version,
    status: release.status,
    cause: release.cause,
    strategy: release.strategy,
    serving: release.version === serving,
    rollback_of: release.rollbackOf,
    returned: release.returned,
    before: release.returnTo === 0 ? null : release.returnTo,
    image: release.image,
    groups: [...groupsOf(release).keys()],
    reason: release.reason,
    created_at: new Date(release.createdAt).toISOString(),
    updated_at: new Date(release.updatedAt).toISOString(),
    created_by: release.createdBy,
    plan: release.plan.map((replacement) => {
      const { region, source, target, host, wave, group } = replacement
      return {
        kind: kindOf(replacement),
        region,
        group: group ?? groupOf(release.config),
        host: host === null ? null : (names.get(host) ?? host),
        machine: target ?? source,
        replaces: target === null ? null : source,
        wave,
      }
    }),
  }
}

function kindOf(replacement: Replacement): ReleaseReply['plan'][number]['kind'] {
  if (isInPlace(replacement)) return 'update'
  if (replacement.target === null) return 'destroy'
  return replacement.source === null ? 'create' : 'replace'
}
