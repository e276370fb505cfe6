const CODES = new Set(['ENOSPC', 'EDQUOT', 'disk_full'])
/** As the kernel, SQLite and the engines say it. */
const WORDS = /no space left on device|disk quota exceeded|database or disk is full/i
const SQLITE_FULL = 13
const DEPTH_MAX = 8

/** Whether something failed for want of room, whoever said so and how deep in the chain of causes. */
export function isNoSpace(error: unknown): boolean {
  let at: unknown = error
  for (let depth = 0; at instanceof Error && depth < DEPTH_MAX; depth++) {
    const { code, errcode } = at as { code?: unknown; errcode?: unknown }
    if (typeof code === 'string' && CODES.has(code)) return true
    if (errcode === SQLITE_FULL || WORDS.test(at.message)) return true
    at = at.cause
  }
  return false
}
