import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, hostname, networkInterfaces, totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentConfig, PORTS } from '@roost/api'
import { runCommand } from '@roost/base'
import { hostMeshIpv4 } from '@roost/core'
import { Failure, usage } from '../failure/failure.ts'
import { clientFor } from '../session/connect.ts'
import { saveContext } from '../session/contexts.ts'
import { forgetContext } from './forget-context.ts'
import { joinTicket } from './join-token.ts'
import { type AcmeChoice, type HostSpec, layoutOf } from './layout.ts'
import { HOST_STATE, recordMachine, restoreMachine, tuneMachine } from './machine-record.ts'
import { machineResolvers } from './machine-resolvers.ts'
import { powerOff } from './power-off.ts'
import { processesOf, signal } from './processes.ts'
import { programsIn, stopProgram } from './programs.ts'
import {
  apiUrlOf,
  chooseAuthority,
  hasJoined,
  joinHost,
  type Progress,
  prepareHost,
  programNames,
  raiseServer,
  removePrivatePlanes,
  startJoined,
} from './raise.ts'
import { requireMachine } from './requirements.ts'
import { mountPoints, removeFolders, removeIfEmpty, unmountBelow } from './sweep.ts'

/** What `roost up` may be told; everything else follows from the machine. */
export interface HostUpOptions {
  readonly region?: string | undefined
  readonly name?: string | undefined
  readonly publicAddress?: string | undefined
  /** First host only. */
  readonly domain?: string | undefined
  /** Every further host: the URL of the first one's server, and a ticket from it. */
  readonly server?: string | undefined
  readonly joinToken?: string | undefined
  /** The host with the server: who is written to about certificates, and where they are ordered. */
  readonly acmeEmail?: string | undefined
  readonly acmeDirectory?: string | undefined
  /** A network namespace instead of this machine's own: for tests. */
  readonly netns?: string | undefined
  readonly onProgress?: Progress
}

export interface HostStatus {
  readonly name: string
  readonly region: string
  readonly public_address: string
  /** null on a host that has no server of its own. */
  readonly server: string | null
  readonly domain: string | null
  readonly token_file: string | null
  readonly ca_file: string
  readonly programs: ReturnType<typeof programsIn>
}

const CONTEXT = 'host'
const WIREGUARD_PORT = 51820
const OK_MS_MAX = 60_000
const STOP_MS_MAX = 6000
/** A program that ended so often in a row, each time within 10 s of its start, does not come up by itself. */
const LOOPS_MIN = 3
const FALLBACK_RESOLVERS = ['9.9.9.9', '1.1.1.1']

/** Makes this machine a host; one that was a host before starts again from its files, and what runs goes on running. */
export async function hostUp(
  options: HostUpOptions,
): Promise<{ status: HostStatus; outcome: 'running' | 'restarted' | 'raised' }> {
  requireMachine()
  const say = options.onProgress ?? (() => {})
  const known = knownSpec(options.netns)
  if (known !== null && hasJoined(known)) {
    refuseChange(known, options)
    const before = programsIn(layoutOf(known).pidDir)
    const running = programNames(known).every((name) => before.some((one) => one.name === name))
    await mountRun(known)
    const acme = acmeChoice(options)
    const now = acme === null ? known : await chooseAuthority(known, acme)
    await startJoined(now, say)
    await untilOk(now)
    return { status: hostStatus(now), outcome: running ? 'running' : 'restarted' }
  }
  const spec = known ?? (await newSpec(options))
  if ((options.server === undefined) !== (options.joinToken === undefined))
    throw usage('--server and --join-token go together')
  recordMachine()
  tuneMachine()
  await mountRun(spec)
  const keys = await prepareHost(spec, say)
  if (spec.server !== null) {
    const server = await raiseServer(spec, say)
    await joinHost(spec, keys, { url: server.url, ticket: await server.ticket() }, say)
  } else {
    const { server = '', joinToken = '' } = options
    await joinHost(spec, keys, { url: server, ticket: joinToken }, say)
  }
  await startJoined(spec, say)
  await untilOk(spec)
  const status = hostStatus(spec)
  if (status.server !== null && status.token_file !== null)
    saveContext({
      name: contextOf(spec),
      url: status.server,
      token: readFileSync(status.token_file, 'utf8').trim(),
      ca: readFileSync(status.ca_file, 'utf8'),
    })
  return { status, outcome: 'raised' }
}

/** A ticket with which one more host may join within the hour; null on a host without a server. */
export async function newTicket(netns?: string): Promise<string | null> {
  const spec = knownSpec(netns)
  if (spec === null || spec.server === null) return null
  const ca = readFileSync(layoutOf(spec).ca, 'utf8')
  const token = readFileSync(spec.server.tokenFile, 'utf8').trim()
  const api = clientFor({ url: apiUrlOf(spec), ca, token })
  return joinTicket((await api.createJoinToken()).token, ca)
}

/** Processes of machines that run on this host. */
export function runningMachineProcesses(netns?: string): number {
  const spec = knownSpec(netns)
  return spec === null ? 0 : machineProcesses(spec).length
}

