import { PORTS } from '@roost/api'
import { createPeerClient, type PeerClient } from '@roost/base'
import { type Host, type HostId, hostMeshIpv4 } from '@roost/core'

/** Followers of logs and builds at one host; each takes a connection for as long as it lasts. */
const STREAMS_MAX = 256

/** One open client for each host's agent, made when it is first called. */
export function createAgents(tls: {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}): { agent(host: Host): PeerClient; close(): Promise<void> } {
  const clients = new Map<HostId, { readonly url: string; readonly client: PeerClient }>()
  return {
    agent: (host) => {
      const url = `https://${hostMeshIpv4(host)}:${PORTS.agent}`
      const known = clients.get(host.id)
      if (known?.url === url) return known.client
      void known?.client.close()
      const client = createPeerClient({
        url,
        tls,
        expect: `roost://agent/${host.id}`,
        connectionsMax: STREAMS_MAX,
      })
      clients.set(host.id, { url, client })
      return client
    },
    close: async () => {
      await Promise.all([...clients.values()].map(({ client }) => client.close()))
    },
  }
}
