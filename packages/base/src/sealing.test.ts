import { generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { openSealed, seal } from './sealing.ts'

function keyPair() {
  const { x = '', d = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' })
  const base64 = (text: string) => Buffer.from(text, 'base64url').toString('base64')
  return { publicKey: base64(x), privateKey: base64(d) }
}

test('what is sealed is read by its host alone, as what it was sealed as', async () => {
  const [ours, others] = [keyPair(), keyPair()]
  const what = { info: 'letters', context: 'for Ada' }
  const sealed = await seal('a secret ☃', ours.publicKey, what)
  expect(await openSealed(sealed, ours, what)).toBe('a secret ☃')
  expect(sealed).not.toContain(Buffer.from('a secret').toString('base64').slice(0, 8))
  await expect(openSealed(sealed, others, what)).rejects.toThrow()
  await expect(openSealed(sealed, ours, { ...what, context: 'for Bob' })).rejects.toThrow()
  await expect(openSealed(sealed, ours, { ...what, info: 'bills' })).rejects.toThrow()
  await expect(seal('x', 'bm8=', what)).rejects.toThrow('no sealing key of 32 bytes')
})
