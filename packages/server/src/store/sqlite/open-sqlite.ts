import { randomInt } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import type { RecordKind, RecordValues } from '@roost/api'
import { type Clock, PlatformError, systemClock } from '@roost/base'
import type { Assignment, Revision } from '@roost/core'
import {
  CompiledQuery,
  Kysely,
  type SqliteDatabase,
  SqliteDialect,
  type SqliteStatement,
} from 'kysely'
import { damaged, FileTrouble, storeError } from '../file-trouble.ts'
import type { Schema } from '../schema.ts'
import type { Change, Reader, Store, StoreTrouble, Tx } from '../store.ts'
import { createKeptAnswers } from './kept-answers.ts'

const MIGRATIONS = join(import.meta.dirname, '..', 'migrations')
const STATEMENTS_MAX = 300
/** Waiting for another process stops this one: backups and `--init` take milliseconds. */
const BUSY_MS = 2_000
const WAL_BYTES_KEPT = 16_000_000
/** A process that reads without an end keeps the log from being emptied. Beyond this nothing is written until it ends. */
const WAL_BYTES_MAX = 256_000_000
const COMMITS_PER_LOOK = 64
/** So late a reader may see what another process wrote. Who writes sees it at once. */
const OTHERS_UNSEEN_MS = 100
const VACUUM_PAGES = 2_000

export interface SqliteOptions {
  /** Path, or `:memory:`. */
  readonly file: string
  /** For what `trouble` says. */
  readonly clock?: Clock
  /** This installation is not new: a file that is missing or empty is refused instead of begun. Default false. */
  readonly used?: boolean
  readonly walBytesMax?: number
  /** How far revisions leap when this process first writes one. Default: by chance. */
  readonly leap?: () => number
}

const LEAP_MIN = 2 ** 24

