import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core'
import { PlatformError } from '@roost/base'
import type { MachineId } from '@roost/core'

const INFO = new TextEncoder().encode('roost secrets v1')

/**
 * Seals secrets for one host and one machine (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM; info `roost secrets v1`).
 * `recipient` is the host's raw X25519 public key in base64. The result is base64 of the encapsulated key (32 bytes) and
 * the ciphertext of a JSON object name → value; the machine's id is the additional data, so that a host can't give one
 * machine the secrets of another by mistake.
 */
export async function sealSecrets(
  recipient: string,
  machine: MachineId,
  values: Readonly<Record<string, string>>,
): Promise<string> {
  const suite = new CipherSuite({
    kem: new DhkemX25519HkdfSha256(),
    kdf: new HkdfSha256(),
    aead: new Aes256Gcm(),
  })
  const raw = Buffer.from(recipient, 'base64')
  if (raw.length !== 32)
    throw new PlatformError('internal', 'seal secrets: the host has no sealing key of 32 bytes')
  const recipientPublicKey = await suite.kem.deserializePublicKey(toArrayBuffer(raw))
  const sender = await suite.createSenderContext({ recipientPublicKey, info: INFO.buffer })
  const sealed = await sender.seal(
    toArrayBuffer(Buffer.from(JSON.stringify(values))),
    toArrayBuffer(Buffer.from(machine)),
  )
  return Buffer.concat([Buffer.from(sender.enc), Buffer.from(sealed)]).toString('base64')
}

/** Of exactly its bytes: a small Buffer is a view into a larger, shared one. */
function toArrayBuffer(bytes: Buffer): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}
