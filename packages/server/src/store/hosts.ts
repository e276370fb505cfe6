import type { Host, HostId } from '@roost/core'
import type { Reader, Tx } from './store.ts'

export async function listHosts(reader: Reader): Promise<Host[]> {
  const rows = await reader.db.selectFrom('hosts').select('value').orderBy('number').execute()
  return rows.map((row) => JSON.parse(row.value) as Host)
}

export async function getHost(reader: Reader, id: HostId | string): Promise<Host | null> {
  const row = await reader.db
    .selectFrom('hosts')
    .select('value')
    .where('id', '=', id)
    .executeTakeFirst()
  return row === undefined ? null : (JSON.parse(row.value) as Host)
}

/** Writes a host, new or changed, and tells everyone. */
export async function putHost(tx: Tx, host: Host): Promise<void> {
  const { id, number, name, region } = host
  const value = JSON.stringify(host)
  await tx.db
    .insertInto('hosts')
    .values({ id, number, name, region, next_slot: 0, value })
    .onConflict((conflict) => conflict.column('id').doUpdateSet({ name, region, value }))
    .execute()
  await tx.publish('host', id, host)
}

/** With all machines that were on it, whatever has become of them. */
export async function deleteHost(tx: Tx, id: HostId): Promise<void> {
  const machines = await tx.db.selectFrom('machines').select('id').where('host', '=', id).execute()
  for (const machine of machines) {
    await tx.publish('assignment', machine.id, null)
    await tx.publish('machine', machine.id, null)
  }
  await tx.db.deleteFrom('machines').where('host', '=', id).execute()
  await tx.db.deleteFrom('hosts').where('id', '=', id).execute()
  await tx.publish('host', id, null)
}
