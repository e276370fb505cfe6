import 'reflect-metadata'
import { createPrivateKey, webcrypto, X509Certificate } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { isIP } from 'node:net'
import { dirname, join } from 'node:path'
import * as x509 from '@peculiar/x509'
import { type Clock, PlatformError } from '@roost/base'
import { FileTrouble, storeError } from '../store/file-trouble.ts'

/** Names that a certificate speaks for. */
export interface CertificateNames {
  /** `roost://server`, `roost://agent/<host id>`. */
  readonly uris?: readonly string[]
  readonly dns?: readonly string[]
  readonly ips?: readonly string[]
}

/** PEM both. */
export interface IssuedCertificate {
  readonly certificate: string
  readonly key: string
}

/** The installation's own certificate authority: whoever it signed is one of us, and the URI in the certificate says who. */
export interface Authority {
  /** PEM. */
  readonly ca: string
  /** A new key with a certificate for it. */
  issueCertificate(names: CertificateNames, lifetimeMs?: number): Promise<IssuedCertificate>
  /** Signs a PKCS#10 request (PEM). Only its key is taken from it, never its names. Throws `invalid`. */
  signRequest(request: string, names: CertificateNames, lifetimeMs?: number): Promise<string>
  /** A certificate kept in files, made anew when its names have changed or a third of its life is left. */
  keepCertificate(
    files: { readonly certificate: string; readonly key: string },
    names: CertificateNames,
  ): Promise<IssuedCertificate>
}

const DAY_MS = 86_400_000
const YEAR_MS = 365 * DAY_MS
/** Browsers and some TLS libraries refuse more for a server. */
export const SERVER_CERTIFICATE_MS = 397 * DAY_MS
/** Agents and edges keep theirs for as long as the installation may live. */
export const PEER_CERTIFICATE_MS = 10 * YEAR_MS
const CA_MS = 20 * YEAR_MS
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** Reads the authority from `dataDir`, or founds it there: `ca.pem`, and `ca.key` (0600). */
export async function openAuthority(options: {
  readonly dataDir: string
  readonly clock: Clock
}): Promise<Authority> {
  const { clock } = options
  const { certificate: root, key } = await openRoot(options.dataDir, clock)
  const ca = `${root.toString('pem')}\n`

  async function sign(
    publicKey: x509.PublicKey,
    names: CertificateNames,
    lifetimeMs: number,
  ): Promise<string> {
    const now = clock.now()
    const certificate = await x509.X509CertificateGenerator.create(
      {
        serialNumber: serialNumber(),
        subject: `CN=${commonName(names)}`,
        issuer: root.subject,
        notBefore: new Date(now - DAY_MS),
        notAfter: new Date(Math.min(now + lifetimeMs, root.notAfter.getTime())),
        signingAlgorithm: ALGORITHM,
        publicKey,
        signingKey: key,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([
            x509.ExtendedKeyUsage.serverAuth,
            x509.ExtendedKeyUsage.clientAuth,
          ]),
          new x509.SubjectAlternativeNameExtension([
            ...(names.uris ?? []).map((value) => ({ type: 'url', value }) as const),
            ...(names.dns ?? []).map((value) => ({ type: 'dns', value }) as const),
            ...(names.ips ?? []).map((value) => ({ type: 'ip', value }) as const),
          ]),
          await x509.AuthorityKeyIdentifierExtension.create(root.publicKey, false, webcrypto),
          await x509.SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto),
        ],
      },
      webcrypto,
    )
    return `${certificate.toString('pem')}\n`
  }

  async function issueCertificate(
    names: CertificateNames,
    lifetimeMs = SERVER_CERTIFICATE_MS,
  ): Promise<IssuedCertificate> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
    const publicKey = await x509.PublicKey.create(keys.publicKey, webcrypto)
    return {
      certificate: await sign(publicKey, names, lifetimeMs),
      key: await keyToPem(keys.privateKey),
    }
  }

  return {
    ca,
    issueCertificate,
    async signRequest(request, names, lifetimeMs = SERVER_CERTIFICATE_MS) {
      const publicKey = await publicKeyOf(request)
      return sign(publicKey, names, lifetimeMs)
    },
    async keepCertificate(files, names) {
      const kept = readPair(files)
      if (kept !== null && isGood(kept, names, root, clock)) return kept
      const issued = await issueCertificate(names)
      try {
        writeDraft(files.key, issued.key, 0o600)
        writeDraft(files.certificate, issued.certificate, 0o644)
      } catch (cause) {
        const error = storeError(cause, files.certificate, 'write')
        // Two thirds of its life are over, not all: a full disk must not keep a server from starting.
        if (kept !== null && error instanceof FileTrouble && isGood(kept, names, root, clock, 0))
          return kept
        throw error
      }
      renameSync(draftOf(files.key), files.key)
      renameSync(draftOf(files.certificate), files.certificate)
      return issued
    },
  }
}

