import type { HostId, MachineId } from '../id.ts'
import type { Host } from './host.ts'

/**
 * Private addresses follow from the host's number alone, so that nobody has to hand them out twice.
 * IPv4 (edge to app): 10.210.0.0/16 in /22 pieces, one per host; .1 of a piece is the host itself.
 * IPv6 (app to app): a /48 for each network; its fourth group is the host, then six bytes of machine id, then 2.
 */
export function hostSubnetIpv4(host: Pick<Host, 'number'>): string {
  return `10.210.${host.number * 4}.0/22`
}

export function hostMeshIpv4(host: Pick<Host, 'number'>): string {
  return `10.210.${host.number * 4}.1`
}

/** `slot` is 0–1020: the first free one on the host. */
export function machineIpv4(host: Pick<Host, 'number'>, slot: number): string {
  const offset = slot + 2
  return `10.210.${host.number * 4 + (offset >> 8)}.${offset & 255}`
}

/** `network` is the number of the network, 1–65535. */
export function machineIpv6(
  network: number,
  host: Pick<Host, 'number'>,
  machine: MachineId,
): string {
  const [a, b, c] = [machine.slice(2, 6), machine.slice(6, 10), machine.slice(10, 14)].map((part) =>
    Number.parseInt(part, 16).toString(16),
  )
  return `fdaa:0:${network.toString(16)}:${host.number.toString(16)}:${a}:${b}:${c}:2`
}

export function hostMeshIpv6(host: Pick<Host, 'number'>): string {
  return `fdaa:0:0:${host.number.toString(16)}::1`
}

/** What a WireGuard peer may send and receive for this host, given the networks that exist. */
export function hostAllowedIps(host: Pick<Host, 'number'>, networks: readonly number[]): string[] {
  const number = host.number.toString(16)
  return [
    hostSubnetIpv4(host),
    `fdaa:0:0:${number}::/64`,
    ...networks.map((network) => `fdaa:0:${network.toString(16)}:${number}::/64`),
  ]
}

export type HostRef = { readonly id: HostId; readonly number: number }
