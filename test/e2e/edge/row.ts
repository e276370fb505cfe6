import type { World } from './world.ts'

/** One thing that Fly's edges do, and what Roost's make of it. */
export interface Row {
  /** Names the row and its test. */
  readonly id: string
  readonly says: string
  readonly verdict: 'holds' | 'differs'
  /** Why it differs. */
  readonly reason?: string
  /** Who asks. */
  readonly client?: Client
  /** Throws when the verdict is not true. */
  readonly check?: (world: World) => Promise<void>
  /** A test with another engine than a whole playground. */
  readonly elsewhere?: { readonly file: string; readonly test: string }
  /** Nothing else may be asked meanwhile. */
  readonly alone?: boolean
}
export type Client =
  | 'curl'
  | 'ws'
  | '@grpc/grpc-js'
  | 'openssl s_client'
  | 'psql'
  | 'dig'
  | 'haproxy'
  | 'roost'
  | 'node:net'
  | 'node:dgram'
  | 'node:http2'
  | 'pebble'

export interface Section {
  readonly title: string
  readonly rows: readonly Row[]
}

type Check = NonNullable<Row['check']>

export function holds(id: string, says: string, client: Client, check: Check): Row {
  return { id, says, verdict: 'holds', client, check }
}

export function differs(
  id: string,
  says: string,
  reason: string,
  client?: Client,
  check?: Check,
): Row {
  const tested = client === undefined || check === undefined ? {} : { client, check }
  return { id, says, verdict: 'differs', reason, ...tested }
}

/** What needs engines, deaths or clocks that a playground has not. `test`: its name in `file`. */
export function holdsElsewhere(id: string, says: string, file: string, test: string): Row {
  return { id, says, verdict: 'holds', elsewhere: { file, test } }
}

/** What changes a machine, or counts requests, is not to meet others. */
export function alone(row: Row): Row {
  return { ...row, alone: true }
}
