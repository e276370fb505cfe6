import type { EdgeAliveReply } from '@roost/api'
import type { EdgeClients } from './edge-clients.ts'
import { type EdgeAsker, tcpKnock } from './prober.ts'

/** Asks other edges over the mesh with mTLS, and their HAProxy on its public address. */
export function createEdgeAsker(clients: EdgeClients, publicPort: number): EdgeAsker {
  return {
    alive: (host, signal) =>
      clients.of(host).json<EdgeAliveReply>('GET', '/edge/v1/alive', undefined, {
        signal,
        timeoutMs: 3000,
      }),
    knock: (host, signal) => tcpKnock(host.publicAddress, publicPort, signal),
    forget: (host) => clients.forget(host),
  }
}