/** Ends everything. What is on disk stays for the next `up`, unless it is to be purged. Returns false when this was no host. */
export async function hostDown(options: {
  readonly netns?: string | undefined
  readonly purge: boolean
}): Promise<boolean> {
  const spec = knownSpec(options.netns)
  if (spec === null) return false
  const layout = layoutOf(spec)
  // Nobody starts again what ends from here on.
  for (const name of ['agent', 'edge', 'registry', 'server']) await stopProgram(layout.pidDir, name)
  await endMachines(spec)
  await powerOff(spec)
  const number = hostNumberOf(spec)
  if (number !== null) await removePrivatePlanes(spec.netns, number)
  await unmountBelow(spec.runDir)
  rmSync(spec.runDir, { recursive: true, force: true })
  if (options.purge) {
    await removeFolders([spec.dataDir])
    forgetContext(contextOf(spec))
    removeIfEmpty(HOST_STATE)
  }
  await restoreMachine()
  return true
}

export function hostStatus(spec: HostSpec): HostStatus {
  const layout = layoutOf(spec)
  return {
    name: spec.name,
    region: spec.region,
    public_address: spec.publicAddress,
    server: spec.server === null ? null : apiUrlOf(spec),
    domain: spec.server?.domain ?? null,
    token_file: spec.server?.tokenFile ?? null,
    ca_file: layout.ca,
    programs: programsIn(layout.pidDir),
  }
}

/** How this host's own registry is reached and written to; null where there is none. */
export function ownRegistry(netns?: string): {
  readonly apiUrl: string
  readonly apiToken: string
  readonly registryUrl: string
  readonly ca: string
} | null {
  const spec = knownSpec(netns)
  const number = spec === null ? null : hostNumberOf(spec)
  if (spec === null || spec.server === null || number === null) return null
  return {
    apiUrl: apiUrlOf(spec),
    apiToken: readFileSync(spec.server.tokenFile, 'utf8').trim(),
    registryUrl: `https://${hostMeshIpv4({ number })}:${PORTS.registry}`,
    ca: readFileSync(layoutOf(spec).ca, 'utf8'),
  }
}

const LETS_ENCRYPT = 'https://acme-v02.api.letsencrypt.org/directory'

/** Whoever names an address or an authority agrees to the terms of that authority. */
function acmeChoice({ acmeEmail, acmeDirectory }: HostUpOptions): AcmeChoice | null {
  if (acmeEmail === undefined && acmeDirectory === undefined) return null
  if (acmeEmail !== undefined && !/^[^@\s]+@[^@\s]+\.[^@\s]+$/.test(acmeEmail))
    throw usage(`"${acmeEmail}" is no mail address`)
  if (acmeDirectory !== undefined && !acmeDirectory.startsWith('https://'))
    throw usage(`"${acmeDirectory}" is no directory of an authority: it begins with https://`)
  return { directory: acmeDirectory ?? LETS_ENCRYPT, email: acmeEmail ?? null }
}

function idOf(netns: string | undefined): string {
  return netns ?? 'host'
}

function contextOf(spec: HostSpec): string {
  return spec.netns ?? CONTEXT
}

function knownSpec(netns: string | undefined): HostSpec | null {
  const file = join(HOST_STATE, idOf(netns), 'host.json')
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as HostSpec) : null
}

function refuseChange(known: HostSpec, options: HostUpOptions): void {
  const changes = [
    options.region !== undefined && options.region !== known.region ? '--region' : [],
    options.name !== undefined && options.name !== known.name ? '--name' : [],
    options.publicAddress !== undefined && options.publicAddress !== known.publicAddress
      ? '--public-address'
      : [],
    options.joinToken !== undefined ? '--join-token' : [],
  ].flat()
  if (changes.length > 0)
    throw new Failure(`this machine is the host ${known.name} in ${known.region} already`, {
      why: `${changes.join(', ')} can't be changed`,
      fix: ['roost up', 'roost down --purge   # forgets all that is on it'],
    })
}

async function newSpec(options: HostUpOptions): Promise<HostSpec> {
  const { region, netns } = options
  if (region === undefined)
    throw usage('the region of this host is missing', 'roost up --region ams')
  if (!/^[a-z][a-z0-9]{1,11}$/.test(region))
    throw usage(`"${region}" is no region code: 2 to 12 small letters and digits, such as ams`)
  const uplink = await uplinkOf(netns)
  const publicAddress = options.publicAddress ?? uplink.address
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(publicAddress))
    throw usage(`"${publicAddress}" is no IPv4 address`)
  const name = options.name ?? hostname().toLowerCase().replace(/\..*/, '')
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name))
    throw usage(`"${name}" is no name for a host`, 'add --name, such as --name ams-1')
  const id = idOf(netns)
  const dataDir = join(HOST_STATE, id)
  const isLocal =
    netns !== undefined ||
    Object.values(networkInterfaces()).some((all) =>
      all?.some((one) => one.address === publicAddress),
    )
  const resolvers = machineResolvers()
  return {
    installation: id,
    name,
    region,
    netns: netns ?? null,
    publicAddress,
    listenAddress: isLocal ? publicAddress : uplink.address,
    dataDir,
    runDir: join('/run/roost', id),
    uplink: uplink.device,
    nameservers: resolvers.length > 0 ? resolvers : FALLBACK_RESOLVERS,
    wireguard: {
      interface: netns === undefined ? 'roost0' : interfaceFor(netns),
      port: WIREGUARD_PORT,
    },
    capacity: { cpus: availableParallelism(), memoryMb: Math.floor(totalmem() / 1_048_576) },
    builder: options.server === undefined,
    ownMounts: netns !== undefined,
    server:
      options.server === undefined
        ? {
            // A name for every address without anybody's doing, until there is a domain of one's own.
            domain: options.domain ?? `${publicAddress.replaceAll('.', '-')}.sslip.io`,
            clientNetworks: [],
            acme: acmeChoice(options),
            tokenFile: join(dataDir, 'token'),
          }
        : null,
  }
}

