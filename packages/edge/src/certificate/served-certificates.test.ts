import { X509Certificate } from 'node:crypto'
import type { Presented } from '@roost/api'
import { runCommand, silentLogger } from '@roost/base'
import type { AppName, Certificate, Hostname } from '@roost/core'
import { beforeAll, expect, test, vi } from 'vitest'
import { createServedCertificates } from './served-certificates.ts'

const DAY_MS = 86_400_000
const NOW = Date.now()
const pems: { readonly chain: string; readonly key: string }[] = []
beforeAll(async () => {
  for (const name of ['one', 'two']) {
    const { stdout } = await runCommand([
      'openssl',
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-days', '2', '-subj', `/CN=${name}`, '-keyout', '-'],
    ])
    const part = (label: string) =>
      new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----\n`).exec(stdout)?.[0] ?? ''
    pems.push({ chain: part('CERTIFICATE'), key: part('PRIVATE KEY') })
  }
})

const hostname = (name: string): Hostname => ({
  ...{ name, app: 'shop' as AppName, createdAt: 0, acme: true, challenge: null },
  ...{ provenAt: 1, askedAt: null, failure: null },
})
const certificate = (n: number, change: Partial<Certificate> = {}): Certificate => ({
  ...{ hostname: 'www.example.com', source: 'acme', chain: pems[n]?.chain ?? '', issuer: 'x' },
  ...{ fingerprint: `f${n}`, notBefore: NOW - DAY_MS, notAfter: NOW + DAY_MS, gotAt: 0 },
  sealedKeys: {},
  ...change,
})
const sha1 = (n: number) =>
  new X509Certificate(pems[n]?.chain ?? '').fingerprint.replaceAll(':', '')

function setUp(
  certificates: readonly Certificate[],
  { presented = [], others = [] }: { presented?: Presented[]; others?: Certificate[] } = {},
) {
  const keys = new Map<string, string>()
  const failed = vi.fn()
  const served = createServedCertificates({
    hostnames: () => ['www.example.com', 'other.example.com'].map(hostname),
    shelf: {
      byName: () =>
        new Map([
          ['www.example.com', certificates],
          ['other.example.com', others],
        ]),
      keyOf: async ({ fingerprint }) => keys.get(fingerprint) ?? null,
    },
    presented: () => presented,
    now: () => NOW,
    log: { ...silentLogger, error: failed },
  })
  return { keys, served, failed }
}

test('the next best is shown where the best can not be used here', async () => {
  const imported = certificate(0, { source: 'custom' })
  const { keys, served, failed } = setUp([imported, certificate(1)])
  expect(await served()).toEqual([])
  keys.set('f1', pems[1]?.key ?? '')
  expect((await served()).map(({ fingerprint }) => fingerprint)).toEqual([sha1(1)])
  // With a key that is not its own.
  keys.set('f0', pems[1]?.key ?? '')
  for (let n = 0; n < 3; n++)
    expect((await served()).map(({ fingerprint }) => fingerprint)).toEqual([sha1(1)])
  expect(failed).toHaveBeenCalledTimes(1)
})

test('a key that is sealed for us later is used then', async () => {
  const { keys, served } = setUp([certificate(0, { source: 'custom' }), certificate(1)])
  keys.set('f1', pems[1]?.key ?? '')
  await served()
  keys.set('f0', pems[0]?.key ?? '')
  expect((await served())[0]).toMatchObject({ hostname: 'www.example.com', fingerprint: sha1(0) })
})

test('one that is good for several names is shown under each of them, at every look', async () => {
  const others = [certificate(1, { hostname: 'other.example.com' })]
  const { keys, served } = setUp([certificate(1)], { others })
  keys.set('f1', pems[1]?.key ?? '')
  for (let n = 0; n < 2; n++)
    expect((await served()).map(({ hostname }) => hostname)).toEqual([
      'www.example.com',
      'other.example.com',
    ])
})

test('a challenge that can not be answered is in the way of nothing else', async () => {
  const challenge = { challenge: 'tls-alpn-01' as const, keyAuthorization: 'a.b', end: false }
  const presented = [
    { ...challenge, hostname: 'no,name', token: 'one' },
    { ...challenge, hostname: 'other.example.com', token: 'two' },
  ]
  const { keys, served, failed } = setUp([certificate(1)], { presented })
  keys.set('f1', pems[1]?.key ?? '')
  const shown = await served()
  expect(shown.map((one) => [one.hostname, one.challenge])).toEqual([
    ['other.example.com', true],
    ['www.example.com', false],
  ])
  await served()
  expect(failed).toHaveBeenCalledTimes(1)
})
