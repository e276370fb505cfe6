import { X509Certificate } from 'node:crypto'
import type { AcmeSettings, CertificateReport, Presented } from '@roost/api'
import {
  type Clock,
  describeError,
  type Logger,
  type Loop,
  PlatformError,
  startLoop,
} from '@roost/base'
import {
  type Certificate,
  type Challenge,
  certificateId,
  chooseChallenge,
  gotAfter,
  type Host,
  type HostId,
  type Hostname,
  type Instant,
  lastFailure,
  nextCertificateStep,
  type OrderFailure,
  renewAt,
  servingCertificate,
  usableCertificates,
} from '@roost/core'
import type { AcmeClient } from '../acme/acme-client.ts'
import { type Ordered, orderCertificate } from '../acme/order-certificate.ts'
import { type CertificateShelf, sealKeyFor } from './certificate-shelf.ts'
import type { EdgePeers } from './edge-peers.ts'
import type { LeaseDesk } from './lease-desk.ts'
import { withOrderLease } from './order-lease.ts'

/**
 * Looks at every name, asks core what to do, does it, and tells what came of it: first the other edges, who serve it, then the
 * server, who may be dead. Nothing here is remembered but failures, so that a name is not tried again and again.
 */
export interface CertificateKeeper {
  wake(): void
  stop(): Promise<void>
}

const LOOK_MS = 1000
/** Orders of this edge at once: each waits for most of its time. */
const ORDERS_MAX = 4
const ORDER_MS_MAX = 180_000
/** After an order that another edge was in the way of. */
const AGAIN_MS = 3000
/** What could not be told is told again. */
const TELL_MS = 5000
/** Of one message: others take a megabyte, and a certificate may have 40 KB where there are many hosts. */
const TOLD_CHARS_MAX = 500_000

/** How far an order came. */
interface At {
  challenge: Challenge | null
  notBefore: Instant | null
}

