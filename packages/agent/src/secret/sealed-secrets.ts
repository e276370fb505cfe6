import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core'
import { PlatformError } from '@roost/base'
import type { MachineId } from '@roost/core'
import type { Environment } from '../runtime.ts'

const INFO = new TextEncoder().encode('roost secrets v1')
const KEY_BYTES = 32

/**
 * The file of a host's sealing key, 0600: JSON `{"publicKey", "privateKey"}`, each a raw X25519 key in base64. The host
 * makes it before it joins; the private half never leaves the host.
 */
export interface SealingKey {
  readonly publicKey: string
  readonly privateKey: string
}

export async function readOrMakeSealingKey(file: string): Promise<SealingKey> {
  if (!existsSync(file)) {
    const { kem } = suite()
    const pair = await kem.generateKeyPair()
    const base64 = (bytes: ArrayBuffer) => Buffer.from(bytes).toString('base64')
    const key: SealingKey = {
      publicKey: base64(await kem.serializePublicKey(pair.publicKey)),
      privateKey: base64(await kem.serializePrivateKey(pair.privateKey)),
    }
    writeFileSync(file, `${JSON.stringify(key)}\n`, { mode: 0o600, flag: 'wx' })
    return key
  }
  const key = JSON.parse(readFileSync(file, 'utf8')) as SealingKey
  for (const half of [key.publicKey, key.privateKey])
    if (Buffer.from(half ?? '', 'base64').length !== KEY_BYTES)
      throw new PlatformError('internal', `read ${file}: not a pair of X25519 keys in base64`)
  return key
}

export type OpenSecrets = (sealed: string, machine: MachineId) => Promise<Environment>

/**
 * Opens what the server sealed for this host (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM; info `roost secrets v1`; the
 * machine's id is the additional data): base64 of the encapsulated key (32 bytes) and the ciphertext of a JSON object
 * name → value.
 */
export function secretOpener(key: SealingKey): OpenSecrets {
  const hpke = suite()
  return async (sealed, machine) => {
    try {
      const bytes = Buffer.from(sealed, 'base64')
      const context = await hpke.createRecipientContext({
        recipientKey: {
          publicKey: await hpke.kem.deserializePublicKey(exact(key.publicKey)),
          privateKey: await hpke.kem.deserializePrivateKey(exact(key.privateKey)),
        },
        enc: new Uint8Array(bytes.subarray(0, KEY_BYTES)).buffer,
        info: INFO.buffer,
      })
      const text = await context.open(
        new Uint8Array(bytes.subarray(KEY_BYTES)).buffer,
        new TextEncoder().encode(machine).buffer,
      )
      return JSON.parse(Buffer.from(text).toString('utf8')) as Environment
    } catch (cause) {
      throw new PlatformError('internal', `open the secrets of machine ${machine}`, { cause })
    }
  }
}

function suite(): CipherSuite {
  return new CipherSuite({
    kem: new DhkemX25519HkdfSha256(),
    kdf: new HkdfSha256(),
    aead: new Aes256Gcm(),
  })
}

/** Of exactly its bytes: a small Buffer is a view into a larger, shared one. */
function exact(base64: string): ArrayBuffer {
  return new Uint8Array(Buffer.from(base64, 'base64')).buffer
}
