import type { Instant, Lease, MachineId } from '@roost/core'
import type { Tx } from './store.ts'

/** Read with its machine: see `StoredMachine.lease`. */
export async function putLease(tx: Tx, machine: MachineId, lease: Lease): Promise<void> {
  const row = { expires_at: lease.expiresAt, value: JSON.stringify(lease) }
  await tx.db
    .insertInto('machine_leases')
    .values({ machine, ...row })
    .onConflict((conflict) => conflict.column('machine').doUpdateSet(row))
    .execute()
  // Releases wait for leases.
  tx.touch(`lease/${machine}`)
}

export async function deleteLease(tx: Tx, machine: MachineId): Promise<void> {
  await tx.db.deleteFrom('machine_leases').where('machine', '=', machine).execute()
  tx.touch(`lease/${machine}`)
}

/** Those that have ended and that nobody gave back. */
export async function purgeLeases(tx: Tx, now: Instant): Promise<void> {
  await tx.db.deleteFrom('machine_leases').where('expires_at', '<=', now).execute()
}
