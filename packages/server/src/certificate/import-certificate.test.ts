import { describe, expect, test } from 'vitest'
import { importCertificate } from './import-certificate.ts'
import { trialCertificate } from './trial-certificate.ts'

const now = Date.now()
const bring = (hostname: string, fullchain: string, privateKey: string, at = now) =>
  importCertificate({ hostname, fullchain, privateKey }, [], at)

describe('a certificate that somebody brings', () => {
  test('is taken for the names that it has, the key in no clear text', async () => {
    const { fullchain, key } = await trialCertificate(['www.example.com', '*.shop.example'])
    const taken = await bring('www.example.com', fullchain.replaceAll('\n', '\r\n'), key)
    expect(taken).toMatchObject({
      hostname: 'www.example.com',
      source: 'custom',
      issuer: 'CN=trial authority',
      fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
      gotAt: now,
    })
    expect(JSON.stringify(taken)).not.toContain('PRIVATE')
    expect(taken.chain).not.toMatch(/\r|\n\n/)
    expect((await bring('*.shop.example', fullchain, key)).hostname).toBe('*.shop.example')
    await expect(bring('example.com', fullchain, key)).rejects.toThrow(
      'the certificate is for www.example.com, *.shop.example, not for example.com',
    )
  })

  test('is refused with what is wrong about it', async () => {
    const [good, other] = [
      await trialCertificate(['a.example']),
      await trialCertificate(['a.example']),
    ]
    const refused = (chain: string, key: string, at?: number) =>
      expect(bring('a.example', chain, key, at)).rejects
    await refused('', good.key).toThrow('there is no certificate in PEM')
    await refused(good.fullchain, 'no key').toThrow('private_key: it can not be read')
    await refused(good.fullchain, other.key).toThrow('not that of the certificate')
    await refused(good.fullchain, good.key, now + 91 * 86_400_000).toThrow('expired')
    const [own = '', ca = ''] = good.fullchain.split(/(?<=-----END CERTIFICATE-----\n)/)
    await refused(ca + own, good.key).toThrow('not that of the certificate')
    await refused(own + other.ca, good.key).toThrow('certificate 2 has not signed certificate 1')
    const short = await trialCertificate(['a.example'], { key: ['-newkey', 'rsa:1024'] })
    await refused(short.fullchain, short.key).toThrow('RSA needs 2048 bits, it has 1024')
    const strange = await trialCertificate(['a.example'], { key: ['-newkey', 'ed25519'] })
    await refused(strange.fullchain, strange.key).toThrow('RSA and elliptic curves alone')
  })
})
