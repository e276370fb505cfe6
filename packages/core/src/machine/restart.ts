import { assertNever, type Instant } from '../id.ts'
import type { MachineRestart } from './config.ts'
import type { MachineExit } from './machine.ts'

/** Whether what ended is started again. */
export type Again =
  /** `slot`: by its schedule. */
  | { readonly kind: 'go'; readonly slot?: Instant }
  /** It stays ended. */
  | { readonly kind: 'over' }
  | {
      readonly kind: 'wait'
      readonly until: Instant
      readonly why: string
      /** It has done its work: its schedule starts it at the next time. */
      readonly slot?: Instant
    }

export const PAUSE_MS_MAX = 60_000

/** Fly's restart policies, for a run that ended by `exit` without anybody having asked for it. */
export function mayRestart(
  { policy, max_retries }: MachineRestart,
  ended: {
    readonly exit: MachineExit
    /** In a row, by the policy. */
    readonly restarts: number
    /** Those of them that the program was not to blame for. */
    readonly blameless: number
  },
  now: Instant,
): Again {
  const { exit, restarts, blameless } = ended
  switch (policy) {
    // Whoever ended it: what must not run twice may have done half of its work.
    case 'no':
      return { kind: 'over' }
    case 'on-failure':
      if (exit.cause) break
      if (isClean(exit) || exit.spent || restarts - blameless >= max_retries)
        return { kind: 'over' }
      break
    case 'always':
      break
    default:
      return assertNever(policy)
  }
  const until = exit.at + (restarts === 0 ? 0 : pauseMs(restarts))
  if (!isAhead(until, now, PAUSE_MS_MAX)) return { kind: 'go' }
  return { kind: 'wait', until, why: `${describeExit(exit)}, starts again after a pause` }
}

export function describeExit(exit: MachineExit): string {
  const whose = exit.container === undefined ? '' : `container ${exit.container} `
  if (exit.cause) return `${whose}ended: ${exit.cause}`
  if (exit.because) return `${whose}was ended: ${exit.because}`
  if (exit.oomKilled) return `${whose}killed: out of memory`
  if (exit.signal > 0) return `${whose}ended by signal ${exit.signal}`
  return `${whose}exited with code ${exit.code}`
}

export function isClean(exit: MachineExit): boolean {
  return exit.code === 0 && exit.signal === 0 && !exit.oomKilled && !exit.cause && !exit.because
}

/** 1 s, 2 s, 4 s … one minute. */
export function pauseMs(count: number): number {
  return Math.min(PAUSE_MS_MAX, 1000 * 2 ** Math.min(count - 1, 10))
}

/** Farther ahead than any wait can be: a clock was set, and waiting for it would be waiting for ever. */
export function isAhead(until: Instant, now: Instant, msMax: number): boolean {
  return now < until && until - now <= msMax
}
