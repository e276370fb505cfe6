import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { Presented } from '@roost/api'
import type { Logger } from '@roost/base'
import { type Hostname, type Instant, servingCertificate, usableCertificates } from '@roost/core'
import { alpnCertificate } from '../acme/alpn-certificate.ts'
import type { ServedCertificate } from '../haproxy/certificate-files.ts'
import type { CertificateShelf } from './certificate-shelf.ts'

/**
 * What HAProxy is to show for each name: its best certificate with the private key that is sealed for us, or what an authority
 * wants to see there now.
 */
export function createServedCertificates(options: {
  readonly hostnames: () => readonly Hostname[]
  readonly shelf: CertificateShelf
  readonly presented: () => readonly Presented[]
  readonly now: () => Instant
  readonly log: Logger
}): () => Promise<readonly ServedCertificate[]> {
  const { shelf, log } = options
  const made = new Map<string, Promise<ServedCertificate>>()
  const said = new Set<string>()

  async function challenges(): Promise<Map<string, ServedCertificate>> {
    const now = options.presented().filter(({ challenge }) => challenge === 'tls-alpn-01')
    for (const token of made.keys()) if (!now.some((one) => one.token === token)) made.delete(token)
    const shown = new Map<string, ServedCertificate>()
    for (const { token, hostname, keyAuthorization } of now) {
      const making =
        made.get(token) ??
        alpnCertificate(hostname, keyAuthorization).then((one) => ({
          ...one,
          hostname,
          challenge: true,
        }))
      made.set(token, making)
      shown.set(hostname, await making)
    }
    return shown
  }

  async function ofName(hostname: Hostname, now: Instant): Promise<ServedCertificate | null> {
    const usable = usableCertificates(hostname, shelf.of(hostname.name))
    const certificate = servingCertificate(usable, now)
    if (certificate === null) return null
    const key = await shelf.keyOf(certificate)
    if (key === null) return null
    try {
      const own = new X509Certificate(certificate.chain)
      if (!own.checkPrivateKey(createPrivateKey(key))) throw new Error('its key is another one')
      return {
        hostname: hostname.name,
        pem: `${certificate.chain.trimEnd()}\n${key}`,
        fingerprint: own.fingerprint.replaceAll(':', ''),
        challenge: false,
      }
    } catch (error) {
      const { fingerprint } = certificate
      if (!said.has(fingerprint))
        log.error('a certificate can not be used', { hostname: hostname.name, error })
      if (said.size < 1000) said.add(fingerprint)
      return null
    }
  }

  return async () => {
    const shown = await challenges()
    const now = options.now()
    for (const hostname of options.hostnames()) {
      if (shown.has(hostname.name)) continue
      const found = await ofName(hostname, now)
      if (found !== null) shown.set(hostname.name, found)
    }
    return [...shown.values()]
  }
}
