import type { AppName, HostId, Instant } from '../id.ts'

/** How an authority is shown that a name is ours (RFC 8555, RFC 8737). */
export type Challenge = 'http-01' | 'tls-alpn-01' | 'dns-01'
export const CHALLENGES: readonly Challenge[] = ['http-01', 'tls-alpn-01', 'dns-01']

/** A name of somebody's own that leads to one app. `*.example.com` stands for every name with one more label. */
export interface Hostname {
  /** Lower case, ASCII, without a final dot. */
  readonly name: string
  readonly app: AppName
  readonly createdAt: Instant
  /** A certificate is to be ordered, and renewed. */
  readonly acme: boolean
  /** Only by this one; null: by whichever works. */
  readonly challenge: Challenge | null
  /** Somebody was shown that it is ours: an authority, or the server by DNS. Imported certificates are used only then. */
  readonly provenAt: Instant | null
  /** Somebody asked to try now, whatever came of earlier orders. */
  readonly askedAt: Instant | null
  /** The last order that failed; null after one that did not. */
  readonly failure: OrderFailure | null
}

export interface OrderFailure {
  readonly at: Instant
  readonly host: HostId
  /** How many in a row. */
  readonly count: number
  /** null: it did not come to that. */
  readonly challenge: Challenge | null
  readonly why: string
  /** The authority wants to be left alone until then. */
  readonly notBefore?: Instant
}

export type HostnameCheck =
  | { readonly kind: 'good'; readonly name: string }
  | { readonly kind: 'refused'; readonly why: string }

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
/** `_acme-challenge.` before it, and the installation's own domain behind it, must fit what a name may have. */
export const HOSTNAME_CHARS_MAX = 180

/** What somebody typed, as a name that can be served. */
export function checkHostname(text: string, domain: string): HostnameCheck {
  const name = text.toLowerCase().replace(/\.$/, '')
  const refused = (why: string): HostnameCheck => ({ kind: 'refused', why })
  const labels = name.replace(/^\*\./, '').split('.')
  if (name.length > HOSTNAME_CHARS_MAX)
    return refused(`it is longer than ${HOSTNAME_CHARS_MAX} characters`)
  if (/^\d+(\.\d+){3}$/.test(name) || name.includes(':')) return refused('it is an address')
  if (!labels.every((label) => LABEL.test(label)))
    return refused(
      'it is no host name: labels of letters, digits and dashes, with dots between, such as www.example.com or *.example.com',
    )
  if (labels.length < 2) return refused('it has no dot: a whole name is needed')
  if (/^\d+$/.test(labels.at(-1) ?? '')) return refused('its last label is a number')
  const bare = labels.join('.')
  if (bare === domain || bare.endsWith(`.${domain}`))
    return refused(
      `names below ${domain} have their certificate already, and go to the apps they name`,
    )
  return { kind: 'good', name }
}

export function isWildcard(name: string): boolean {
  return name.startsWith('*.')
}

/** The wildcard that stands for a name. */
export function wildcardOf(name: string): string {
  return name.replace(/^[^.]*/, '*')
}

/** Where an authority looks for the answer of DNS-01. */
export function challengeName(hostname: string): string {
  return `_acme-challenge.${hostname.replace(/^\*\./, '')}`
}

const CHALLENGE_ZONE = '_acme'

/** Where that name is to lead by CNAME: the edges answer for it. */
export function challengeTarget(hostname: string, domain: string): string {
  return `${hostname.replace(/^\*\./, '')}.${CHALLENGE_ZONE}.${domain}`
}

/** The other way: the name that such a target is of; null: it is none. */
export function challengedBy(target: string, domain: string): string | null {
  const end = `.${CHALLENGE_ZONE}.${domain}`
  return target.endsWith(end) && target.length > end.length ? target.slice(0, -end.length) : null
}

/** A TXT record by which the owner of a name says that it is this app's. */
export function ownershipRecord(hostname: Pick<Hostname, 'name' | 'app'>): {
  readonly name: string
  readonly value: string
} {
  return {
    name: `_fly-ownership.${hostname.name.replace(/^\*\./, '')}`,
    value: `app-${hostname.app}`,
  }
}
