import { assertNever, type MachineId } from '../id.ts'
import type { Coming } from '../machine/coming.ts'

/** What an edge knows of one machine that may serve a request which nothing can serve at this moment. */
export interface Hope {
  readonly machine: MachineId
  /** `down`: it was heard to be ready, and does not answer here. */
  readonly kind: Coming['kind'] | 'down'
  /** For how long this edge has known it so. By a clock that nobody sets. */
  readonly sinceMs: number
}

export type MayWait =
  | { readonly kind: 'wait'; readonly msLeft: number }
  /** 503 now: `retryAfterSeconds` and `text` are for the client. */
  | {
      readonly kind: 'refuse'
      readonly why: 'nothing-comes' | 'too-long' | 'too-many'
      readonly retryAfterSeconds: number
      readonly text: string
    }

/** How long one request waits for a machine that is replaced on purpose, and for any other. */
export const HOLD_REPLACED_MS = 60_000
export const HOLD_MS = 15_000
/** What has not come after so long is not on its way. */
export const HOPE_REPLACED_MS = 300_000
export const HOPE_MS = 60_000
/** Requests that wait at once, for one app and on one edge. */
export const HELD_MAX_APP = 1000
export const HELD_MAX = 2000

/** May this request wait? Asked when it comes and again while it waits. */
export function mayWait(request: {
  readonly hopes: readonly Hope[]
  readonly waitedMs: number
  /** Without this one. */
  readonly held: { readonly app: number; readonly edge: number }
  /** For any machine that is not replaced on purpose. */
  readonly holdMs?: number
}): MayWait {
  const { hopes, waitedMs, held, holdMs = HOLD_MS } = request
  const limits = hopes.filter(isHope).map(({ kind }) => boundOf(kind, holdMs))
  if (limits.length === 0)
    return refuse('nothing-comes', 1, 'No machine of this app can answer now.')
  if (held.app >= HELD_MAX_APP || held.edge >= HELD_MAX)
    return refuse(
      'too-many',
      5,
      'No machine of this app can answer now, and too many requests wait for one already.',
    )
  const limit = Math.max(...limits)
  if (waitedMs < limit) return { kind: 'wait', msLeft: limit - waitedMs }
  return refuse(
    'too-long',
    5,
    `A machine of this app is on its way, but was not ready within ${limit / 1000} seconds.`,
  )
}

function boundOf(kind: Hope['kind'], holdMs: number): number {
  switch (kind) {
    case 'replaced':
      return HOLD_REPLACED_MS
    case 'starting':
    case 'down':
      return holdMs
    default:
      return assertNever(kind)
  }
}

function isHope({ kind, sinceMs }: Hope): boolean {
  return sinceMs < (kind === 'replaced' ? HOPE_REPLACED_MS : HOPE_MS)
}

function refuse(
  why: Extract<MayWait, { kind: 'refuse' }>['why'],
  retryAfterSeconds: number,
  text: string,
): MayWait {
  return { kind: 'refuse', why, retryAfterSeconds, text }
}
