import type { MachinePort, MachineService } from '../machine/config.ts'
import type { Dialect, Listener, ListenerKind } from './route.ts'

/**
 * Which ports a configuration asks for, and whether two apps may have them at once. Each edge has one public address, so a port
 * belongs to one app, unless something tells its visitors apart: the host name of a request, or the name in a TLS handshake.
 */
export interface PortClaim extends Listener {
  readonly protocol: MachineService['protocol']
}

/** Ports that are not an app's to have: of the host itself, its DNS, and Roost's own. */
export const RESERVED_PORTS: readonly {
  readonly from: number
  readonly to: number
  readonly whose: string
}[] = [
  { from: 22, to: 22, whose: 'SSH of the hosts themselves' },
  { from: 53, to: 53, whose: 'DNS of the edges' },
  { from: 4280, to: 4299, whose: 'Roost itself' },
]

/** What listens on it; null: not offered, see `whyRefused`. HTTP on 80 and 443 needs no listener: all apps have that by name. */
export function kindOf(protocol: MachineService['protocol'], port: MachinePort): Kind {
  const has = (handler: MachinePort['handlers'][number]) => port.handlers.includes(handler)
  if (protocol === 'udp') return 'udp'
  if (port.port === 80) return 'web'
  if (has('http')) return port.port === 443 ? 'web' : has('tls') ? 'https' : 'http'
  if (has('pg_tls')) return 'pg_tls'
  if (has('tls')) return 'tls'
  return port.port === 443 ? 'passthrough' : 'tcp'
}
type Kind = ListenerKind | 'web'

/** Why a port can't be had like this, in words that follow its path; null: it can. */
export function whyRefused(
  protocol: MachineService['protocol'],
  port: MachinePort,
  internalPort: number,
): string | null {
  const { port: from, end_port: to = from, handlers } = port
  const has = (handler: MachinePort['handlers'][number]) => handlers.includes(handler)
  if (to < from) return `the range ends at ${to}, before it begins`
  const reserved = RESERVED_PORTS.find((other) => other.from <= to && from <= other.to)
  if (reserved !== undefined)
    return `port ${Math.max(from, reserved.from)} belongs to ${reserved.whose}: choose another`
  if (protocol === 'udp') {
    if (handlers.length > 0) return 'udp has no handlers: leave them out'
    return from === to || from === internalPort
      ? null
      : `a range of udp ports reaches the app on the same ports: set internal_port = ${from}`
  }
  if (from !== to && [80, 443].some((web) => from <= web && web <= to))
    return 'ports 80 and 443 are shared by all apps: name them by themselves'
  if (from === 80 && (!has('http') || has('pg_tls')))
    return 'port 80 is shared by all apps and speaks HTTP: use the handler http, or another port'
  if (has('pg_tls') && (has('tls') || has('http'))) return 'pg_tls goes with no other handler'
  if (from === 443 && has('pg_tls'))
    return 'port 443 is shared by all apps, whose TLS begins at once: use another port for pg_tls'
  if (port.http_options !== undefined && !has('http')) return 'http_options need the handler http'
  if (port.tls_options !== undefined && !has('tls') && !has('pg_tls'))
    return 'tls_options need the handler tls or pg_tls'
  if (port.proxy_proto_options !== undefined && !has('proxy_proto'))
    return 'proxy_proto_options need the handler proxy_proto'
  if (has('proxy_proto') && port.http_options?.h2_backend)
    return 'h2_backend and proxy_proto do not go together'
  return null
}

export function dialectOf(port: MachinePort): Dialect | undefined {
  if (port.http_options?.h2_backend) return 'h2'
  if (!port.handlers.includes('proxy_proto')) return undefined
  return port.proxy_proto_options?.version === 'v2' ? 'proxy-v2' : 'proxy-v1'
}

export function claimOf(protocol: MachineService['protocol'], port: MachinePort): PortClaim | null {
  const kind = kindOf(protocol, port)
  return kind === 'web' ? null : { protocol, kind, from: port.port, to: port.end_port ?? port.port }
}

export function claimsOf(services: readonly MachineService[]): readonly PortClaim[] {
  return services.flatMap(({ protocol, ports }) =>
    ports.flatMap((port) => claimOf(protocol, port) ?? []),
  )
}

const BY_NAME: ReadonlySet<ListenerKind> = new Set(['http', 'https', 'tls', 'pg_tls'])

/** May two apps have these at once? */
export function canShare(a: PortClaim, b: PortClaim): boolean {
  if (a.protocol !== b.protocol || a.to < b.from || b.to < a.from) return true
  // What comes to 443 tells its name first, whatever is done with it then.
  if (a.from === 443 && b.from === 443) return true
  return a.kind === b.kind && a.from === b.from && a.to === b.to && BY_NAME.has(a.kind)
}

export interface TakenPort {
  readonly claim: PortClaim
  readonly app: string
}

/** The first port of `services` that another app has; null: all are free. */
export function takenPort(
  services: readonly MachineService[],
  others: readonly { readonly app: string; readonly services: readonly MachineService[] }[],
): TakenPort | null {
  for (const claim of claimsOf(services))
    for (const { app, services: theirs } of others)
      if (claimsOf(theirs).some((other) => !canShare(claim, other))) return { claim, app }
  return null
}

/** `5432`, `10000-10100`, `53/udp`. */
export function portText({ protocol, from, to }: PortClaim): string {
  return `${from === to ? from : `${from}-${to}`}${protocol === 'udp' ? '/udp' : ''}`
}