async function openRoot(
  dataDir: string,
  clock: Clock,
): Promise<{ certificate: x509.X509Certificate; key: webcrypto.CryptoKey }> {
  const files = { certificate: join(dataDir, 'ca.pem'), key: join(dataDir, 'ca.key') }
  // The certificate is written last: without it nobody has seen the key.
  if (existsSync(files.certificate)) {
    try {
      return {
        certificate: new x509.X509Certificate(readFileSync(files.certificate, 'utf8')),
        key: await keyFromPem(readFileSync(files.key, 'utf8')),
      }
    } catch (cause) {
      throw new PlatformError('internal', `read the authority in ${dataDir}`, { cause })
    }
  }
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      name: 'CN=Roost authority',
      notBefore: new Date(clock.now() - DAY_MS),
      notAfter: new Date(clock.now() + CA_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  )
  writeWhole(files.key, await keyToPem(keys.privateKey), 0o600)
  writeWhole(files.certificate, `${certificate.toString('pem')}\n`, 0o644)
  return { certificate, key: keys.privateKey }
}

async function publicKeyOf(request: string): Promise<x509.PublicKey> {
  try {
    const parsed = new x509.Pkcs10CertificateRequest(request)
    // Whoever asks must have the private key.
    if (await parsed.verify(webcrypto)) return parsed.publicKey
  } catch (cause) {
    throw new PlatformError('invalid', 'the certificate request is not PKCS#10 in PEM', { cause })
  }
  throw new PlatformError('invalid', 'the certificate request is not signed by its own key')
}

function readPair(files: {
  readonly certificate: string
  readonly key: string
}): IssuedCertificate | null {
  if (!existsSync(files.certificate) || !existsSync(files.key)) return null
  return {
    certificate: readFileSync(files.certificate, 'utf8'),
    key: readFileSync(files.key, 'utf8'),
  }
}

/** Of our authority, for these names, for this key (a crash may have replaced one file of two), and with enough of its life left. */
function isGood(
  kept: IssuedCertificate,
  names: CertificateNames,
  root: x509.X509Certificate,
  clock: Clock,
  shareLeft = 1 / 3,
): boolean {
  try {
    if (!new X509Certificate(kept.certificate).checkPrivateKey(createPrivateKey(kept.key)))
      return false
    const certificate = new x509.X509Certificate(kept.certificate)
    const { notBefore, notAfter } = certificate
    const lifeMs = notAfter.getTime() - notBefore.getTime()
    if (certificate.issuer !== root.subject) return false
    if (clock.now() > notAfter.getTime() - lifeMs * shareLeft) return false
    if (clock.now() < notBefore.getTime()) return false
    const found = certificate.getExtension(x509.SubjectAlternativeNameExtension)
    const has = (found?.names.items ?? []).map((name) => `${name.type}:${name.value}`).sort()
    const wanted = [
      ...(names.uris ?? []).map((value) => `url:${value}`),
      ...(names.dns ?? []).map((value) => `dns:${value}`),
      ...(names.ips ?? []).map((value) => `ip:${value}`),
    ].sort()
    return JSON.stringify(has) === JSON.stringify(wanted)
  } catch {
    return false
  }
}

/** Addresses and names from one list, as `CertificateNames` wants them. */
export function addressesAndNames(list: readonly string[]): {
  ips: string[]
  dns: string[]
} {
  const unique = [...new Set(list)]
  return {
    ips: unique.filter((one) => isIP(one) !== 0),
    dns: unique.filter((one) => isIP(one) === 0),
  }
}

function commonName(names: CertificateNames): string {
  return (names.uris?.[0] ?? names.dns?.[0] ?? names.ips?.[0] ?? 'roost').replace(/[,+=\\]/g, '-')
}

function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16))
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return Buffer.from(bytes).toString('hex')
}

async function keyToPem(key: webcrypto.CryptoKey): Promise<string> {
  const bytes = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64')
  return `-----BEGIN PRIVATE KEY-----\n${bytes.replace(/(.{64})/g, '$1\n').trim()}\n-----END PRIVATE KEY-----\n`
}

async function keyFromPem(pem: string): Promise<webcrypto.CryptoKey> {
  const bytes = Buffer.from(pem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64')
  return webcrypto.subtle.importKey('pkcs8', bytes, ALGORITHM, true, ['sign'])
}

/** On the disk before it has its name: a reader finds the old file or the new one. */
export function writeWhole(file: string, text: string, mode: number): void {
  try {
    writeDraft(file, text, mode)
    renameSync(draftOf(file), file)
  } catch (cause) {
    throw storeError(cause, file, 'write')
  }
}

function draftOf(file: string): string {
  return `${file}.draft`
}

function writeDraft(file: string, text: string, mode: number): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const draft = draftOf(file)
  const handle = openSync(draft, 'w', mode)
  try {
    chmodSync(draft, mode)
    writeFileSync(handle, text)
    fsyncSync(handle)
  } catch (error) {
    rmSync(draft, { force: true })
    throw error
  } finally {
    closeSync(handle)
  }
}
