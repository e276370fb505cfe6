import { X509Certificate } from 'node:crypto'
import type { CertificateReply, CertificateSummary } from '@roost/api'
import { PlatformError } from '@roost/base'
import {
  type Certificate,
  challengeName,
  challengeTarget,
  checkHostname,
  type DnsFacts,
  type DnsFinding,
  type DnsQuestion,
  dnsFindings,
  type Hostname,
  hostnameState,
  type Instant,
  isProven,
  maySeeApp,
  ownershipRecord,
  renewAt,
  retryAt,
  servingCertificate,
  usableCertificates,
  wildcardOf,
} from '@roost/core'
import { importCertificate } from '../certificate/import-certificate.ts'
import type { Deps } from '../deps.ts'
import {
  deleteCertificate,
  deleteHostname,
  getHostname,
  listCertificates,
  listHostnames,
  putCertificate,
  putHostname,
} from '../store/hostnames.ts'
import { listHosts } from '../store/hosts.ts'
import { getSettings } from '../store/settings.ts'
import type { Reader, Tx } from '../store/store.ts'
import { appOrThrow } from './apps.ts'
import type { Caller, Handlers } from './handler.ts'

type CertificateRoutes =
  | 'listCertificates'
  | 'addAcmeCertificate'
  | 'addCustomCertificate'
  | 'getCertificate'
  | 'checkCertificate'
  | 'deleteCertificate'
  | 'deleteAcmeCertificate'
  | 'deleteCustomCertificate'

/** Of one app; each is told to every edge. */
const HOSTNAMES_MAX = 500

