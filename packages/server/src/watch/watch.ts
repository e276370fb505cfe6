import type { Peer, WatchEvent, WatchRecord } from '@roost/api'
import type { Clock } from '@roost/base'
import type { Revision } from '@roost/core'
import type { Reader, Store } from '../store/store.ts'

/** Another server may have written (later); and a lost wake must not last. */
const POLL_MS = 1_000
const BEAT_MS = 5_000
const PAGE = 1_000

/**
 * Everything that concerns one agent or edge since a revision, then what changes, until `signal` aborts. Who heard nothing yet,
 * or something that is no longer known to have been so, gets a `reset` and all that there is.
 */
export async function* watch(
  deps: { readonly store: Store; readonly clock: Clock },
  peer: Peer,
  since: Revision,
  signal: AbortSignal,
): AsyncGenerator<WatchEvent> {
  const { store, clock } = deps
  const audiences = ['all', peer.program === 'agent' ? peer.host : 'edge']
  const changes = listenForChanges(store)
  try {
    let cursor = since
    let synced: Revision | null = null
    let saidAt = clock.now()
    while (!signal.aborted) {
      const woken = changes.next()
      const { head, forgotten } = await store.read(counters)
      const reset = cursor < forgotten || cursor > head || (cursor === 0 && synced === null)
      if (reset) {
        yield { type: 'reset' }
        cursor = 0
      }
      let more = reset || cursor < head
      while (more && !signal.aborted) {
        // Of a listing, what was gone before it began is left out.
        const goneBefore = reset ? head : 0
        const page = await store.read((reader) =>
          recordsAfter(reader, audiences, cursor, goneBefore),
        )
        for (const record of page.records) yield record
        more = page.records.length === PAGE
        cursor = more ? (page.records.at(-1)?.revision ?? page.head) : page.head
      }
      if (synced === null || cursor !== synced || clock.now() - saidAt >= BEAT_MS) {
        if (signal.aborted) return
        synced = cursor
        saidAt = clock.now()
        yield { type: 'synced', revision: cursor }
      }
      await clock.sleep(POLL_MS, AbortSignal.any([signal, woken]))
    }
  } finally {
    changes.end()
  }
}

/** The newest revision. */
export async function headOf(reader: Reader): Promise<Revision> {
  return (await counters(reader)).head
}

async function counters(reader: Reader): Promise<{ head: Revision; forgotten: Revision }> {
  const rows = await reader.db.selectFrom('counters').selectAll().execute()
  const value = (name: string) => rows.find((row) => row.name === name)?.value ?? 0
  return { head: value('revision'), forgotten: value('forgotten') }
}

async function recordsAfter(
  reader: Reader,
  audiences: readonly string[],
  cursor: Revision,
  goneBefore: Revision,
): Promise<{ records: WatchRecord[]; head: Revision }> {
  const rows = await reader.db
    .selectFrom('records')
    .select(['kind', 'id', 'revision', 'value'])
    .where('audience', 'in', audiences)
    .where('revision', '>', cursor)
    .where((at) => at.or([at('value', 'is not', null), at('revision', '>', goneBefore)]))
    .orderBy('revision')
    .limit(PAGE)
    .execute()
  const { head } = await counters(reader)
  const records = rows.map(
    ({ kind, id, revision, value }) =>
      ({
        type: 'record',
        revision,
        kind,
        id,
        value: value === null ? null : JSON.parse(value),
      }) as WatchRecord,
  )
  return { records, head }
}

/** `next()` aborts at the first change after it was called. */
function listenForChanges(store: Store): { next(): AbortSignal; end(): void } {
  let waiting = new AbortController()
  const end = store.onChange(() => waiting.abort())
  return {
    next: () => {
      waiting = new AbortController()
      return waiting.signal
    },
    end,
  }
}
