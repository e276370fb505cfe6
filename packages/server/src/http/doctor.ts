import { dirname } from 'node:path'
import { agentUsageReply, type DoctorReply } from '@roost/api'
import { describeError } from '@roost/base'
import {
  type AppFacts,
  bytesOf,
  type CertificateFacts,
  type DiskSpace,
  type DoctorFacts,
  dnsFindings,
  findingsOf,
  type Host,
  type HostFacts,
  type HostnameFacts,
  type ImageStoreFacts,
  isFinal,
} from '@roost/core'
import type { Deps } from '../deps.ts'
import { type NameQuestion, resolveNames } from '../doctor/resolve-names.ts'
import { shownState } from '../machine/state.ts'
import { spaceOf } from '../registry/image-keeper.ts'
import { listApps } from '../store/apps.ts'
import { listCertificates, listHostnames } from '../store/hostnames.ts'
import { listHosts } from '../store/hosts.ts'
import { listMachines, reservedByHost } from '../store/machines.ts'
import { listReleases } from '../store/releases.ts'
import { getSettings } from '../store/settings.ts'
import type { Reader } from '../store/store.ts'
import { listTokens } from '../store/tokens.ts'
import type { Handlers } from './handler.ts'
import { fileSystemReply } from './image-store.ts'

/** A host that takes longer to say what takes room there has a finding of its own. */
const HOST_MS = 3_000
const IMAGE_STORE_MS = 10_000
const DNS_MS = 3_000
const RELEASES_LOOKED_AT = 20
/** Each is five questions, all at once, for 4 s at most. */
const NAMES_ASKED_MAX = 50
/** Names that no public name server answers for. */
const PRIVATE_DOMAIN = /(^|\.)(test|localhost|local|internal|example|invalid)$/

type DoctorDeps = Deps & { readonly resolve?: typeof resolveNames }

/** Looks at everything once, all at the same time, and says what is wrong. Changes nothing, and works on a full disk. */
export function doctorHandlers(deps: DoctorDeps): Pick<Handlers, 'doctor'> {
  return {
    doctor: async () => {
      const { facts, usage } = await lookAtAll(deps)
      return {
        checked_at: new Date(facts.now).toISOString(),
        version: facts.server.version,
        findings: findingsOf(facts).map((finding) => ({ ...finding, fixes: [...finding.fixes] })),
        usage,
        hosts: facts.hosts.map((host) => ({
          name: host.name,
          region: host.region,
          status: host.status,
          agent_seen_at: timeOf(host.agentSeenAt),
          edge_seen_at: timeOf(host.edgeSeenAt),
          clock_offset_ms: host.clockOffsetMs,
          versions: { ...host.versions },
        })),
      }
    },
  }
}

type Usage = DoctorReply['usage']

async function lookAtAll(deps: DoctorDeps): Promise<{ facts: DoctorFacts; usage: Usage }> {
  const { store, clock, installation, presence } = deps
  const { hosts, reserved, apps, tokens, names, acme } = await store.read(async (reader) => ({
    hosts: await listHosts(reader),
    reserved: await reservedByHost(reader),
    apps: await lookAtApps(reader),
    tokens: await listTokens(reader),
    names: await listNames(reader),
    acme: (await getSettings(reader)).acme ?? null,
  }))
  const usage: Usage = []
  const [imageStore, looked, dns, hostnames] = await Promise.all([
    lookAtImages(deps, usage),
    Promise.all(hosts.map((host) => lookAtHost(deps, host, reserved.get(host.id), usage))),
    (deps.resolve ?? resolveNames)(questionsFor(hosts, apps, installation.domain), DNS_MS),
    lookAtNames(deps, names, hosts),
  ])
  const { file, bytes, walBytes } = store.size()
  const space = file === ':memory:' ? null : spaceOf(dirname(file))
  if (space !== null)
    usage.unshift({
      where: 'server',
      file_systems: [fileSystemReply(space)],
      kinds: [
        { kind: 'database', path: file, bytes: bytes + walBytes, count: 1, freeable_bytes: 0 },
      ],
    })
  usage.sort((a, b) => rank(a.where) - rank(b.where) || a.where.localeCompare(b.where))
  const trouble = store.trouble()
  const facts: DoctorFacts = {
    now: clock.now(),
    domain: installation.domain,
    server: {
      version: installation.version,
      database: { path: file, bytes, walBytes },
      space,
      trouble: trouble === null || trouble.over ? null : trouble,
    },
    imageStore,
    hosts: looked,
    apps,
    tokens,
    dns,
    hostnames,
    orders: acme !== null,
    certificates: [
      ...installation.certificates().map((one) => ({
        ...one,
        fix: 'restart the server: it makes a new one   # kill its process; its keeper starts it',
      })),
      ...hosts.flatMap((host) =>
        (['agent', 'edge'] as const).flatMap((program): CertificateFacts[] => {
          const expiresAt = presence.word(host.id, program)?.certificateExpiresAt
          if (expiresAt === null || expiresAt === undefined) return []
          const fix = `roost up   # on ${host.name}`
          return [{ of: `${program} of ${host.name}`, expiresAt, lifeMs: null, fix }]
        }),
      ),
    ],
  }
  return { facts, usage }
}

