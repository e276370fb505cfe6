import { type EdgeAliveReply, PORTS } from '@roost/api'
import { createPeerClient, type PeerClient } from '@roost/base'
import { type Host, type HostId, hostMeshIpv4 } from '@roost/core'
import { type EdgeAsker, tcpKnock } from './prober.ts'

/** Asks other edges over the mesh with mTLS, and their HAProxy on its public address. */
export function createEdgeAsker(options: {
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string }
  readonly publicPort: number
  /** Where an edge answers; by default on its host's mesh address. */
  readonly urlOf?: (host: Host) => string
}): EdgeAsker {
  const urlOf = options.urlOf ?? ((host) => `https://${hostMeshIpv4(host)}:${PORTS.edge}`)
  const clients = new Map<HostId, { readonly url: string; readonly client: PeerClient }>()
  const forget = (host: HostId) => {
    void clients.get(host)?.client.close()
    clients.delete(host)
  }
  return {
    alive(host, signal) {
      const url = urlOf(host)
      if (clients.get(host.id)?.url !== url) forget(host.id)
      const client =
        clients.get(host.id)?.client ??
        createPeerClient({
          url,
          tls: options.tls,
          expect: `roost://edge/${host.id}`,
          connectTimeoutMs: 3000,
          connectionsMax: 2,
        })
      clients.set(host.id, { url, client })
      return client.json<EdgeAliveReply>('GET', '/edge/v1/alive', undefined, {
        signal,
        timeoutMs: 3000,
      })
    },
    knock: (host, signal) => tcpKnock(host.publicAddress, options.publicPort, signal),
    forget,
  }
}
