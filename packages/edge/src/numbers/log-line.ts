import type { Answer } from '@roost/core'
import { parseEntryName } from '../haproxy/entry.ts'
import { isHold } from '../haproxy/render-config.ts'
import { isPassedOn } from '../haproxy/render-services.ts'
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
  /** From its first byte to its last, in milliseconds. */
  readonly totalMs: number
  /** Only of apps that somebody listens to. */
  readonly access: Access | null
  readonly handshake: Handshake | null
}

/** How TLS began; null: without it, on a connection that had asked before, or in less than a millisecond. */
export interface Handshake {
  readonly ms: number
  /** `TLSv1.3`. */
  readonly version: string
}

/** Who asked for what. */
export interface Access {
  readonly client: string
  readonly method: string
  readonly requestId: string
  /** With its query where somebody asked for that. */
  readonly path: string
  /** Who answered in the end, where it went a longer way. */
  readonly machine: string | null
}

/** null for what is no such line. */
export function parseLogLine(line: string): LogLine | null {
  const match =
    /^(edge|detour)(?:\/(\d+)\/(\S+))? (\S+) (-?\d+) (\d+) (\d+) (-?\d+) (-?\d+) (-?\d+) \+?(-?\d+) (\S+) (\S+) (.*)$/s.exec(
      line,
    )
  if (match === null) return null
  const [, at = '', began, version, server = '', ...rest] = match
  const [
    status = 0,
    bytesIn = 0,
    bytesOut = 0,
    waited = 0,
    connect = -1,
    response = -1,
    total = 0,
  ] = rest.slice(0, 7).map(Number)
  const [answered = '', access = '', hostname = ''] = rest.slice(7)
  const ms =
    response < 0 || status === 101 ? null : Math.max(0, waited) + Math.max(0, connect) + response
  return {
    at: at as LogLine['at'],
    hostname,
    machine: parseEntryName(server)?.machine ?? null,
    detour: isHold(server) || (isReplayer(server) && answered !== 'file'),
    connectMs: connect > 0 ? connect : null,
    answer: { status: Math.max(0, status), bytesIn, bytesOut, ms: status > 0 ? ms : null },
    totalMs: Math.max(0, total),
    access: accessOf(access, answered),
    handshake: handshakeOf(began, version),
  }
}

function handshakeOf(ms: string | undefined, version: string | undefined): Handshake | null {
  return version === undefined || Number(ms) === 0 ? null : { ms: Number(ms), version }
}

/** The name that a client asked for whose TLS did not come about; null for what is no such line, or no name of a host. */
export function parseFailedHandshake(line: string): string | null {
  return /^failed [^|]*\bSSL\b[^|]*\|([\w.-]*)$/.exec(line)?.[1] ?? null
}

function accessOf(text: string, answered: string): Access | null {
  const [, client, method, requestId, path] = /^([^|]*)\|([^|]*)\|([^|]*)\|(.*)$/.exec(text) ?? []
  if (client === undefined || method === undefined || requestId === undefined) return null
  return {
    client,
    method,
    requestId,
    path: path ?? '',
    machine: parseEntryName(answered)?.machine ?? null,
  }
}

/** What HAProxy says of a connection that has ended, and was not HTTP. */
export interface ConnectionLine {
  /** `detour`: after it was held. */
  readonly at: 'edge' | 'detour'
  readonly slot: string
  /** null: it reached none, or see `detour`. */
  readonly machine: string | null
  /** It was held: what came of that is in a line of its own. */
  readonly detour: boolean
  readonly connectMs: number | null
  readonly bytesIn: number
  readonly bytesOut: number
  readonly totalMs: number
  readonly handshake: Handshake | null
}

/** null for what is no such line, and for connections that are told of elsewhere. */
export function parseConnectionLine(line: string): ConnectionLine | null {
  const match =
    /^tcp (edge|detour)(?:\/(\d+)\/(\S+))? (\S+) (\d+) (\d+) (-?\d+) (-?\d+) \+?(-?\d+) (\S+)$/.exec(
      line,
    )
  if (match === null) return null
  const [, at = '', began, version, server = '', ...rest] = match
  if (isPassedOn(server)) return null
  const [bytesIn = 0, bytesOut = 0, , connect = -1, total = 0] = rest.slice(0, 5).map(Number)
  return {
    at: at as ConnectionLine['at'],
    slot: rest[5] ?? '',
    machine: parseEntryName(server)?.machine ?? null,
    detour: isHold(server),
    connectMs: connect > 0 ? connect : null,
    bytesIn,
    bytesOut,
    totalMs: Math.max(0, total),
    handshake: handshakeOf(began, version),
  }
}
