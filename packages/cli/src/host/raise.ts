import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type AgentConfig,
  agentConfig,
  type EdgeConfig,
  edgeConfig,
  PORTS,
  type ServerConfig,
  serverConfig,
} from '@roost/api'
import { describeError, PlatformError, runCommand } from '@roost/base'
import { hostMeshIpv4, hostMeshIpv6, hostSubnetIpv4 } from '@roost/core'
import { clientFor } from '../session/connect.ts'
import { join } from './join.ts'
import { joinTicket } from './join-token.ts'
import { type HostIdentity, makeKeys, writePrivate } from './keys.ts'
import { type AcmeChoice, type HostLayout, type HostSpec, layoutOf } from './layout.ts'
import { buildMemoryMb, type Limits, limitsOf, NODE_ENVIRONMENT, nodeArguments } from './limits.ts'
import { type Program, pidOf, startProgram, stopProgram } from './programs.ts'
import { registryArgv, registryConfig } from './registry.ts'
import { compileCache, ourProgram } from './source-root.ts'
import { quietly } from './sweep.ts'

/** How a server is reached by whoever wants a host to join it. */
export interface ServerAccess {
  readonly url: string
  /** PEM of its authority. */
  readonly ca: string
  /** A new one for each host (see join-token.ts). */
  ticket(): Promise<string>
}

/** Told as things begin and are done; for a person. */
export type Progress = (host: string, what: string) => void

const SERVER_MS_MAX = 30_000
/** The first host's, fixed before anything runs: the server's certificate carries its mesh address. */
const FIRST_NUMBER = 1

/** Folders, keys and containerd: what needs nobody else. */
async function prepare(spec: HostSpec, layout: HostLayout) {
  for (const folder of [layout.configDir, layout.keyDir, layout.logDir, layout.pidDir])
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  writeFileSync(layout.specFile, `${JSON.stringify(spec, null, 2)}\n`)
  mkdirSync(layout.containerd.root, { recursive: true, mode: 0o711 })
  mkdirSync(layout.containerd.state, { recursive: true, mode: 0o711 })
  writeFileSync(layout.containerd.config, containerdConfig(layout))
  startProgram(programOf(spec, layout, 'containerd'))
  return makeKeys(layout, spec.name)
}

/** Starts server and registry on the first host and returns when the API answers. `reachable`: when asking it makes sense. */
export async function raiseServer(
  spec: HostSpec,
  say: Progress,
  reachable: Promise<void> = Promise.resolve(),
): Promise<ServerAccess> {
  const layout = layoutOf(spec)
  const { server } = spec
  if (server === null) throw new PlatformError('invalid', `${spec.name} is to run no server`)
  for (const folder of [
    layout.configDir,
    layout.keyDir,
    layout.logDir,
    layout.dataDirOf('registry'),
  ])
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  say(spec.name, 'starting the server')
  await addPrivatePlanes(spec, FIRST_NUMBER)
  const mesh = hostMeshIpv4({ number: FIRST_NUMBER })
  const url = apiUrlOf(spec)
  const tokenBundle = `${layout.dataDirOf('server')}/registry-tokens.pem`
  const config: ServerConfig = serverConfig.parse({
    dataDir: layout.dataDirOf('server'),
    domain: server.domain,
    api: {
      addresses: [spec.listenAddress],
      port: PORTS.api,
      hostnames: [...new Set([spec.publicAddress, spec.listenAddress])],
    },
    internal: { address: mesh, port: PORTS.internal },
    internalUrl: `https://${mesh}:${PORTS.internal}`,
    registry: {
      url: `https://${mesh}:${PORTS.registry}`,
      tokenBundle,
      dataDir: layout.dataDirOf('registry'),
    },
    clientNetworks: server.clientNetworks,
    acme: server.acme ?? null,
    tokenFile: server.tokenFile,
    logFile: `${layout.logDir}/server.log`,
  })
  writeFileSync(layout.configOf('server'), `${JSON.stringify(config, null, 2)}\n`)
  const init = await initServer(layout)
  writeFileSync(layout.ca, init.ca)
  startProgram(programOf(spec, layout, 'server'))

  writeFileSync(
    layout.configOf('registry'),
    registryConfig({
      address: mesh,
      port: PORTS.registry,
      dataDir: layout.dataDirOf('registry'),
      certificate: init.registryCertificate,
      key: init.registryKey,
      tokenBundle,
      apiUrl: url,
    }),
  )
  startProgram(programOf(spec, layout, 'registry'))
  await reachable
  await untilHealthy(url, init.ca, layout)
  const token = readFileSync(server.tokenFile, 'utf8').trim()
  const api = clientFor({ url, ca: init.ca, token })
  return {
    url,
    ca: init.ca,
    ticket: async () => joinTicket((await api.createJoinToken()).token, init.ca),
  }
}

