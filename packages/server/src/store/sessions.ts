import type { AppName, Instant, SessionRecord } from '@roost/core'
import type { Reader, Tx } from './store.ts'

/** Writes one, new or changed. */
export async function putSession(tx: Tx, session: SessionRecord): Promise<void> {
  const row = {
    app: session.app,
    machine: session.machine,
    begun_at: session.begunAt,
    ended_at: session.endedAt,
    value: JSON.stringify(session),
  }
  await tx.db
    .insertInto('sessions')
    .values({ id: session.id, ...row })
    .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
    .execute()
}

/** Newest first. An earlier app of that name is another one, perhaps of other people: what was there before `since` is not told. */
export async function listSessions(
  reader: Reader,
  asked: {
    readonly app: AppName
    readonly since: Instant
    readonly limit: number
    readonly machine?: string | undefined
  },
): Promise<readonly SessionRecord[]> {
  let query = reader.db
    .selectFrom('sessions')
    .select('value')
    .where('app', '=', asked.app)
    .where('begun_at', '>=', asked.since)
    .orderBy('begun_at', 'desc')
    .limit(asked.limit)
  if (asked.machine !== undefined) query = query.where('machine', '=', asked.machine)
  return (await query.execute()).map(({ value }) => JSON.parse(value) as SessionRecord)
}

export async function openSessions(reader: Reader): Promise<readonly SessionRecord[]> {
  const rows = await reader.db
    .selectFrom('sessions')
    .select('value')
    .where('ended_at', 'is', null)
    .execute()
  return rows.map(({ value }) => JSON.parse(value) as SessionRecord)
}

const KEPT_MS = 90 * 86_400_000
const KEPT = 20_000

/** The newest of the last 90 days, of all apps together. */
export async function purgeSessions(tx: Tx, now: Instant, kept = KEPT): Promise<void> {
  await tx.db
    .deleteFrom('sessions')
    .where('begun_at', '<', now - KEPT_MS)
    .execute()
  const oldest = await tx.db
    .selectFrom('sessions')
    .select('begun_at')
    .orderBy('begun_at', 'desc')
    .offset(kept)
    .limit(1)
    .executeTakeFirst()
  if (oldest === undefined) return
  await tx.db.deleteFrom('sessions').where('begun_at', '<=', oldest.begun_at).execute()
}
