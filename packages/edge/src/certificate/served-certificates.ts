import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { Presented } from '@roost/api'
import type { Logger } from '@roost/base'
import {
  type Certificate,
  type Hostname,
  type Instant,
  servingCertificate,
  usableCertificates,
} from '@roost/core'
import { alpnCertificate } from '../acme/alpn-certificate.ts'
import type { ServedCertificate } from '../haproxy/certificate-files.ts'
import type { CertificateShelf } from './certificate-shelf.ts'

/**
 * What HAProxy is to show for each name: its best certificate with the private key that is sealed for us, or what an authority
 * wants to see there now. One that can't be used is passed over, and is in the way of no other.
 */
export function createServedCertificates(options: {
  readonly hostnames: () => readonly Hostname[]
  readonly shelf: Pick<CertificateShelf, 'byName' | 'keyOf'>
  readonly presented: () => readonly Presented[]
  readonly now: () => Instant
  readonly log: Logger
}): () => Promise<readonly ServedCertificate[]> {
  const { shelf, log } = options
  const made = new Map<string, Promise<ServedCertificate | null>>()
  /** Reading one takes longer than all else, and this is asked each second. null: it can't be used. */
  const read = new WeakMap<Certificate, ServedCertificate | null>()

  async function challenges(): Promise<Map<string, ServedCertificate>> {
    const now = options.presented().filter(({ challenge }) => challenge === 'tls-alpn-01')
    for (const token of made.keys()) if (!now.some((one) => one.token === token)) made.delete(token)
    const shown = new Map<string, ServedCertificate>()
    for (const { token, hostname, keyAuthorization } of now) {
      const making =
        made.get(token) ??
        alpnCertificate(hostname, keyAuthorization).then(
          (one) => ({ ...one, hostname, challenge: true }),
          (error: unknown) => {
            log.error('an authority can not be answered over TLS', { hostname, error })
            return null
          },
        )
      made.set(token, making)
      const one = await making
      if (one !== null) shown.set(hostname, one)
    }
    return shown
  }

  function readOne(of: Certificate, key: string): ServedCertificate | null {
    const { hostname } = of
    try {
      const own = new X509Certificate(of.chain)
      if (!own.checkPrivateKey(createPrivateKey(key))) throw new Error('its key is another one')
      return {
        hostname,
        pem: `${of.chain.trimEnd()}\n${key}`,
        fingerprint: own.fingerprint.replaceAll(':', ''),
        challenge: false,
      }
    } catch (error) {
      log.error('a certificate can not be used', { hostname, error })
      return null
    }
  }

  async function look(certificate: Certificate): Promise<ServedCertificate | null> {
    const known = read.get(certificate)
    if (known !== undefined) return known
    const key = await shelf.keyOf(certificate)
    // It may be sealed for us later.
    if (key === null) return null
    const found = readOne(certificate, key)
    read.set(certificate, found)
    return found
  }

  return async () => {
    const shown = await challenges()
    const now = options.now()
    const known = shelf.byName()
    for (const { name, ...hostname } of options.hostnames()) {
      let left = usableCertificates(hostname, known.get(name) ?? [])
      for (let best = servingCertificate(left, now); best !== null; ) {
        const found = await look(best)
        if (found !== null) {
          if (!shown.has(name)) shown.set(name, found)
          break
        }
        left = left.filter((one) => one !== best)
        best = servingCertificate(left, now)
      }
    }
    return [...shown.values()]
  }
}
