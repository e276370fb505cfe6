import { type Clock, type Logger, type Loop, startLoop } from '@roost/base'
import { type Instant, lineOf, TOKEN_KEPT_MS } from '@roost/core'
import { DEFAULT_NETWORK } from '../http/apps.ts'
import { listApps, listNetworks } from '../store/apps.ts'
import { purgeLeases } from '../store/leases.ts'
import { purgeReleases } from '../store/releases.ts'
import { purgeSessions } from '../store/sessions.ts'
import { publishSettings } from '../store/settings.ts'
import type { Store, Tx } from '../store/store.ts'
import { handOverMade, listTokens } from '../store/tokens.ts'

const PERIOD_MS = 600_000
const DAY_MS = 86_400_000
/** As long as Fly's API still tells of machines that are gone. */
const DESTROYED_KEPT_MS = 7 * DAY_MS
/** However many there were in those days: each keeps its configuration, versions and events. */
const DESTROYED_KEPT = 2_000
const ROWS_PER_TRANSACTION = 200
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
  kept: { readonly tombstones?: number; readonly destroyed?: number } = {},
): Promise<void> {
  await store.transaction((tx) => purgeTombstones(tx, kept.tombstones ?? TOMBSTONES_KEPT))
  await purgeMachines(store, now, kept.destroyed ?? DESTROYED_KEPT)
  await store.transaction(async (tx) => {
    await purgeLeases(tx, now)
    await purgeSessions(tx, now)
    await tx.db
      .deleteFrom('join_tokens')
      .where('expires_at', '<', now - JOIN_TOKENS_KEPT_MS)
      .execute()
    await purgeTokens(tx, now)
    await purgeNetworks(tx)
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
  await store.tidy()
}

/** Those that are gone, with their versions, events and statuses: few at a time, so that nobody waits for long. */
async function purgeMachines(store: Store, now: Instant, kept: number): Promise<void> {
  const gone = await store.read(async ({ db }) => {
    const rows = await db
      .selectFrom('machines')
      .select(['id', 'destroyed_at'])
      .where('destroyed_at', 'is not', null)
      .orderBy('destroyed_at', 'desc')
      .execute()
    return rows
      .filter((row, n) => n >= kept || (row.destroyed_at ?? 0) < now - DESTROYED_KEPT_MS)
      .map(({ id }) => id)
  })
  for (let from = 0; from < gone.length; from += ROWS_PER_TRANSACTION) {
    const ids = gone.slice(from, from + ROWS_PER_TRANSACTION)
    await store.transaction((tx) => tx.db.deleteFrom('machines').where('id', 'in', ids).execute())
  }
}

/**
 * What was made with one that goes counts as made with its maker, so that it still ends with that. The first of a line stays as long as
 * anything that was made with it, which would begin lines of its own without it.
 */
async function purgeTokens(tx: Tx, now: Instant): Promise<void> {
  const tokens = await listTokens(tx)
  for (const { id, policy, revokedAt } of tokens) {
    const ended = Math.min(
      revokedAt ?? Number.POSITIVE_INFINITY,
      policy.expiresAt ?? Number.POSITIVE_INFINITY,
    )
    if (ended > now - TOKEN_KEPT_MS) continue
    if (lineOf(tokens, id) === id && tokens.some((token) => token.parent === id)) continue
    await handOverMade(tx, id)
    await tx.db.deleteFrom('tokens').where('id', '=', id).execute()
  }
}

/** Private networks of apps that are gone, and whose last machines are: addresses are made of the number. */
async function purgeNetworks(tx: Tx): Promise<void> {
  const used = new Set((await listApps(tx)).map((app) => app.network))
  const unused = (await listNetworks(tx))
    .filter(({ number, name }) => name !== DEFAULT_NETWORK && !used.has(number))
    .map(({ number }) => number)
  if (unused.length === 0) return
  const leaving = await tx.db
    .selectFrom('machines')
    .select('id')
    .where('app_destroyed', '=', 1)
    .where('destroyed_at', 'is', null)
    .executeTakeFirst()
  if (leaving !== undefined) return
  await tx.db.deleteFrom('networks').where('number', 'in', unused).execute()
  await publishSettings(tx)
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