/** 15 characters at most, and another one for each namespace. */
function interfaceFor(netns: string): string {
  const sum = [...netns].reduce((hash, char) => (hash * 31 + char.charCodeAt(0)) >>> 0, 7)
  return `wg${sum.toString(36)}`
}

/** The way to the internet: its device and the address that others see, as far as this machine knows. */
async function uplinkOf(netns: string | undefined): Promise<{ device: string; address: string }> {
  const where = netns === undefined ? [] : ['-n', netns]
  try {
    const { stdout } = await runCommand(['ip', ...where, '-json', 'route', 'get', '192.0.2.255'])
    const [route] = JSON.parse(stdout) as { dev?: string; prefsrc?: string }[]
    if (route?.dev !== undefined && route.prefsrc !== undefined)
      return { device: route.dev, address: route.prefsrc }
  } catch {
    // Said below.
  }
  throw new Failure('this machine has no way to the internet', {
    why: 'there is no default route',
    fix: 'ip route',
  })
}

/** Sockets and secrets live on a tmpfs of their own. */
async function mountRun(spec: HostSpec): Promise<void> {
  if (mountPoints().includes(spec.runDir)) return
  mkdirSync(spec.runDir, { recursive: true, mode: 0o711 })
  await runCommand(['mount', '-t', 'tmpfs', '-o', 'mode=0711,size=1g', 'roost', spec.runDir])
  await runCommand(['mount', '--make-shared', spec.runDir])
}

/** Waits until the server has heard of agent and edge; on a host without a server, until both run. */
async function untilOk(spec: HostSpec): Promise<void> {
  const layout = layoutOf(spec)
  const untilMs = Date.now() + OK_MS_MAX
  for (;;) {
    if (await isOk(spec)) return
    const looping = programsIn(layout.pidDir).filter(({ ended }) => (ended?.soon ?? 0) >= LOOPS_MIN)
    if (Date.now() > untilMs)
      throw new Failure('this host does not come up', {
        why:
          looping
            .map(
              ({ name, ended }) =>
                `${name} ended ${ended?.soon} times in a row with ${ended?.code}`,
            )
            .join(', ') ||
          `the server has not heard of its agent and its edge within ${OK_MS_MAX / 1000} s`,
        fix: `look into ${layout.logDir}`,
      })
    await sleep(100)
  }
}

async function isOk(spec: HostSpec): Promise<boolean> {
  const layout = layoutOf(spec)
  if (spec.server === null) {
    const programs = programsIn(layout.pidDir)
    const settled = (since: string | null) =>
      since !== null && Date.now() - Date.parse(since) > SETTLED_MS
    return programNames(spec).every((name) =>
      programs.some((one) => one.name === name && settled(one.since)),
    )
  }
  const api = clientFor({
    url: apiUrlOf(spec),
    ca: readFileSync(layout.ca, 'utf8'),
    token: readFileSync(spec.server.tokenFile, 'utf8').trim(),
  })
  const hosts = await api.listHosts({}, { timeoutMs: 5000 }).catch(() => [])
  return hosts.some(
    (host) =>
      host.name === spec.name &&
      host.status === 'ok' &&
      host.agent_seen_at !== null &&
      host.edge_seen_at !== null,
  )
}

/** A program that has run for so long has read its configuration and found its server. */
const SETTLED_MS = 3000

function machineProcesses(spec: HostSpec) {
  return processesOf({ owner: '/', netns: [], cgroup: layoutOf(spec).cgroupParent })
}

/** SIGTERM, which each machine's init passes on, and some time for it. */
async function endMachines(spec: HostSpec): Promise<void> {
  for (const { pid } of machineProcesses(spec)) signal(pid, 'SIGTERM')
  const untilMs = Date.now() + STOP_MS_MAX
  while (machineProcesses(spec).length > 0 && Date.now() < untilMs) await sleep(50)
}

function hostNumberOf(spec: HostSpec): number | null {
  const file = layoutOf(spec).configOf('agent')
  if (!existsSync(file)) return null
  return agentConfig.parse(JSON.parse(readFileSync(file, 'utf8'))).hostNumber
}
