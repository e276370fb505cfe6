import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core'
import type { MachineId } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readOrMakeSealingKey, secretOpener } from './sealed-secrets.ts'

const machine = '3d8d0000000001' as MachineId
const values = { TOKEN: `a'b"c\n$d`, EMPTY: '', EMOJI: '🐓' }
const space = { dir: '' }
beforeEach(() => {
  space.dir = mkdtempSync(join(tmpdir(), 'roost-seal-'))
})
afterEach(() => rmSync(space.dir, { recursive: true }))

/** As the server does it. */
async function seal(publicKey: string, additional: string): Promise<string> {
  const suite = new CipherSuite({
    kem: new DhkemX25519HkdfSha256(),
    kdf: new HkdfSha256(),
    aead: new Aes256Gcm(),
  })
  const raw = new Uint8Array(Buffer.from(publicKey, 'base64')).buffer
  const sender = await suite.createSenderContext({
    recipientPublicKey: await suite.kem.deserializePublicKey(raw),
    info: new TextEncoder().encode('roost secrets v1').buffer,
  })
  const text = new TextEncoder().encode(JSON.stringify(values)).buffer
  const sealed = await sender.seal(text, new TextEncoder().encode(additional).buffer)
  return Buffer.concat([Buffer.from(sender.enc), Buffer.from(sealed)]).toString('base64')
}

test('a host opens what was sealed for it and this machine, and nothing else', async () => {
  const file = join(space.dir, 'sealing.json')
  const key = await readOrMakeSealingKey(file)
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(await readOrMakeSealingKey(file)).toEqual(key)

  const open = secretOpener(key)
  expect(await open(await seal(key.publicKey, machine), machine)).toEqual(values)
  await expect(open(await seal(key.publicKey, 'another'), machine)).rejects.toThrow(machine)
  const other = await readOrMakeSealingKey(join(space.dir, 'other.json'))
  await expect(open(await seal(other.publicKey, machine), machine)).rejects.toThrow(machine)
  await expect(open('AAAA', machine)).rejects.toThrow(machine)
})

test('a key that another program made is as good', async () => {
  const { x, d } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' })
  const base64 = (text = '') => Buffer.from(text, 'base64url').toString('base64')
  const file = join(space.dir, 'sealing.json')
  writeFileSync(file, JSON.stringify({ publicKey: base64(x), privateKey: base64(d) }))
  const key = await readOrMakeSealingKey(file)
  expect(await secretOpener(key)(await seal(key.publicKey, machine), machine)).toEqual(values)
})

test('a file that is no key is refused', async () => {
  const file = join(space.dir, 'sealing.json')
  writeFileSync(file, '{"publicKey":"AA=="}')
  await expect(readOrMakeSealingKey(file)).rejects.toThrow('not a pair of X25519 keys')
})
