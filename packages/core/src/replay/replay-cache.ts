import type { Replay } from './replay.ts'

/**
 * Replays that are kept, so that requests below a path go to where the app sent one of them, without asking it again. Keys are
 * `host/path/*`; the longest that fits a request counts.
 */
export interface KeptReplay {
  readonly key: string
  readonly replay: Replay
  readonly allowBypass: boolean
  /** As it was told to whom it was sent. */
  readonly source: string
  readonly expiresAt: number
}

/** null: it is for another host than the request that it answers, which nobody may decide about. */
export function cacheKey(prefix: string, host: string): string | null {
  const text = prefix.trim()
  const at = text.indexOf('/')
  const named = at === -1 ? text : text.slice(0, at)
  const path = at === -1 ? '/*' : text.slice(at)
  if (named !== '' && bare(named.toLowerCase()) !== bare(host)) return null
  return /^\/[\x21-\x7e]*$/.test(path) && path.length <= 1000 ? `${host}${path}` : null
}

/** Which port is meant, the request says. */
function bare(host: string): string {
  return host.replace(/:\d+$/, '')
}

/** All keys under which a request may be found, longest first. `path` without the query. */
export function cacheKeysOf(host: string, path: string): readonly string[] {
  const parts = path.split('/').slice(1, 33)
  const keys = [`${host}${path}`]
  for (let n = parts.length; n >= 0; n--) {
    const folder = parts.slice(0, n).join('/')
    keys.push(`${host}${n === 0 ? '' : '/'}${folder}/*`)
  }
  return keys
}
