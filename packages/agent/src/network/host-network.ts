import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type Clock, type Logger, PlatformError, runCommand } from '@roost/base'
import {
  type Host,
  hostAllowedIps,
  hostMeshIpv4,
  hostMeshIpv6,
  hostSubnetIpv4,
  type MachineId,
} from '@roost/core'
import type { MachineNetwork } from '../containerd/containerd-runtime.ts'
import { type AttachedMachine, LINK_GROUP, linkName, ruleset } from './ruleset.ts'
import { interfaceNames, Wireguard } from './wireguard.ts'

export interface HostNetworkOptions {
  readonly hostNumber: number
  readonly wireguard: {
    readonly interface: string
    readonly listenPort: number
    readonly privateKeyFile: string
  }
  readonly uplink: string | null
  readonly nameservers: readonly string[]
  /** On tmpfs: which machines have a link. As short-lived as the links. */
  readonly runDir: string
  /** For the output of user-space WireGuard. */
  readonly dataDir: string
  readonly clock: Clock
  readonly log: Logger
}

/** What the installation tells us: its hosts and the numbers of its private networks. */
export interface MeshView {
  readonly hosts: readonly Host[]
  readonly networks: readonly number[]
}

const ID = /^[0-9a-f]{14}$/
const NSFS_MAGIC = 0x6e736673
const GATEWAY = '169.254.77.1'
const MACHINE_MTU = 1420
/** Of the edge and of the API. */
const PUBLIC_PORTS = [80, 443, 4280]

/**
 * Everything of the network that belongs to one host, in the network namespace that the agent runs in: the mesh, one
 * namespace and link per machine, and the firewall. All of it is computed from what is wanted and applied as a whole, so
 * that doing it again is harmless and a restart needs nothing but to do it again.
 */
export class HostNetwork implements MachineNetwork {
  readonly #options: HostNetworkOptions
  readonly #wireguard: Wireguard
  readonly #stateDir: string
  readonly #machines = new Map<MachineId, AttachedMachine>()
  readonly #attaching = new Map<MachineId, Promise<void>>()
  /** Whose namespace and link this program made itself, and those of them that are whole. */
  readonly #made = new Map<MachineId, AttachedMachine>()
  readonly #linked = new Set<MachineId>()
  #view: MeshView = { hosts: [], networks: [] }
  #addressed = false
  #meshed = false
  #rules = ''
  #applying: Promise<void> = Promise.resolve()
  #waiting: Promise<void> | null = null

