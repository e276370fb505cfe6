import { generateKeyPairSync } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { openSealed, PlatformError, SEALING_KEY_BYTES, type SealingKey } from '@roost/base'
import type { MachineId } from '@roost/core'
import type { Environment } from '../runtime.ts'

/**
 * The file of a host's sealing key, 0600: JSON `{"publicKey", "privateKey"}`, each a raw X25519 key in base64. The host
 * makes it before it joins; the private half never leaves the host.
 */
export async function readOrMakeSealingKey(file: string): Promise<SealingKey> {
  if (!existsSync(file)) {
    const { x = '', d = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' })
    const base64 = (text: string) => Buffer.from(text, 'base64url').toString('base64')
    const key: SealingKey = { publicKey: base64(x), privateKey: base64(d) }
    writeFileSync(file, `${JSON.stringify(key)}\n`, { mode: 0o600, flag: 'wx' })
    return key
  }
  const key = JSON.parse(readFileSync(file, 'utf8')) as SealingKey
  for (const half of [key.publicKey, key.privateKey])
    if (Buffer.from(half ?? '', 'base64').length !== SEALING_KEY_BYTES)
      throw new PlatformError('internal', `read ${file}: not a pair of X25519 keys in base64`)
  return key
}

export type OpenSecrets = (sealed: string, machine: MachineId) => Promise<Environment>

/** Opens what the server sealed for this host and one machine of it: a JSON object name → value. */
export function secretOpener(key: SealingKey): OpenSecrets {
  return async (sealed, machine) => {
    try {
      const text = await openSealed(sealed, key, { info: 'roost secrets v1', context: machine })
      return JSON.parse(text) as Environment
    } catch (cause) {
      throw new PlatformError('internal', `open the secrets of machine ${machine}`, { cause })
    }
  }
}
