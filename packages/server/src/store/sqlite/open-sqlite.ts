import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import type { RecordKind, RecordValues } from '@roost/api'
import { PlatformError } from '@roost/base'
import type { Assignment, Revision } from '@roost/core'
import { Kysely, type SqliteDatabase, SqliteDialect, type SqliteStatement } from 'kysely'
import type { Schema } from '../schema.ts'
import type { Change, Store, Tx } from '../store.ts'

const MIGRATIONS = join(import.meta.dirname, '..', 'migrations')
const STATEMENTS_MAX = 300

/** The store in one SQLite file, or in `:memory:`. Every commit is on the disk before it is acknowledged. */
export function openSqlite(options: { readonly file: string }): Store {
  const { file } = options
  if (file !== ':memory:') mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const database = new DatabaseSync(file, { timeout: 5000 })
  database.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY',
  )
  migrate(database)
  const db = new Kysely<Schema>({ dialect: new SqliteDialect({ database: adapt(database) }) })
  const alone = oneAtATime()
  const listeners = new Set<(change: Change) => void>()

  return {
    read: (work) => alone(() => work({ db })),
    transaction: async (work) => {
      const keys = new Set<string>()
      const result = await alone(async () => {
        // IMMEDIATE: another process (a backup) may hold the file; a reader that turns writer would not wait for it.
        database.exec('BEGIN IMMEDIATE')
        try {
          const done = await work(createTx(db, keys))
          database.exec('COMMIT')
          return done
        } catch (error) {
          if (database.isTransaction) database.exec('ROLLBACK')
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
    close: () =>
      alone(async () => {
        if (database.isOpen) database.close()
      }),
  }
}

function createTx(db: Kysely<Schema>, keys: Set<string>): Tx {
  return {
    db,
    touch: (key) => keys.add(key),
    async publish(kind, id, value) {
      const before = await db
        .selectFrom('records')
        .select(['value', 'revision', 'audience'])
        .where('kind', '=', kind)
        .where('id', '=', id)
        .executeTakeFirst()
      const text = value === null ? null : JSON.stringify(value)
      keys.add(`${kind}/${id}`)
      if (before === undefined ? text === null : before.value === text) return before?.revision ?? 0
      const revision = await nextRevision(db)
      const audience = audienceOf(kind, value) ?? before?.audience ?? 'all'
      await db
        .insertInto('records')
        .values({ kind, id, audience, revision, value: text })
        .onConflict((conflict) =>
          conflict.columns(['kind', 'id']).doUpdateSet({ audience, revision, value: text }),
        )
        .execute()
      return revision
    },
  }
}

/** null where the value would tell, and is gone: whoever heard of it must hear that too. */
function audienceOf<K extends RecordKind>(kind: K, value: RecordValues[K] | null): string | null {
  if (kind === 'machine') return 'edge'
  if (kind !== 'assignment') return 'all'
  return value === null ? null : (value as Assignment).host
}

async function nextRevision(db: Kysely<Schema>): Promise<Revision> {
  const { value } = await db
    .updateTable('counters')
    .set((at) => ({ value: at('value', '+', 1) }))
    .where('name', '=', 'revision')
    .returning('value')
    .executeTakeFirstOrThrow()
  return value
}

/** Files `NNNN-what.sql` in order of their numbers, each once, each whole or not at all. */
function migrate(database: DatabaseSync): void {
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
      throw new PlatformError('internal', `migrate the database: ${name}`, { cause })
    }
  }
}

/** Kysely knows the interface of better-sqlite3; Node's own differs in small ways. Statements are kept prepared. */
function adapt(database: DatabaseSync): SqliteDatabase {
  const prepared = new Map<string, SqliteStatement>()
  return {
    close: () => {
      if (database.isOpen) database.close()
    },
    prepare(sql) {
      const known = prepared.get(sql)
      if (known !== undefined) return known
      if (prepared.size >= STATEMENTS_MAX) prepared.clear()
      const statement = adaptStatement(database.prepare(sql))
      prepared.set(sql, statement)
      return statement
    },
  }
}

function adaptStatement(statement: StatementSync): SqliteStatement {
  const values = (parameters: readonly unknown[]) => parameters as SQLInputValue[]
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