/** Of a host that runs the server already: it hears of it when it is started again. */
export async function chooseAuthority(spec: HostSpec, acme: AcmeChoice): Promise<HostSpec> {
  const { server } = spec
  if (server === null) throw new PlatformError('invalid', `${spec.name} runs no server`)
  const layout = layoutOf(spec)
  const chosen: HostSpec = { ...spec, server: { ...server, acme } }
  const file = layout.configOf('server')
  const config = serverConfig.parse({ ...JSON.parse(readFileSync(file, 'utf8')), acme })
  writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`)
  writeFileSync(layout.specFile, `${JSON.stringify(chosen, null, 2)}\n`)
  await stopProgram(layout.pidDir, 'server')
  return chosen
}

/** What needs nobody else: folders, keys, containerd. */
export async function prepareHost(spec: HostSpec, say: Progress): Promise<HostIdentity> {
  say(spec.name, 'keys and containerd')
  return prepare(spec, layoutOf(spec))
}

/** Joins and writes the files that agent and edge start from. The same host may join again. */
export async function joinHost(
  spec: HostSpec,
  keys: HostIdentity,
  server: { readonly url: string; readonly ticket: string },
  say: Progress,
): Promise<void> {
  const layout = layoutOf(spec)
  say(spec.name, 'joining')
  const joined = await join(server.url, server.ticket, {
    name: spec.name,
    region: spec.region,
    public_address: spec.publicAddress,
    wireguard: {
      endpoint: `${spec.publicAddress}:${spec.wireguard.port}`,
      public_key: keys.wireguardPublicKey,
    },
    sealing_key: keys.sealingPublicKey,
    cpus: spec.capacity.cpus,
    memory_mb: spec.capacity.memoryMb,
    builder: spec.builder,
    agent_csr: keys.agentCsr,
    edge_csr: keys.edgeCsr,
  })
  if (spec.server !== null && joined.number !== FIRST_NUMBER)
    throw new PlatformError('internal', `the first host became number ${joined.number}`)
  writeFileSync(layout.ca, joined.ca)
  writePrivate(layout.certificateOf('agent'), joined.agent_certificate)
  writePrivate(layout.certificateOf('edge'), joined.edge_certificate)
  const files = agentAndEdgeConfig(spec, layout, joined)
  writeFileSync(layout.configOf('agent'), `${JSON.stringify(files.agent, null, 2)}\n`)
  writeFileSync(layout.configOf('edge'), `${JSON.stringify(files.edge, null, 2)}\n`)
}

/** Starts everything that the files of a host that has joined speak of. What runs already stays. */
export async function startJoined(spec: HostSpec, say: Progress): Promise<void> {
  const layout = layoutOf(spec)
  const { hostNumber } = agentConfig.parse(
    JSON.parse(readFileSync(layout.configOf('agent'), 'utf8')),
  )
  await addPrivatePlanes(spec, hostNumber)
  for (const folder of [layout.pidDir, layout.containerd.state])
    mkdirSync(folder, { recursive: true, mode: 0o711 })
  say(spec.name, 'starting agent and edge')
  for (const name of programNames(spec)) startProgram(programOf(spec, layout, name))
}

export type ProgramName = 'containerd' | 'server' | 'registry' | 'agent' | 'edge'

export function programNames(spec: HostSpec): ProgramName[] {
  const server: ProgramName[] = spec.server === null ? [] : ['server', 'registry']
  return ['containerd', ...server, 'agent', 'edge']
}

function programOf(spec: HostSpec, layout: HostLayout, name: ProgramName): Program {
  return {
    name,
    argv: argvOf(spec, layout, name),
    limits: programLimits(spec, name),
    netns: spec.netns,
    pidDir: layout.pidDir,
    logFile: `${layout.logDir}/${name}.out`,
    owner: layout.owner,
    environment: name === 'registry' || name === 'containerd' ? {} : NODE_ENVIRONMENT,
  }
}

/** What a program starts that lives on without it has a group of its own. */
function programLimits(spec: HostSpec, name: ProgramName): Limits {
  const of = (one: Parameters<typeof limitsOf>[1]) =>
    limitsOf(layoutOf(spec), one, spec.capacity.memoryMb)
  const others = { edge: [of('haproxy')], containerd: [of('shims')] }
  return { ...of(name), others: name === 'edge' || name === 'containerd' ? others[name] : [] }
}

function argvOf(
  spec: HostSpec,
  layout: HostLayout,
  name: ProgramName,
): readonly [string, ...string[]] {
  if (name === 'registry') return registryArgv(layout.configOf('registry'))
  if (name !== 'containerd') {
    const [node, ...program] = ourProgram(name, '--config', layout.configOf(name))
    return [node, ...nodeArguments(name, programLimits(spec, name)), ...program]
  }
  // `slave`: what is mounted on this machine later (namespaces of machines, their log files) must be seen by containerd,
  // and nothing that containerd mounts by this machine.
  const containerd = ['containerd', '-c', layout.containerd.config] as const
  return spec.ownMounts ? ['unshare', '-m', '--propagation', 'slave', ...containerd] : containerd
}

function containerdConfig(layout: HostLayout): string {
  const skipped = ['grpc.v1.cri', 'snapshotter.v1.aufs', 'snapshotter.v1.btrfs']
  const more = ['snapshotter.v1.devmapper', 'snapshotter.v1.zfs', 'internal.v1.opt']
  const traces = ['tracing.processor.v1.otlp', 'internal.v1.tracing']
  const disabled = [...skipped, ...more, ...traces].map((id) => `io.containerd.${id}`)
  return `version = 2
root = "${layout.containerd.root}"
state = "${layout.containerd.state}"
disabled_plugins = ${JSON.stringify(disabled)}

[grpc]
  address = "${layout.containerd.socket}"

[debug]
  level = "warn"
`
}

/** The planes that only the mesh carries (see core's subnet.ts). */
const PRIVATE_NETWORKS = ['10.210.0.0/16', 'fdaa::/16'] as const

/**
 * The host's own private addresses, on its loopback device from the start: the server, and what else listens on them, must not wait for
 * the agent to make the mesh, and goes on while the mesh is being made again. As long as there is no mesh, other private addresses are
 * nowhere: packets for them must not go to the internet.
 */
async function addPrivatePlanes(spec: HostSpec, number: number): Promise<void> {
  const lines = [
    `addr replace ${hostMeshIpv4({ number })}/32 dev lo`,
    `addr replace ${hostMeshIpv6({ number })}/128 dev lo nodad`,
    ...PRIVATE_NETWORKS.map((network) => `route replace unreachable ${network} metric 4096`),
  ]
  await runCommand(['ip', ...(spec.netns === null ? [] : ['-n', spec.netns]), '-batch', '-'], {
    input: `${lines.join('\n')}\n`,
  })
}

/** The counterpart for a host whose network namespace stays. */
export async function removePrivatePlanes(netns: string | null, number: number): Promise<void> {
  const ip = ['ip', ...(netns === null ? [] : ['-n', netns])] as [string, ...string[]]
  await quietly([...ip, 'addr', 'del', `${hostMeshIpv4({ number })}/32`, 'dev', 'lo'])
  await quietly([...ip, 'addr', 'del', `${hostMeshIpv6({ number })}/128`, 'dev', 'lo'])
  for (const network of PRIVATE_NETWORKS)
    await quietly([...ip, 'route', 'del', 'unreachable', network, 'metric', '4096'])
  await quietly([...ip, 'route', 'del', 'unreachable', hostSubnetIpv4({ number })])
}

interface ServerInit {
  readonly ca: string
  readonly registryCertificate: string
  readonly registryKey: string
}

async function initServer(layout: HostLayout): Promise<ServerInit> {
  const { stdout } = await runCommand(
    ourProgram('server', '--config', layout.configOf('server'), '--init'),
    { env: { ...process.env, NODE_COMPILE_CACHE: compileCache() } },
  )
  return JSON.parse(stdout) as ServerInit
}

async function untilHealthy(url: string, ca: string, layout: HostLayout): Promise<void> {
  const untilMs = Date.now() + SERVER_MS_MAX
  const api = clientFor({ url, ca })
  for (;;) {
    try {
      await api.health({}, { timeoutMs: 2000 })
      return
    } catch (cause) {
      if (Date.now() > untilMs)
        throw new PlatformError('unavailable', `the server does not answer at ${url}`, {
          cause: new Error(`${describeError(cause)}; its log: ${layout.logDir}/server.log`),
        })
      await sleep(pidOf(layout.pidDir, 'server') === null ? 100 : 30)
    }
  }
}

function agentAndEdgeConfig(
  spec: HostSpec,
  layout: HostLayout,
  joined: { host_id: string; number: number; server_url: string; hosts: readonly unknown[] },
): { agent: AgentConfig; edge: EdgeConfig } {
  const mesh = hostMeshIpv4({ number: joined.number })
  const tlsOf = (program: string) => ({
    ca: layout.ca,
    certificate: layout.certificateOf(program),
    key: layout.keyOf(program),
  })
  const common = {
    hostId: joined.host_id,
    hostName: spec.name,
    region: spec.region,
    serverUrl: joined.server_url,
  }
  return {
    agent: agentConfig.parse({
      ...common,
      hostNumber: joined.number,
      knownHosts: joined.hosts,
      dataDir: layout.dataDirOf('agent'),
      staticsDir: layout.dataDirOf('statics'),
      runDir: layout.runDirOf('agent'),
      tls: tlsOf('agent'),
      listen: { address: mesh, port: PORTS.agent },
      containerd: { address: layout.containerd.socket, root: layout.containerd.root },
      cgroupParent: layout.cgroupParent,
      shimCgroup: limitsOf(layout, 'shims', spec.capacity.memoryMb).cgroup,
      wireguard: {
        interface: spec.wireguard.interface,
        listenPort: spec.wireguard.port,
        privateKeyFile: layout.wireguardKey,
      },
      sealingKeyFile: layout.sealingKey,
      uplink: spec.uplink,
      nameservers: spec.nameservers,
      logs: { dir: layout.rawLogs },
      builder: spec.builder
        ? {
            dataDir: layout.dataDirOf('builder'),
            netns: layout.builderNetns,
            memoryMb: buildMemoryMb(spec.capacity.memoryMb),
          }
        : null,
      logFile: `${layout.logDir}/agent.log`,
    }),
    edge: edgeConfig.parse({
      ...common,
      dataDir: layout.dataDirOf('edge'),
      runDir: layout.runDirOf('edge'),
      tls: tlsOf('edge'),
      sealingKeyFile: layout.sealingKey,
      nameservers: spec.nameservers,
      http: { address: spec.listenAddress, port: 80 },
      https: { address: spec.listenAddress, port: 443 },
      dns: { address: spec.listenAddress, port: 53 },
      listen: { address: mesh, port: PORTS.edge },
      statics: {
        dir: layout.dataDirOf('statics'),
        listen: { address: mesh, port: PORTS.files },
      },
      haproxy: {
        cgroup: limitsOf(layout, 'haproxy', spec.capacity.memoryMb).cgroup,
        threads: spec.proxyThreads,
      },
      logFile: `${layout.logDir}/edge.log`,
    }),
  }
}

/** Of the server on this host. */
export function apiUrlOf(spec: HostSpec): string {
  return `https://${spec.publicAddress}:${PORTS.api}`
}

export function hasJoined(spec: HostSpec): boolean {
  return existsSync(layoutOf(spec).configOf('edge'))
}
