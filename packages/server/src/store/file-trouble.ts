import { statfsSync } from 'node:fs'
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
      const cause =
        (failure.errcode & 0xff) === IOERR
          ? 'the disk reports errors (see: dmesg)'
          : `the file or its folder can't be opened by ${user()}`
      return new PlatformError('unavailable', `${what}: ${cause}`, { cause: error, retry: 'later' })
    }
    case READONLY:
      return readOnly(what, file, error)
    case BUSY:
    case LOCKED:
      return new PlatformError(
        'unavailable',
        `${what}: another process holds it; "fuser -v ${file}" shows which`,
        { cause: error, retry: 'later' },
      )
    case CORRUPT:
    case NOTADB:
      return damaged(file, error)
    default:
      return error
  }
}

/** Nothing can be written now, through no fault of what was to be written. */
export function isStoreTrouble(error: unknown): boolean {
  return (
    error instanceof PlatformError && (error.code === 'disk_full' || error.code === 'unavailable')
  )
}

export function damaged(file: string, cause: unknown): PlatformError {
  return new PlatformError(
    'internal',
    `${file} is damaged or no SQLite database: put back a copy of it that is whole (docs/operate/disks.md); what runs on the hosts runs on meanwhile`,
    { cause },
  )
}

function fullDisk(what: string, file: string, cause: unknown): PlatformError {
  return new PlatformError(
    'disk_full',
    `${what}: ${describeSpace(dirname(file))}; nothing was changed. Make room there ("roost doctor" says what takes it) and try again`,
    { cause, retry: 'later' },
  )
}

function readOnly(what: string, file: string, cause: unknown): PlatformError {
  return new PlatformError(
    'unavailable',
    `${what}: it or its file system is read-only, or belongs to another user than ${user()}; see "findmnt -T ${file}" and "ls -l ${file}*"`,
    { cause, retry: 'later' },
  )
}

function noRight(what: string, file: string, cause: unknown): PlatformError {
  return new PlatformError(
    'unavailable',
    `${what}: ${user()} has no right to; see "ls -ld ${dirname(file)} ${file}"`,
    { cause },
  )
}

function describeSpace(folder: string): string {
  try {
    const { bsize, blocks, bavail, files, ffree } = statfsSync(folder)
    const mb = (count: number) => `${((count * bsize) / 1e6).toFixed(1)} MB`
    if (files > 0 && ffree === 0) return `the file system of ${folder} has no free inodes`
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

function user(): string {
  return `the user ${process.geteuid?.() ?? ''}`.trim()
}
