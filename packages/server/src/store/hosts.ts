import type { Host, HostId } from '@roost/core'
import { CompiledQuery } from 'kysely'
import type { Reader, Tx } from './store.ts'

interface Row {
  readonly value: string
}

/** Asked at each lap and each beat: as text, since building a query costs more than running it. */
const ALL = CompiledQuery.raw('select value from hosts order by number') as CompiledQuery<Row>

export function listHosts(reader: Reader): Promise<readonly Host[]> {
  return reader.kept('hosts', async () => {
    const { rows } = await reader.db.executeQuery(ALL)
    return rows.map((row) => JSON.parse(row.value) as Host)
  })
}

export function getHost(reader: Reader, id: HostId | string): Promise<Host | null> {
  return reader.kept(`host ${id}`, async () => {
    const { rows } = await reader.db.executeQuery(
      CompiledQuery.raw('select value from hosts where id = ?', [id]) as CompiledQuery<Row>,
    )
    const [row] = rows
    return row === undefined ? null : (JSON.parse(row.value) as Host)
  })
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
