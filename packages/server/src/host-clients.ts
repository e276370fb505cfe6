import { PORTS } from '@roost/api'
import {
  createPeerClient,
  type MessageSocket,
  openMessageSocket,
  type PeerClient,
} from '@roost/base'
import { type Host, hostMeshIpv4 } from '@roost/core'

/** Followers of logs and builds at one host; each takes a connection for as long as it lasts. */
const STREAMS_MAX = 256
const SOCKET_MS = 15_000

/** One open client for each agent and each edge, made when it is first called. */
export function createHostClients(tls: {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}): {
  agent(host: Host): PeerClient
  edge(host: Host): PeerClient
  /** A WebSocket of its own to that host's agent: it is not counted among the streams. */
  agentSocket(host: Host, path: string, signal: AbortSignal): Promise<MessageSocket>
  close(): Promise<void>
} {
  const urlOf = (host: Host, program: 'agent' | 'edge') =>
    `https://${hostMeshIpv4(host)}:${PORTS[program]}`
  const clients = new Map<string, { readonly url: string; readonly client: PeerClient }>()
  const clientOf = (program: 'agent' | 'edge') => (host: Host) => {
    const url = urlOf(host, program)
    const name = `roost://${program}/${host.id}`
    const known = clients.get(name)
    if (known?.url === url) return known.client
    void known?.client.close()
    const client = createPeerClient({ url, tls, expect: name, connectionsMax: STREAMS_MAX })
    clients.set(name, { url, client })
    return client
  }
  return {
    agent: clientOf('agent'),
    edge: clientOf('edge'),
    agentSocket: (host, path, signal) =>
      openMessageSocket(`${urlOf(host, 'agent')}${path}`, {
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