/** Names of people's own. The server writes down what is wanted, and what edges ordered; it orders nothing itself. */
export function certificateHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'lookUpName' | 'installation'>,
): Pick<Handlers, CertificateRoutes> {
  const { store, clock, installation } = deps
  const { domain } = installation

  const nameOf = (text: string): string => {
    const checked = checkHostname(text, domain)
    if (checked.kind === 'good') return checked.name
    throw new PlatformError('invalid', `hostname: "${text.slice(0, 200)}": ${checked.why}`)
  }

  /** A new name of this app, or one that it has. */
  async function claim(tx: Tx, app: string, name: string, caller: Caller): Promise<Hostname> {
    const { name: owner } = await appOrThrow(tx, app)
    const found = await getHostname(tx, name)
    // Whoever has a wildcard has the names below it, too: its DNS leads here, so anybody could prove one of them.
    const standing = found ?? (await getHostname(tx, wildcardOf(name)))
    if (standing !== null && standing.app !== owner) {
      const other = maySeeApp(caller.policy, standing.app) ? `app ${standing.app}` : 'another app'
      throw new PlatformError('name_taken', `${standing.name} belongs to ${other}`)
    }
    if (found !== null) return found
    if ((await listHostnames(tx, owner)).length >= HOSTNAMES_MAX)
      throw new PlatformError('too_many', `${owner} has ${HOSTNAMES_MAX} names already`)
    return {
      name,
      app: owner,
      createdAt: clock.now(),
      acme: false,
      challenge: null,
      provenAt: null,
      askedAt: null,
      failure: null,
    }
  }

  async function hostnameOrThrow(reader: Reader, app: string, text: string): Promise<Hostname> {
    await appOrThrow(reader, app)
    const name = text.toLowerCase().replace(/\.$/, '')
    const found = await getHostname(reader, name)
    if (found === null || found.app !== app)
      throw new PlatformError('not_found', `certificate for ${name} not found`)
    return found
  }

  async function questionFor(reader: Reader, hostname: Hostname, facts: DnsFacts) {
    const addresses = [...new Set((await listHosts(reader)).map((host) => host.publicAddress))]
    const question: DnsQuestion = { hostname, domain, addresses: addresses.sort(), facts }
    return question
  }

  async function reply(
    reader: Reader,
    hostname: Hostname,
    facts: DnsFacts | null,
  ): Promise<CertificateReply> {
    const certificates = await listCertificates(reader, [hostname.name])
    const { acme } = await getSettings(reader)
    const question = await questionFor(reader, hostname, facts ?? NOT_ASKED)
    const { addresses } = question
    const findings = facts === null ? [] : dnsFindings(question)
    const directory = acme?.directory ?? null
    return replyOf(
      { hostname, certificates, addresses, facts, findings, directory, domain },
      clock.now(),
    )
  }

  /** What DNS says is asked before the store is: nobody waits for the world in a transaction. */
  async function checkNow(hostname: Hostname): Promise<CertificateReply> {
    const facts = await deps.lookUpName(hostname)
    return store.transaction(async (tx) => {
      const known = await getHostname(tx, hostname.name)
      if (known === null || known.app !== hostname.app)
        throw new PlatformError('not_found', `certificate for ${hostname.name} not found`)
      const proven =
        known.provenAt ?? (isProven(await questionFor(tx, known, facts)) ? clock.now() : null)
      const next = { ...known, provenAt: proven, askedAt: known.acme ? clock.now() : null }
      await putHostname(tx, next)
      return reply(tx, next, facts)
    })
  }

  const remove = (app: string, text: string, what: 'all' | 'acme' | 'custom') =>
    store.transaction(async (tx) => {
      const hostname = await hostnameOrThrow(tx, app, text)
      const { name } = hostname
      const certificates = await listCertificates(tx, [name])
      const custom = certificates.some(({ source }) => source === 'custom')
      const rest = what === 'acme' ? custom : what === 'custom' ? hostname.acme : false
      if (what === 'custom' && !custom)
        throw new PlatformError('not_found', `${name} has no imported certificate`)
      if (!rest) await deleteHostname(tx, name)
      else {
        await deleteCertificate(tx, name, what === 'acme' ? 'acme' : 'custom')
        if (what === 'acme') await putHostname(tx, { ...hostname, acme: false, failure: null })
      }
      return undefined
    })

  return {
    listCertificates: ({ params, query }) =>
      store.read(async (reader) => {
        const { name: app } = await appOrThrow(reader, params.app)
        const all = (await listHostnames(reader, app)).filter(
          ({ name }) => query.filter === undefined || name.includes(query.filter),
        )
        const from =
          query.cursor === undefined ? 0 : all.findIndex(({ name }) => name > (query.cursor ?? ''))
        const page = from < 0 ? [] : all.slice(from, from + query.limit)
        const certificates = await listCertificates(
          reader,
          page.map(({ name }) => name),
        )
        const last = page.at(-1)?.name
        return {
          certificates: page.map((hostname) =>
            summaryOf(
              hostname,
              certificates.filter((one) => one.hostname === hostname.name),
              clock.now(),
            ),
          ),
          total_count: all.length,
          ...(last !== undefined && last !== all.at(-1)?.name ? { next_cursor: last } : {}),
        }
      }),

    addAcmeCertificate: async ({ params, body, caller }) => {
      const name = nameOf(body.hostname)
      const challenge = body.challenge ?? null
      if (name.startsWith('*.') && challenge !== null && challenge !== 'dns-01')
        throw new PlatformError(
          'invalid',
          `challenge: ${challenge} can not prove a wildcard: only dns-01 can`,
        )
      const hostname = await store.transaction(async (tx) => {
        if (!(await getSettings(tx)).acme)
          throw new PlatformError(
            'unsupported',
            'this installation orders no certificates: nobody has chosen an authority. On the host that runs the server: roost up --acme-email you@example.com',
          )
        const claimed = await claim(tx, params.app, name, caller)
        const next: Hostname = { ...claimed, acme: true, challenge, askedAt: clock.now() }
        await putHostname(tx, next)
        return next
      })
      return checkNow(hostname)
    },

    addCustomCertificate: async ({ params, body, caller }) => {
      const name = nameOf(body.hostname)
      await store.read((reader) => appOrThrow(reader, params.app))
      const hosts = await store.read(listHosts)
      const certificate = await importCertificate(
        { hostname: name, fullchain: body.fullchain, privateKey: body.private_key },
        hosts,
        clock.now(),
      )
      const hostname = await store.transaction(async (tx) => {
        const claimed = await claim(tx, params.app, name, caller)
        await putHostname(tx, claimed)
        await putCertificate(tx, certificate)
        return claimed
      })
      return checkNow(hostname)
    },

    getCertificate: ({ params }) =>
      store.read(async (reader) =>
        reply(reader, await hostnameOrThrow(reader, params.app, params.hostname), null),
      ),

    checkCertificate: async ({ params }) =>
      checkNow(await store.read((reader) => hostnameOrThrow(reader, params.app, params.hostname))),

    deleteCertificate: ({ params }) => remove(params.app, params.hostname, 'all'),
    deleteAcmeCertificate: ({ params }) => remove(params.app, params.hostname, 'acme'),
    deleteCustomCertificate: ({ params }) => remove(params.app, params.hostname, 'custom'),
  }
}

const NOT_ASKED: DnsFacts = {
  a: null,
  aaaa: null,
  cname: null,
  challengeCname: null,
  ownership: null,
}

function summaryOf(
  hostname: Hostname,
  certificates: readonly Certificate[],
  now: Instant,
): CertificateSummary {
  const status = hostnameState(hostname, certificates, now)
  const serving = servingCertificate(usableCertificates(hostname, certificates), now)
  const latest = Math.max(hostname.createdAt, ...certificates.map(({ gotAt }) => gotAt))
  return {
    hostname: hostname.name,
    status,
    ...validationOf(hostname),
    configured: status === 'active',
    acme_requested: hostname.acme,
    has_custom_certificate: certificates.some(({ source }) => source === 'custom'),
    has_fly_certificate: certificates.some(({ source }) => source === 'acme'),
    created_at: timeOf(hostname.createdAt),
    updated_at: timeOf(latest),
    expires_at: serving === null ? null : timeOf(serving.notAfter),
  }
}