/** The store in one SQLite file, or in `:memory:`. Every commit is on the disk before it is acknowledged. */
export function openSqlite(options: SqliteOptions): Store {
  const { file, clock = systemClock, walBytesMax = WAL_BYTES_MAX } = options
  const opened = openWhole(options)
  const { kept, changed } = createKeptAnswers()
  const { statements, dialect } = adapt(() => opened.database, changed)
  const db = new Kysely<Schema>({ dialect: new SqliteDialect({ database: dialect }) })
  const alone = oneAtATime()
  const listeners = new Set<(change: Change) => void>()
  let trouble: StoreTrouble | null = null
  let commits = 0
  let others = { commits: 0, lookedAt: Number.NEGATIVE_INFINITY }
  const lineage: Lineage = {
    leap: options.leap ?? (() => LEAP_MIN + randomInt(LEAP_MIN)),
    begun: false,
    beginning: false,
  }

  function noteTrouble(error: unknown): void {
    if (!(error instanceof FileTrouble)) return
    const { code, message } = error
    const now = clock.now()
    const since = trouble === null || trouble.over ? now : trouble.since
    trouble = { code, message, since, lastAt: now, over: false }
  }

  /** Another process may keep the log from being emptied for as long as it reads. */
  function boundLog(): void {
    if (commits++ % COMMITS_PER_LOOK !== 0 || sizeOf(`${file}-wal`) <= walBytesMax) return
    // The next try looks again.
    commits = 0
    emptyLog(opened.database)
    if (sizeOf(`${file}-wal`) <= walBytesMax) return
    const error = new FileTrouble(
      'unavailable',
      `write ${file}: its log has grown to ${Math.round(sizeOf(`${file}-wal`) / 1e6)} MB because another process reads it without an end; "fuser -v ${file}" shows which: end that one`,
    )
    noteTrouble(error)
    throw error
  }

  /** Another process may have written. Looking costs as much as many an answer does. */
  function lookForOthers(pauseMs: number): void {
    const now = clock.now()
    if (Math.abs(now - others.lookedAt) < pauseMs) return
    const [found] = dialect.prepare('PRAGMA data_version').all([]) as { data_version: number }[]
    const commits = found?.data_version ?? 0
    if (commits !== others.commits) changed()
    others = { commits, lookedAt: now }
  }

  return {
    read: (work) =>
      alone(() => {
        lookForOthers(OTHERS_UNSEEN_MS)
        return work({ db, kept })
      }).catch((error: unknown) => {
        throw storeError(error, file, 'read')
      }),
    transaction: async (work) => {
      const keys = new Set<string>()
      const result = await alone(async () => {
        const { database } = opened
        try {
          boundLog()
          const before = trouble === null ? 0 : changesOf(database)
          // IMMEDIATE: another process (a backup) may hold the file; a reader that turns writer would not wait for it.
          database.exec('BEGIN IMMEDIATE')
          lookForOthers(0)
          lineage.beginning = false
          const done = await work(createTx({ db, kept }, keys, lineage))
          database.exec('COMMIT')
          lineage.begun ||= lineage.beginning
          if (trouble !== null && changesOf(database) > before) trouble = { ...trouble, over: true }
          return done
        } catch (cause) {
          changed()
          if (database.isTransaction) database.exec('ROLLBACK')
          // What the work itself throws is its own, whatever it is called.
          const error = cause instanceof PlatformError ? cause : storeError(cause, file, 'write')
          if (error !== cause) noteTrouble(error)
          throw error
        }
      })
      if (keys.size > 0) for (const heard of [...listeners]) heard({ keys })
      return result
    },
    onChange: (heard) => {
      listeners.add(heard)
      return () => listeners.delete(heard)
    },
    trouble: () => trouble,
    size: () => ({ file, bytes: sizeOf(file), walBytes: sizeOf(`${file}-wal`) }),
    tidy: () =>
      alone(async () => {
        try {
          opened.database.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`)
          emptyLog(opened.database)
          if (!opened.exclusive) return
          // It was opened alone for want of room: others may come in again.
          opened.database.close()
          statements.clear()
          changed()
          Object.assign(opened, openWhole(options))
        } catch (cause) {
          const error = storeError(cause, file, 'write')
          noteTrouble(error)
          throw error
        }
      }),
    close: () =>
      alone(async () => {
        if (opened.database.isOpen) opened.database.close()
      }),
  }
}

interface Opened {
  database: DatabaseSync
  /** Nobody else can open the file meanwhile. */
  exclusive: boolean
}

/** Refuses what is damaged: a server that goes on with half of its records has hosts remove the machines of the other half. */
function openWhole(options: SqliteOptions): Opened {
  const { file, used = false } = options
  try {
    if (file !== ':memory:') mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    if (used && sizeOf(file) === 0)
      throw new PlatformError(
        'internal',
        `${file} is missing or empty, though this server has been in use: put back a copy of it (docs/operate/when-the-database-is-damaged.md). To begin anew, without the apps and hosts that there were, move the whole folder ${dirname(file)} away`,
      )
    try {
      return { database: open(file, false), exclusive: false }
    } catch (error) {
      const { code } = storeError(error, file, 'open') as { code?: string }
      if (code !== 'disk_full' || !existsSync(file)) throw error
      // Whoever opens a database alone keeps the index of its log in memory instead of in a new file.
      return { database: open(file, true), exclusive: true }
    }
  } catch (error) {
    throw storeError(error, file, 'open')
  }
}

function open(file: string, exclusive: boolean): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: BUSY_MS })
  try {
    if (exclusive) database.exec('PRAGMA locking_mode = EXCLUSIVE')
    // Of an old file `vacuumOnce` makes one that can shrink.
    if (sizeOf(file) === 0) database.exec('PRAGMA auto_vacuum = INCREMENTAL')
    database.exec(
      `PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = ${WAL_BYTES_KEPT}`,
    )
    const [found] = Object.values(database.prepare('PRAGMA quick_check(1)').get() ?? {})
    if (found !== 'ok') throw damaged(file, new Error(String(found)))
    migrate(database, file)
    vacuumOnce(database)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/** A file of before it was made to shrink. Without room for a second copy of it, it stays as it is until the next start. */
function vacuumOnce(database: DatabaseSync): void {
  if (database.prepare('PRAGMA auto_vacuum').get()?.['auto_vacuum'] === 2) return
  try {
    database.exec('PRAGMA auto_vacuum = INCREMENTAL; VACUUM')
  } catch {
    // Said by nobody: it only doesn't shrink.
  }
}

/** As far as readers in other processes let it; never waits for them. */
function emptyLog(database: DatabaseSync): void {
  database.exec('PRAGMA busy_timeout = 0')
  try {
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  } finally {
    database.exec(`PRAGMA busy_timeout = ${BUSY_MS}`)
  }
}

function changesOf(database: DatabaseSync): number {
  return Number(database.prepare('SELECT total_changes() AS n').get()?.['n'])
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0
}

/**
 * Revisions of one process that writes. A file that was put back from a copy counts on from where the copy was taken, and would
 * give numbers anew that agents and edges have heard already, for something else. So each process begins far beyond what any
 * other has counted, and whoever heard less lists everything anew.
 */
interface Lineage {
  readonly leap: () => number
  begun: boolean
  /** In the transaction that is open. */
  beginning: boolean
}

type Published = Pick<Schema['records'], 'value' | 'revision' | 'audience'>
// Of each change: as text, since building a query costs more than running it.
const BEFORE = 'select value, revision, audience from records where kind = ? and id = ?'
const PUBLISH =
  'insert into records (kind, id, audience, revision, value) values (?, ?, ?, ?, ?) on conflict (kind, id) do update set audience = excluded.audience, revision = excluded.revision, value = excluded.value'
const NEXT_REVISION = `update counters set value = value + 1 where name = 'revision' returning value`

function raw<Row>(sql: string, ...parameters: readonly unknown[]): CompiledQuery<Row> {
  return CompiledQuery.raw(sql, [...parameters]) as CompiledQuery<Row>
}

function createTx(reader: Reader, keys: Set<string>, lineage: Lineage): Tx {
  const { db } = reader
  return {
    ...reader,
    touch: (key) => keys.add(key),
    async publish(kind, id, value) {
      const [before] = (await db.executeQuery(raw<Published>(BEFORE, kind, id))).rows
      const text = value === null ? null : JSON.stringify(value)
      keys.add(`${kind}/${id}`)
      if (before === undefined ? text === null : before.value === text) return before?.revision ?? 0
      if (!lineage.begun && !lineage.beginning) {
        lineage.beginning = true
        await leap(db, lineage.leap())
      }
      const revision = await nextRevision(db)
      const audience = audienceOf(kind, value) ?? before?.audience ?? 'all'
      await db.executeQuery(raw(PUBLISH, kind, id, audience, revision, text))
      return revision
    },
  }
}

/** null where the value would tell, and is gone: whoever heard of it must hear that too. */
function audienceOf<K extends RecordKind>(kind: K, value: RecordValues[K] | null): string | null {
  if (kind === 'machine' || kind === 'hostname' || kind === 'certificate') return 'edge'
  if (kind !== 'assignment') return 'all'
  return value === null ? null : (value as Assignment).host
}

/** A new installation has nobody who heard anything. */
async function leap(db: Kysely<Schema>, by: number): Promise<void> {
  const { value } = await db
    .selectFrom('counters')
    .select('value')
    .where('name', '=', 'revision')
    .executeTakeFirstOrThrow()
  if (value === 0) return
  await db
    .updateTable('counters')
    .set({ value: value + by })
    .where('name', 'in', ['revision', 'forgotten'])
    .execute()
}

async function nextRevision(db: Kysely<Schema>): Promise<Revision> {
  const [next] = (await db.executeQuery(raw<{ value: Revision }>(NEXT_REVISION))).rows
  if (next === undefined) throw new Error('the database counts no revisions')
  return next.value
}

/** Files `NNNN-what.sql` in order of their numbers, each once, each whole or not at all. */
function migrate(database: DatabaseSync, file: string): void {
  database.exec('CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT)')
  const done = Number(
    database.prepare('SELECT coalesce(max(number), 0) AS n FROM migrations').get()?.['n'],
  )
  const files = readdirSync(MIGRATIONS)
    .filter((name) => /^\d{4}-.+\.sql$/.test(name))
    .sort()
  const newest = Number(files.at(-1)?.slice(0, 4) ?? 0)
  if (done > newest)
    throw new PlatformError(
      'internal',
      `the database is from a newer version of Roost (schema ${done}, this one knows ${newest})`,
    )
  for (const name of files) {
    const number = Number(name.slice(0, 4))
    if (number <= done) continue
    database.exec('BEGIN IMMEDIATE')
    try {
      database.exec(readFileSync(join(MIGRATIONS, name), 'utf8'))
      database.prepare('INSERT INTO migrations (number, name) VALUES (?, ?)').run(number, name)
      database.exec('COMMIT')
    } catch (cause) {
      if (database.isTransaction) database.exec('ROLLBACK')
      const error = storeError(cause, file, 'write')
      if (error !== cause) throw error
      throw new PlatformError('internal', `migrate the database: ${name}`, { cause })
    }
  }
}

/** Kysely knows the interface of better-sqlite3; Node's own differs in small ways. Statements are kept prepared. */
function adapt(
  database: () => DatabaseSync,
  changed: () => void,
): {
  readonly dialect: SqliteDatabase
  /** Those of a database that was closed are of no use. */
  readonly statements: Map<string, SqliteStatement>
} {
  const statements = new Map<string, SqliteStatement>()
  const dialect: SqliteDatabase = {
    close: () => {
      if (database().isOpen) database().close()
    },
    prepare(sql) {
      const known = statements.get(sql)
      if (known !== undefined) return known
      if (statements.size >= STATEMENTS_MAX) statements.clear()
      const statement = adaptStatement(
        database().prepare(sql),
        QUERY.test(sql) ? () => {} : changed,
      )
      statements.set(sql, statement)
      return statement
    },
  }
  return { dialect, statements }
}

/** Changes nothing. Of what is not known to be so, it is not believed. */
const QUERY = /^(select|pragma data_version$)/i

function adaptStatement(statement: StatementSync, before: () => void): SqliteStatement {
  const values = (parameters: readonly unknown[]) => {
    before()
    return parameters as SQLInputValue[]
  }
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...values(parameters)),
    run: (parameters) => statement.run(...values(parameters)),
    iterate: (parameters) => statement.iterate(...values(parameters)),
  }
}

/** One connection means one piece of work at a time; others queue in order. */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    const mine = last.then(work, work)
    last = mine
    return mine
  }
}
