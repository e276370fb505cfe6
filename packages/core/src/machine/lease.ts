import type { Instant } from '../id.ts'

/**
 * The word of somebody that for a while nobody else changes a machine, as in the Machines API. Who holds its nonce may; it ends
 * by itself at `expiresAt`, so that nobody's death leaves a machine locked.
 */
export interface Lease {
  readonly nonce: string
  /** Name of the token that took it. */
  readonly owner: string
  readonly description: string
  readonly takenAt: Instant
  readonly expiresAt: Instant
}

export const LEASE_MS_MIN = 1_000
export const LEASE_MS_MAX = 3_600_000
/** For who names no time. */
export const LEASE_MS_DEFAULT = 120_000

export type LeaseRefusal =
  /** Somebody else's holds. */
  | { readonly kind: 'held'; readonly text: string }
  | { readonly kind: 'not-found'; readonly text: string }

/** The lease that holds now, if any. Further ahead than any can be: a clock was set back, and it would not end. */
export function activeLease(lease: Lease | null, now: Instant): Lease | null {
  if (lease === null || now >= lease.expiresAt) return null
  return lease.expiresAt - now <= LEASE_MS_MAX ? lease : null
}

/** Whether who comes with this nonce (null: with none) may change the machine now. */
export function mayChange(
  lease: Lease | null,
  nonce: string | null,
  now: Instant,
): { readonly kind: 'may' } | LeaseRefusal {
  const active = activeLease(lease, now)
  if (active === null || active.nonce === nonce) return { kind: 'may' }
  return { kind: 'held', text: `machine ${describeLease(active)}` }
}

/** Takes a lease; with the nonce of the one that holds, makes that last until `now + ttlMs` under the same nonce. */
export function takeLease(
  lease: Lease | null,
  ask: {
    /** Of the lease that is to be refreshed; null takes a new one. */
    readonly nonce: string | null
    readonly newNonce: string
    readonly owner: string
    readonly description: string | null
    readonly ttlMs: number
  },
  now: Instant,
): { readonly kind: 'taken'; readonly lease: Lease } | LeaseRefusal {
  const expiresAt = now + Math.min(LEASE_MS_MAX, Math.max(LEASE_MS_MIN, ask.ttlMs))
  const active = activeLease(lease, now)
  if (active === null) {
    // Others may have changed the machine since it ended: its holder must know, and look again.
    if (ask.nonce !== null) return LEASE_NOT_FOUND
    const { newNonce: nonce, owner, description } = ask
    return {
      kind: 'taken',
      lease: { nonce, owner, description: description ?? '', takenAt: now, expiresAt },
    }
  }
  if (active.nonce !== ask.nonce) return { kind: 'held', text: `machine ${describeLease(active)}` }
  const description = ask.description ?? active.description
  return { kind: 'taken', lease: { ...active, description, expiresAt } }
}

/** Whether who comes with this nonce may end the lease. */
export function releaseLease(
  lease: Lease | null,
  nonce: string,
  now: Instant,
): { readonly kind: 'released' } | LeaseRefusal {
  const active = activeLease(lease, now)
  if (active === null) return LEASE_NOT_FOUND
  return active.nonce === nonce
    ? { kind: 'released' }
    : { kind: 'held', text: `machine ${describeLease(active)}` }
}

/** Clients look for these words. */
export const LEASE_NOT_FOUND: LeaseRefusal = {
  kind: 'not-found',
  text: 'machine lease not found',
}

/** `lease currently held by alice, expires at 2026-01-01T00:00:00Z (deploying shop)`: clients look for its first words. */
export function describeLease(lease: Pick<Lease, 'owner' | 'description' | 'expiresAt'>): string {
  const until = new Date(lease.expiresAt).toISOString().replace(/\.\d+Z$/, 'Z')
  const why = lease.description === '' ? '' : ` (${lease.description})`
  return `lease currently held by ${lease.owner}, expires at ${until}${why}`
}
