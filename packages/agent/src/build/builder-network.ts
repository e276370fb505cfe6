import { createHash } from 'node:crypto'
import { readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { runCommand } from '@roost/base'

/**
 * Steps of builds run other people's programs, so they get a network namespace of their own: the world by the host's uplink, the
 * image store, the token service in front of it, and nothing else of the mesh or the host. IPv4 only.
 */
export interface BuilderNetwork {
  /** `/run/netns/<name>`. */
  readonly path: string
  /** Creates what is missing and brings the rules in line; cheap when nothing is. */
  ensure(reach: BuilderReach): Promise<void>
  /** Removes namespace, link and rules. */
  remove(): Promise<void>
}

export interface BuilderReach {
  /** Addresses of the host or the mesh that builds may speak to: image store and token service. */
  readonly services: readonly { readonly address: string; readonly port: number }[]
  /** Interface to the internet; null: builds have none. */
  readonly uplink: string | null
  /** Resolvers; those on loopback are left out, as they are not reachable. */
  readonly nameservers: readonly string[]
}

const NSFS_MAGIC = 0x6e736673

/** The host's side of the link; the host's firewall leaves `rb-…` to the rules made here. */
export function builderLink(netns: string): string {
  return `rb-${digest(netns).slice(0, 8)}`
}

/** Known to whoever takes a host down: `ip` table in the host's namespace. */
export function builderTable(netns: string): string {
  return `roost_${netns.replace(/[^a-zA-Z0-9]/g, '_')}`
}

/** Two neighbours in 169.254.0.0/16, apart from the piece where clouds keep their metadata and from the ends. */
export function builderAddresses(netns: string): {
  readonly host: string
  readonly inside: string
} {
  const piece = Number.parseInt(digest(netns).slice(0, 6), 16) % (80 * 64)
  const start = `169.254.${171 + Math.floor(piece / 64)}`
  const offset = (piece % 64) * 4
  return { host: `${start}.${offset + 1}`, inside: `${start}.${offset + 2}` }
}

export function builderRules(netns: string, reach: BuilderReach): string {
  const link = builderLink(netns)
  const table = builderTable(netns)
  const { inside } = builderAddresses(netns)
  const services = reach.services.map(({ address, port }) => `${address} . ${port}`)
  const dns = reachableNameservers(reach.nameservers)
  return `table ip ${table}
delete table ip ${table}
table ip ${table} {
  set services { type ipv4_addr . inet_service; ${elements(services)} }
  set resolvers { type ipv4_addr; ${elements(dns)} }
  chain allowed {
    ct state established,related accept
    ip saddr != ${inside} counter drop
    ip daddr . tcp dport @services accept
    ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != "${link}" accept
    jump allowed
    counter reject with icmp type admin-prohibited
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname "${link}" ct state established,related accept
    oifname "${link}" counter drop
    iifname != "${link}" accept
    jump allowed${
      reach.uplink === null
        ? ''
        : `
    oifname "${reach.uplink}" ip daddr != { 10.210.0.0/16, 169.254.0.0/16 } accept`
    }
    counter reject with icmp type admin-prohibited
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${inside} oifname != "${link}" masquerade
  }
}
`
}

export function reachableNameservers(nameservers: readonly string[]): string[] {
  return nameservers.filter(
    (address) => /^\d+\.\d+\.\d+\.\d+$/.test(address) && !address.startsWith('127.'),
  )
}

export function openBuilderNetwork(netns: string): BuilderNetwork {
  const path = `/run/netns/${netns}`
  const link = builderLink(netns)
  const { host, inside } = builderAddresses(netns)
  const applied = { rules: '' }

  async function makeLink(): Promise<void> {
    // A name without a namespace behind it is left by a crash or an earlier boot.
    if (!isNamespace(path)) {
      rmSync(path, { force: true })
      await runCommand(['ip', 'netns', 'add', netns])
    }
    if (hasLink(link)) await runCommand(['ip', 'link', 'del', link])
    await runCommand(['ip', '-batch', '-'], {
      input: [
        `link add ${link} type veth peer name eth0 netns ${netns}`,
        `addr add ${host}/30 dev ${link}`,
        `link set ${link} up`,
        '',
      ].join('\n'),
    })
    await runCommand(['ip', '-n', netns, '-batch', '-'], {
      input: [
        'link set lo up',
        `addr add ${inside}/30 dev eth0`,
        'link set eth0 up',
        `route add default via ${host}`,
        '',
      ].join('\n'),
    })
    applied.rules = ''
  }

  async function ensure(reach: BuilderReach): Promise<void> {
    if (!isNamespace(path) || !hasLink(link)) await makeLink()
    if (readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim() !== '1')
      writeFileSync('/proc/sys/net/ipv4/ip_forward', '1')
    const rules = builderRules(netns, reach)
    if (rules === applied.rules) return
    await runCommand(['nft', '-f', '-'], { input: rules })
    applied.rules = rules
  }

  const turns = { last: Promise.resolve() }
  return {
    path,
    ensure(reach) {
      // Two first builds would make the same link.
      const mine = turns.last.then(() => ensure(reach))
      turns.last = mine.catch(() => {})
      return mine
    },
    async remove() {
      const table = builderTable(netns)
      await runCommand(['nft', '-f', '-'], {
        input: `table ip ${table}\ndelete table ip ${table}\n`,
      })
      applied.rules = ''
      if (hasLink(link)) await runCommand(['ip', 'link', 'del', link])
      if (isNamespace(path)) await runCommand(['ip', 'netns', 'del', netns])
    },
  }
}

function hasLink(name: string): boolean {
  return readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .some((line) => line.trim().startsWith(`${name}:`))
}

function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC
  } catch {
    return false
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** nft knows no empty list. */
function elements(items: readonly string[]): string {
  return items.length === 0 ? '' : `elements = { ${[...new Set(items)].join(', ')} }`
}
