import type { HostId, Instant } from '../id.ts'

/**
 * Who orders a certificate, without anybody being asked who is not an edge: each name has an order of all hosts that every edge computes
 * alike, and the first that lives takes its turn. That alone is right while all see the same hosts alive. For the moments in which they
 * do not, the one whose turn it is also needs the word of every living edge, which each gives to one at a time and for a short time. A host
 * that dies takes its turn and the words it was given with it.
 */
export interface TurnHost {
  readonly id: HostId
  readonly alive: boolean
}

/** FNV-1a over both (rendezvous hashing): when a host goes, only its own names move. */
export function turnsFor(hostname: string, hosts: readonly TurnHost[]): readonly TurnHost[] {
  const rank = (host: TurnHost) => {
    let hash = 0x811c9dc5
    for (const char of `${hostname}|${host.id}`) {
      hash ^= char.charCodeAt(0)
      hash = Math.imul(hash, 0x01000193) >>> 0
    }
    return hash
  }
  return [...hosts].sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1))
}

/** Orders that fail in a row before the next host tries: one that lives may not reach the authority all the same. */
const FAILURES_EACH = 3

/** `failures`: how many in a row have failed by the record that all edges have alike. */
export function whoseTurn(
  hostname: string,
  hosts: readonly TurnHost[],
  failures = 0,
): HostId | null {
  const living = turnsFor(hostname, hosts).filter(({ alive }) => alive)
  return living[Math.floor(failures / FAILURES_EACH) % Math.max(1, living.length)]?.id ?? null
}

/** What an edge has promised about a name: nobody else orders it until then, by its own steady clock. */
export interface OrderLease {
  readonly host: HostId
  readonly until: Instant
}

/** Renewed at a third of it while an order goes on; what a dead edge holds ends with it. */
export const LEASE_MS = 60_000

export type LeaseAnswer =
  | { readonly kind: 'granted'; readonly lease: OrderLease }
  | { readonly kind: 'refused'; readonly by: HostId; readonly untilMs: number }

export function grantLease(
  held: OrderLease | null,
  to: HostId,
  now: Instant,
  leaseMs: number = LEASE_MS,
): LeaseAnswer {
  if (held !== null && held.host !== to && now < held.until)
    return { kind: 'refused', by: held.host, untilMs: held.until - now }
  return { kind: 'granted', lease: { host: to, until: now + leaseMs } }
}
