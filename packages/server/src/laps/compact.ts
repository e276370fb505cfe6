import type { Deps } from '../deps.ts'

/** Who was away for less hears what is gone; who was away for longer lists again. */
const TOMBSTONES_KEPT = 10_000
/** Destroyed machines can be asked for by their id for a week. */
const DESTROYED_KEPT_MS = 7 * 86_400_000

/** A lap that removes what nobody asks for any more, so that the store does not only grow. */
export async function compact(deps: Pick<Deps, 'store' | 'clock'>): Promise<void> {
  const { store, clock } = deps
  await store.transaction(async ({ db }) => {
    const { value: revision } = await db
      .selectFrom('counters')
      .select('value')
      .where('name', '=', 'revision')
      .executeTakeFirstOrThrow()
    const upTo = revision - TOMBSTONES_KEPT
    const forgotten = await db
      .deleteFrom('records')
      .where('value', 'is', null)
      .where('revision', '<=', upTo)
      .executeTakeFirst()
    if (forgotten.numDeletedRows > 0n)
      await db
        .updateTable('counters')
        .set({ value: upTo })
        .where('name', '=', 'forgotten')
        .execute()
    await db
      .deleteFrom('machines')
      .where('destroyed_at', 'is not', null)
      .where((at) =>
        at.or([
          at('destroyed_at', '<', clock.now() - DESTROYED_KEPT_MS),
          at('app_destroyed', '=', 1),
        ]),
      )
      .execute()
  })
}
