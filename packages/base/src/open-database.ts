import { DatabaseSync } from 'node:sqlite'

export type OpenDatabase = (file: string) => DatabaseSync

/** The one program that has the file open may wait so long for its former self to end. */
const BUSY_MS = 5000
/** Primary codes of SQLite: I/O, full, can't open. */
const ROOM = new Set([10, 13, 14])

/**
 * Opens a file of SQLite that one program alone uses, in WAL mode. On a full file system SQLite can't make the file that it
 * shares its index of the log by; it is opened without one then, so that what was kept can be read, and written when there
 * is room again.
 */
export const openDatabase: OpenDatabase = (file) => {
  try {
    return inWalMode(new DatabaseSync(file, { timeout: BUSY_MS }))
  } catch (error) {
    const code = (error as { errcode?: unknown }).errcode
    if (typeof code !== 'number' || !ROOM.has(code & 0xff)) throw error
    const database = new DatabaseSync(file, { timeout: BUSY_MS })
    return inWalMode(database, 'PRAGMA locking_mode = EXCLUSIVE; ')
  }
}

function inWalMode(database: DatabaseSync, first = ''): DatabaseSync {
  try {
    database.exec(`${first}PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL`)
    // The mode is set when the file is first looked into.
    database.prepare('PRAGMA user_version').get()
    return database
  } catch (error) {
    database.close()
    throw error
  }
}
