import type { Settings } from '@roost/api'
import { listNetworks } from './apps.ts'
import type { Reader, Tx } from './store.ts'

/** What the installation was configured with: everything of `Settings` but what the store knows by itself. */
export type InstallationSettings = Omit<Settings, 'networks'>

export async function putSettings(tx: Tx, settings: InstallationSettings): Promise<void> {
  const value = JSON.stringify(settings)
  const before = await tx.db
    .selectFrom('settings')
    .select('value')
    .where('name', '=', 'installation')
    .executeTakeFirst()
  // Every start comes here: one on a full disk must not fail by writing what is there.
  if (before?.value === value) return publishSettings(tx)
  await tx.db
    .insertInto('settings')
    .values({ name: 'installation', value })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ value }))
    .execute()
  await publishSettings(tx)
}

export async function getSettings(reader: Reader): Promise<Settings> {
  const row = await reader.db
    .selectFrom('settings')
    .select('value')
    .where('name', '=', 'installation')
    .executeTakeFirst()
  const known: InstallationSettings =
    row === undefined
      ? { domain: '', clientNetworks: [], registry: { name: '', url: '' } }
      : (JSON.parse(row.value) as InstallationSettings)
  const networks = (await listNetworks(reader)).map((network) => network.number)
  return { ...known, networks }
}

/** To be called when a network was added. */
export async function publishSettings(tx: Tx): Promise<void> {
  await tx.publish('settings', 'settings', await getSettings(tx))
}
