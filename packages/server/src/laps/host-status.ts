import type { Deps } from '../deps.ts'
import { SILENCE_MS } from '../http/hosts.ts'
import { listHosts, putHost } from '../store/hosts.ts'

/** A lap over all hosts: who has been silent for 10 s is unreachable, who speaks again is not. */
export async function markHosts(
  deps: Pick<Deps, 'store' | 'clock' | 'presence' | 'log'>,
): Promise<void> {
  const { store, clock, presence, log } = deps
  const now = clock.now()
  const statusOf = (id: Parameters<typeof presence.agentSeenAt>[0]) =>
    now - presence.agentSeenAt(id) > SILENCE_MS ? 'unreachable' : 'ok'
  const hosts = await store.read(listHosts)
  // A transaction writes to the disk: none without need.
  if (hosts.every((host) => host.status === statusOf(host.id))) return
  await store.transaction(async (tx) => {
    for (const host of await listHosts(tx)) {
      const status = statusOf(host.id)
      if (status === host.status) continue
      log.info('host status', { host: host.name, region: host.region, status })
      await putHost(tx, {
        ...host,
        status,
        agentSeenAt: presence.agentHeardAt(host.id) ?? host.agentSeenAt,
        edgeSeenAt: presence.edge(host.id)?.seenAt ?? host.edgeSeenAt,
      })
    }
  })
}
