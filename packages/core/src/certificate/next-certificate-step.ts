import type { HostId, Instant } from '../id.ts'
import { type Certificate, isValidAt, renewAt } from './certificate.ts'
import type { Challenge, Hostname, OrderFailure } from './hostname.ts'
import { isWildcard } from './hostname.ts'
import { type TurnHost, whoseTurn } from './order-turn.ts'

/** What one edge is to do about one name now. Made anew at each look: nothing is remembered but what is given. */
export type CertificateStep =
  | { readonly kind: 'wait'; readonly until: Instant | null; readonly why: string }
  /** Give the private key to hosts that came later. */
  | { readonly kind: 'seal'; readonly certificate: Certificate; readonly hosts: readonly HostId[] }
  | { readonly kind: 'order'; readonly why: 'first' | 'renewal' }

export interface CertificateQuestion {
  readonly hostname: Hostname
  /** Of this name, at most one of each source. */
  readonly certificates: readonly Certificate[]
  readonly self: HostId
  readonly hosts: readonly (TurnHost & { readonly sealingKey: string })[]
  /** What this edge knows of failures that the record does not say yet. */
  readonly failure: OrderFailure | null
  readonly now: Instant
}

const RETRY_MS_MIN = 120_000
const RETRY_MS_MAX = 6 * 3_600_000

/** What an authority asks for is not believed beyond a week: clocks are set. */
const PAUSE_MS_MAX = 7 * 86_400_000

/** 2, 4, 8, … minutes, then every 6 hours: five failures fit into the first hour, which is what authorities allow; later where they say so. */
export function retryAt(failure: OrderFailure): Instant {
  const own =
    failure.at + Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(failure.count - 1, 10))
  return Math.max(own, pausedUntil(failure))
}

/** Also for who asks to try now. */
function pausedUntil({ at, notBefore = 0 }: OrderFailure): Instant {
  return Math.min(notBefore, at + PAUSE_MS_MAX)
}

export function nextCertificateStep(question: CertificateQuestion): CertificateStep {
  const { hostname, certificates, self, hosts, now } = question
  const wait = (why: string, until: Instant | null = null): CertificateStep => ({
    kind: 'wait',
    until,
    why,
  })
  for (const certificate of certificates) {
    const missing = hosts.filter(
      ({ id, sealingKey }) => sealingKey !== '' && certificate.sealedKeys[id] === undefined,
    )
    if (missing.length === 0) continue
    // Only who has the key can give it: of those, the first that lives.
    const holders = hosts.filter(({ id }) => certificate.sealedKeys[id] !== undefined)
    if (whoseTurn(hostname.name, holders) === self)
      return { kind: 'seal', certificate, hosts: missing.map(({ id }) => id) }
  }
  if (!hostname.acme) return wait('its certificate is imported')
  const current = certificates.find(({ source }) => source === 'acme') ?? null
  const due = current === null ? 0 : renewAt(current)
  if (now < due) return wait('its certificate is good', due)
  // Only what the record says: what this edge alone knows would make others wait for it, and it for them.
  const failed =
    hostname.failure !== null && hostname.failure.at >= (current?.gotAt ?? 0)
      ? hostname.failure.count
      : 0
  const turn = whoseTurn(hostname.name, hosts, failed)
  if (turn !== self) return wait(`it is the turn of ${turn ?? 'nobody'}`)
  const failure = lastFailure([hostname.failure, question.failure], now)
  // Got in the time to come: its clock was set since, and says nothing of what came first.
  const gotAt = current === null || current.gotAt > now ? 0 : current.gotAt
  if (failure !== null && failure.at >= gotAt) {
    const asked = hostname.askedAt !== null && hostname.askedAt > failure.at
    const until = asked ? pausedUntil(failure) : retryAt(failure)
    if (now < until) return wait(`the last order failed: ${failure.why}`, until)
  }
  return { kind: 'order', why: current === null ? 'first' : 'renewal' }
}

/** One that lies ahead is of a clock that was set, and says nothing. */
export function lastFailure(
  failures: readonly (OrderFailure | null)[],
  now: Instant,
): OrderFailure | null {
  return failures
    .filter((one) => one !== null && one.at <= now)
    .reduce((last, one) => (last !== null && one !== null && last.at >= one.at ? last : one), null)
}

export interface ChallengeQuestion {
  readonly hostname: Pick<Hostname, 'name' | 'challenge'>
  /** What the authority would take. */
  readonly offered: readonly string[]
  /** `_acme-challenge.<name>` leads to us. */
  readonly delegated: boolean
  /** What clients are shown now; null: nothing for this name. */
  readonly serving: Certificate | null
  /** Orders that have failed in a row. */
  readonly failures: number
  readonly now: Instant
}
export type ChallengeChoice =
  | { readonly kind: 'chosen'; readonly challenge: Challenge }
  | { readonly kind: 'none'; readonly why: string }

/** The share of a certificate's life in which clients may be cut off for seconds, since they would be for good after it. */
const LAST_SHARE = 1 / 10

/**
 * One for each order: an order in which one challenge failed is over. DNS-01 first where the name is delegated, since it needs no
 * open port; then HTTP-01; then TLS-ALPN-01 where nobody would notice.
 *
 * HAProxy chooses certificates by name and not by protocol, so that while TLS-ALPN-01 goes on, clients of that name are shown the
 * certificate of the challenge. So it is for names without a valid certificate, and for the last tenth of one that could not be
 * renewed in another way.
 */
export function chooseChallenge(question: ChallengeQuestion): ChallengeChoice {
  const { hostname, serving, now } = question
  if (isWildcard(hostname.name) && hostname.challenge !== null && hostname.challenge !== 'dns-01')
    return { kind: 'none', why: `${hostname.challenge} can't prove a wildcard, only dns-01 can` }
  const unnoticed =
    serving === null ||
    !isValidAt(serving, now) ||
    now >= serving.notAfter - (serving.notAfter - serving.notBefore) * LAST_SHARE
  const wanted: readonly Challenge[] =
    hostname.challenge !== null
      ? [hostname.challenge]
      : isWildcard(hostname.name)
        ? ['dns-01']
        : question.delegated
          ? ['dns-01', 'http-01', 'tls-alpn-01']
          : ['http-01', 'tls-alpn-01']
  const possible = wanted.filter((one) => one !== 'tls-alpn-01' || unnoticed)
  const offered = possible.filter((one) => question.offered.includes(one))
  const challenge = offered[question.failures % Math.max(1, offered.length)]
  if (challenge !== undefined) return { kind: 'chosen', challenge }
  return {
    kind: 'none',
    why:
      possible.length === 0
        ? 'tls-alpn-01 would cut off clients of the certificate that it has; it comes in the last tenth of its life'
        : `the authority takes ${question.offered.join(', ')}, and none of ${possible.join(', ')}`,
  }
}
