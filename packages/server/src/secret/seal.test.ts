import type { webcrypto } from 'node:crypto'
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core'
import type { MachineId } from '@roost/core'
import { expect, test } from 'vitest'
import { sealSecrets } from './seal.ts'

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
})

/** As a host does it. */
async function open(sealed: string, recipientKey: webcrypto.CryptoKeyPair, machine: string) {
  const bytes = Buffer.from(sealed, 'base64')
  const context = await suite.createRecipientContext({
    recipientKey,
    enc: new Uint8Array(bytes.subarray(0, 32)).buffer,
    info: new TextEncoder().encode('roost secrets v1').buffer,
  })
  const text = await context.open(
    new Uint8Array(bytes.subarray(32)).buffer,
    new TextEncoder().encode(machine).buffer,
  )
  return JSON.parse(Buffer.from(text).toString('utf8'))
}

test('only the host that it was sealed for opens it, and only for that machine', async () => {
  const keys = await suite.kem.generateKeyPair()
  const raw = Buffer.from(await suite.kem.serializePublicKey(keys.publicKey)).toString('base64')
  const values = { TOKEN: `a'b"c\n$d`, EMPTY: '', LONG: 'x'.repeat(100_000), EMOJI: '🐓' }
  const sealed = await sealSecrets(raw, '3d8d0000000001' as MachineId, values)

  expect(await open(sealed, keys, '3d8d0000000001')).toEqual(values)
  await expect(open(sealed, keys, '3d8d0000000002')).rejects.toThrow()
  const others = await suite.kem.generateKeyPair()
  await expect(open(sealed, others, '3d8d0000000001')).rejects.toThrow()
})

test('a host without a sealing key is told so', async () => {
  await expect(sealSecrets('', '3d8d0000000001' as MachineId, {})).rejects.toThrow('sealing key')
})
