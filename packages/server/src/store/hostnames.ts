import type { AppName, Certificate, CertificateSource, Hostname } from '@roost/core'
import { certificateId } from '@roost/core'
import type { Reader, Tx } from './store.ts'

export async function getHostname(reader: Reader, name: string): Promise<Hostname | null> {
  const row = await reader.db
    .selectFrom('hostnames')
    .select('value')
    .where('name', '=', name)
    .executeTakeFirst()
  return row === undefined ? null : (JSON.parse(row.value) as Hostname)
}

export async function listHostnames(reader: Reader, app: AppName): Promise<Hostname[]> {
  const rows = await reader.db
    .selectFrom('hostnames')
    .select('value')
    .where('app', '=', app)
    .orderBy('name')
    .execute()
  return rows.map((row) => JSON.parse(row.value) as Hostname)
}

/** Writes a name, new or changed, and tells every edge. */
export async function putHostname(tx: Tx, hostname: Hostname): Promise<void> {
  const { name, app } = hostname
  const value = JSON.stringify(hostname)
  await tx.db
    .insertInto('hostnames')
    .values({ name, app, value })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ app, value }))
    .execute()
  await tx.publish('hostname', name, hostname)
}

/** With its certificates. */
export async function deleteHostname(tx: Tx, name: string): Promise<void> {
  for (const { source } of await listCertificates(tx, [name]))
    await deleteCertificate(tx, name, source)
  await tx.db.deleteFrom('hostnames').where('name', '=', name).execute()
  await tx.publish('hostname', name, null)
}

export async function deleteHostnamesOf(tx: Tx, app: AppName): Promise<void> {
  for (const { name } of await listHostnames(tx, app)) await deleteHostname(tx, name)
}

export async function listCertificates(
  reader: Reader,
  hostnames: readonly string[],
): Promise<Certificate[]> {
  if (hostnames.length === 0) return []
  const rows = await reader.db
    .selectFrom('certificates')
    .select('value')
    .where('hostname', 'in', [...hostnames])
    .orderBy('hostname')
    .orderBy('source')
    .execute()
  return rows.map((row) => JSON.parse(row.value) as Certificate)
}

export async function putCertificate(tx: Tx, certificate: Certificate): Promise<void> {
  const { hostname, source } = certificate
  const value = JSON.stringify(certificate)
  await tx.db
    .insertInto('certificates')
    .values({ hostname, source, value })
    .onConflict((conflict) => conflict.columns(['hostname', 'source']).doUpdateSet({ value }))
    .execute()
  await tx.publish('certificate', certificateId(certificate), certificate)
}

export async function deleteCertificate(
  tx: Tx,
  hostname: string,
  source: CertificateSource,
): Promise<void> {
  await tx.db
    .deleteFrom('certificates')
    .where('hostname', '=', hostname)
    .where('source', '=', source)
    .execute()
  await tx.publish('certificate', certificateId({ hostname, source }), null)
}
