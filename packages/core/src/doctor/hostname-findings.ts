import {
  type Certificate,
  isValidAt,
  renewAt,
  servingCertificate,
} from '../certificate/certificate.ts'
import type { DnsFinding } from '../certificate/dns-check.ts'
import { type Hostname, ownershipRecord } from '../certificate/hostname.ts'
import { usableCertificates } from '../certificate/hostname-state.ts'
import { lastFailure, retryAt } from '../certificate/next-certificate-step.ts'
import type { Instant } from '../id.ts'
import type { Finding } from './findings-of.ts'
import { spanText } from './span.ts'

/** A name of somebody's own. */
export interface HostnameFacts {
  readonly hostname: Hostname
  /** Of this name, at most one of each source. */
  readonly certificates: readonly Certificate[]
  /** What its DNS says of what is needed; empty where it was not asked. */
  readonly dns: readonly DnsFinding[]
}

/** An order takes three minutes at most, and may wait for other edges before. */
const UNDER_WAY_MS = 10 * 60_000
/** Nobody renews an imported one: a year's certificate is no concern for four months. */
const IMPORTED_WARNING_MS = 30 * 86_400_000

/** Names whose certificate is missing, ends without another one, or whose last order failed; and those that lead elsewhere. */
export function hostnameFindings(
  names: readonly HostnameFacts[],
  /** `orders`: an authority was chosen. */
  { now, orders }: { readonly now: Instant; readonly orders: boolean },
): Finding[] {
  return names.flatMap((facts): Finding[] => {
    const { hostname } = facts
    const wrong = facts.dns.filter(
      ({ needed, state }) => needed && (state === 'missing' || state === 'wrong'),
    )
    const trouble = troubleOf(facts, now, orders)
    if (trouble === null && wrong.length === 0) return []
    const { severity, problem, why, fix } = trouble ?? LEADS_ELSEWHERE
    const of = `${quoted(hostname.name)} -a ${hostname.app}`
    return [
      {
        severity,
        about: `certificate of ${hostname.name}`,
        problem,
        why: [...(why === null ? [] : [why]), ...wrong.map((one) => one.why)].join('; ') || null,
        fixes: [
          ...wrong.map(recordText),
          fix?.(of) ?? `roost certs check ${of}   # looks at DNS again, and orders at once`,
        ],
      },
    ]
  })
}

interface Trouble {
  readonly severity: Finding['severity']
  readonly problem: string
  readonly why: string | null
  /** Default: to check it. */
  readonly fix: ((of: string) => string) | null
}

const LEADS_ELSEWHERE: Trouble = {
  severity: 'warning',
  problem: 'its DNS does not lead here',
  why: null,
  fix: null,
}

function troubleOf(facts: HostnameFacts, now: Instant, orders: boolean): Trouble | null {
  const { hostname, certificates } = facts
  const serving = servingCertificate(usableCertificates(hostname, certificates), now)
  const ordered = certificates.find(({ source }) => source === 'acme') ?? null
  const imported = certificates.some(({ source }) => source === 'custom')
  const failed = lastFailure([hostname.failure], now)
  const failure = failed !== null && failed.at >= (ordered?.gotAt ?? 0) ? failed : null
  const valid = serving !== null && isValidAt(serving, now)
  const lost = serving === null ? 'it has none' : `it has expired ${ends(serving, now)} ago`

  if (hostname.acme && failure !== null) {
    const tried = `${failure.count === 1 ? '' : `${failure.count} times, `}last ${spanText(now - failure.at)} ago`
    const next = `tried ${tried}${failure.challenge === null ? '' : ` by ${failure.challenge}`}, again in ${spanText(Math.max(0, retryAt(failure) - now))}`
    return {
      severity: valid && !endsSoon(serving, now) ? 'warning' : 'error',
      problem: `${valid ? `it ends in ${ends(serving, now)}` : lost}, and its last order failed`,
      why: `${failure.why} (${next})`,
      fix: null,
    }
  }
  if (!valid && !hostname.acme)
    return serving === null && imported
      ? {
          severity: 'error',
          problem: 'the imported one is not shown to anybody',
          why: `DNS does not say that the name is yours: TXT ${ownershipRecord(hostname).name} → ${ownershipRecord(hostname).value}, or the name itself leading here, does`,
          fix: null,
        }
      : {
          severity: 'error',
          problem: lost,
          why: 'it was imported: nobody renews it',
          fix: importIt,
        }
  if (hostname.acme) {
    const due = ordered === null ? (hostname.askedAt ?? hostname.createdAt) : renewAt(ordered)
    if (now - due > UNDER_WAY_MS)
      return {
        severity: valid && !endsSoon(serving, now) ? 'warning' : 'error',
        problem: valid
          ? `it ends in ${ends(serving, now)}, and is not being renewed`
          : `${lost}, and none is being ordered`,
        why: orders ? 'no edge has said why' : 'nobody has chosen an authority to order from',
        fix: orders
          ? null
          : () => 'roost up --acme-email you@example.com   # on the host that runs the server',
      }
    // What is missing is on its way; what is imported has somebody to follow it.
    return null
  }
  if (serving === null) return null
  const life = serving.notAfter - serving.notBefore
  return serving.notAfter - now < Math.min(life / 3, IMPORTED_WARNING_MS)
    ? {
        severity: 'warning',
        problem: `it ends in ${ends(serving, now)}`,
        why: 'it was imported: nobody renews it',
        fix: importIt,
      }
    : null
}

const importIt = (of: string) =>
  `roost certs import ${of} --fullchain FILE --private-key FILE   # or have it ordered: roost certs add ${of}`

const ends = ({ notAfter }: Certificate, now: Instant) => spanText(Math.abs(notAfter - now))

/** Half of the time that was for its renewal is over. */
function endsSoon({ notBefore, notAfter }: Certificate, now: Instant): boolean {
  return notAfter - now < (notAfter - notBefore) / 6
}

function recordText({ type, name, wanted }: DnsFinding): string {
  if (type === 'AAAA') return `remove the AAAA records of ${name}   # at who keeps its DNS`
  return `${type === 'A' ? 'CNAME' : type} ${name} → ${wanted.join(' or ')}   # at who keeps its DNS`
}

/** A shell would look for files. */
function quoted(name: string): string {
  return name.startsWith('*') ? `'${name}'` : name
}
