import type { CertificateReport, ProgramWord, RouteName, WatchEvent } from '@roost/api'
import { type Loop, PlatformError, startLoop } from '@roost/base'
import {
  ADMIN,
  type Draining,
  type HostDisk,
  type HostId,
  type MachineId,
  type MachineStatus,
  type Revision,
} from '@roost/core'
import { type CertificateNames, SERVER_CERTIFICATE_MS } from './authority/authority.ts'
import { acceptCertificates } from './certificate/accept-certificates.ts'
import { moveTimes, noticeSetting } from './clock-set.ts'
import type { Deps } from './deps.ts'
import { accessHandlers } from './http/access.ts'
import { appSecretHandlers } from './http/app-secrets.ts'
import { appHandlers, DEFAULT_NETWORK, ORGANIZATION } from './http/apps.ts'
import { certificateHandlers } from './http/certificates.ts'
import { doctorHandlers } from './http/doctor.ts'
import type { Handlers } from './http/handler.ts'
import { addHost, hostHandlers, type JoiningHost } from './http/hosts.ts'
import { imageStoreHandlers } from './http/image-store.ts'
import { imageHandlers } from './http/images.ts'
import type { HostPeer } from './http/internal.ts'
import { invoke, type RawCall } from './http/invoke.ts'
import { ipAssignmentHandlers } from './http/ip-assignments.ts'
import { logHandlers } from './http/logs.ts'
import { leaseHandlers } from './http/machine-leases.ts'
import { metadataHandlers } from './http/machine-metadata.ts'
import { machineHandlers } from './http/machines.ts'
import { platformHandlers } from './http/platform.ts'
import { releaseHandlers } from './http/releases.ts'
import { scaleHandlers } from './http/scale.ts'
import { secretHandlers } from './http/secrets.ts'
import { statusHandlers } from './http/status.ts'
import { tokenHandlers } from './http/tokens.ts'
import { trafficHandlers } from './http/traffic.ts'
import { startDrainLap } from './laps/drain-lap.ts'
import { markHosts } from './laps/host-status.ts'
import { startPurgeLap } from './laps/purge-lap.ts'
import { startReleaseLap } from './laps/release-lap.ts'
import { startStandbyLap } from './laps/standby-lap.ts'
import { agentRegistryToken } from './registry/agent-registry-token.ts'
import { startImageLap } from './registry/image-keeper.ts'
import { createSessionLog } from './session/record-sessions.ts'
import { networkNumber } from './store/apps.ts'
import { FileTrouble } from './store/file-trouble.ts'
import { getHost, putHost } from './store/hosts.ts'
import { type InstallationSettings, putSettings } from './store/settings.ts'
import { acceptStatuses } from './watch/accept-statuses.ts'
import { headOf, watch } from './watch/watch.ts'

export type { Deps } from './deps.ts'
export { createIds, type Ids } from './ids.ts'
export type { ImageResolver } from './image-resolver.ts'
export { memoryDeps } from './memory-deps.ts'
export { openSqlite } from './store/sqlite/open-sqlite.ts'
export type { Store } from './store/store.ts'
export { createPresence, type Presence } from './watch/presence.ts'

const HOST_LAP_MS = 1_000

/**
 * The whole server without a network: what people ask by `call`, what agents and edges say by the rest, and the laps
 * that run in between. `main.ts` puts HTTP around it; the simulator puts its own network.
 */
export interface ControlPlane {
  readonly handlers: Handlers
  /** A route of the table, by name, as an administrator unless `caller` says otherwise. Throws PlatformError. */
  call(name: RouteName, input?: Partial<RawCall>): Promise<unknown>
  /** To be called once before anything else: the first rows, and settings as configured. */
  prepare(settings: InstallationSettings): Promise<void>
  /** A host joins, without certificates and tokens: for the simulator. */
  addHost(host: JoiningHost): Promise<{ readonly id: HostId; readonly number: number }>
  /** Until `signal` aborts. */
  watch(peer: HostPeer, since: Revision, signal: AbortSignal): AsyncIterable<WatchEvent>
  /** Throws `forbidden` for a host that was removed. */
  refuseUnknown(peer: HostPeer): Promise<void>
  /** Returns the sequences heard last of machines whose status was older. */
  report(
    host: HostId,
    statuses: readonly MachineStatus[],
  ): Promise<Readonly<Record<MachineId, number>>>
  heartbeat(
    peer: HostPeer,
    beat: {
      readonly applied: Revision
      readonly draining: readonly Draining[]
      readonly disk?: HostDisk | null | undefined
      readonly program?: ProgramWord | null | undefined
    },
  ): Promise<void>
  registryToken(
    host: HostId,
    asked: { readonly repository: string; readonly push: boolean },
  ): Promise<{ token: string; expires_at: string }>
  /** For the domain and every name below it. */
  edgeCertificate(peer: HostPeer, csr: string): Promise<{ certificate: string }>
  /** What an edge ordered or sealed, and what came of its orders. */
  certificateReport(peer: HostPeer, report: CertificateReport): Promise<void>
  /** Starts what runs by itself: releases, drains, who is alive. Returns what ends it. */
  start(): () => Promise<void>
}

