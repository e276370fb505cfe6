import { getCACertificates } from 'node:tls'

/** What verification says of a certificate whose issuer is not among the authorities. */
const UNKNOWN_ISSUER: ReadonlySet<unknown> = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
])

export function isOfUnknownIssuer(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  return ('code' in error && UNKNOWN_ISSUER.has(error.code)) || isOfUnknownIssuer(error.cause)
}

/** The authority of the installation beside those that the system knows. To read these takes longer than most commands. */
export function allAuthorities(ca: string): string[] {
  return [...getCACertificates('default'), ca]
}
