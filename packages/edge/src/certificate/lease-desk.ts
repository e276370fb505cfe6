import { grantLease, type HostId, LEASE_MS, type LeaseAnswer, type OrderLease } from '@roost/core'

/**
 * The words that this edge has given: who may order which name, and for how long. They are in no file: an edge that has just started
 * may have given some that it does not remember, so that it gives none for as long as one lasts.
 */
export interface LeaseDesk {
  ask(hostname: string, host: HostId): LeaseAnswer
  end(hostname: string, host: HostId): void
}

const LEASES_MAX = 5000

export function createLeaseDesk(options: {
  readonly self: HostId
  /** Nobody else can have been given anything: there is no other edge. */
  readonly isAlone: () => boolean
  readonly leaseMs?: number
  readonly elapsedMs?: () => number
}): LeaseDesk {
  const { self, leaseMs = LEASE_MS, elapsedMs = () => performance.now() } = options
  const since = elapsedMs()
  const leases = new Map<string, OrderLease>()
  return {
    ask(hostname, host) {
      const now = elapsedMs()
      if (now - since < leaseMs && !options.isAlone())
        return { kind: 'refused', by: self, untilMs: since + leaseMs - now }
      for (const [name, { until }] of leases) if (now >= until) leases.delete(name)
      if (leases.size >= LEASES_MAX && !leases.has(hostname))
        return { kind: 'refused', by: self, untilMs: leaseMs }
      const answer = grantLease(leases.get(hostname) ?? null, host, now, leaseMs)
      if (answer.kind === 'granted') leases.set(hostname, answer.lease)
      return answer
    },
    end(hostname, host) {
      if (leases.get(hostname)?.host === host) leases.delete(hostname)
    },
  }
}
