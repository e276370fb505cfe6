import { createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { openSealed, type SealingKey, seal } from '@roost/base'
import type { AcmeAccount } from './acme-client.ts'

const ES256 = { name: 'ECDSA', namedCurve: 'P-256' } as const

/**
 * This edge's own account with one authority: a key that is in no clear text on any disk. Each edge has its own, so that none of them needs
 * another, or the server, to renew what they all serve.
 */
export async function openAccount(options: {
  readonly file: string
  readonly directory: string
  readonly sealing: SealingKey
}): Promise<AcmeAccount> {
  const { file, directory, sealing } = options
  const what = { info: 'roost acme account v1', context: directory }
  const kept = await readKept(file)
  const sealed = kept[directory]
  if (sealed !== undefined) {
    try {
      return await accountOf(await openSealed(sealed, sealing, what))
    } catch {
      // Of a host that this one was once, with another key: a new account costs nothing.
    }
  }
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const next = { ...kept, [directory]: await seal(pem, sealing.publicKey, what) }
  await writeFile(`${file}.part`, JSON.stringify(next), { mode: 0o600 })
  await rename(`${file}.part`, file)
  return accountOf(pem)
}

async function readKept(file: string): Promise<Readonly<Record<string, string>>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, string>
  } catch {
    return {}
  }
}

async function accountOf(pem: string): Promise<AcmeAccount> {
  const key = createPrivateKey(pem)
  const { kty, crv, x, y } = createPublicKey(key).export({ format: 'jwk' })
  if (kty === undefined || crv === undefined || x === undefined || y === undefined)
    throw new Error('the key of the account is of another kind')
  return {
    key: await webcrypto.subtle.importKey(
      'pkcs8',
      key.export({ type: 'pkcs8', format: 'der' }),
      ES256,
      false,
      ['sign'],
    ),
    publicJwk: { kty, crv, x, y },
  }
}
