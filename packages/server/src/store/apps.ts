import type { App, AppName, RegionCode } from '@roost/core'
import type { Schema } from './schema.ts'
import type { Reader, Tx } from './store.ts'

export async function getApp(reader: Reader, name: AppName | string): Promise<App | null> {
  const row = await reader.db
    .selectFrom('apps')
    .selectAll()
    .where('name', '=', name)
    .executeTakeFirst()
  return row === undefined ? null : appOf(row)
}

export async function listApps(reader: Reader): Promise<App[]> {
  const rows = await reader.db.selectFrom('apps').selectAll().orderBy('name').execute()
  return rows.map(appOf)
}

/** Writes an app, new or changed, and tells everyone. */
export async function putApp(tx: Tx, app: App): Promise<void> {
  const { name, ...rest } = {
    name: app.name,
    organization: app.organization,
    network: app.network,
    created_at: app.createdAt,
    primary_region: app.primaryRegion,
    release: app.release,
  }
  await tx.db
    .insertInto('apps')
    .values({ name, ...rest })
    .onConflict((conflict) => conflict.column('name').doUpdateSet(rest))
    .execute()
  await tx.publish('app', name, app)
}

/** With its releases and secrets. Its machines are for the caller to end first. */
export async function deleteApp(tx: Tx, name: AppName): Promise<void> {
  await tx.db.deleteFrom('release_events').where('app', '=', name).execute()
  await tx.db.deleteFrom('releases').where('app', '=', name).execute()
  await tx.db.deleteFrom('secrets').where('app', '=', name).execute()
  await tx.db.deleteFrom('secret_versions').where('app', '=', name).execute()
  await tx.db.deleteFrom('apps').where('name', '=', name).execute()
  await tx.publish('app', name, null)
}

/** Number of a private network, made at its first use. */
export async function networkNumber(
  tx: Tx,
  organization: string,
  name: string,
): Promise<{ number: number; created: boolean }> {
  const known = await tx.db
    .selectFrom('networks')
    .select('number')
    .where('organization', '=', organization)
    .where('name', '=', name)
    .executeTakeFirst()
  if (known !== undefined) return { number: known.number, created: false }
  const { highest } = await tx.db
    .selectFrom('networks')
    .select((at) => at.fn.max('number').as('highest'))
    .executeTakeFirstOrThrow()
  const number = (highest ?? 0) + 1
  await tx.db.insertInto('networks').values({ number, organization, name }).execute()
  return { number, created: true }
}

export async function listNetworks(
  reader: Reader,
): Promise<{ number: number; organization: string; name: string }[]> {
  return reader.db.selectFrom('networks').selectAll().orderBy('number').execute()
}

function appOf(row: Schema['apps']): App {
  return {
    name: row.name as AppName,
    organization: row.organization,
    network: row.network,
    createdAt: row.created_at,
    primaryRegion: row.primary_region as RegionCode | null,
    release: row.release,
  }
}
