import type { ReleaseReply } from '@roost/api'
import type { Host, HostId, Release } from '@roost/core'

/** A release as the API tells it. */
export function releaseReply(release: Release, hosts: readonly Host[]): ReleaseReply {
  const names = new Map<HostId, string>(hosts.map((h) => [h.id, h.name]))
  return {
    app: release.app,
    version: release.version,
    status: release.status,
    cause: release.cause,
    image: release.image,
    reason: release.reason,
    created_at: new Date(release.createdAt).toISOString(),
    updated_at: new Date(release.updatedAt).toISOString(),
    created_by: release.createdBy,
    plan: release.plan.map(({ region, source, target, host }) => ({
      kind: target === null ? 'destroy' : source === null ? 'create' : 'replace',
      region,
      host: host === null ? null : (names.get(host) ?? host),
      machine: target ?? source,
      replaces: target === null ? null : source,
    })),
  }
}
