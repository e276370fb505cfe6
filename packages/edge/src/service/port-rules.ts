import { isIPv4 } from 'node:net'
import type { HostId, Listener, Route, RouteTarget } from '@roost/core'
import type { ServicePorts } from '../haproxy/render-services.ts'

/**
 * The host's rules for ports that apps asked for, as one nft transaction. TCP is led to where HAProxy listens for its kind, on the same
 * address; HAProxy sees which port was meant. UDP, which HAProxy does not have, is led to a machine: of the nearest region that has one,
 * the same for all packets of a client's socket as long as the machines stay the same. A machine on this host sees who sent it; one
 * elsewhere sees this host, since its answers must come back by it.
 */
export interface PortRulesInput {
  readonly table: string
  /** Where strangers reach this edge. */
  readonly address: string
  readonly ports: ServicePorts
  /** Where HAProxy takes TLS for all apps; null: it has none, so nothing that needs it is served. */
  readonly httpsPort: number | null
  readonly self: HostId
  readonly routes: readonly Route[]
}

/**
 * Only the first packet of a connection. A kernel that had no such rules before follows connections that are open from their next packet
 * on, which looks like the first to it, and would lead them elsewhere.
 */
const BEGINNING = 'tcp flags & (fin | syn | rst | ack) == syn'

/** null: nothing is led anywhere. */
export function portRules(input: PortRulesInput): string | null {
  const { table, address, self } = input
  const tcp = tcpPorts(input)
  const udp = input.routes.flatMap((route) => {
    const { listener } = route
    const targets = udpTargets(route)
    return listener?.kind === 'udp' && targets.length > 0 ? [{ listener, targets }] : []
  })
  if (tcp.size === 0 && udp.length === 0) return null
  const far = udp.flatMap(({ targets }) => targets.filter(({ host }) => host !== self))
  const chains = udp.map(
    ({ listener, targets }, n) => `
  chain udp${n} {
    meta l4proto udp ${toMachines(listener, targets)}
  }`,
  )
  return `table ip ${table}
delete table ip ${table}
table ip ${table} {${chains.join('')}
  chain ports {
${[...tcp].map(([port, ranges]) => `    ${BEGINNING} tcp dport { ${[...ranges].join(', ')} } dnat to ${address}:${port}`).join('\n')}
${udp.length === 0 ? '' : `    udp dport vmap { ${udp.map(({ listener }, n) => `${rangeText(listener)} : goto udp${n}`).join(', ')} }`}
  }
  chain arriving {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr ${address} jump ports
  }
  chain own {
    type nat hook output priority -100; policy accept;
    ip daddr ${address} jump ports
  }
  chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
${far.length === 0 ? '' : `    meta l4proto udp ct status dnat ip daddr { ${[...new Set(far.map((t) => t.address))].join(', ')} } masquerade`}
  }
}
`
}

/** Takes away what `portRules` made, if it is there. */
export function noPortRules(table: string): string {
  return `table ip ${table}\ndelete table ip ${table}\n`
}

/** Port of HAProxy → public ports that are led there. */
function tcpPorts({ routes, ports, httpsPort }: PortRulesInput): Map<number, Set<string>> {
  const found = new Map<number, Set<string>>()
  for (const { listener } of routes) {
    if (listener === undefined || listener.kind === 'udp') continue
    const { kind, from } = listener
    const plain = kind === 'http' || kind === 'tcp'
    if (httpsPort === null && !plain) continue
    const shared = from === 443 && !plain
    const to = shared ? ports.passthrough : ports[kind]
    const ranges = found.get(to) ?? new Set<string>()
    found.set(to, ranges.add(shared ? `${httpsPort}` : rangeText(listener)))
  }
  return found
}

/** Those of the nearest region that has any. */
export function udpTargets({ targets }: Pick<Route, 'targets'>): readonly RouteTarget[] {
  const nearest = Math.min(...targets.map(({ rank }) => rank))
  return targets.filter(({ rank, address }) => rank === nearest && isIPv4(address))
}

function toMachines({ from, to }: Listener, targets: readonly RouteTarget[]): string {
  const hash = `jhash ip saddr . udp sport mod ${targets.length}`
  // A range keeps its ports.
  if (from !== to)
    return `dnat ip to ${hash} map { ${targets.map((t, n) => `${n} : ${t.address}`).join(', ')} }`
  const places = targets.map((t, n) => `${n} : ${t.address} . ${t.port}`)
  return `dnat ip addr . port to ${hash} map { ${places.join(', ')} }`
}

function rangeText({ from, to }: Listener): string {
  return from === to ? `${from}` : `${from}-${to}`
}
