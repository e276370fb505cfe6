import { type AppName, type Instant, type SecretVersions, versionsKept } from '@roost/core'
import { getApp } from './apps.ts'
import { listReleases } from './releases.ts'
import type { Reader, Tx } from './store.ts'

/** Which version of which secret the next release of an app brings. */
export async function secretVersions(reader: Reader, app: AppName): Promise<SecretVersions> {
  const rows = await reader.db
    .selectFrom('secrets')
    .select(['name', 'version'])
    .where('app', '=', app)
    .orderBy('name')
    .execute()
  return Object.fromEntries(rows.map((row) => [row.name, row.version]))
}

/** What tells values apart without showing them, by name; a version that has been destroyed is left out. */
export async function digestsOf(
  reader: Reader,
  app: AppName,
  versions: SecretVersions,
): Promise<ReadonlyMap<string, string>> {
  const rows = await reader.db
    .selectFrom('secret_versions')
    .select(['name', 'version', 'digest'])
    .where('app', '=', app)
    .execute()
  return new Map(
    rows.flatMap(({ name, version, digest }) =>
      versions[name] === version ? [[name, digest] as const] : [],
    ),
  )
}

export async function newSecretVersion(tx: Tx): Promise<number> {
  const { value } = await tx.db
    .updateTable('counters')
    .set((at) => ({ value: at('value', '+', 1) }))
    .where('name', '=', 'secret_version')
    .returning('value')
    .executeTakeFirstOrThrow()
  return value
}

/** The one that was given out last, of all apps. */
export async function newestSecretVersion(reader: Reader): Promise<number> {
  const { value } = await reader.db
    .selectFrom('counters')
    .select('value')
    .where('name', '=', 'secret_version')
    .executeTakeFirstOrThrow()
  return value
}

/**
 * The next release brings `to` instead of `from`. What somebody set or removed after `from` stays as they said.
 */
export async function bringSecrets(
  tx: Tx,
  app: AppName,
  from: SecretVersions,
  to: SecretVersions,
  now: Instant,
): Promise<void> {
  const current = await secretVersions(tx, app)
  for (const name of new Set([...Object.keys(from), ...Object.keys(to)])) {
    if (current[name] !== from[name] || current[name] === to[name]) continue
    const version = to[name]
    if (version === undefined) {
      await tx.db.deleteFrom('secrets').where('app', '=', app).where('name', '=', name).execute()
      continue
    }
    await tx.db
      .insertInto('secrets')
      .values({ app, name, version, created_at: now, updated_at: now })
      .onConflict((conflict) =>
        conflict.columns(['app', 'name']).doUpdateSet({ version, updated_at: now }),
      )
      .execute()
  }
}

const RELEASES_MAX = 1_000

/**
 * Destroys the values that nobody can come back to: neither the next release brings them, nor had them one of the last
 * releases, the one that serves or one that is at work.
 */
export async function forgetSecretVersions(tx: Tx, app: AppName): Promise<void> {
  const rows = await tx.db
    .selectFrom('secret_versions')
    .select(['name', 'version'])
    .where('app', '=', app)
    .execute()
  if (rows.length === 0) return
  const serving = (await getApp(tx, app))?.release ?? 0
  const releases = await listReleases(tx, app, RELEASES_MAX)
  const kept = versionsKept(releases, serving)
  const needed = [
    await secretVersions(tx, app),
    ...releases
      .filter(({ version }) => kept.has(version))
      .flatMap(({ secrets, secretsBefore }) => [secrets ?? {}, secretsBefore ?? {}]),
  ]
  for (const { name, version } of rows) {
    if (needed.some((versions) => versions[name] === version)) continue
    await tx.db
      .deleteFrom('secret_versions')
      .where('app', '=', app)
      .where('name', '=', name)
      .where('version', '=', version)
      .execute()
  }
}
