import type { AppName, Instant, MachineId } from '../id.ts'

/** That somebody was in a machine: begun before the program is, so that none is missing. */
export interface SessionRecord {
  readonly id: string
  readonly app: AppName
  /** null: of connections to whatever machine answered to a name. */
  readonly machine: MachineId | null
  readonly container: string | null
  readonly kind: 'exec' | 'program' | 'proxy'
  readonly token: string
  readonly tokenId: string | null
  readonly user: string | null
  readonly command: string
  readonly terminal: boolean
  readonly begunAt: Instant
  readonly endedAt: Instant | null
  readonly exitCode: number | null
  readonly reason: string | null
  readonly bytesIn: number
  readonly bytesOut: number
  readonly connections: number
}

/** What is known of a session only when it is over. */
export type SessionEnd = Pick<
  SessionRecord,
  'exitCode' | 'reason' | 'bytesIn' | 'bytesOut' | 'connections'
>
