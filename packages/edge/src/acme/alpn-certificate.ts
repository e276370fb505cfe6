import { createHash, X509Certificate } from 'node:crypto'
import { runCommand } from '@roost/base'

/**
 * What an authority is shown over TLS-ALPN-01 (RFC 8737): a certificate for the name that nobody signed, with the hash of the key
 * authorization in a critical extension. Key and certificate in PEM.
 */
export async function alpnCertificate(
  hostname: string,
  keyAuthorization: string,
): Promise<{ readonly pem: string; readonly fingerprint: string }> {
  const hash = createHash('sha256').update(keyAuthorization).digest('hex')
  // An OCTET STRING of 32 bytes.
  const value = `0420${hash}`.match(/../g)?.join(':') ?? ''
  const { stdout } = await runCommand([
    'openssl',
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-days', '2', '-subj', '/CN=ACME challenge', '-keyout', '-'],
    ...['-addext', `subjectAltName=DNS:${hostname}`],
    ...['-addext', `1.3.6.1.5.5.7.1.31=critical,DER:${value}`],
  ])
  const certificate = new X509Certificate(stdout)
  return { pem: stdout, fingerprint: certificate.fingerprint.replaceAll(':', '') }
}
