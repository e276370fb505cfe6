import type { TrialApi } from '../../../packages/server/src/http/trial-api.ts'

/** One thing that the Machines API promises, and what Roost makes of it. */
export interface Row {
  /** In our own words, unique in its section. */
  readonly says: string
  readonly verdict: 'pass' | 'differ'
  /** Why it differs. */
  readonly reason?: string
  /** Throws when the verdict is not true. Against a server of its own. */
  readonly check?: (api: TrialApi) => void | Promise<void>
}

export interface Section {
  readonly title: string
  readonly rows: readonly Row[]
}

export function pass(says: string, check: NonNullable<Row['check']>): Row {
  return { says, verdict: 'pass', check }
}

export function differ(says: string, reason: string, check?: Row['check']): Row {
  return { says, verdict: 'differ', reason, ...(check === undefined ? {} : { check }) }
}