export function createControlPlane(given: Deps): ControlPlane {
  const { store, log, presence, installation } = given
  const clock = noticeSetting(given.clock, (byMs) => {
    log.warn('the clock was set, or this server stood still', { byMs })
    presence.move(byMs)
    // One piece of work at a time: whoever looks into the store after this look at the clock finds it done.
    store
      .transaction((tx) => moveTimes(tx, byMs))
      .catch((error: unknown) => log.warn('move what is compared with the clock', { error }))
  })
  const deps: Deps = { ...given, clock }
  const sessions = createSessionLog(deps)
  const handlers = {
    ...accessHandlers(deps, sessions),
    ...appHandlers(deps),
    ...machineHandlers(deps),
    ...leaseHandlers(deps),
    ...metadataHandlers(deps),
    ...appSecretHandlers(deps),
    ...certificateHandlers(deps),
    ...ipAssignmentHandlers(deps),
    ...hostHandlers(deps),
    ...platformHandlers(deps),
    ...releaseHandlers(deps),
    ...scaleHandlers(deps),
    ...secretHandlers(deps),
    ...statusHandlers(deps),
    ...trafficHandlers(deps),
    ...logHandlers(deps),
    ...imageHandlers(deps),
    ...imageStoreHandlers(deps),
    ...doctorHandlers(deps),
    ...tokenHandlers(deps),
  } satisfies Handlers

  async function known(peer: HostPeer) {
    const host = await store.read((reader) => getHost(reader, peer.host))
    if (host === null) throw new PlatformError('forbidden', `host ${peer.host} was removed`)
    return host
  }

  return {
    handlers,
    call: (name, input = {}) =>
      invoke(
        handlers,
        name,
        {
          params: {},
          query: {},
          body: undefined,
          headers: {},
          signal: new AbortController().signal,
          caller: { name: 'administrator', policy: ADMIN },
          ...input,
        },
        clock.now(),
      ),
    prepare: (settings) =>
      store.transaction(async (tx) => {
        await networkNumber(tx, ORGANIZATION, DEFAULT_NETWORK)
        await putSettings(tx, settings)
      }),
    addHost: (body) => store.transaction((tx) => addHost(tx, deps, body)),
    watch: (peer, since, signal) => {
      if (peer.program === 'edge') deps.presence.expectEdge(peer.host, deps.clock.now())
      return watch(deps, peer, since, signal)
    },
    refuseUnknown: async (peer) => {
      await known(peer)
    },
    report: async (host, statuses) => {
      await known({ program: 'agent', host })
      return store.transaction((tx) => acceptStatuses(tx, host, statuses, clock.now()))
    },
    heartbeat: async (peer, beat) => {
      const host = await known(peer)
      const now = clock.now()
      if (beat.program) presence.wordHeard(host.id, peer.program, now, beat.program)
      if (peer.program === 'agent') presence.agentHeard(host.id, now, beat.applied, beat.disk)
      else
        presence.edgeHeard(host.id, {
          seenAt: now,
          // More than there is: of what was written before this store was put back from a copy.
          applied: beat.applied > (await store.read(headOf)) ? 0 : beat.applied,
          draining: beat.draining,
        })
      // The first word of each is kept: a server that starts later must know whom to expect.
      const first = peer.program === 'agent' ? host.agentSeenAt : host.edgeSeenAt
      if (first === null || (peer.program === 'agent' && host.status !== 'ok'))
        await noteSeen(deps, host.id).catch((error: unknown) => {
          // It was heard all the same; the lap over the hosts writes it down as soon as it can.
          if (!(error instanceof FileTrouble)) throw error
        })
    },
    registryToken: async (id, asked) =>
      agentRegistryToken(deps.registryTokens, await known({ program: 'agent', host: id }), asked),
    edgeCertificate: async (peer, csr) => {
      await known(peer)
      const names: CertificateNames = { dns: [installation.domain, `*.${installation.domain}`] }
      const certificate = await deps.authority.signRequest(csr, names, SERVER_CERTIFICATE_MS)
      return { certificate: `${certificate}${deps.authority.ca}` }
    },
    certificateReport: async (peer, report) => {
      await known(peer)
      await store.transaction((tx) => acceptCertificates(tx, report, clock.now()))
    },
    start: () => {
      const hosts = startLoop({
        name: 'hosts',
        periodMs: HOST_LAP_MS,
        clock,
        log,
        lap: () => markHosts(deps),
      })
      const loops: Loop[] = [hosts, startDrainLap(deps), startReleaseLap(deps), startPurgeLap(deps)]
      loops.push(startStandbyLap(deps))
      loops.push(sessions.start())
      if (deps.imageKeeper !== null) loops.push(startImageLap(deps.imageKeeper, deps))
      return async () => {
        await Promise.all(loops.map((loop) => loop.stop()))
      }
    },
  }
}

async function noteSeen(
  { store, presence }: Pick<Deps, 'store' | 'presence'>,
  id: HostId,
): Promise<void> {
  await store.transaction(async (tx) => {
    const host = await getHost(tx, id)
    if (host === null) return
    const agentSeenAt = presence.agentHeardAt(id)
    await putHost(tx, {
      ...host,
      agentSeenAt: agentSeenAt ?? host.agentSeenAt,
      edgeSeenAt: presence.edge(id)?.seenAt ?? host.edgeSeenAt,
      status: agentSeenAt === null ? host.status : 'ok',
    })
  })
}