type Name = Omit<HostnameFacts, 'dns'>

async function listNames(reader: Reader): Promise<Name[]> {
  const names: Name[] = []
  for (const { name: app } of await listApps(reader)) {
    const hostnames = await listHostnames(reader, app)
    const certificates = await listCertificates(
      reader,
      hostnames.map(({ name }) => name),
    )
    for (const hostname of hostnames)
      names.push({
        hostname,
        certificates: certificates.filter((one) => one.hostname === hostname.name),
      })
  }
  return names
}

/** Asks the world's DNS for as many as it takes no time for, those whose last order failed first. */
async function lookAtNames(
  { lookUpName, installation }: Pick<Deps, 'lookUpName' | 'installation'>,
  names: readonly Name[],
  hosts: readonly Host[],
): Promise<HostnameFacts[]> {
  const addresses = hosts.map(({ publicAddress }) => publicAddress)
  const failing = ({ hostname }: Name) => Number(hostname.failure !== null)
  const asked = names
    .filter(({ hostname }) => !PRIVATE_DOMAIN.test(hostname.name))
    .toSorted((a, b) => failing(b) - failing(a))
    .slice(0, NAMES_ASKED_MAX)
  const facts = new Map(
    await Promise.all(
      asked.map(async ({ hostname }) => [hostname.name, await lookUpName(hostname)] as const),
    ),
  )
  return names.map((name) => {
    const found = facts.get(name.hostname.name)
    const { domain } = installation
    return {
      ...name,
      dns:
        found === undefined
          ? []
          : dnsFindings({ hostname: name.hostname, domain, addresses, facts: found }),
    }
  })
}

function rank(where: string): number {
  return ['server', 'image store'].indexOf(where) === -1
    ? 2
    : ['server', 'image store'].indexOf(where)
}

async function lookAtImages(
  { imageKeeper, images }: Deps,
  usage: Usage,
): Promise<ImageStoreFacts | null> {
  const answer = await (images.answers?.(AbortSignal.timeout(HOST_MS)) ?? Promise.resolve()).then(
    () => null,
    (error: unknown) => describeError(error),
  )
  if (imageKeeper === null)
    return answer === null ? null : { failure: answer, space: null, bytes: 0, collectableBytes: 0 }
  try {
    const limit = AbortSignal.timeout(IMAGE_STORE_MS)
    const survey = await Promise.race([
      imageKeeper.survey(),
      new Promise<never>((_resolve, reject) =>
        limit.addEventListener('abort', () =>
          reject(new Error(`not looked through within ${IMAGE_STORE_MS / 1000} s`)),
        ),
      ),
    ])
    const { stored, space, collection } = survey
    const uploads = stored.repositories.flatMap((one) => one.uploads)
    const bytes = [...stored.blobs.values(), ...uploads.map((one) => one.bytes)].reduce(
      (sum, one) => sum + one,
      0,
    )
    const collectableBytes = bytesOf(collection)
    usage.push({
      where: 'image store',
      file_systems: [fileSystemReply(space)],
      kinds: [
        {
          kind: 'images',
          path: space.path,
          bytes,
          count: stored.repositories.reduce((sum, { manifests }) => sum + manifests.length, 0),
          freeable_bytes: collectableBytes,
        },
      ],
    })
    return { failure: answer, space, bytes, collectableBytes }
  } catch (error) {
    return {
      failure: answer ?? describeError(error),
      space: imageKeeper.space(),
      bytes: 0,
      collectableBytes: 0,
    }
  }
}

