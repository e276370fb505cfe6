import type { Answer } from '@roost/core'
import { parseEntryName } from '../haproxy/entry.ts'
import { isHold } from '../haproxy/render-config.ts'
import { isReplayer } from '../haproxy/steer-config.ts'

/** What HAProxy says of each answer that it has given. */
export interface LogLine {
  /** `edge`: to a client. `detour`: to a request that was held first, or replayed, with which its client is answered in turn. */
  readonly at: 'edge' | 'detour'
  readonly hostname: string
  /** null: none was asked, or see `detour`. */
  readonly machine: string | null
  /** It went a longer way: what a machine said to it is in a line of its own. */
  readonly detour: boolean
  /** Until the connection to the machine stood, in milliseconds; null: there was one already, or none came about. */
  readonly connectMs: number | null
  readonly answer: Answer
}

/** null for what is no such line. */
export function parseLogLine(line: string): LogLine | null {
  const match =
    /^(edge|detour) (\S+) (-?\d+) (\d+) (\d+) (-?\d+) (-?\d+) (-?\d+) \+?(-?\d+) (.*)$/.exec(line)
  if (match === null) return null
  const [, at = '', server = '', ...rest] = match
  const [status = 0, bytesIn = 0, bytesOut = 0, waited = 0, connect = -1, response = -1] = rest
    .slice(0, 6)
    .map(Number)
  const began =
    response < 0 || status === 101 ? null : Math.max(0, waited) + Math.max(0, connect) + response
  return {
    at: at as LogLine['at'],
    hostname: rest[7] ?? '',
    machine: parseEntryName(server)?.machine ?? null,
    detour: isHold(server) || isReplayer(server),
    connectMs: connect > 0 ? connect : null,
    answer: { status: Math.max(0, status), bytesIn, bytesOut, ms: status > 0 ? began : null },
  }
}