export function startCertificateKeeper(options: {
  readonly self: HostId
  readonly hosts: () => readonly Host[]
  readonly isAlive: (host: HostId) => boolean
  readonly hostnames: () => readonly Hostname[]
  readonly settings: () => AcmeSettings | null
  readonly shelf: CertificateShelf
  readonly desk: LeaseDesk
  readonly edges: EdgePeers
  readonly report: (report: CertificateReport, signal: AbortSignal) => Promise<void>
  /** One for each order. */
  readonly openAcme: (settings: AcmeSettings, signal: AbortSignal) => Promise<AcmeClient>
  readonly isDelegated: (hostname: string, signal: AbortSignal) => Promise<boolean>
  /** Shows it here; resolves once it can be found. */
  readonly present: (what: Presented) => Promise<void>
  /** There is something new to serve. */
  readonly onChange: () => void
  readonly clock: Clock
  readonly log: Logger
  readonly leaseMs?: number
}): CertificateKeeper {
  const { self, shelf, clock, log } = options
  const running = new Map<string, Promise<void>>()
  const pausedUntil = new Map<string, number>()
  const failures = new Map<string, OrderFailure | null>()
  const unreported = new Set<string>()
  const told = new Map<HostId, Set<string>>()
  /** Sealing keys of hosts that nothing can be sealed with. */
  const badKeys = new Map<HostId, string>()
  let tellAt = Number.NEGATIVE_INFINITY
  const stopping = new AbortController()

  const others = () =>
    options
      .hosts()
      .filter(({ id }) => id !== self)
      .map((host) => ({ ...host, alive: options.isAlive(host.id) }))
  const peers = () => others().filter(({ alive }) => alive)
  const turnHosts = () =>
    options.hosts().map(({ id, sealingKey }) => ({
      id,
      // As one that has none: it would be tried at each look.
      sealingKey: badKeys.get(id) === sealingKey ? '' : sealingKey,
      alive: id === self || options.isAlive(id),
    }))
  const stepFor = (
    hostname: Hostname,
    certificates: readonly Certificate[],
    now: number,
    hosts = turnHosts(),
  ) =>
    nextCertificateStep({
      hostname,
      certificates,
      self,
      hosts,
      failure: failures.get(hostname.name) ?? null,
      now,
    })

  async function lap(signal: AbortSignal): Promise<void> {
    const now = clock.now()
    const hostnames = options.hostnames()
    const hosts = turnHosts()
    forget(new Set(hostnames.map(({ name }) => name)))
    const known = shelf.byName()
    const due: { readonly hostname: Hostname; readonly ends: number }[] = []
    for (const hostname of hostnames) {
      const { name } = hostname
      if (running.has(name) || performance.now() < (pausedUntil.get(name) ?? 0)) continue
      const certificates = known.get(name) ?? []
      const step = stepFor(hostname, certificates, now, hosts)
      if (step.kind === 'seal') await sealForOthers(step.certificate, step.hosts)
      if (step.kind !== 'order') continue
      const serving = servingCertificate(usableCertificates(hostname, certificates), now)
      due.push({ hostname, ends: serving?.notAfter ?? Number.NEGATIVE_INFINITY })
    }
    const settings = options.settings()
    if (settings !== null)
      for (const { hostname } of due
        // Names without one first, then what ends first.
        .sort((a, b) => (a.ends === b.ends ? 0 : a.ends < b.ends ? -1 : 1))
        .slice(0, Math.max(0, ORDERS_MAX - running.size)))
        running.set(
          hostname.name,
          order(hostname, settings).finally(() => {
            running.delete(hostname.name)
            loop.wake()
          }),
        )
    await tell(signal)
  }

  function forget(names: ReadonlySet<string>): void {
    for (const map of [pausedUntil, failures])
      for (const name of map.keys()) if (!names.has(name)) map.delete(name)
    for (const name of unreported) if (!names.has(name)) unreported.delete(name)
    shelf.tidy()
  }

  async function sealForOthers(certificate: Certificate, to: readonly HostId[]): Promise<void> {
    const key = await shelf.keyOf(certificate)
    if (key === null) return
    shelf.put(await sealNow(certificate, key, to))
    tellAt = Number.NEGATIVE_INFINITY
  }

  function sealNow(
    certificate: Certificate,
    key: string,
    to: readonly HostId[],
  ): Promise<Certificate> {
    const hosts = options.hosts().filter(({ id }) => to.includes(id))
    return sealKeyFor(certificate, key, hosts, (id, error) => {
      const host = hosts.find((one) => one.id === id)
      if (host === undefined || badKeys.get(id) === host.sealingKey) return
      badKeys.set(id, host.sealingKey)
      log.error('no certificate can be sealed for a host', { host: host.name, error })
    })
  }

  /** Never throws: what went wrong is for people to read, and for the next look. */
  async function order(hostname: Hostname, settings: AcmeSettings): Promise<void> {
    const { name } = hostname
    const at: At = { challenge: null, notBefore: null }
    try {
      const outcome = await withOrderLease(
        {
          ...options,
          hostname: name,
          peers: others,
          signal: AbortSignal.any([stopping.signal, AbortSignal.timeout(ORDER_MS_MAX)]),
        },
        async (signal) => {
          // Another may have been done with it just now.
          if (stepFor(hostname, shelf.of(name), clock.now()).kind !== 'order') return
          log.info('order a certificate', { hostname: name })
          const ordered = await orderNow(hostname, settings, at, signal)
          await keep(name, ordered)
        },
      )
      if (outcome.kind === 'done') return
      pausedUntil.set(name, performance.now() + AGAIN_MS)
      log.debug('an order waits for another edge', { hostname: name, why: outcome.why })
    } catch (error) {
      if (stopping.signal.aborted) return
      const now = clock.now()
      const before = lastFailure([hostname.failure, failures.get(name) ?? null], now)
      const why = describeError(error).slice(0, 500)
      const count = (before?.count ?? 0) + 1
      failures.set(name, {
        ...{ at: now, host: self, count, challenge: at.challenge, why },
        ...(at.notBefore === null ? {} : { notBefore: at.notBefore }),
      })
      unreported.add(name)
      tellAt = Number.NEGATIVE_INFINITY
      log.warn('no certificate', { hostname: name, challenge: at.challenge, times: count, why })
    }
  }

  async function orderNow(
    hostname: Hostname,
    settings: AcmeSettings,
    at: At,
    signal: AbortSignal,
  ): Promise<Ordered> {
    const { name } = hostname
    const [acme, delegated] = await Promise.all([
      options.openAcme(settings, signal),
      options.isDelegated(name, signal),
    ])
    const now = clock.now()
    const serving = servingCertificate(usableCertificates(hostname, shelf.of(name)), now)
    const count = lastFailure([hostname.failure, failures.get(name) ?? null], now)?.count ?? 0
    try {
      return await orderCertificate({
        hostname: name,
        acme,
        signal,
        choose: (offered) =>
          chooseChallenge({ hostname, offered, delegated, serving, failures: count, now }),
        onChoice: (challenge) => {
          at.challenge = challenge
        },
        present: (what) => presentEverywhere({ ...what, hostname: name, end: false }, signal),
      })
    } finally {
      at.notBefore = acme.notBefore()
      await acme.close()
    }
  }

  /** An authority may ask any edge, and several. */
  async function presentEverywhere(
    what: Presented,
    signal: AbortSignal,
  ): Promise<() => Promise<void>> {
    const at = others()
    const end = async () => {
      const over = { ...what, end: true }
      const soon = AbortSignal.timeout(3000)
      await Promise.allSettled([
        options.present(over),
        ...at.map((host) => options.edges.present(host, over, soon)),
      ])
    }
    try {
      await Promise.all([
        options.present(what),
        ...at.map((host) => {
          const shown = options.edges.present(host, what, signal)
          // One that seems dead may still be asked by an authority, but nobody waits for it.
          if (!host.alive) shown.catch(() => {})
          return host.alive ? shown : null
        }),
      ])
    } catch (error) {
      await end()
      throw error
    }
    return end
  }

  async function keep(name: string, { key, chain }: Ordered): Promise<void> {
    const own = new X509Certificate(chain)
    const known = shelf.of(name).find(({ source }) => source === 'acme') ?? null
    const certificate: Certificate = {
      hostname: name,
      source: 'acme',
      chain,
      fingerprint: own.fingerprint256.replaceAll(':', '').toLowerCase(),
      issuer: own.issuer.replaceAll('\n', ', '),
      notBefore: Date.parse(own.validFrom),
      notAfter: Date.parse(own.validTo),
      gotAt: gotAfter(known, clock.now()),
      sealedKeys: {},
    }
    if (
      !shelf.put(
        await sealNow(
          certificate,
          key,
          options.hosts().map(({ id }) => id),
        ),
      )
    )
      throw new PlatformError('internal', 'there is no room for another certificate at this edge')
    log.info('a certificate was ordered', { hostname: name, until: own.validTo })
    options.onChange()
    tellAt = Number.NEGATIVE_INFINITY
    // Before the lease ends: who takes it next must know.
    await tellPeers(stopping.signal)
    // By our clock it would be ordered again at once, and again, until the authority has had enough.
    if (clock.now() >= renewAt(certificate))
      throw new PlatformError(
        'unavailable',
        `it came, and is to be renewed already: valid until ${own.validTo}, and here it is ${new Date(clock.now()).toUTCString()}; one of the clocks is wrong`,
      )
    failures.set(name, null)
    unreported.add(name)
    tellAt = Number.NEGATIVE_INFINITY
  }

  async function tell(signal: AbortSignal): Promise<void> {
    if (performance.now() < tellAt) return
    tellAt = performance.now() + TELL_MS
    await Promise.all([tellPeers(signal), tellServer(signal)])
  }

  async function tellPeers(signal: AbortSignal): Promise<void> {
    const certificates = shelf.unknownToServer()
    if (certificates.length === 0) return
    await Promise.all(
      peers().map(async (host) => {
        const known = told.get(host.id) ?? new Set()
        told.set(host.id, known)
        const id = (one: Certificate) =>
          `${certificateId(one)} ${one.fingerprint} ${Object.keys(one.sealedKeys).length}`
        const news = atOnce(certificates.filter((one) => !known.has(id(one))))
        if (news.length === 0) return
        try {
          await options.edges.tell(host, news, signal)
          for (const one of news) known.add(id(one))
        } catch (error) {
          log.debug('certificates: tell another edge', { host: host.name, error })
        }
      }),
    )
    if (told.size > 100) told.clear()
  }

  async function tellServer(signal: AbortSignal): Promise<void> {
    const certificates = atOnce(shelf.unknownToServer())
    const names = [...unreported].slice(0, 100)
    if (certificates.length === 0 && names.length === 0) return
    const said = Object.fromEntries(names.map((name) => [name, failures.get(name) ?? null]))
    try {
      await options.report({ certificates: [...certificates], failures: said }, signal)
      for (const name of names)
        if ((failures.get(name) ?? null) === said[name]) unreported.delete(name)
    } catch (error) {
      log.debug('certificates: tell the server', { error })
    }
  }

  const loop: Loop = startLoop({ name: 'certificates', periodMs: LOOK_MS, clock, log, lap })
  return {
    wake: () => loop.wake(),
    stop: async () => {
      stopping.abort()
      await loop.stop()
      await Promise.all(running.values())
    },
  }
}

/** As many as fit into one message, and one at least. */
function atOnce(certificates: readonly Certificate[]): readonly Certificate[] {
  let chars = 0
  const fitting = certificates.findIndex((one, n) => {
    chars += JSON.stringify(one).length
    return n > 0 && chars > TOLD_CHARS_MAX
  })
  return fitting === -1 ? certificates : certificates.slice(0, fitting)
}
