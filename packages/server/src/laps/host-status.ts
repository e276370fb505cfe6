import type { Host } from '@roost/core'
import type { Deps } from '../deps.ts'
import { SILENCE_MS } from '../http/hosts.ts'
import { listHosts, putHost } from '../store/hosts.ts'

/** A lap over all hosts: who has been silent for 10 s is unreachable, who speaks again is not; whose disk is full. */
export async function markHosts(
  deps: Pick<Deps, 'store' | 'clock' | 'presence' | 'log'>,
): Promise<void> {
  const { store, clock, presence, log } = deps
  const now = clock.now()
  const statusOf = (id: Parameters<typeof presence.agentSeenAt>[0]) =>
    now - presence.agentSeenAt(id) > SILENCE_MS ? 'unreachable' : 'ok'
  const hosts = await store.read(listHosts)
  // A transaction writes to the disk: none without need.
  const diskOf = (host: Host) => presence.disk(host.id) ?? host.disk ?? null
  const same = (host: Host) =>
    host.status === statusOf(host.id) && diskOf(host)?.state === host.disk?.state
  if (hosts.every(same)) return
  await store.transaction(async (tx) => {
    for (const host of await listHosts(tx)) {
      if (same(host)) continue
      const status = statusOf(host.id)
      const disk = diskOf(host)
      if (status !== host.status)
        log.info('host status', { host: host.name, region: host.region, status })
      if (disk !== null && disk.state !== host.disk?.state)
        log.info('host disk', { host: host.name, region: host.region, ...disk })
      await putHost(tx, {
        ...host,
        status,
        disk,
        agentSeenAt: presence.agentHeardAt(host.id) ?? host.agentSeenAt,
        edgeSeenAt: presence.edge(host.id)?.seenAt ?? host.edgeSeenAt,
      })
    }
  })
}
