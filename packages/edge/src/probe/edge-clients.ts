import { PORTS } from '@roost/api'
import { createPeerClient, type PeerClient } from '@roost/base'
import { type Host, type HostId, hostMeshIpv4 } from '@roost/core'

/** Connections to other edges over the mesh with mTLS, kept open. */
export interface EdgeClients {
  of(host: Host): PeerClient
  /** The host is gone. */
  forget(host: HostId): void
}

export function createEdgeClients(options: {
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string }
  /** Where an edge answers; by default on its host's mesh address. */
  readonly urlOf?: (host: Host) => string
}): EdgeClients {
  const urlOf = options.urlOf ?? ((host) => `https://${hostMeshIpv4(host)}:${PORTS.edge}`)
  const clients = new Map<HostId, { readonly url: string; readonly client: PeerClient }>()
  const forget = (host: HostId) => {
    void clients.get(host)?.client.close()
    clients.delete(host)
  }
  return {
    of(host) {
      const url = urlOf(host)
      if (clients.get(host.id)?.url !== url) forget(host.id)
      const client =
        clients.get(host.id)?.client ??
        createPeerClient({
          url,
          tls: options.tls,
          expect: `roost://edge/${host.id}`,
          connectTimeoutMs: 3000,
          connectionsMax: 4,
        })
      clients.set(host.id, { url, client })
      return client
    },
    forget,
  }
}
