import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { PlatformError, seal } from '@roost/base'
import { type Certificate, type Host, type Instant, keySealing } from '@roost/core'

/**
 * A certificate that somebody brings, checked as far as a server can, with its private key sealed for each host. The key is in memory for
 * the time of the request and nowhere else. Throws `invalid`.
 */
export async function importCertificate(
  given: { readonly hostname: string; readonly fullchain: string; readonly privateKey: string },
  hosts: readonly Pick<Host, 'id' | 'sealingKey'>[],
  now: Instant,
): Promise<Certificate> {
  const { hostname } = given
  const blocks = blocksOf(given.fullchain, 'CERTIFICATE')
  const [first] = blocks
  if (first === undefined)
    throw new PlatformError('invalid', 'fullchain: there is no certificate in PEM in it')
  const chain = blocks.join('')
  const own = parse(first)
  const key = parseKey(given.privateKey)
  const pem = key.export({ type: 'pkcs8', format: 'pem' }).toString()
  if (!own.checkPrivateKey(key))
    throw new PlatformError('invalid', 'private_key: it is not that of the certificate')
  if (own.checkHost(hostname.replace(/^\*\./, 'any.')) === undefined)
    throw new PlatformError(
      'invalid',
      `fullchain: the certificate is for ${own.subjectAltName?.replaceAll('DNS:', '') ?? 'no name'}, not for ${hostname}`,
    )
  const [notBefore, notAfter] = [Date.parse(own.validFrom), Date.parse(own.validTo)]
  if (now >= notAfter)
    throw new PlatformError('invalid', `fullchain: the certificate expired at ${own.validTo}`)
  refuseChain(blocks)
  try {
    // OpenSSL has a say of its own: keys that are too short, signatures that are too old.
    createSecureContext({ cert: chain, key: pem })
  } catch (cause) {
    throw new PlatformError('invalid', 'fullchain: OpenSSL would not serve it', { cause })
  }
  const fingerprint = own.fingerprint256.replaceAll(':', '').toLowerCase()
  const what = keySealing({ hostname, fingerprint })
  const sealed = await Promise.all(
    hosts
      .filter(({ sealingKey }) => sealingKey !== '')
      .map(async ({ id, sealingKey }) => [id, await seal(pem, sealingKey, what)]),
  )
  return {
    hostname,
    source: 'custom',
    chain,
    fingerprint,
    issuer: own.issuer.replaceAll('\n', ', '),
    notBefore,
    notAfter,
    gotAt: now,
    sealedKeys: Object.fromEntries(sealed),
  }
}

function blocksOf(text: string, label: string): string[] {
  const pattern = new RegExp(
    `-----BEGIN ${label}-----[A-Za-z0-9+/=\\s]+-----END ${label}-----`,
    'g',
  )
  return (text.match(pattern) ?? []).map((block) => {
    const lines = block.split(/\s*\n\s*/).filter((line) => line !== '')
    return `${lines.join('\n')}\n`
  })
}

function parse(block: string): X509Certificate {
  try {
    return new X509Certificate(block)
  } catch (cause) {
    throw new PlatformError('invalid', 'fullchain: a certificate in it can not be read', { cause })
  }
}

const KINDS = ['rsa', 'ec']
const RSA_BITS_MIN = 2048

function parseKey(text: string): KeyObject {
  let key: KeyObject
  try {
    key = createPrivateKey(text)
  } catch (cause) {
    const why = /ENCRYPTED/.test(text) ? 'it has a passphrase: take it off with "openssl pkey"' : ''
    throw new PlatformError('invalid', `private_key: it can not be read${why && `: ${why}`}`, {
      cause: why === '' ? cause : undefined,
    })
  }
  if (!KINDS.includes(key.asymmetricKeyType ?? ''))
    throw new PlatformError('invalid', 'private_key: browsers know RSA and elliptic curves alone')
  const bits = key.asymmetricKeyDetails?.modulusLength ?? RSA_BITS_MIN
  if (bits < RSA_BITS_MIN)
    throw new PlatformError(
      'invalid',
      `private_key: RSA needs ${RSA_BITS_MIN} bits, it has ${bits}`,
    )
  return key
}

/** Each is signed by the next: the other way round, or with one missing, some clients believe it and some do not. */
function refuseChain(blocks: readonly string[]): void {
  const certificates = blocks.map(parse)
  certificates.forEach((certificate, n) => {
    const next = certificates[n + 1]
    if (next !== undefined && !certificate.checkIssued(next))
      throw new PlatformError(
        'invalid',
        `fullchain: certificate ${n + 2} has not signed certificate ${n + 1}: the own one comes first, then the one that signed it`,
      )
  })
}
