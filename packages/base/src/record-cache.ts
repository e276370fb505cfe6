import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import type { Revision } from '@roost/core'
import type { Logger } from './log.ts'
import { type OpenDatabase, openDatabase } from './open-database.ts'

/** The watch stream's events as far as a cache must understand them; `api`'s WatchEvent is one. */
export type CacheEvent =
  | {
      readonly type: 'record'
      readonly revision: Revision
      readonly kind: string
      readonly id: string
      readonly value: unknown
    }
  | { readonly type: 'reset' }
  | { readonly type: 'synced'; readonly revision: Revision }

/**
 * What a program heard from the server, kept in a file so that it starts without one. `Values` gives the type of each kind.
 *
 * - Readers see whole batches only: events take effect together at their `synced`, in memory and on disk.
 * - After `reset`, what the batch does not name is gone at its `synced`.
 * - The file is a copy. When it is broken it is moved aside and begun anew; when it can't be written, memory goes on
 *   and the next write that works writes all of it.
 */
export interface RecordCache<Values extends object> {
  apply(events: Iterable<CacheEvent>): void
  /** Forgets events that no `synced` has followed: the connection they came by is gone. */
  abandon(): void
  list<K extends keyof Values & string>(kind: K): readonly Values[K][]
  /** The same with the id of each, which is the server's word and not the record's own. */
  entries<K extends keyof Values & string>(kind: K): readonly (readonly [string, Values[K]])[]
  get<K extends keyof Values & string>(kind: K, id: string): Values[K] | null
  /** Of the last `synced`; 0 when nothing was heard yet. */
  revision(): Revision
  close(): void
}

interface Row {
  readonly revision: Revision
  readonly value: unknown
}
type State = Map<string, Map<string, Row>>

/** 2: with an owner. */
const SCHEMA_VERSION = 2
/** A server that says more than this without `synced` is broken. */
const PENDING_MAX = 500_000

export function createRecordCache<Values extends object>(options: {
  /** Path, or `:memory:`. */
  readonly file: string
  /**
   * Who hears these records. What another has heard is begun anew: a host that was removed and joined again would never
   * be told that what it knew of its former self is gone.
   */
  readonly owner?: string
  readonly log: Logger
  /** Opens SQLite; the simulator's refuses writes now and then. */
  readonly open?: OpenDatabase
}): RecordCache<Values> {
  const { file, log, owner = '' } = options
  const how = { file, log, owner, open: options.open ?? openDatabase }
  const opened = openOrBegin(how)
  const { state } = opened
  let { database } = opened
  let statements = database === null ? null : prepare(database)
  let revision = opened.revision
  let pending: CacheEvent[] = []
  let stale = false

  /** What could not be opened at the start may be there by now. */
  function reopen(): void {
    if (database !== null || file === ':memory:') return
    database = openAgain(how)
    statements = database === null ? null : prepare(database)
    stale = true
  }

  function persist(changed: readonly (readonly [string, string])[], reset: boolean): void {
    reopen()
    if (database === null || statements === null) return
    try {
      database.exec('BEGIN IMMEDIATE')
      if (reset || stale) {
        statements.clear.run()
        for (const [kind, rows] of state)
          for (const [id, row] of rows)
            statements.put.run(kind, id, row.revision, JSON.stringify(row.value))
      } else {
        for (const [kind, id] of changed) {
          const row = state.get(kind)?.get(id)
          if (row === undefined) statements.remove.run(kind, id)
          else statements.put.run(kind, id, row.revision, JSON.stringify(row.value))
        }
      }
      statements.revision.run(revision)
      database.exec('COMMIT')
      stale = false
    } catch (error) {
      if (!stale) log.warn('cache of records: write', { file, error })
      stale = true
      try {
        database.exec('ROLLBACK')
      } catch {
        // No transaction was open.
      }
    }
  }

  function commit(to: Revision): void {
    const batch = pending
    pending = []
    const lastReset = batch.findLastIndex((event) => event.type === 'reset')
    const reset = lastReset !== -1
    if (reset) state.clear()
    const changed: (readonly [string, string])[] = []
    for (const event of batch.slice(lastReset + 1)) {
      if (event.type !== 'record') continue
      const rows = state.get(event.kind) ?? new Map<string, Row>()
      state.set(event.kind, rows)
      if ((rows.get(event.id)?.revision ?? -1) > event.revision) continue
      if (event.value === null) rows.delete(event.id)
      else rows.set(event.id, { revision: event.revision, value: event.value })
      changed.push([event.kind, event.id])
    }
    const before = revision
    revision = reset ? to : Math.max(revision, to)
    if (reset || stale || changed.length > 0 || revision !== before) persist(changed, reset)
  }

  return {
    apply(events) {
      for (const event of events) {
        if (event.type === 'synced') commit(event.revision)
        else if (pending.push(event) > PENDING_MAX) {
          pending = []
          throw new Error(`more than ${PENDING_MAX} records without an end of the batch`)
        }
      }
    },
    abandon() {
      pending = []
    },
    list<K extends keyof Values & string>(kind: K) {
      return [...(state.get(kind)?.values() ?? [])].map((row) => row.value as Values[K])
    },
    entries<K extends keyof Values & string>(kind: K) {
      return [...(state.get(kind) ?? [])].map(([id, row]) => [id, row.value as Values[K]] as const)
    },
    get<K extends keyof Values & string>(kind: K, id: string) {
      return (state.get(kind)?.get(id)?.value ?? null) as Values[K] | null
    },
    revision: () => revision,
    close() {
      database?.close()
    },
  }
}

