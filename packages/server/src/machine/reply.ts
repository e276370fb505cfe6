import type { MachineReply } from '@roost/api'
import { activeLease, type Host, type HostId, type Instant } from '@roost/core'
import type { StoredMachine } from '../store/machines.ts'
import { configReply } from './config-reply.ts'
import type { MachineEvent } from './events.ts'
import { shownState } from './state.ts'

/** A machine in the Machines API's form. */
export function machineReply(
  machine: StoredMachine,
  hosts: ReadonlyMap<HostId, Host>,
  events: readonly MachineEvent[],
  now: Instant,
): MachineReply {
  const { assignment, status } = machine
  const lease = activeLease(machine.lease, now)
  const host = hosts.get(assignment.host)
  return {
    id: assignment.id,
    name: assignment.name,
    state: shownState(machine),
    region: assignment.region,
    image_ref: imageRef(assignment.config.image, assignment.imageDigest),
    instance_id: assignment.instanceId,
    version: assignment.instanceId,
    private_ip: assignment.privateIpv6,
    created_at: new Date(machine.createdAt).toISOString(),
    updated_at: new Date(Math.max(machine.updatedAt, status?.updatedAt ?? 0)).toISOString(),
    config: configReply(assignment.config),
    events: events.map((event) => ({ ...event })),
    checks: (status?.checks ?? []).map((check) => ({
      name: check.name,
      status: check.status,
      output: check.output,
      updated_at: new Date(check.updatedAt).toISOString(),
    })),
    ...(status?.containers === undefined
      ? {}
      : { containers: status.containers.map(({ name, state }) => ({ name, state })) }),
    host_status: host === undefined ? 'unknown' : host.status,
    cordoned: assignment.cordoned,
    host: host?.name ?? assignment.host,
    ...(status?.reason ? { reason: status.reason } : {}),
    ...(lease === null ? {} : { nonce: lease.nonce }),
  }
}

/** `registry.internal/shop:v3@sha256:…` in its parts. What names no registry is Docker Hub's. */
export function imageRef(image: string, digest: string): MachineReply['image_ref'] {
  const [name = ''] = image.split('@')
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(0, slash))
  const hasRegistry = /[.:]/.test(first) || first === 'localhost'
  const registry = hasRegistry ? first : 'docker.io'
  const rest = hasRegistry ? name.slice(slash + 1) : name
  const colon = rest.lastIndexOf(':')
  const repository = colon === -1 ? rest : rest.slice(0, colon)
  const official = registry === 'docker.io' && !repository.includes('/')
  return {
    registry,
    repository: official ? `library/${repository}` : repository,
    tag: colon === -1 ? (image.includes('@') ? '' : 'latest') : rest.slice(colon + 1),
    digest,
    labels: null,
  }
}
