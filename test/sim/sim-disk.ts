import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'

/** One file system: may be full, or slow. */
export interface SimDisk {
  full: boolean
  /** What each write takes, in simulated milliseconds. */
  slowMs: number
}

export function createSimDisk(): SimDisk {
  return { full: false, slowMs: 0 }
}

/** What SQLite says when the file system has no room. */
export function fullError(): Error {
  return Object.assign(new Error('database or disk is full'), {
    code: 'ERR_SQLITE_ERROR',
    errcode: 13,
    errstr: 'database or disk is full',
  })
}

const WRITES = /^\s*(INSERT|UPDATE|DELETE|CREATE|REPLACE|COMMIT)/i

/** SQLite as the programs open it, on a disk that may refuse. Reading goes on. */
export function openOn(disk: SimDisk, onRefused: () => void): (file: string) => DatabaseSync {
  const refuse = (sql: string) => {
    if (!disk.full || !WRITES.test(sql)) return
    onRefused()
    throw fullError()
  }
  return (file) => {
    const database = new DatabaseSync(file, { timeout: 5000 })
    const exec = database.exec.bind(database)
    const prepare = database.prepare.bind(database)
    return Object.assign(database, {
      exec: (sql: string) => {
        refuse(sql)
        exec(sql)
      },
      prepare: (sql: string): StatementSync => {
        const statement = prepare(sql)
        if (!WRITES.test(sql)) return statement
        const run = statement.run.bind(statement)
        return Object.assign(statement, {
          run: (...values: Parameters<StatementSync['run']>) => {
            refuse(sql)
            return run(...values)
          },
        })
      },
    })
  }
}

const ENDS = ['', '-wal']

/** SQLite files as they are on the disk now: between two transactions, so that they fit together. */
export function copyDatabase(from: string, to: string): void {
  mkdirSync(join(to, '..'), { recursive: true })
  for (const end of [...ENDS, '-shm']) rmSync(`${to}${end}`, { force: true })
  for (const end of ENDS)
    if (existsSync(`${from}${end}`)) copyFileSync(`${from}${end}`, `${to}${end}`)
}
