import type { Route } from '@roost/core'

/**
 * Slots of different make, since what a backend does can't be changed while HAProxy runs: `s` for plain HTTP, which pays for nothing
 * else; `o` with options of its own; `c` the same, and compresses; `t` for TCP.
 */
export type Pool = 's' | 'o' | 'c' | 't'
export const POOLS: readonly Pool[] = ['s', 'o', 'c', 't']
export type PoolCounts = Readonly<Record<Pool, number>>

export function poolOf({ listener, http }: Pick<Route, 'listener' | 'http'>): Pool {
  if (listener !== undefined && listener.kind !== 'http' && listener.kind !== 'https') return 't'
  if (http?.compress) return 'c'
  const { headers = {}, pristine } = http?.response ?? {}
  return http?.idle_timeout || pristine || Object.keys(headers).length > 0 ? 'o' : 's'
}

export const slotOf = (pool: Pool, number: number): string => `${pool}${number}`

/** Of a name such as `s12`; null: it is no slot. */
export function poolOfSlot(slot: string): Pool | null {
  return /^[soct]\d+$/.test(slot) ? (slot.charAt(0) as Pool) : null
}

export function slotsOf(pool: Pool, counts: PoolCounts): string[] {
  return Array.from({ length: counts[pool] }, (_, n) => slotOf(pool, n))
}
