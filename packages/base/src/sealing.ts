import type { CipherSuite } from '@hpke/core'
import { PlatformError } from './platform-error.ts'

/**
 * Text that one host alone can read (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM). `info` says what kind of thing it is, `context`
 * whose: both must be the same to open it, so that nothing that was sealed can be passed off as something else. The result is base64 of the
 * encapsulated key (32 bytes) and the ciphertext.
 */
export interface Sealed {
  readonly info: string
  readonly context: string
}

/** Raw X25519 keys in base64: what a host keeps in a file, 0600, as JSON. */
export interface SealingKey {
  readonly publicKey: string
  readonly privateKey: string
}

export const SEALING_KEY_BYTES = 32

export async function seal(text: string, recipient: string, what: Sealed): Promise<string> {
  const raw = Buffer.from(recipient, 'base64')
  if (raw.length !== SEALING_KEY_BYTES)
    throw new PlatformError(
      'internal',
      `seal: the host has no sealing key of ${SEALING_KEY_BYTES} bytes`,
    )
  const hpke = await suite()
  const sender = await hpke.createSenderContext({
    recipientPublicKey: await hpke.kem.deserializePublicKey(exact(raw)),
    info: exact(Buffer.from(what.info)),
  })
  const sealed = await sender.seal(exact(Buffer.from(text)), exact(Buffer.from(what.context)))
  return Buffer.concat([Buffer.from(sender.enc), Buffer.from(sealed)]).toString('base64')
}

/** Throws when it is for another host, of another kind or somebody else's. */
export async function openSealed(sealed: string, key: SealingKey, what: Sealed): Promise<string> {
  const hpke = await suite()
  const bytes = Buffer.from(sealed, 'base64')
  const recipient = await hpke.createRecipientContext({
    recipientKey: {
      publicKey: await hpke.kem.deserializePublicKey(exact(Buffer.from(key.publicKey, 'base64'))),
      privateKey: await hpke.kem.deserializePrivateKey(
        exact(Buffer.from(key.privateKey, 'base64')),
      ),
    },
    enc: exact(bytes.subarray(0, SEALING_KEY_BYTES)),
    info: exact(Buffer.from(what.info)),
  })
  const text = await recipient.open(
    exact(bytes.subarray(SEALING_KEY_BYTES)),
    exact(Buffer.from(what.context)),
  )
  return Buffer.from(text).toString('utf8')
}

/** Loaded by those who seal or open something, and by nobody else who comes through this package's door. */
async function suite(): Promise<CipherSuite> {
  const { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } = await import('@hpke/core')
  return new CipherSuite({
    kem: new DhkemX25519HkdfSha256(),
    kdf: new HkdfSha256(),
    aead: new Aes256Gcm(),
  })
}

/** Of exactly its bytes: a small Buffer is a view into a larger, shared one. */
function exact(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}
