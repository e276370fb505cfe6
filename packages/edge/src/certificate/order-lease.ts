import { type Clock, describeError, type Logger } from '@roost/base'
import { type Host, type HostId, LEASE_MS } from '@roost/core'
import type { EdgePeers } from './edge-peers.ts'
import type { LeaseDesk } from './lease-desk.ts'

/** Runs `work` as the only one who does it for this name, or says why not. It is aborted when the words of others can't be kept. */
export async function withOrderLease<T>(
  options: {
    readonly hostname: string
    readonly self: HostId
    /** All other edges. Whoever answers counts; of those that seem dead, nobody waits for an answer. */
    readonly peers: () => readonly (Host & { readonly alive: boolean })[]
    readonly desk: LeaseDesk
    readonly edges: EdgePeers
    readonly clock: Clock
    readonly log: Logger
    readonly leaseMs?: number
    readonly signal: AbortSignal
  },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<
  { readonly kind: 'done'; readonly value: T } | { readonly kind: 'refused'; readonly why: string }
> {
  const { hostname, self, desk, edges, clock, leaseMs = LEASE_MS } = options
  const asked = new Map<HostId, Host>()

  /** null: everybody gave it. */
  async function take(): Promise<string | null> {
    const own = desk.ask(hostname, self)
    if (own.kind === 'refused') return `this edge has given its word to ${own.by}`
    const answers = await Promise.all(
      options.peers().map(async (host) => {
        asked.set(host.id, host)
        try {
          const by = await edges.lease(host, hostname, false, options.signal)
          return by === 'granted' ? null : `${host.name} has given its word to ${by}`
        } catch (error) {
          return host.alive ? `${host.name} was not heard: ${describeError(error)}` : null
        }
      }),
    )
    return answers.find((answer) => answer !== null) ?? null
  }

  /** Those that can't be told now are free when the time is over. */
  async function giveBack(): Promise<void> {
    desk.end(hostname, self)
    const signal = AbortSignal.timeout(3000)
    await Promise.allSettled(
      [...asked.values()].map((host) => edges.lease(host, hostname, true, signal)),
    )
  }

  const refusal = await take()
  if (refusal !== null) {
    await giveBack()
    return { kind: 'refused', why: refusal }
  }
  const ended = new AbortController()
  const signal = AbortSignal.any([options.signal, ended.signal])
  const keeping = (async () => {
    while (!signal.aborted) {
      await clock.sleep(leaseMs / 3, signal)
      if (signal.aborted) return
      // Two of three may fail: the third comes before the word is over.
      const lost = await take()
      if (lost === null) continue
      options.log.warn('the word of another edge could not be kept', { hostname, why: lost })
      if (!lost.includes('was not heard')) ended.abort(new Error(lost))
    }
  })()
  try {
    return { kind: 'done', value: await work(signal) }
  } finally {
    ended.abort(new Error('the order is over'))
    await keeping
    await giveBack()
  }
}
