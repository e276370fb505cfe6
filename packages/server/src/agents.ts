import { PORTS } from '@roost/api'
import {
  createPeerClient,
  type MessageSocket,
  openMessageSocket,
  type PeerClient,
} from '@roost/base'
import { type Host, type HostId, hostMeshIpv4 } from '@roost/core'

/** Followers of logs and builds at one host; each takes a connection for as long as it lasts. */
const STREAMS_MAX = 256
const SOCKET_MS = 15_000

/** One open client for each host's agent, made when it is first called. */
export function createAgents(tls: {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}): {
  agent(host: Host): PeerClient
  /** A WebSocket of its own to that host's agent: it is not counted among the streams. */
  agentSocket(host: Host, path: string, signal: AbortSignal): Promise<MessageSocket>
  close(): Promise<void>
} {
  const urlOf = (host: Host) => `https://${hostMeshIpv4(host)}:${PORTS.agent}`
  const clients = new Map<HostId, { readonly url: string; readonly client: PeerClient }>()
  return {
    agent: (host) => {
      const url = urlOf(host)
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
    agentSocket: (host, path, signal) =>
      openMessageSocket(`${urlOf(host)}${path}`, {
        ...tls,
        expect: `roost://agent/${host.id}`,
        timeoutMs: SOCKET_MS,
        signal,
      }),
    close: async () => {
      await Promise.all([...clients.values()].map(({ client }) => client.close()))
    },
  }
}
