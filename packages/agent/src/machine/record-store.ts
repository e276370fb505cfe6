import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { describeError, isBroken, type Logger, type OpenDatabase, openDatabase } from '@roost/base'
import type { CheckStatus, MachineId, MachineRecord } from '@roost/core'

/** What the agent remembers of one machine over its own death. */
export interface KeptMachine {
  readonly record: MachineRecord
  /** Of the last status that was told; the next one has a higher one. */
  readonly statusSequence: number
  /** Last results, so that a restarted agent doesn't take its machines out of rotation. */
  readonly checks: readonly CheckStatus[]
}

export interface RecordStore {
  load(): readonly KeptMachine[]
  save(kept: KeptMachine): void
  remove(id: MachineId): void
  /** Writes what could not be written, when there is something. */
  flush(): void
  close(): void
}

const SCHEMA_VERSION = 1

/**
 * In SQLite: a file, or `:memory:`. One that is broken is moved aside and begun anew: what runs is seen in the runtime, and
 * what is lost are counts of restarts. When it can't be written (a full disk) memory goes on; the next write that works
 * writes all that was missed.
 */
export function openRecordStore(options: {
  readonly file: string
  readonly log: Logger
  /** Opens SQLite; the simulator's refuses writes now and then. */
  readonly open?: OpenDatabase
}): RecordStore {
  const { file, log } = options
  /** By machine, so it is bounded by those of this host. null: to be removed. */
  const missed = new Map<MachineId, KeptMachine | null>()
  let complained = false
  const opened = { statements: openStatements() }

  function openStatements(): Statements | null {
    try {
      return prepare(openOrBegin(file, log, options.open ?? openDatabase))
    } catch (error) {
      if (!complained)
        log.error('memory of machines: only in this process for now', { file, error })
      return null
    }
  }

  function write(id: MachineId, kept: KeptMachine | null): void {
    missed.set(id, kept)
    writeMissed()
  }

  function writeMissed(): void {
    opened.statements ??= openStatements()
    const { statements } = opened
    try {
      if (statements === null) throw new Error('it could not be opened')
      for (const [each, value] of missed) {
        if (value === null) statements.remove.run(each)
        else statements.put.run(each, JSON.stringify(value))
        missed.delete(each)
      }
      if (complained) log.info('memory of machines: written again', { file })
      complained = false
    } catch (error) {
      if (!complained) log.warn('memory of machines: write', { file, error })
      complained = true
    }
  }

  return {
    load: () =>
      (opened.statements?.all.all() ?? []).map(
        (row) => JSON.parse(String(row['value'])) as KeptMachine,
      ),
    save: (kept) => write(kept.record.id, kept),
    remove: (id) => write(id, null),
    flush: () => {
      if (missed.size > 0) writeMissed()
    },
    close: () => opened.statements?.database.close(),
  }
}

type Statements = ReturnType<typeof prepare>

function prepare(database: DatabaseSync) {
  return {
    database,
    all: database.prepare('SELECT value FROM machines ORDER BY id'),
    put: database.prepare(
      'INSERT INTO machines (id, value) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value',
    ),
    remove: database.prepare('DELETE FROM machines WHERE id = ?'),
  }
}

function openOrBegin(file: string, log: Logger, openFile: OpenDatabase): DatabaseSync {
  try {
    return open(file, openFile)
  } catch (error) {
    // A disk without room breaks no file.
    if (!isBroken(error)) throw error
    log.warn('memory of machines: can not be read, begun anew', {
      file,
      error: describeError(error),
    })
    if (existsSync(file)) renameSync(file, `${file}.broken`)
    for (const end of ['-wal', '-shm']) rmSync(`${file}${end}`, { force: true })
    return open(file, openFile)
  }
}

function open(file: string, openFile: OpenDatabase): DatabaseSync {
  if (file !== ':memory:') mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const database = openFile(file)
  try {
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    const version = database.prepare('PRAGMA user_version').get()?.['user_version']
    if (version !== 0 && version !== SCHEMA_VERSION) throw new Error(`schema version ${version}`)
    // What is there needs no write, so that a full disk is no reason not to read it.
    if (version === 0)
      database.exec(`CREATE TABLE IF NOT EXISTS machines (id TEXT PRIMARY KEY, value TEXT NOT NULL);
        PRAGMA user_version = ${SCHEMA_VERSION}`)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}
