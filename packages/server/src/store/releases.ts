import type { ReleaseEvent } from '@roost/api'
import type { AppName, Release } from '@roost/core'
import { CompiledQuery } from 'kysely'
import type { Reader, Tx } from './store.ts'

export function getRelease(reader: Reader, app: AppName, version: number): Promise<Release | null> {
  return reader.kept(`release ${app} ${version}`, async () => {
    const row = await reader.db
      .selectFrom('releases')
      .select('value')
      .where('app', '=', app)
      .where('version', '=', version)
      .executeTakeFirst()
    return row === undefined ? null : releaseOf(row.value)
  })
}

/** What was written before a release had all that it has now means what was done then. */
function releaseOf(text: string): Release {
  const value = JSON.parse(text) as Release
  return {
    ...LATER,
    ...value,
    plan: value.plan.map((r) => ({ ...r, round: r.round ?? r.wave })),
  }
}
const LATER = {
  strategy: 'rolling',
  maxUnavailable: null,
  secrets: null,
  secretsBefore: null,
  rollbackOf: null,
  returnTo: 0,
  undo: [],
  returned: null,
} satisfies Partial<Release>

/** Newest first. */
export async function listReleases(
  reader: Reader,
  app: AppName,
  limit: number,
): Promise<Release[]> {
  const rows = await reader.db
    .selectFrom('releases')
    .select('value')
    .where('app', '=', app)
    .orderBy('version', 'desc')
    .limit(limit)
    .execute()
  return rows.map((row) => releaseOf(row.value))
}

/** Asked at each lap: as text, since building a query costs more than running it. */
const OPEN = CompiledQuery.raw(
  `select value from releases where status in ('pending', 'starting', 'draining', 'reverting') order by app, version`,
) as CompiledQuery<{ value: string }>

/** Those that have not ended, of one app or of all, oldest first. */
export function listOpenReleases(reader: Reader, app?: AppName): Promise<readonly Release[]> {
  return reader.kept(`open releases ${app}`, async () => {
    const { rows } = await reader.db.executeQuery(OPEN)
    const open = rows.map((row) => releaseOf(row.value))
    return app === undefined ? open : open.filter((release) => release.app === app)
  })
}

export async function nextReleaseVersion(reader: Reader, app: AppName): Promise<number> {
  const { last } = await reader.db
    .selectFrom('releases')
    .select((at) => at.fn.max('version').as('last'))
    .where('app', '=', app)
    .executeTakeFirstOrThrow()
  return (last ?? 0) + 1
}

export async function putRelease(tx: Tx, release: Release): Promise<void> {
  const { app, version, status } = release
  const value = JSON.stringify(release)
  await tx.db
    .insertInto('releases')
    .values({ app, version, status, value })
    .onConflict((conflict) => conflict.columns(['app', 'version']).doUpdateSet({ status, value }))
    .execute()
  tx.touch(releaseKey(app, version))
}

/** What changes of a release are told under, in `Change.keys`. */
export function releaseKey(app: AppName, version: number): string {
  return `release/${app}/${version}`
}

export interface NumberedEvent {
  readonly number: number
  readonly event: ReleaseEvent
}

const EVENTS_MAX = 2000

/** Says nothing any more once a release has 2,000 of them, but for how it ends. */
export async function addReleaseEvent(
  tx: Tx,
  release: Pick<Release, 'app' | 'version'>,
  event: ReleaseEvent,
): Promise<void> {
  const { app, version } = release
  const { last } = await tx.db
    .selectFrom('release_events')
    .select((at) => at.fn.max('number').as('last'))
    .where('app', '=', app)
    .where('version', '=', version)
    .executeTakeFirstOrThrow()
  const number = (last ?? 0) + 1
  const ends = event.status === 'complete' || event.status === 'failed'
  if (number > EVENTS_MAX && !ends) return
  await tx.db
    .insertInto('release_events')
    .values({ app, version, number, value: JSON.stringify(event) })
    .execute()
  tx.touch(releaseKey(app, version))
}

/** Those after `number`, in order. */
export async function listReleaseEvents(
  reader: Reader,
  app: AppName,
  version: number,
  after: number,
): Promise<NumberedEvent[]> {
  const rows = await reader.db
    .selectFrom('release_events')
    .select(['number', 'value'])
    .where('app', '=', app)
    .where('version', '=', version)
    .where('number', '>', after)
    .orderBy('number')
    .execute()
  return rows.map(({ number, value }) => ({ number, event: JSON.parse(value) as ReleaseEvent }))
}

/** Kept are the newest of each app, and the progress of the newest few. Never one that is still needed to go on or to scale. */
export async function purgeReleases(
  tx: Tx,
  app: AppName,
  keep: { readonly releases: number; readonly events: number; readonly serving: number },
): Promise<void> {
  const newest = await nextReleaseVersion(tx, app)
  await tx.db
    .deleteFrom('release_events')
    .where('app', '=', app)
    .where('version', '<', newest - keep.events)
    .execute()
  await tx.db
    .deleteFrom('releases')
    .where('app', '=', app)
    .where('version', '<', newest - keep.releases)
    .where('version', '!=', keep.serving)
    .where('status', 'in', ['complete', 'failed'])
    .execute()
}
