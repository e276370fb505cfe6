import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from '@roost/base'
import type { PlaygroundPlan } from './plan.ts'
import type { SwitchPort } from './wan/switch-loop.ts'

/** An end of a cable: a device in some network namespace, whose other end is a port of the WAN. */
interface Cable {
  readonly endpoint: string
  /** null: this machine's own namespace. */
  readonly netns: string | null
  readonly device: string
  readonly address: string
  /** In the WAN's namespace. */
  readonly port: string
}

function cablesOf(plan: PlaygroundPlan): Cable[] {
  return [
    {
      endpoint: 'machine',
      netns: null,
      device: plan.machine.device,
      address: plan.machine.address,
      port: 'p-machine',
    },
    {
      endpoint: 'resolver',
      netns: plan.wanNetns,
      device: 'eth0',
      address: plan.resolverAddress,
      port: 'p-resolver',
    },
    ...plan.regions.flatMap((region) => [
      {
        endpoint: region.code,
        netns: region.netns,
        device: 'eth0',
        address: region.address,
        port: `h-${region.code}`,
      },
      {
        endpoint: `client-${region.code}`,
        netns: region.client.netns,
        device: 'eth0',
        address: region.client.address,
        port: `c-${region.code}`,
      },
    ]),
  ]
}

export function portsOf(plan: PlaygroundPlan): SwitchPort[] {
  return cablesOf(plan).map(({ endpoint, port }) => ({ name: endpoint, device: port }))
}

/**
 * Namespaces and cables. Addresses of cards follow from IP addresses and every neighbour is known from the start: no ARP
 * crosses the WAN, where a lost or late one would cost a second that no real way costs.
 */
export async function raiseNetwork(plan: PlaygroundPlan): Promise<void> {
  const cables = cablesOf(plan)
  const namespaces = [...new Set(cables.flatMap((cable) => cable.netns ?? []))]
  await ipBatch(null, [
    ...namespaces.map((netns) => `netns add ${netns}`),
    ...cables.map(
      (cable) =>
        `link add ${cable.device} address ${cardOf(cable.address)}${cable.netns === null ? '' : ` netns ${cable.netns}`} type veth peer name ${cable.port} netns ${plan.wanNetns}`,
    ),
  ])
  const linesOf = (cable: Cable) => [
    `link set ${cable.device} addrgenmode none up`,
    `addr add ${cable.address}/16 dev ${cable.device}`,
    ...(cable.netns === null
      ? []
      : ['link set lo up', `route add default via ${plan.machine.address}`]),
    ...cables
      .filter((other) => other !== cable)
      .map(
        (other) =>
          `neigh replace ${other.address} lladdr ${cardOf(other.address)} dev ${cable.device} nud permanent`,
      ),
  ]
  await ipBatch(
    plan.wanNetns,
    cables.map(({ port }) => `link set ${port} addrgenmode none up`),
  )
  await Promise.all([
    ...cables.map((cable) => ipBatch(cable.netns, linesOf(cable))),
    ...plan.regions.flatMap((region) =>
      [region.netns, region.client.netns].map((netns) =>
        inNetns(netns, [
          'sysctl',
          '-qw',
          // As hosts that serve far places are tuned: 4 MB in flight would be 400 Mbit/s at 80 ms.
          'net.ipv4.tcp_wmem=4096 16384 16777216',
          // Addresses of machines are known to be free: waiting for others to object would only delay them.
          'net.ipv6.conf.all.accept_dad=0',
          'net.ipv6.conf.default.accept_dad=0',
        ]),
      ),
    ),
  ])
  // `ip netns exec` shows a program this file instead of /etc/resolv.conf.
  for (const region of plan.regions) {
    mkdirSync(join('/etc/netns', region.client.netns), { recursive: true })
    writeFileSync(
      join('/etc/netns', region.client.netns, 'resolv.conf'),
      `nameserver ${plan.resolverAddress}\n`,
    )
  }
}

/** Lets the playground reach whatever this machine reaches, under this machine's address. */
export async function raiseUplink(plan: PlaygroundPlan): Promise<void> {
  const network = `${plan.network}.0.0/16`
  await runCommand(['nft', '-f', '-'], {
    input: `
add table ip ${plan.name}
flush table ip ${plan.name}
table ip ${plan.name} {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${network} ip daddr != ${network} masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname "${plan.machine.device}" ct state established,related accept
    oifname "${plan.machine.device}" drop
  }
}`,
  })
  await runCommand(['sysctl', '-qw', 'net.ipv4.ip_forward=1'])
}

function cardOf(address: string): string {
  const bytes = address.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))
  return `02:52:${bytes.join(':')}`
}

async function ipBatch(netns: string | null, lines: readonly string[]): Promise<void> {
  await runCommand(['ip', ...(netns === null ? [] : ['-n', netns]), '-batch', '-'], {
    input: `${lines.join('\n')}\n`,
  })
}

/** Not `ip netns exec`: that hides cgroups from what it runs. */
export async function inNetns(netns: string, argv: readonly string[]): Promise<string> {
  const { stdout } = await runCommand(['nsenter', `--net=/run/netns/${netns}`, '--', ...argv])
  return stdout
}
