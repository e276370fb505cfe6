import { isIP } from 'node:net'
import type { joinBody } from '@roost/api'
import { PlatformError, SEALING_KEY_BYTES } from '@roost/base'
import {
  type Host,
  type HostDisk,
  type HostId,
  hostMeshIpv4,
  hostMeshIpv6,
  type Instant,
  type RegionCode,
} from '@roost/core'
import type { z } from 'zod'
import { createJoinToken, useJoinToken } from '../access/tokens.ts'
import { PEER_CERTIFICATE_MS } from '../authority/authority.ts'
import type { Deps } from '../deps.ts'
import { deleteHost, getHost, listHosts, putHost } from '../store/hosts.ts'
import { reservedByHost } from '../store/machines.ts'
import type { Reader, Tx } from '../store/store.ts'
import type { Handlers } from './handler.ts'

const HOSTS_MAX = 63
/** A host that spoke within this time is alive and can't be removed. */
export const SILENCE_MS = 10_000

/** What a host tells of itself when it joins. */
export type JoiningHost = Omit<z.infer<typeof joinBody>, 'token' | 'agent_csr' | 'edge_csr'>

export function hostHandlers(
  deps: Deps,
): Pick<Handlers, 'listHosts' | 'createJoinToken' | 'joinHost' | 'removeHost'> {
  const { store, clock, presence, authority } = deps
  return {
    listHosts: () =>
      store.read(async (reader) => {
        const reserved = await reservedByHost(reader)
        const counts = await machinesByHost(reader)
        const seen = (at: Instant | null) => (at === null ? null : new Date(at).toISOString())
        return (await listHosts(reader)).map((host) => ({
          id: host.id,
          name: host.name,
          region: host.region,
          number: host.number,
          status: host.status,
          availability: host.availability,
          public_address: host.publicAddress,
          mesh_address: hostMeshIpv4(host),
          cpus: host.capacity.cpus,
          memory_mb: host.capacity.memoryMb,
          free_memory_mb: Math.max(
            0,
            host.capacity.memoryMb - (reserved.get(host.id)?.memoryMb ?? 0),
          ),
          machines: counts.get(host.id) ?? 0,
          builder: host.builder,
          disk: diskReply(presence.disk(host.id) ?? host.disk ?? null),
          agent_seen_at: seen(presence.agentHeardAt(host.id) ?? host.agentSeenAt),
          edge_seen_at: seen(presence.edge(host.id)?.seenAt ?? host.edgeSeenAt),
        }))
      }),

    createJoinToken: () =>
      store.transaction(async (tx) => {
        const { token, expiresAt } = await createJoinToken(tx, deps.ids.secret(), clock.now())
        return { token, expires_at: new Date(expiresAt).toISOString() }
      }),

    joinHost: async ({ body }) => {
      const joined = await store.transaction(async (tx) => {
        await useJoinToken(tx, body.token, body.wireguard.public_key, clock.now())
        const host = await addHost(tx, deps, body)
        const ips = [hostMeshIpv4(host), hostMeshIpv6(host), host.publicAddress]
        const sign = (csr: string, program: string) =>
          authority.signRequest(
            csr,
            { uris: [`roost://${program}/${host.id}`], ips },
            PEER_CERTIFICATE_MS,
          )
        return {
          host,
          agent: await sign(body.agent_csr, 'agent'),
          edge: await sign(body.edge_csr, 'edge'),
          hosts: await listHosts(tx),
        }
      })
      deps.log.info('host joined', { host: joined.host.name, region: joined.host.region })
      return {
        host_id: joined.host.id,
        number: joined.host.number,
        ca: authority.ca,
        agent_certificate: joined.agent,
        edge_certificate: joined.edge,
        server_url: deps.installation.internalUrl,
        hosts: [...joined.hosts],
      }
    },

    removeHost: async ({ params }) => {
      await store.transaction(async (tx) => {
        const host =
          (await getHost(tx, params.host)) ??
          (await listHosts(tx)).find((one) => one.name === params.host)
        if (host === undefined || host === null)
          throw new PlatformError('not_found', `host ${params.host} not found`)
        const heard = presence.agentHeardAt(host.id)
        if (heard !== null && clock.now() - heard < SILENCE_MS)
          throw new PlatformError(
            'conflict',
            `host ${host.name} is alive: stop its programs first, or what runs on it would run on`,
          )
        await deleteHost(tx, host.id)
        presence.forget(host.id)
      })
      return { ok: true }
    },
  }
}

function diskReply(disk: HostDisk | null) {
  if (disk === null) return null
  const { path, state, bytes, freeBytes } = disk
  return { path, state, bytes, free_bytes: freeBytes }
}

/** A host that joins; or the one that it became before, when it comes again with the same key. */
export async function addHost(
  tx: Tx,
  deps: Pick<Deps, 'ids' | 'clock' | 'presence'>,
  body: JoiningHost,
): Promise<Host> {
  if (isIP(body.public_address) !== 4)
    throw new PlatformError('invalid', `public_address: ${body.public_address} is no IPv4 address`)
  // What can't be sealed for one host would be sealed for none.
  if (Buffer.from(body.sealing_key, 'base64').length !== SEALING_KEY_BYTES)
    throw new PlatformError(
      'invalid',
      `sealing_key: not the base64 of an X25519 key of ${SEALING_KEY_BYTES} bytes`,
    )
  const hosts = await listHosts(tx)
  const before = hosts.find((host) => host.wireguard.publicKey === body.wireguard.public_key)
  const sameName = hosts.find((host) => host.name === body.name)
  if (sameName !== undefined && sameName !== before)
    throw new PlatformError('conflict', `there is a host named ${body.name} already`)
  if (before !== undefined && before.region !== body.region)
    throw new PlatformError(
      'conflict',
      `this host has joined as ${before.name} in ${before.region}`,
    )
  const host: Host = {
    id: before?.id ?? deps.ids.hostId(),
    name: body.name,
    region: body.region as RegionCode,
    number: before?.number ?? freeNumber(hosts),
    publicAddress: body.public_address,
    wireguard: { endpoint: body.wireguard.endpoint, publicKey: body.wireguard.public_key },
    sealingKey: body.sealing_key,
    capacity: { cpus: body.cpus, memoryMb: body.memory_mb },
    builder: body.builder,
    availability: 'active',
    agentSeenAt: null,
    edgeSeenAt: null,
    status: 'ok',
  }
  await putHost(tx, host)
  deps.presence.expectAgent(host.id, deps.clock.now())
  return host
}

/** The lowest that is free, so that the first host of an installation is number 1. */
function freeNumber(hosts: readonly Host[]): number {
  const taken = new Set(hosts.map((host) => host.number))
  for (let number = 1; number <= HOSTS_MAX; number++) if (!taken.has(number)) return number
  throw new PlatformError('conflict', `an installation has at most ${HOSTS_MAX} hosts`)
}

async function machinesByHost(reader: Reader): Promise<Map<HostId, number>> {
  const rows = await reader.db
    .selectFrom('machines')
    .select((at) => ['host', at.fn.countAll<number>().as('n')])
    .where('destroyed_at', 'is', null)
    .groupBy('host')
    .execute()
  return new Map(rows.map((row) => [row.host as HostId, Number(row.n)]))
}
