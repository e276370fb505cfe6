import { type Clock, describeError, type Logger } from '@roost/base'
import { type Host, type HostId, LEASE_MS } from '@roost/core'
import type { EdgePeers } from './edge-peers.ts'
import type { LeaseDesk } from './lease-desk.ts'

/** `heard`: an edge said no; else one that should have answered did not. */
interface Refusal {
  readonly why: string
  readonly heard: boolean
}

/**
 * Runs `work` as the only one who does it for this name, or says why not. It is aborted when another edge takes a word back, and when words were
 * not renewed for as long as they last, since another may have been given them by then.
 */
export async function withOrderLease<T>(
  options: {
    readonly hostname: string
    readonly self: HostId
    /** All other edges. Whoever answers counts; those that seem dead need not. */
    readonly peers: () => readonly (Host & { readonly alive: boolean })[]
    readonly desk: LeaseDesk
    readonly edges: Pick<EdgePeers, 'lease'>
    readonly clock: Clock
    readonly log: Logger
    readonly leaseMs?: number
    /** By a clock that nobody sets. */
    readonly elapsedMs?: () => number
    readonly signal: AbortSignal
  },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<
  { readonly kind: 'done'; readonly value: T } | { readonly kind: 'refused'; readonly why: string }
> {
  const { hostname, self, desk, edges, clock, leaseMs = LEASE_MS } = options
  const { elapsedMs = () => performance.now() } = options
  const asked = new Map<HostId, Host>()

  /** null: everybody gave it. */
  async function take(signal: AbortSignal): Promise<Refusal | null> {
    const own = desk.ask(hostname, self)
    if (own.kind === 'refused')
      return { why: `this edge has given its word to ${own.by}`, heard: true }
    const answers = await Promise.all(
      options.peers().map(async (host): Promise<Refusal | null> => {
        asked.set(host.id, host)
        try {
          const by = await edges.lease(host, hostname, false, signal)
          return by === 'granted'
            ? null
            : { why: `${host.name} has given its word to ${by}`, heard: true }
        } catch (error) {
          return host.alive
            ? { why: `${host.name} was not heard: ${describeError(error)}`, heard: false }
            : null
        }
      }),
    )
    return (
      answers.find((answer) => answer?.heard) ?? answers.find((answer) => answer !== null) ?? null
    )
  }

  /** Those that can't be told now are free when the time is over. */
  async function giveBack(): Promise<void> {
    desk.end(hostname, self)
    const signal = AbortSignal.timeout(3000)
    await Promise.allSettled(
      [...asked.values()].map((host) => edges.lease(host, hostname, true, signal)),
    )
  }

  let renewedAt = elapsedMs()
  const refusal = await take(options.signal)
  if (refusal !== null) {
    await giveBack()
    return { kind: 'refused', why: refusal.why }
  }
  const ended = new AbortController()
  const signal = AbortSignal.any([options.signal, ended.signal])
  const keeping = (async () => {
    while (!signal.aborted) {
      // Three tries, also where each takes as long as it may.
      await clock.sleep(leaseMs / 4, signal)
      if (signal.aborted) return
      const from = elapsedMs()
      const lost = await take(signal)
      if (signal.aborted) return
      if (lost === null) {
        renewedAt = from
        continue
      }
      options.log.warn('the word of another edge could not be kept', { hostname, why: lost.why })
      if (lost.heard || elapsedMs() - renewedAt >= leaseMs) ended.abort(new Error(lost.why))
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
