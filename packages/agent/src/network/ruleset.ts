import type { MachineId } from '@roost/core'

export interface AttachedMachine {
  readonly id: MachineId
  readonly ipv4: string
  readonly ipv6: string
}

export interface RulesetInput {
  /** Numbers of the private networks. */
  readonly networks: readonly number[]
  /** Mesh addresses of all hosts, our own among them. */
  readonly hosts: readonly { readonly ipv4: string; readonly ipv6: string }[]
  readonly meshInterface: string
  /** Pieces of the private planes that are ours. */
  readonly ownSubnetIpv4: string
  readonly uplink: string | null
  /** Where our own edge answers strangers: machines may go there as anybody may. */
  readonly publicAddress: string | null
  readonly publicPorts: readonly number[]
  readonly nameservers: readonly string[]
}

/** Exactly 15 characters, the longest that an interface may have. */
export const linkName = (id: MachineId): string => `v${id}`
export const TABLE = 'roost'
/** Every machine's link is in this device group, so that the rules need not name them and stay as they are when one comes or goes. */
export const LINK_GROUP = 29_295

/**
 * The host's firewall as one nft transaction. It judges only packets that come from or go to a machine or the mesh: what else
 * a host forwards is not ours to decide.
 *
 * - A machine speaks from its own addresses only: those that a route leads back to by the same link.
 * - IPv6 is the plane between machines: those of one network reach each other, wherever they are, and no others.
 * - IPv4 is the plane from edges to machines: only hosts begin a conversation on it.
 * - UDP that the edge's own rules lead to a machine (a service that it offers to strangers) passes.
 * - Machines reach the world by the uplink, masqueraded; of their host they reach what strangers reach too.
 */
export function ruleset(input: RulesetInput): string {
  const { hosts, uplink } = input
  const mesh = quoted(input.meshInterface)
  const pairs = input.networks.map(
    (n) => `fdaa:0:${n.toString(16)}::/48 . fdaa:0:${n.toString(16)}::/48`,
  )
  const dns4 = input.nameservers.filter((address) => !address.includes(':'))
  return `table inet ${TABLE}
delete table inet ${TABLE}
table inet ${TABLE} {
  set networks { type ipv6_addr . ipv6_addr; flags interval; ${elements(pairs)} }
  set hosts4 { type ipv4_addr; ${elements(hosts.map((host) => host.ipv4))} }
  set hosts6 { type ipv6_addr; ${elements(hosts.map((host) => host.ipv6))} }

  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifgroup != ${LINK_GROUP} accept
    ip6 saddr fe80::/10 accept
    fib saddr . iif oif missing counter drop
  }

  chain forward {
    type filter hook forward priority filter; policy accept;
    iifgroup ${LINK_GROUP} jump ours
    oifgroup ${LINK_GROUP} jump ours
    iifname ${mesh} jump ours
    oifname ${mesh} jump ours
  }

  chain ours {
    ct state related accept
    meta nfproto ipv6 ip6 saddr . ip6 daddr != @networks counter reject with icmpx admin-prohibited
    meta nfproto ipv6 accept
    ct state established accept
    meta l4proto udp ct status dnat accept
    iifname ${mesh} oifgroup ${LINK_GROUP} ip saddr @hosts4 accept${
      uplink === null
        ? ''
        : `
    iifgroup ${LINK_GROUP} oifname ${quoted(uplink)} ip daddr != { 10.210.0.0/16, 169.254.0.0/16 } accept`
    }
    iifgroup ${LINK_GROUP} counter reject with icmpx admin-prohibited
    counter drop
  }

  chain input {
    type filter hook input priority filter; policy accept;
    iifgroup ${LINK_GROUP} jump from_machine
    iifname ${mesh} ct state established,related accept
    iifname ${mesh} ip saddr != @hosts4 counter drop
    iifname ${mesh} ip6 saddr != @hosts6 counter drop
  }

  chain from_machine {
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept${
      dns4.length === 0
        ? ''
        : `
    ip daddr { ${dns4.join(', ')} } meta l4proto { tcp, udp } th dport 53 accept`
    }${
      input.publicAddress === null
        ? ''
        : `
    ip daddr ${input.publicAddress} ct status dnat accept
    ip daddr ${input.publicAddress} tcp dport { ${input.publicPorts.join(', ')} } accept`
    }
    counter reject with icmpx admin-prohibited
  }
${
  uplink === null
    ? ''
    : `
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname ${quoted(uplink)} ip saddr ${input.ownSubnetIpv4} masquerade
  }
`
}}
`
}

const quoted = (name: string): string => `"${name}"`

/** nft knows no empty list. */
function elements(items: readonly string[]): string {
  return items.length === 0 ? '' : `elements = { ${[...new Set(items)].join(', ')} }`
}
