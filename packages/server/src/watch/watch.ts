import type { Peer, WatchEvent, WatchRecord } from '@roost/api'
import type { Clock } from '@roost/base'
import type { Revision } from '@roost/core'
import { CompiledQuery } from 'kysely'
import type { Schema } from '../store/schema.ts'
import type { Reader, Store } from '../store/store.ts'

/** Another server may have written (later); and a lost wake must not last. */
const POLL_MS = 5_000
/** Of `Change.keys`: what records of theirs are told under. Most changes are none of an agent's business. */
const FOR_AGENTS = /^(assignment|host|app|settings)\//
const FOR_EDGES = /^(machine|host|app|settings|hostname|certificate)\//
/** One reason for all: an error of its own for each wake would cost its stack. */
const CHANGED = new Error('changed')
const BEAT_MS = 5_000
type Audiences = readonly [string, string]
const PAGE = 1_000
/** Asked by each watch at each change: as text, since building a query costs more than running it. */
const COUNTERS = CompiledQuery.raw('select * from counters') as CompiledQuery<{
  name: string
  value: number
}>

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
  const audiences: Audiences = ['all', peer.program === 'agent' ? peer.host : 'edge']
  const concerns = peer.program === 'agent' ? FOR_AGENTS : FOR_EDGES
  const changes = listenForChanges(store, concerns, signal)
  try {
    let cursor = since
    let synced: Revision | null = null
    let saidAt = clock.now()
    while (!signal.aborted) {
      const woken = changes.next()
      const first = synced === null
      const looked = await store.read((reader) => look(reader, audiences, cursor, first))
      const { head, reset } = looked
      if (reset) yield { type: 'reset' }
      let page = looked.page
      for (;;) {
        for (const record of page) yield record
        if (page.length < PAGE) break
        cursor = page.at(-1)?.revision ?? head
        if (signal.aborted) return
        // Of a listing, what was gone before it began is left out.
        const from = { after: cursor, goneBefore: reset ? head : 0 }
        page = await store.read((reader) => recordsAfter(reader, audiences, from))
      }
      // What came after the first page was read is beyond it, and a change wakes the next look.
      cursor = Math.max(head, page.at(-1)?.revision ?? 0)
      if (synced === null || cursor !== synced || clock.now() - saidAt >= BEAT_MS) {
        if (signal.aborted) return
        synced = cursor
        saidAt = clock.now()
        yield { type: 'synced', revision: cursor }
      }
      await clock.sleep(POLL_MS, woken)
    }
  } finally {
    changes.end()
  }
}

/** The newest revision. */
export async function headOf(reader: Reader): Promise<Revision> {
  return (await counters(reader)).head
}

function counters(reader: Reader): Promise<{ head: Revision; forgotten: Revision }> {
  return reader.kept('counters', async () => {
    const { rows } = await reader.db.executeQuery(COUNTERS)
    const value = (name: string) => rows.find((row) => row.name === name)?.value ?? 0
    return { head: value('revision'), forgotten: value('forgotten') }
  })
}

/** By revision, since what is asked for is nearly always the end. */
const RECORDS = `select kind, id, revision, value from records where revision > ? and (value is not null or revision > ?) and +audience in (?, ?) order by revision limit ${PAGE}`

/** Where the records are, and the first page of what is new since `cursor`, at one moment. */
async function look(
  reader: Reader,
  audiences: Audiences,
  cursor: Revision,
  first: boolean,
): Promise<{ head: Revision; reset: boolean; page: readonly WatchRecord[] }> {
  const { head, forgotten } = await counters(reader)
  const reset = cursor < forgotten || cursor > head || (cursor === 0 && first)
  if (!reset && cursor === head) return { head, reset, page: [] }
  const from = reset ? { after: 0, goneBefore: head } : { after: cursor, goneBefore: 0 }
  return { head, reset, page: await recordsAfter(reader, audiences, from) }
}

async function recordsAfter(
  reader: Reader,
  audiences: Audiences,
  from: { readonly after: Revision; readonly goneBefore: Revision },
): Promise<WatchRecord[]> {
  const { rows } = await reader.db.executeQuery(
    CompiledQuery.raw(RECORDS, [from.after, from.goneBefore, ...audiences]) as CompiledQuery<
      Pick<Schema['records'], 'kind' | 'id' | 'revision' | 'value'>
    >,
  )
  return rows.map(
    ({ kind, id, revision, value }) =>
      ({
        type: 'record',
        revision,
        kind,
        id,
        value: value === null ? null : JSON.parse(value),
      }) as WatchRecord,
  )
}

/** `next()` aborts at the first change after it was called, and with `signal`. */
function listenForChanges(
  store: Store,
  concerns: RegExp,
  signal: AbortSignal,
): { next(): AbortSignal; end(): void } {
  let waiting = new AbortController()
  const wake = () => waiting.abort(CHANGED)
  signal.addEventListener('abort', wake)
  const unhear = store.onChange(({ keys }) => {
    for (const key of keys)
      if (concerns.test(key)) {
        wake()
        return
      }
  })
  return {
    next: () => {
      waiting = new AbortController()
      if (signal.aborted) wake()
      return waiting.signal
    },
    end: () => {
      unhear()
      signal.removeEventListener('abort', wake)
    },
  }
}
