import type { Instant } from '../id.ts'
import type { MachineExit } from './machine.ts'

/** What happened to a machine on its host, whether or not the server could hear of it then. */
export type Happening =
  /** `restart`: how many times in a row its policy has started it by now; 0 where somebody asked. */
  | {
      readonly kind: 'started'
      readonly at: Instant
      readonly restart: number
      /** Which, in a machine of several. Absent: the machine. */
      readonly container?: string
    }
  /** `at`: when that was first seen. */
  | { readonly kind: 'suspended' | 'resumed'; readonly at: Instant }
  /** `restarting`: its policy starts it again. */
  | {
      readonly kind: 'exited'
      readonly at: Instant
      readonly exit: MachineExit
      readonly restarting: boolean
      readonly restarts: number
      readonly container?: string
    }

/**
 * The last things that happened, numbered by `count`, so that who hears of them twice, late or with gaps knows which are
 * new and how many are missing. Told whole with each status: there is nothing to acknowledge.
 */
export interface MachineHistory {
  /** Another one than before: the host has lost its memory and counts anew. 0: nothing has happened yet. */
  readonly since: number
  readonly count: number
  /** Oldest first. */
  readonly last: readonly Happening[]
}

/** A crash loop makes two happenings a minute once its pauses have grown: this bridges some ten minutes of silence. */
export const HISTORY_MAX = 24
export const NO_HISTORY: MachineHistory = { since: 0, count: 0, last: [] }

/** `sequence`: of the observation; grows also when the memory was lost. */
export function withHappening(
  history: MachineHistory,
  happening: Happening,
  sequence: number,
): MachineHistory {
  return {
    since: history.since === 0 ? sequence : history.since,
    count: history.count + 1,
    last: [...history.last, happening].slice(-HISTORY_MAX),
  }
}

/** What of `after` is not in `before`, oldest first, and how much was dropped between them. */
export function newsIn(
  before: MachineHistory | null,
  after: MachineHistory,
): { readonly fresh: readonly Happening[]; readonly dropped: number } {
  const same = before !== null && before.since === after.since
  const news = Math.max(0, after.count - (same ? before.count : 0))
  const latest = news === 0 ? [] : after.last.slice(-news)
  // Who has lost its memory tells again of what still runs.
  const known = (one: Happening) =>
    !same && (before?.last ?? []).some((known) => keyOf(known) === keyOf(one))
  return { fresh: latest.filter((one) => !known(one)), dropped: news - latest.length }
}

function keyOf(one: Happening): string {
  const container = 'container' in one ? (one.container ?? '') : ''
  return `${one.kind} ${one.at} ${container}`
}