async function lookAtHost(
  { agent, presence, clock }: Deps,
  host: Host,
  reserved: { readonly cpus: number; readonly memoryMb: number } = { cpus: 0, memoryMb: 0 },
  usage: Usage,
): Promise<HostFacts> {
  const words = {
    agent: presence.word(host.id, 'agent'),
    edge: presence.word(host.id, 'edge'),
  }
  const heardAt = presence.agentHeardAt(host.id)
  const facts = {
    name: host.name,
    region: host.region,
    status: host.status,
    agentSeenAt: heardAt ?? host.agentSeenAt,
    edgeSeenAt: presence.edge(host.id)?.seenAt ?? host.edgeSeenAt,
    edgeExpected: true,
    clockOffsetMs: words.agent?.clockOffsetMs ?? null,
    refusedRecords: words.edge?.refused ?? [],
    freeMemoryMb: Math.max(0, host.capacity.memoryMb - reserved.memoryMb),
    memoryMb: host.capacity.memoryMb,
    freeCpus: host.capacity.cpus - reserved.cpus,
  }
  const versions: Record<string, string> = {}
  for (const [program, word] of Object.entries(words)) if (word) versions[program] = word.version
  if (host.status !== 'ok' || heardAt === null || clock.now() - heardAt > HOST_MS * 4)
    return { ...facts, versions, usage: { failure: 'it was not heard, so it was not asked' } }
  const client = agent(host)
  const ask = (path: string) =>
    client.json<unknown>('GET', path, undefined, { timeoutMs: HOST_MS }).then(
      (reply) => ({ reply }),
      (error: unknown) => ({ error }),
    )
  const [said, health] = await Promise.all([ask('/agent/v1/usage'), ask('/agent/v1/health')])
  if ('reply' in health) {
    const { containerd } = health.reply as { containerd?: unknown }
    if (typeof containerd === 'string') versions['containerd'] = containerd
  }
  if ('error' in said) return { ...facts, versions, usage: { failure: describeError(said.error) } }
  const parsed = agentUsageReply.safeParse(said.reply)
  if (!parsed.success)
    return {
      ...facts,
      versions,
      usage: { failure: `its answer can not be read: ${parsed.error.issues[0]?.message}` },
    }
  const { file_systems, kinds, refused, warnings } = parsed.data
  usage.push({
    where: host.name,
    file_systems: file_systems.map(({ holds: _holds, ...rest }) => rest),
    kinds: kinds.map(({ kind, path, bytes, count, freeable_bytes }) => ({
      kind,
      path,
      bytes,
      count,
      freeable_bytes,
    })),
  })
  return {
    ...facts,
    versions,
    usage: {
      fileSystems: file_systems.map(
        (one): DiskSpace => ({
          path: one.path,
          bytes: one.bytes,
          freeBytes: one.free_bytes,
          inodes: one.inodes,
          freeInodes: one.free_inodes,
        }),
      ),
      kinds: kinds.map((one) => ({
        kind: one.kind,
        path: one.path,
        fileSystem: one.file_system,
        bytes: one.bytes,
        freeableBytes: one.freeable_bytes,
      })),
      refused: refused.map(({ what, path }) => ({ what, path })),
      warnings,
    },
  }
}

async function lookAtApps(reader: Reader): Promise<AppFacts[]> {
  const hosts = new Map<string, string>((await listHosts(reader)).map(({ id, name }) => [id, name]))
  const facts: AppFacts[] = []
  for (const { name } of await listApps(reader)) {
    const releases = await listReleases(reader, name, RELEASES_LOOKED_AT)
    const ended = releases.find(({ status }) => isFinal(status))
    const machines = await listMachines(reader, { app: name })
    facts.push({
      name,
      release:
        ended === undefined
          ? null
          : { version: ended.version, status: ended.status, reason: ended.reason },
      machines: machines.map((machine) => {
        const { assignment, status } = machine
        const { exit = null } = status ?? {}
        return {
          id: assignment.id,
          host: hosts.get(assignment.host) ?? assignment.host,
          state: shownState(machine),
          wanted: assignment.goal,
          reason: status?.reason ?? null,
          restarts: status?.restartCount ?? 0,
          lastExitAt: exit?.at ?? null,
          lastExit: exit === null ? null : describeExit(exit),
        }
      }),
    })
  }
  return facts
}

function describeExit(exit: {
  code: number
  signal: number
  oomKilled: boolean
  cause: string | null
}): string {
  if (exit.cause !== null) return exit.cause
  if (exit.oomKilled) return 'it used more memory than it has'
  return exit.signal > 0
    ? `it was ended by signal ${exit.signal}`
    : `it ended with exit code ${exit.code}`
}

/** Each edge for the name of an app, and this machine's own resolver where the domain is a public one. */
function questionsFor(
  hosts: readonly Host[],
  apps: readonly AppFacts[],
  domain: string,
): NameQuestion[] {
  const served = apps.find(({ machines }) => machines.some(({ state }) => state === 'started'))
  if (served === undefined) return []
  const name = `${served.name}.${domain}`
  const edges = hosts
    .filter(({ status }) => status === 'ok')
    .map((host) => ({
      asked: host.publicAddress,
      host: host.name,
      name,
      server: host.publicAddress,
    }))
  const own = { asked: "this server's resolver", host: null, name, server: null }
  return PRIVATE_DOMAIN.test(domain) ? edges : [...edges, own]
}

function timeOf(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString()
}
