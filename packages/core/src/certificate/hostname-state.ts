import type { Instant } from '../id.ts'
import { type Certificate, isValidAt, servingCertificate } from './certificate.ts'
import type { Hostname } from './hostname.ts'

/** In Fly's words where it has some. */
export type HostnameState = 'active' | 'pending_validation' | 'pending_ownership' | 'expired'

export function hostnameState(
  hostname: Hostname,
  certificates: readonly Certificate[],
  now: Instant,
): HostnameState {
  const serving = servingCertificate(usableCertificates(hostname, certificates), now)
  if (serving !== null) return isValidAt(serving, now) ? 'active' : 'expired'
  return certificates.some(({ source }) => source === 'custom')
    ? 'pending_ownership'
    : 'pending_validation'
}

/** Whoever holds a key for a name need not own it: imported ones wait until that is shown. */
export function usableCertificates(
  hostname: Pick<Hostname, 'provenAt'>,
  certificates: readonly Certificate[],
): readonly Certificate[] {
  return certificates.filter(({ source }) => source === 'acme' || hostname.provenAt !== null)
}
