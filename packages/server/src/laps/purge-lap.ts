import { type Clock, type Logger, type Loop, startLoop } from '@roost/base'
import type { Instant } from '@roost/core'
import { listApps } from '../store/apps.ts'
import { purgeReleases } from '../store/releases.ts'
import type { Store, Tx } from '../store/store.ts'

const PERIOD_MS = 600_000
const DAY_MS = 86_400_000
/** As long as Fly's API still tells of machines that are gone. */
const DESTROYED_KEPT_MS = 7 * DAY_MS
const JOIN_TOKENS_KEPT_MS = DAY_MS
/** Agents and edges that were away for more changes than this list everything anew. */
const TOMBSTONES_KEPT = 10_000
const RELEASES_KEPT = 200
const EVENTS_KEPT = 20

/** Forgets what nobody asks for any more, so that no table grows without end. */
export function startPurgeLap(deps: {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
}): Loop {
  const { store, clock, log } = deps
  return startLoop({
    name: 'purge',
    periodMs: PERIOD_MS,
    clock,
    log,
    lap: () => purge(store, clock.now()),
  })
}

export async function purge(
  store: Store,
  now: Instant,
  kept: { readonly tombstones: number } = { tombstones: TOMBSTONES_KEPT },
): Promise<void> {
  await store.transaction((tx) => purgeTombstones(tx, kept.tombstones))
  await store.transaction(async (tx) => {
    await tx.db
      .deleteFrom('machines')
      .where('destroyed_at', '<', now - DESTROYED_KEPT_MS)
      .execute()
    await tx.db
      .deleteFrom('join_tokens')
      .where('expires_at', '<', now - JOIN_TOKENS_KEPT_MS)
      .execute()
  })
  // One app at a time: others need not wait for all of them.
  for (const app of await store.read(listApps))
    await store.transaction((tx) =>
      purgeReleases(tx, app.name, {
        releases: RELEASES_KEPT,
        events: EVENTS_KEPT,
        serving: app.release,
      }),
    )
}

async function purgeTombstones(tx: Tx, kept: number): Promise<void> {
  const oldest = await tx.db
    .selectFrom('records')
    .select('revision')
    .where('value', 'is', null)
    .orderBy('revision', 'desc')
    .offset(kept)
    .limit(1)
    .executeTakeFirst()
  if (oldest === undefined) return
  await tx.db
    .deleteFrom('records')
    .where('value', 'is', null)
    .where('revision', '<=', oldest.revision)
    .execute()
  await tx.db
    .updateTable('counters')
    .set({ value: oldest.revision })
    .where('name', '=', 'forgotten')
    .where('value', '<', oldest.revision)
    .execute()
}
