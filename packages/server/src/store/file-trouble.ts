import { accessSync, constants, statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { PlatformError } from '@roost/base'

/** SQLite's primary result codes that say something of the file rather than of the query. */
const BUSY = 5
const LOCKED = 6
const READONLY = 8
const IOERR = 10
const CORRUPT = 11
const FULL = 13
const CANTOPEN = 14
const NOTADB = 26
/** Less than this left: SQLite can't even grow its index of the write-ahead log. */
const ROOM_BYTES = 65_536
const MUCH_ROOM_BYTES = 100_000_000

const FULL_ERRORS = new Set(['ENOSPC', 'EDQUOT'])

/**
 * What went wrong with the database file, in words that say what to do; whatever is no trouble of the file comes back as it
 * is. A transaction that failed so was rolled back whole.
 */
export function storeError(error: unknown, file: string, doing: 'open' | 'read' | 'write') {
  const failure = error as { code?: unknown; errcode?: unknown } | null
  const what = `${doing} ${file}`
  if (failure !== null && FULL_ERRORS.has(String(failure.code))) return fullDisk(what, file, error)
  if (failure?.code === 'EROFS') return readOnly(what, file, error)
  if (failure?.code === 'EACCES' || failure?.code === 'EPERM') return noRight(what, file, error)
  if (failure?.code !== 'ERR_SQLITE_ERROR' || typeof failure.errcode !== 'number') return error
  switch (failure.errcode & 0xff) {
    case FULL:
      return fullDisk(what, file, error)
    case IOERR:
    case CANTOPEN: {
      if (hasNoRoom(file)) return fullDisk(what, file, error)
      const denied = whyDenied(file)
      if (denied === 'EROFS') return readOnly(what, file, error)
      if (denied !== null) return noRight(what, file, error)
      const text = `${what}: the disk reports errors; see "dmesg" and "ls -l ${file}*"`
      return new FileTrouble('unavailable', text, error)
    }
    case READONLY:
      return readOnly(what, file, error)
    case BUSY:
    case LOCKED:
      return new FileTrouble(
        'unavailable',
        `${what}: another process holds it; "fuser -v ${file}" shows which`,
        error,
      )
    case CORRUPT:
    case NOTADB:
      return damaged(file, error)
    default:
      return error
  }
}

/** Nothing can be written now, through no fault of what was to be written. */
export class FileTrouble extends PlatformError {
  declare readonly code: 'disk_full' | 'unavailable'
  constructor(code: 'disk_full' | 'unavailable', message: string, cause?: unknown) {
    super(code, message, { cause, retry: 'later' })
  }
}

export function damaged(file: string, cause: unknown): PlatformError {
  return new PlatformError(
    'internal',
    `${file} is damaged or no SQLite database: put back a copy of it that is whole (docs/operate/when-the-database-is-damaged.md); what runs on the hosts runs on meanwhile`,
    { cause },
  )
}

function fullDisk(what: string, file: string, cause: unknown): PlatformError {
  return new FileTrouble(
    'disk_full',
    `${what}: ${describeSpace(dirname(file))}; nothing was changed. Make room there ("roost doctor" says what takes it) and try again`,
    cause,
  )
}

function readOnly(what: string, file: string, cause: unknown): PlatformError {
  return new FileTrouble(
    'unavailable',
    `${what}: it or its file system is read-only, or belongs to another user than ${user()}; see "findmnt -T ${file}" and "ls -l ${file}*"`,
    cause,
  )
}

function noRight(what: string, file: string, cause: unknown): PlatformError {
  return new FileTrouble(
    'unavailable',
    `${what}: ${user()} has no right to; see "ls -ld ${dirname(file)} ${file}"`,
    cause,
  )
}

function describeSpace(folder: string): string {
  try {
    const { bsize, blocks, bavail, files, ffree } = statfsSync(folder)
    const mb = (count: number) => `${((count * bsize) / 1e6).toFixed(1)} MB`
    if (files > 0 && ffree === 0) return `the file system of ${folder} has no free inodes`
    // By now there may be room again, or it is a quota that is full.
    if (bavail * bsize > MUCH_ROOM_BYTES) return `the file system of ${folder} had no room for it`
    return `the file system of ${folder} is full (${mb(bavail)} of ${mb(blocks)} are free)`
  } catch {
    return `the file system of ${folder} is full`
  }
}

function hasNoRoom(file: string): boolean {
  try {
    const { bsize, bavail, files, ffree } = statfsSync(dirname(file))
    return bavail * bsize < ROOM_BYTES || (files > 0 && ffree === 0)
  } catch {
    return false
  }
}

/** What keeps this program from writing the file and beside it; null: nothing does. */
function whyDenied(file: string): string | null {
  try {
    accessSync(dirname(file), constants.W_OK | constants.X_OK)
    accessSync(file, constants.R_OK | constants.W_OK)
    return null
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === undefined || code === 'ENOENT' ? null : code
  }
}

function user(): string {
  return `the user ${process.geteuid?.() ?? ''}`.trim()
}
