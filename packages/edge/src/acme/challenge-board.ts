import { createHash } from 'node:crypto'
import type { Presented } from '@roost/api'

/**
 * What authorities are to find at this edge now, whichever edge ordered: a token over HTTP, a certificate over TLS, or a text in DNS.
 * Each is taken away by who put it there, and else by time.
 */
export interface ChallengeBoard {
  put(what: Presented): void
  end(what: Pick<Presented, 'token'>): void
  list(): readonly Presented[]
  /** Of DNS-01, for a name without its wildcard. */
  texts(hostname: string): readonly string[]
}

/** As long as an order takes at most, and some. TLS-ALPN-01 is shown to clients, too: not for longer than it must where the edge that ordered is dead. */
const LIFE_MS = 200_000
const PRESENTED_MAX = 500

export function createChallengeBoard(
  elapsedMs: () => number = () => performance.now(),
): ChallengeBoard {
  const all = new Map<string, { readonly what: Presented; readonly until: number }>()

  function list(): readonly Presented[] {
    const now = elapsedMs()
    for (const [token, { until }] of all) if (now >= until) all.delete(token)
    return [...all.values()].map(({ what }) => what)
  }

  return {
    put(what) {
      if (list().length >= PRESENTED_MAX) all.delete(all.keys().next().value ?? '')
      all.set(what.token, { what, until: elapsedMs() + LIFE_MS })
    },
    end: ({ token }) => void all.delete(token),
    list,
    texts: (hostname) =>
      list()
        .filter(
          ({ challenge, hostname: of }) =>
            challenge === 'dns-01' && of.replace(/^\*\./, '') === hostname,
        )
        .map(({ keyAuthorization }) =>
          createHash('sha256').update(keyAuthorization).digest('base64url'),
        ),
  }
}