  constructor(options: HostNetworkOptions) {
    this.#options = options
    this.#stateDir = join(options.runDir, 'links')
    mkdirSync(this.#stateDir, { recursive: true, mode: 0o700 })
    this.#wireguard = new Wireguard({
      ...options.wireguard,
      configFile: join(options.runDir, 'wireguard.conf'),
      logFile: join(options.dataDir, 'wireguard.log'),
      clock: options.clock,
      log: options.log,
    })
    for (const name of readdirSync(this.#stateDir).filter((name) => ID.test(name))) {
      const machine = readState(join(this.#stateDir, name))
      if (machine) this.#machines.set(machine.id, machine)
    }
  }

  /** Forwarding on, firewall in place, mesh up. Again after every change of the view, and now and then: it mends. */
  async ensure(view: MeshView): Promise<void> {
    this.#view = view
    await this.#addAddresses()
    await this.#applyRules()
    await this.#ensureMesh()
  }

  async makeNamespace(machine: AttachedMachine): Promise<void> {
    const { id, ipv4, ipv6 } = machine
    const made = this.#made.get(id)
    if (made?.ipv4 === ipv4 && made.ipv6 === ipv6 && this.#isThere(id)) return
    writeState(join(this.#stateDir, id), { id, ipv4, ipv6 })
    this.#machines.set(id, { id, ipv4, ipv6 })
    this.#linked.delete(id)
    await this.#addAddresses()
    // What an earlier life of ours left may be half of it.
    if (isNamespace(this.netnsPath(id)) || hasLink(id)) await this.#removeLink(id)
    await this.#addLink(machine)
    this.#made.set(id, { id, ipv4, ipv6 })
  }

  async attach(machine: AttachedMachine): Promise<void> {
    const { id } = machine
    const going = this.#attaching.get(id)
    if (going) return going
    const mine = this.#attach(machine).finally(() => this.#attaching.delete(id))
    this.#attaching.set(id, mine)
    return mine
  }

  async #attach(machine: AttachedMachine): Promise<void> {
    await this.makeNamespace(machine)
    if (this.#linked.has(machine.id)) return
    await Promise.all([this.#applyRules(), this.#configureInside(machine)])
    this.#linked.add(machine.id)
  }

  async detach(id: MachineId): Promise<void> {
    await this.#attaching.get(id)?.catch(() => {})
    this.#linked.delete(id)
    this.#made.delete(id)
    if (!this.#machines.has(id) && !isNamespace(this.netnsPath(id)) && !hasLink(id)) return
    await this.#removeLink(id)
    this.#machines.delete(id)
    rmSync(join(this.#stateDir, id), { force: true })
  }

  netnsPath(id: MachineId): string {
    return `/run/netns/${netnsName(id)}`
  }

  async attached(): Promise<readonly MachineId[]> {
    const links = interfaceNames()
      .filter((name) => /^v[0-9a-f]{14}$/.test(name))
      .map((name) => name.slice(1) as MachineId)
    return [...new Set([...this.#machines.keys(), ...links])]
  }

  /** Namespace and link are both there. */
  #isThere(id: MachineId): boolean {
    return isNamespace(this.netnsPath(id)) && hasLink(id)
  }

  async #addLink({ id, ipv4, ipv6 }: AttachedMachine): Promise<void> {
    const link = linkName(id)
    const space = netnsName(id)
    // A name without a namespace behind it: left by an earlier boot.
    rmSync(this.netnsPath(id), { force: true })
    await runCommand(['ip', '-batch', '-'], {
      input: [
        `netns add ${space}`,
        `link add ${link} mtu ${MACHINE_MTU} group ${LINK_GROUP} type veth peer name eth0 mtu ${MACHINE_MTU} netns ${space}`,
        `addr add ${GATEWAY}/32 dev ${link}`,
        `addr add fe80::1/64 dev ${link} nodad`,
        `link set ${link} up`,
        `route replace ${ipv4}/32 dev ${link} src ${hostMeshIpv4(this.#self)}`,
        `route replace ${ipv6}/128 dev ${link}`,
        '',
      ].join('\n'),
    })
  }

  async #configureInside({ id, ipv4, ipv6 }: AttachedMachine): Promise<void> {
    await runCommand(['ip', '-n', netnsName(id), '-batch', '-'], {
      input: [
        'link set lo up',
        `addr replace ${ipv4}/32 dev eth0`,
        `addr replace ${ipv6}/128 dev eth0 nodad`,
        'link set eth0 up',
        `route replace ${GATEWAY}/32 dev eth0`,
        `route replace default via ${GATEWAY} dev eth0`,
        'route replace default via fe80::1 dev eth0',
        '',
      ].join('\n'),
    })
  }

  /** The link goes by name: a process that still holds the namespace would keep it. */
  async #removeLink(id: MachineId): Promise<void> {
    const lines = [
      ...(hasLink(id) ? [`link del ${linkName(id)}`] : []),
      ...(isNamespace(this.netnsPath(id)) ? [`netns del ${netnsName(id)}`] : []),
    ]
    if (lines.length > 0)
      await runCommand(['ip', '-force', '-batch', '-'], { input: `${lines.join('\n')}\n` }).catch(
        (error: unknown) => {
          if (hasLink(id) || isNamespace(this.netnsPath(id))) throw error
        },
      )
    rmSync(this.netnsPath(id), { force: true })
  }

  get #self(): Pick<Host, 'number'> {
    return { number: this.#options.hostNumber }
  }

  /** One at a time; those that come while one runs share the next. */
  #applyRules(): Promise<void> {
    if (this.#waiting) return this.#waiting
    const next = this.#applying
      .catch(() => {})
      .then(() => {
        this.#waiting = null
        this.#applying = this.#applyRulesNow()
        return this.#applying
      })
    this.#waiting = next
    return next
  }

  async #applyRulesNow(): Promise<void> {
    const rules = ruleset(this.#rulesetInput())
    if (rules === this.#rules) return
    await runCommand(['nft', '-f', '-'], { input: rules }).catch((cause: unknown) => {
      throw new PlatformError('internal', 'apply the firewall', { cause, retry: 'later' })
    })
    this.#rules = rules
  }

  /** On `lo`, so that they stay when the mesh's interface goes: others listen on them, and routes to machines name them. */
  async #addAddresses(): Promise<void> {
    if (this.#addressed) return
    const self = this.#self
    await runCommand(['ip', '-batch', '-'], {
      input: [
        'link set lo up',
        `addr replace ${hostMeshIpv4(self)}/32 dev lo`,
        `addr replace ${hostMeshIpv6(self)}/128 dev lo nodad`,
        '',
      ].join('\n'),
    })
    this.#forward()
    this.#addressed = true
  }

  async #ensureMesh(): Promise<void> {
    const made = await this.#wireguard.ensure()
    const networks = this.#networks()
    await this.#wireguard.configure(
      this.#view.hosts
        .filter((host) => host.number !== this.#options.hostNumber)
        .map((host) => ({
          publicKey: host.wireguard.publicKey,
          endpoint: host.wireguard.endpoint,
          allowedIps: hostAllowedIps(host, networks),
        })),
    )
    if (!made && this.#meshed) return
    await this.#wireguard.up()
    await this.#route()
    this.#meshed = true
  }

  /** The mesh takes the private planes; of our own piece only what exists is reachable, and the rest says so at once. */
  async #route(): Promise<void> {
    const self = this.#self
    const name = this.#options.wireguard.interface
    await runCommand(['ip', '-batch', '-'], {
      input: [
        `route replace 10.210.0.0/16 dev ${name} src ${hostMeshIpv4(self)}`,
        `route replace fdaa::/16 dev ${name} src ${hostMeshIpv6(self)}`,
        `route replace unreachable ${hostSubnetIpv4(self)}`,
        '',
      ].join('\n'),
    })
  }

  #forward(): void {
    const { uplink } = this.#options
    // A host that forwards ignores router advertisements, unless told not to.
    if (uplink !== null && readSysctl(`ipv6/conf/${uplink}/accept_ra`) === '1')
      writeSysctl(`ipv6/conf/${uplink}/accept_ra`, '2')
    writeSysctl('ipv4/ip_forward', '1')
    writeSysctl('ipv6/conf/all/forwarding', '1')
  }

  #networks(): readonly number[] {
    const used = [...this.#machines.values()].map(({ ipv6 }) =>
      Number.parseInt(ipv6.split(':')[2] ?? '', 16),
    )
    return [...new Set([...this.#view.networks, ...used])]
      .filter((number) => number >= 1 && number <= 65_535)
      .sort((a, b) => a - b)
  }

  #rulesetInput() {
    const self = this.#self
    const numbers = new Set([self.number, ...this.#view.hosts.map((host) => host.number)])
    const mine = this.#view.hosts.find((host) => host.number === self.number)
    return {
      networks: this.#networks(),
      hosts: [...numbers]
        .sort((a, b) => a - b)
        .map((number) => ({ ipv4: hostMeshIpv4({ number }), ipv6: hostMeshIpv6({ number }) })),
      meshInterface: this.#options.wireguard.interface,
      ownSubnetIpv4: hostSubnetIpv4(self),
      uplink: this.#options.uplink,
      publicAddress: mine?.publicAddress ?? null,
      publicPorts: PUBLIC_PORTS,
      nameservers: this.#options.nameservers,
    }
  }
}

const netnsName = (id: MachineId): string => `roost-${id}`
const hasLink = (id: MachineId): boolean => interfaceNames().includes(linkName(id))

function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC
  } catch {
    return false
  }
}

function readState(file: string): AttachedMachine | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as AttachedMachine
  } catch {
    return null
  }
}

function writeState(file: string, machine: AttachedMachine): void {
  writeFileSync(`${file}.next`, JSON.stringify(machine))
  renameSync(`${file}.next`, file)
}

function readSysctl(name: string): string {
  try {
    return readFileSync(`/proc/sys/net/${name}`, 'utf8').trim()
  } catch {
    return ''
  }
}

function writeSysctl(name: string, value: string): void {
  if (readSysctl(name) !== value) writeFileSync(`/proc/sys/net/${name}`, value)
}
