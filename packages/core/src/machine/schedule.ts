import type { Instant } from '../id.ts'
import type { MachineSchedule } from './config.ts'

const HOUR_MS = 3_600_000
const PERIOD_MS = { hourly: HOUR_MS, daily: 24 * HOUR_MS, weekly: 7 * 24 * HOUR_MS } as const
/** Longer than from any run to the next: a month, and what a clock may be off. */
export const RUN_MS_MAX = 32 * 24 * HOUR_MS

/**
 * When a machine of this schedule runs next, after `after`: whole periods since it was created. A month later is the same
 * day of the next month at the same time (UTC), or its last day where it is shorter.
 */
export function nextRun(schedule: MachineSchedule, createdAt: Instant, after: Instant): Instant {
  if (schedule === 'monthly') return nextMonth(createdAt, after)
  const period = PERIOD_MS[schedule]
  return createdAt + (Math.floor((after - createdAt) / period) + 1) * period
}

function nextMonth(createdAt: Instant, after: Instant): Instant {
  const [made, last] = [new Date(createdAt), new Date(after)]
  const months =
    12 * (last.getUTCFullYear() - made.getUTCFullYear()) + last.getUTCMonth() - made.getUTCMonth()
  const there = inMonth(createdAt, months)
  return there > after ? there : inMonth(createdAt, months + 1)
}

function inMonth(createdAt: Instant, months: number): Instant {
  const made = new Date(createdAt)
  const [year, month] = [made.getUTCFullYear(), made.getUTCMonth() + months]
  // The day before the first of the month after.
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate()
  const midnight = Date.UTC(year, month, Math.min(made.getUTCDate(), lastDay))
  const dayMs = createdAt - Date.UTC(year, made.getUTCMonth(), made.getUTCDate())
  return midnight + dayMs
}

/**
 * The run that is due next for a machine whose last run is over: the first after that run's end, and never the one that it was
 * itself started for, also when a clock was set back a little meanwhile. One that was missed, since the host was down, is made
 * up for once; those before it are not.
 */
export function dueRun(
  schedule: MachineSchedule,
  createdAt: Instant,
  last: { readonly endedAt: Instant; readonly slot: Instant | null },
  now: Instant,
): Instant {
  const ended = Math.min(last.endedAt, now)
  // Farther ahead it was counted by a clock that was wrong.
  const slot = last.slot !== null && last.slot - now <= HOUR_MS / 2 ? last.slot : ended
  return nextRun(schedule, createdAt, Math.max(ended, slot))
}
