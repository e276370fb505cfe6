import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { runCommand, type SealingKey } from '@roost/base'
import type { AppName, Certificate, Host, Hostname } from '@roost/core'
import { sealKeyFor } from './certificate-shelf.ts'

/** For tests: names of somebody's own with imported certificates, as the server has their records. */
export function ownName(name: string, app: string): Hostname {
  return {
    name,
    app: app as AppName,
    createdAt: 0,
    acme: false,
    challenge: null,
    provenAt: 1,
    askedAt: null,
    failure: null,
  }
}

export interface TrialCertificate {
  /** SHA-256 as TLS clients show it. */
  readonly fingerprint256: string
  /** The record of one of the names, with the private key sealed for these hosts. */
  recordOf(
    hostname: string,
    hosts: readonly Pick<Host, 'id' | 'sealingKey'>[],
  ): Promise<Certificate>
}

/** One that is good for all `names`, of the authority whose certificate and key are in these files. */
export async function makeCertificate(options: {
  readonly ca: string
  readonly caKey: string
  readonly names: readonly string[]
  readonly curve?: string
}): Promise<TrialCertificate> {
  const alternatives = options.names.map((name) => `DNS:${name}`).join(',')
  const { stdout } = await runCommand([
    'openssl',
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt'],
    `ec_paramgen_curve:${options.curve ?? 'prime256v1'}`,
    ...['-nodes', '-days', '2', '-subj', '/CN=own', '-addext', `subjectAltName=${alternatives}`],
    ...['-addext', 'basicConstraints=critical,CA:FALSE'],
    ...['-CA', options.ca, '-CAkey', options.caKey, '-keyout', '-'],
  ])
  const [key = '', chain = ''] = stdout.split(/(?=-----BEGIN CERTIFICATE)/)
  const own = new X509Certificate(chain)
  return {
    fingerprint256: own.fingerprint256,
    recordOf(hostname, hosts) {
      const certificate: Certificate = {
        hostname,
        source: 'custom',
        chain,
        fingerprint: own.fingerprint256.replaceAll(':', '').toLowerCase(),
        issuer: own.issuer,
        notBefore: Date.parse(own.validFrom),
        notAfter: Date.parse(own.validTo),
        gotAt: Date.now(),
        sealedKeys: {},
      }
      return sealKeyFor(certificate, key.slice(key.indexOf('-----BEGIN')), hosts, (_, error) => {
        throw error
      })
    },
  }
}

export function makeSealingKey(): SealingKey {
  const { x = '', d = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' })
  const base64 = (text: string) => Buffer.from(text, 'base64url').toString('base64')
  return { publicKey: base64(x), privateKey: base64(d) }
}
