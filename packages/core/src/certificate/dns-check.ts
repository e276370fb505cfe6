import {
  challengeName,
  challengeTarget,
  type Hostname,
  isWildcard,
  ownershipRecord,
} from './hostname.ts'

/** What the world's DNS says of a name. null: it could not be asked. */
export interface DnsFacts {
  readonly a: readonly string[] | null
  readonly aaaa: readonly string[] | null
  /** Where the name itself leads, without a final dot. */
  readonly cname: readonly string[] | null
  /** Where `_acme-challenge.<name>` leads. */
  readonly challengeCname: readonly string[] | null
  readonly ownership: readonly string[] | null
}

export interface DnsFinding {
  readonly type: 'CNAME' | 'A' | 'AAAA' | 'TXT'
  readonly name: string
  /** Any of these would do. */
  readonly wanted: readonly string[]
  readonly found: readonly string[]
  readonly state: 'right' | 'missing' | 'wrong' | 'unknown'
  /** false: it would help, and is not needed. */
  readonly needed: boolean
  readonly why: string
}

export interface DnsQuestion {
  readonly hostname: Pick<Hostname, 'name' | 'app' | 'challenge' | 'acme'>
  readonly domain: string
  /** Public addresses of the edges. */
  readonly addresses: readonly string[]
  readonly facts: DnsFacts
}

/** What of a name's DNS is right, and which record is missing or wrong. */
export function dnsFindings(question: DnsQuestion): readonly DnsFinding[] {
  const { hostname, domain, facts, addresses } = question
  const { name, app } = hostname
  const wildcard = isWildcard(name)
  const target = `${app}.${domain}`
  const findings: DnsFinding[] = []

  const strange = (facts.a ?? []).filter((address) => !addresses.includes(address))
  const cname = facts.cname ?? []
  const byCname = cname.some((to) => to === target || to.endsWith(`.${domain}`))
  const address = {
    name,
    wanted: [target, ...addresses],
    found: cname.length > 0 ? cname : (facts.a ?? []),
    needed: true,
  }
  const way = cname.length > 0 && !byCname ? ('CNAME' as const) : ('A' as const)
  if (facts.a === null)
    findings.push({ ...address, type: 'CNAME', state: 'unknown', why: 'DNS could not be asked' })
  else if (facts.a.length === 0)
    findings.push({
      ...address,
      type: 'CNAME',
      state: cname.length > 0 && !byCname ? 'wrong' : 'missing',
      why: `${name} has no address: make it a CNAME to ${target}, or give it A records with the addresses of the edges`,
    })
  else if (strange.length > 0)
    findings.push({
      ...address,
      type: way,
      state: 'wrong',
      why: `${name} leads to ${strange.join(', ')}, which is no edge of this installation`,
    })
  else findings.push({ ...address, type: byCname ? 'CNAME' : 'A', state: 'right', why: '' })

  if ((facts.aaaa ?? []).length > 0)
    findings.push({
      type: 'AAAA',
      name,
      wanted: [],
      found: facts.aaaa ?? [],
      state: 'wrong',
      needed: true,
      why: `the edges have no IPv6 address: who tries these, authorities first of all, does not reach the app`,
    })

  if (hostname.acme) {
    const to = challengeTarget(name, domain)
    const found = facts.challengeCname ?? []
    const needed = wildcard || hostname.challenge === 'dns-01'
    const state =
      facts.challengeCname === null
        ? ('unknown' as const)
        : found.includes(to)
          ? ('right' as const)
          : found.length > 0
            ? ('wrong' as const)
            : ('missing' as const)
    findings.push({
      type: 'CNAME',
      name: challengeName(name),
      wanted: [to],
      found,
      state,
      needed,
      why:
        state === 'right'
          ? ''
          : needed
            ? 'certificates for it are ordered by dns-01, which looks there'
            : 'with it, certificates are ordered by dns-01, also before the name leads here',
    })
  }

  const ownership = ownershipRecord(hostname)
  const said = facts.ownership ?? []
  const owned = said.includes(ownership.value)
  findings.push({
    type: 'TXT',
    name: ownership.name,
    wanted: [ownership.value],
    found: said,
    state:
      facts.ownership === null
        ? 'unknown'
        : owned
          ? 'right'
          : said.length > 0
            ? 'wrong'
            : 'missing',
    needed: false,
    why: owned ? '' : 'it shows whose the name is while the name itself leads elsewhere',
  })
  return findings
}

/** The name leads to us, or its owner says in DNS that it is this app's. */
export function isProven(question: DnsQuestion): boolean {
  const { facts, hostname, addresses } = question
  if (facts.ownership?.includes(ownershipRecord(hostname).value)) return true
  const { a } = facts
  return a !== null && a.length > 0 && a.every((address) => addresses.includes(address))
}
