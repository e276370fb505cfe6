import { PlatformError } from '@roost/base'
import { type AppName, groupOf, type HostId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { shownState } from '../machine/state.ts'
import { releaseReply } from '../release/release-reply.ts'
import { getApp } from '../store/apps.ts'
import { listHosts } from '../store/hosts.ts'
import { listMachines } from '../store/machines.ts'
import { getRelease, listReleases } from '../store/releases.ts'
import { getSettings } from '../store/settings.ts'
import type { Handlers } from './handler.ts'

export function statusHandlers(deps: Pick<Deps, 'store'>): Pick<Handlers, 'appStatus'> {
  return {
    appStatus: ({ params }) =>
      deps.store.read(async (reader) => {
        const app = await getApp(reader, params.app)
        if (app === null) throw new PlatformError('not_found', 'app not found')
        const name = params.app as AppName
        const hosts = await listHosts(reader)
        const byId = new Map<HostId, (typeof hosts)[number]>(hosts.map((h) => [h.id, h]))
        const serving = app.release === 0 ? null : await getRelease(reader, name, app.release)
        // Before anything serves, the newest try tells most.
        const release = serving ?? (await listReleases(reader, name, 1))[0] ?? null
        const { domain } = await getSettings(reader)
        const machines = await listMachines(reader, { app: name })
        return {
          name,
          hostname: `${name}.${domain}`,
          release: release === null ? null : releaseReply(release, hosts, app.release),
          machines: machines.map((machine) => {
            const { assignment, status } = machine
            const host = byId.get(assignment.host)
            return {
              id: assignment.id,
              state: shownState(machine),
              region: assignment.region,
              group: groupOf(assignment.config),
              host: host?.name ?? assignment.host,
              image: assignment.config.image,
              checks: (status?.checks ?? []).map((c) => ({
                name: c.name,
                status: c.status,
                output: c.output,
              })),
              private_ip: assignment.privateIpv6,
              updated_at: new Date(
                Math.max(machine.updatedAt, status?.updatedAt ?? 0),
              ).toISOString(),
              reason:
                host?.status === 'unreachable'
                  ? `host ${host.name} does not answer: this is what it last said`
                  : (status?.reason ?? null),
            }
          }),
        }
      }),
  }
}
