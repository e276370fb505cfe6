import type { HostId, Instant } from '../id.ts'

export type CertificateSource = 'acme' | 'custom'

/**
 * A certificate as it travels between edges and server, and lies on their disks: everybody may read it. The private key is in it once
 * for each host, sealed so that only that host can open it.
 */
export interface Certificate {
  readonly hostname: string
  readonly source: CertificateSource
  /** PEM, the name's own certificate first. */
  readonly chain: string
  /** SHA-256 of that first one, in hexadecimal. */
  readonly fingerprint: string
  readonly issuer: string
  readonly notBefore: Instant
  readonly notAfter: Instant
  /** When it was ordered or imported: of two for the same name, the later one counts. */
  readonly gotAt: Instant
  readonly sealedKeys: Readonly<Record<HostId, string>>
}

/** `hostname/source`: there is one of each. */
export function certificateId(of: Pick<Certificate, 'hostname' | 'source'>): string {
  return `${of.hostname}/${of.source}`
}

/** As what the private key is sealed: for this name, and for no other certificate of it. */
export function keySealing(of: Pick<Certificate, 'hostname' | 'fingerprint'>): {
  readonly info: string
  readonly context: string
} {
  return { info: 'roost certificate key v1', context: `${of.hostname}/${of.fingerprint}` }
}

/** What is known after both were heard of, in whatever order. */
export function mergeCertificates(a: Certificate | null, b: Certificate): Certificate {
  if (a === null) return b
  if (a.gotAt !== b.gotAt) return a.gotAt > b.gotAt ? a : b
  if (a.fingerprint !== b.fingerprint) return a.fingerprint > b.fingerprint ? a : b
  const sealedKeys: Record<HostId, string> = { ...a.sealedKeys }
  for (const [host, sealed] of Object.entries(b.sealedKeys) as [HostId, string][]) {
    const known = sealedKeys[host]
    if (known === undefined || sealed > known) sealedKeys[host] = sealed
  }
  return { ...a, sealedKeys }
}

/** `gotAt` of one that is got now: after what is known, whatever a clock said when that was got, or it would count for nothing. */
export function gotAfter(known: Certificate | null, now: Instant): Instant {
  return known === null ? now : Math.max(now, known.gotAt + 1)
}

/** Whether `known` says all that `heard` does. */
export function holdsCertificate(known: Certificate | null, heard: Certificate): boolean {
  if (known === null) return false
  if (known.fingerprint !== heard.fingerprint || known.gotAt !== heard.gotAt)
    return mergeCertificates(known, heard) === known
  return (Object.keys(heard.sealedKeys) as HostId[]).every((host) => host in known.sealedKeys)
}

/** What is shown to clients: an imported one while it is valid, else the ordered one, else what there is. */
export function servingCertificate(
  certificates: readonly Certificate[],
  now: Instant,
): Certificate | null {
  const valid = certificates.filter((one) => isValidAt(one, now))
  const best = (list: readonly Certificate[]) =>
    list.find(({ source }) => source === 'custom') ?? list[0] ?? null
  return best(valid) ?? best(certificates)
}

export function isValidAt(certificate: Certificate, now: Instant): boolean {
  return now >= certificate.notBefore && now < certificate.notAfter
}

/** Two thirds of its life: with the usual 90 days, a month is left to try. */
export function renewAt({
  notBefore,
  notAfter,
}: Pick<Certificate, 'notBefore' | 'notAfter'>): Instant {
  return notBefore + Math.floor(((notAfter - notBefore) * 2) / 3)
}
