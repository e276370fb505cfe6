import type { LeaseReply } from '@roost/api'
import { PlatformError } from '@roost/base'
import {
  activeLease,
  holdOfRelease,
  LEASE_MS_DEFAULT,
  LEASE_NOT_FOUND,
  type Lease,
  type LeaseRefusal,
  type MachineId,
  releaseLease,
  takeLease,
} from '@roost/core'
import type { Deps } from '../deps.ts'
import { deleteLease, putLease } from '../store/leases.ts'
import type { StoredMachine } from '../store/machines.ts'
import { listOpenReleases } from '../store/releases.ts'
import type { Tx } from '../store/store.ts'
import type { Call, Handlers } from './handler.ts'
import { machineOrThrow } from './machines.ts'

const NONCE_HEADER = 'fly-machine-lease-nonce'

/** The nonce of the caller's lease; null when it came with none. */
export function nonceOf(headers: Call<'getMachine'>['headers']): string | null {
  const value = headers[NONCE_HEADER]
  return typeof value === 'string' && value !== '' ? value : null
}

export function leaseHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'ids'>,
): Pick<Handlers, 'getLease' | 'takeLease' | 'releaseLease'> {
  const { store, clock } = deps
  return {
    getLease: ({ params }) =>
      store.read(async (reader) => {
        const machine = await machineOrThrow(reader, params)
        const lease = activeLease(machine.lease, clock.now())
        if (lease === null) throw refused(LEASE_NOT_FOUND)
        return leaseReply(machine, lease)
      }),

    takeLease: ({ params, query, body, headers, caller }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        const ttl = query.ttl ?? body?.ttl
        const lease = await leaseMachine(tx, deps, machine, {
          nonce: nonceOf(headers),
          owner: caller.name,
          description: body?.description ?? null,
          // Clients written in Go send zero for what was not set.
          ttlMs: ttl ? ttl * 1000 : LEASE_MS_DEFAULT,
        })
        return leaseReply(machine, lease)
      }),

    releaseLease: ({ params, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        const nonce = nonceOf(headers)
        if (nonce === null)
          throw new PlatformError(
            'invalid',
            `header ${NONCE_HEADER}: a lease is given back with its nonce`,
          )
        const result = releaseLease(machine.lease, nonce, clock.now())
        if (result.kind !== 'released') throw refused(result)
        await deleteLease(tx, machine.assignment.id)
        return { status: 'success', data: { ok: true } } as const
      }),
  }
}

/** Takes or refreshes one. Refused while somebody else's holds, or while a release is at work on the machine. */
export async function leaseMachine(
  tx: Tx,
  { clock, ids }: Pick<Deps, 'clock' | 'ids'>,
  machine: StoredMachine,
  ask: {
    readonly nonce: string | null
    readonly owner: string
    readonly description: string | null
    readonly ttlMs: number
  },
): Promise<Lease> {
  const { id, goal } = machine.assignment
  if (goal === 'destroyed')
    throw new PlatformError(
      'precondition_failed',
      "unable to lease machine from current state: 'destroying'",
    )
  const result = takeLease(machine.lease, { ...ask, newNonce: ids.secret() }, clock.now())
  if (result.kind !== 'taken') throw refused(result)
  if (ask.nonce === null) await refuseReleased(tx, machine, id)
  await putLease(tx, id, result.lease)
  return result.lease
}

async function refuseReleased(tx: Tx, machine: StoredMachine, id: MachineId): Promise<void> {
  for (const release of await listOpenReleases(tx, machine.assignment.app)) {
    const text = holdOfRelease(release, id)
    if (text !== null) throw new PlatformError('conflict', text)
  }
}

function refused({ kind, text }: LeaseRefusal): PlatformError {
  return new PlatformError(kind === 'held' ? 'conflict' : 'not_found', text)
}

function leaseReply(machine: StoredMachine, lease: Lease): LeaseReply {
  return {
    status: 'success',
    data: {
      nonce: lease.nonce,
      expires_at: Math.floor(lease.expiresAt / 1000),
      owner: lease.owner,
      description: lease.description,
      version: machine.assignment.instanceId,
    },
  }
}
