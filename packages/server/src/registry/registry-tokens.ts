import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import type { Clock } from '@roost/base'
import { errors, exportPKCS8, importPKCS8, jwtVerify, SignJWT } from 'jose'
import { writeWhole } from '../authority/authority.ts'

/** What a token lets its bearer do with one repository of the image store. */
export interface RegistryAccess {
  /** `shop`, `docker.io/library/debian`. */
  readonly repository: string
  readonly actions: readonly ('pull' | 'push' | 'delete')[]
}

export interface RegistryToken {
  readonly token: string
  readonly expiresAt: number
}

export interface VerifiedToken {
  readonly subject: string
  readonly access: readonly RegistryAccess[]
  readonly expiresAt: number
}

/** Signs what the image store believes. Each token is for the repositories that it names and short-lived. */
export interface RegistryTokens {
  issue(request: {
    /** Who asked, for the registry's log. */
    readonly subject: string
    readonly access: readonly RegistryAccess[]
    /** Default 15 min. */
    readonly ttlMs?: number
  }): Promise<RegistryToken>
  /** What one of our own tokens lets its bearer do; null when it is not ours or has expired. */
  verify(token: string): Promise<VerifiedToken | null>
}

const ISSUER = 'roost'
const SERVICE = 'registry.internal'
const YEAR_MS = 365 * 86_400_000

/**
 * The key is made at the first start and kept in `dataDir`. Distribution finds the key to check a token with only through the
 * certificate in the token's `x5c` header (or a libtrust `kid`), which must lead to one in its `rootcertbundle`: our
 * certificate signs itself and is the bundle.
 */
export async function openRegistryTokens(options: {
  readonly dataDir: string
  /** The registry's `rootcertbundle`; written before this returns. */
  readonly bundleFile: string
  readonly clock: Clock
}): Promise<RegistryTokens> {
  const { clock } = options
  const { key, certificate } = await openKey(join(options.dataDir, 'registry-token.pem'), clock)
  const bundle = `${certificate.toString('pem')}\n`
  const kept = await readFile(options.bundleFile, 'utf8').catch(() => '')
  if (kept !== bundle) writeWhole(options.bundleFile, bundle, 0o644)
  const x5c = [Buffer.from(certificate.rawData).toString('base64')]
  const publicKey = await certificate.publicKey.export(webcrypto)

  return {
    async issue({ subject, access, ttlMs = 900_000 }) {
      const now = clock.now()
      const seconds = (ms: number) => Math.floor(ms / 1000)
      const token = await new SignJWT({
        access: access.map(({ repository, actions }) => ({
          type: 'repository',
          name: repository,
          actions,
        })),
      })
        .setProtectedHeader({ alg: 'ES256', typ: 'JWT', x5c })
        .setIssuer(ISSUER)
        .setAudience(SERVICE)
        .setSubject(subject)
        .setJti(webcrypto.randomUUID())
        .setIssuedAt(seconds(now))
        // Hosts' clocks differ a little.
        .setNotBefore(seconds(now - 60_000))
        .setExpirationTime(seconds(now + ttlMs))
        .sign(key)
      return { token, expiresAt: now + ttlMs }
    },
    async verify(token) {
      try {
        const { payload } = await jwtVerify(token, publicKey, {
          issuer: ISSUER,
          audience: SERVICE,
          algorithms: ['ES256'],
          currentDate: new Date(clock.now()),
        })
        const access = (payload['access'] ?? []) as {
          name: string
          actions: RegistryAccess['actions']
        }[]
        return {
          subject: payload.sub ?? '',
          expiresAt: (payload.exp ?? 0) * 1000,
          access: access.map(({ name, actions }) => ({ repository: name, actions })),
        }
      } catch (error) {
        if (error instanceof errors.JOSEError) return null
        throw error
      }
    },
  }
}

async function openKey(file: string, clock: Clock) {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const crypto = webcrypto
  x509.cryptoProvider.set(crypto)
  const kept = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (kept !== null) {
    const at = kept.indexOf('-----BEGIN CERTIFICATE')
    const certificate = new x509.X509Certificate(kept.slice(at))
    return { key: await importPKCS8(kept.slice(0, at).trim(), 'ES256'), certificate }
  }
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: Buffer.from(crypto.getRandomValues(new Uint8Array(15))).toString('hex'),
      name: 'CN=roost registry tokens',
      notBefore: new Date(clock.now() - 86_400_000),
      notAfter: new Date(clock.now() + 20 * YEAR_MS),
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyCertSign,
          true,
        ),
      ],
    },
    crypto,
  )
  const text = `${await exportPKCS8(keys.privateKey)}\n${certificate.toString('pem')}\n`
  writeWhole(file, text, 0o600)
  return { key: keys.privateKey, certificate }
}