function prepare(database: DatabaseSync) {
  return {
    clear: database.prepare('DELETE FROM records'),
    put: database.prepare(
      'INSERT INTO records (kind, id, revision, value) VALUES (?, ?, ?, ?) ' +
        'ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, value = excluded.value',
    ),
    remove: database.prepare('DELETE FROM records WHERE kind = ? AND id = ?'),
    revision: database.prepare('UPDATE meta SET revision = ?'),
  }
}

interface HowToOpen {
  readonly file: string
  readonly owner: string
  readonly log: Logger
  readonly open: OpenDatabase
}

interface Opened {
  readonly database: DatabaseSync | null
  readonly state: State
  readonly revision: Revision
}

function openOrBegin(how: HowToOpen): Opened {
  const { file, log } = how
  const nothing: Opened = { database: null, state: new Map(), revision: 0 }
  if (file === ':memory:') return nothing
  try {
    return open(how)
  } catch (error) {
    // A disk without room breaks no file: it is read when there is some.
    if (!isBroken(error)) {
      log.error('cache of records: only in memory for now', { file, error })
      return nothing
    }
    log.warn('cache of records: can not be read, begun anew', { file, error })
  }
  try {
    moveAside(file)
    return open(how)
  } catch (error) {
    log.error('cache of records: only in memory for now', { file, error })
    return nothing
  }
}

function openAgain(how: HowToOpen): DatabaseSync | null {
  try {
    return open(how).database
  } catch (error) {
    if (isBroken(error)) moveAside(how.file)
    return null
  }
}

function moveAside(file: string): void {
  if (existsSync(file)) renameSync(file, `${file}.broken`)
  for (const end of ['-wal', '-shm']) rmSync(`${file}${end}`, { force: true })
}

/** SQLite's own words for what has to do with the file system and not with what is in the file: busy, no memory, read-only, I/O, full, can't open. */
const NOT_THE_FILE: ReadonlySet<number> = new Set([5, 6, 7, 8, 10, 13, 14])

/** Whether an error of SQLite's says that what is in the file is unusable. */
export function isBroken(error: unknown): boolean {
  const code = (error as { errcode?: unknown } | null)?.errcode
  if (typeof code === 'number') return !NOT_THE_FILE.has(code & 0xff)
  // Of the file system's own: no room, no right.
  return !(error instanceof Error && 'syscall' in error)
}

function open({ file, owner, open: openFile }: HowToOpen): Opened {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const database = openFile(file)
  try {
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    const found = database.prepare('PRAGMA user_version').get()?.['user_version']
    if (found !== 0 && found !== 1 && found !== SCHEMA_VERSION)
      throw new Error(`schema version ${found}`)
    const check = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (check !== 'ok') throw new Error(String(check))
    // What is there needs no write, so that a full disk is no reason not to read it.
    if (found !== SCHEMA_VERSION) begin(database, owner)
    const ownedBy = database.prepare('SELECT value FROM owner').get()?.['value'] ?? ''
    if (ownedBy !== owner) disown(database, owner)
    const state: State = new Map()
    for (const row of database.prepare('SELECT kind, id, revision, value FROM records').iterate()) {
      const kind = String(row['kind'])
      const rows = state.get(kind) ?? new Map<string, Row>()
      state.set(kind, rows)
      rows.set(String(row['id']), {
        revision: Number(row['revision']),
        value: JSON.parse(String(row['value'])),
      })
    }
    const revision = Number(database.prepare('SELECT revision FROM meta').get()?.['revision'])
    return { database, state, revision }
  } catch (error) {
    database.close()
    throw error
  }
}

function begin(database: DatabaseSync, owner: string): void {
  database.exec(`BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS records (
      kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, value TEXT NOT NULL,
      PRIMARY KEY (kind, id)
    );
    CREATE TABLE IF NOT EXISTS meta (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS owner (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT NOT NULL);
    INSERT OR IGNORE INTO meta (one, revision) VALUES (1, 0);
    PRAGMA user_version = ${SCHEMA_VERSION}`)
  database.prepare('INSERT OR REPLACE INTO owner (one, value) VALUES (1, ?)').run(owner)
  database.exec('COMMIT')
}

function disown(database: DatabaseSync, owner: string): void {
  database.exec('BEGIN IMMEDIATE; DELETE FROM records; UPDATE meta SET revision = 0')
  database.prepare('INSERT OR REPLACE INTO owner (one, value) VALUES (1, ?)').run(owner)
  database.exec('COMMIT')
}