/** An authority was shown one of these, or DNS was looked at: which one it was is not kept. */
function validationOf({ provenAt }: Pick<Hostname, 'provenAt'>) {
  const proven = provenAt !== null
  return {
    acme_dns_configured: proven,
    acme_alpn_configured: proven,
    acme_http_configured: proven,
    ownership_txt_configured: proven,
  }
}

interface Shown {
  readonly hostname: Hostname
  readonly certificates: readonly Certificate[]
  readonly addresses: readonly string[]
  readonly facts: DnsFacts | null
  readonly findings: readonly DnsFinding[]
  readonly directory: string | null
  readonly domain: string
}

function replyOf(shown: Shown, now: Instant): CertificateReply {
  const { hostname, certificates, addresses, facts, findings, domain } = shown
  const { name, app, failure } = hostname
  const status = hostnameState(hostname, certificates, now)
  const isRight = (type: DnsFinding['type'], of: string) =>
    findings.some((one) => one.type === type && one.name === of && one.state === 'right')
  const leadsHere = isRight('A', name) || isRight('CNAME', name)
  const ownership = ownershipRecord(hostname)
  return {
    hostname: name,
    configured: status === 'active',
    acme_requested: hostname.acme,
    status,
    certificates: certificates.map((one) => detailOf(one, hostname, now)),
    validation: {
      dns_configured: isRight('CNAME', challengeName(name)),
      alpn_configured: leadsHere,
      http_configured: leadsHere,
      ownership_txt_configured: isRight('TXT', ownership.name),
    },
    dns_requirements: {
      a: [...addresses],
      aaaa: [],
      cname: `${app}.${domain}`,
      acme_challenge: { name: challengeName(name), target: challengeTarget(name, domain) },
      ownership: { name: ownership.name, app_value: ownership.value, org_value: '' },
    },
    ...(facts === null ? {} : { dns_records: recordsOf(facts) }),
    validation_errors: [
      ...(failure === null ? [] : [errorOf(failure.why, 'order', '', failure.at)]),
      ...findings
        .filter(({ needed, state }) => needed && (state === 'missing' || state === 'wrong'))
        .map(({ type, name: of, why, state, wanted }) =>
          errorOf(
            why,
            `${type.toLowerCase()}_${state}`,
            `${type} ${of} → ${wanted.join(' or ')}`,
            now,
          ),
        ),
    ],
    challenge: hostname.challenge,
    acme_directory: shown.directory,
    dns_findings: findings.map((one) => ({
      ...one,
      wanted: [...one.wanted],
      found: [...one.found],
    })),
    failure:
      failure === null
        ? null
        : {
            at: timeOf(failure.at),
            host: failure.host,
            times: failure.count,
            challenge: failure.challenge,
            why: failure.why,
            next_at: timeOf(retryAt(failure)),
          },
  }
}

function detailOf(certificate: Certificate, hostname: Hostname, now: Instant) {
  const { source, issuer, notAfter } = certificate
  const expires = timeOf(notAfter)
  return {
    source: source === 'acme' ? ('fly' as const) : ('custom' as const),
    status: hostnameState(hostname, [certificate], now),
    created_at: timeOf(certificate.gotAt),
    expires_at: expires,
    issuer,
    issued: [{ type: keyKind(certificate), expires_at: expires, certificate_authority: issuer }],
    renews_at: source === 'acme' ? timeOf(renewAt(certificate)) : null,
    fingerprint: certificate.fingerprint,
  }
}

function keyKind({ chain }: Certificate): 'ecdsa' | 'rsa' {
  return new X509Certificate(chain).publicKey.asymmetricKeyType === 'rsa' ? 'rsa' : 'ecdsa'
}

function recordsOf(facts: DnsFacts) {
  const list = (values: readonly string[] | null) => [...(values ?? [])]
  return {
    a: list(facts.a),
    aaaa: list(facts.aaaa),
    cname: list(facts.cname),
    resolved_addresses: [...list(facts.a), ...list(facts.aaaa)],
    soa: null,
    acme_challenge_cname: facts.challengeCname?.[0] ?? null,
    ownership_txt: facts.ownership?.[0] ?? null,
  }
}

function errorOf(message: string, code: string, remediation: string, at: Instant) {
  return { code, message, remediation, timestamp: timeOf(at) }
}

function timeOf(at: Instant): string {
  return new Date(at).toISOString()
}
