import type { AppName, Certificate, HostId, Hostname } from '@roost/core'
import { beforeEach, expect, test } from 'vitest'
import { getHostname, listCertificates, putCertificate, putHostname } from '../store/hostnames.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import type { Store } from '../store/store.ts'
import { acceptCertificates } from './accept-certificates.ts'

const NAME = 'www.example.com'
const hostname: Hostname = {
  name: NAME,
  app: 'shop' as AppName,
  createdAt: 0,
  acme: true,
  challenge: null,
  provenAt: null,
  askedAt: null,
  failure: null,
}
const certificate = (gotAt: number, change: Partial<Certificate> = {}): Certificate => ({
  hostname: NAME,
  source: 'acme',
  chain: 'PEM',
  fingerprint: `f${gotAt}`,
  issuer: 'CN=x',
  notBefore: gotAt,
  notAfter: gotAt + 1000,
  gotAt,
  sealedKeys: {},
  ...change,
})
const failure = (at: number) => ({
  at,
  host: 'a' as HostId,
  count: 1,
  challenge: null,
  why: 'no route',
})

let store: Store
beforeEach(async () => {
  store = openSqlite({ file: ':memory:' })
  await store.transaction((tx) => putHostname(tx, hostname))
})
const accept = (report: Parameters<typeof acceptCertificates>[1]) =>
  store.transaction((tx) => acceptCertificates(tx, report, 500))
const known = async () => (await store.read((reader) => listCertificates(reader, [NAME])))[0]
const name = () => store.read((reader) => getHostname(reader, NAME))

test('what was ordered is kept, proves the name, and is not replaced by what is older', async () => {
  await accept({ failures: { [NAME]: failure(50) } })
  expect((await name())?.failure?.at).toBe(50)
  await accept({ certificates: [certificate(100)] })
  await accept({ certificates: [certificate(90)] })
  expect((await known())?.gotAt).toBe(100)
  expect(await name()).toMatchObject({ provenAt: 500, failure: null })
})

test('keys for hosts that came later are added, and said again they change nothing', async () => {
  await accept({ certificates: [certificate(100, { sealedKeys: { ['a' as HostId]: 'x' } })] })
  await accept({ certificates: [certificate(100, { sealedKeys: { ['b' as HostId]: 'y' } })] })
  expect((await known())?.sealedKeys).toEqual({ a: 'x', b: 'y' })
  const head = await store.read((reader) => reader.db.selectFrom('counters').selectAll().execute())
  await accept({ certificates: [certificate(100)] })
  expect(
    await store.read((reader) => reader.db.selectFrom('counters').selectAll().execute()),
  ).toEqual(head)
})

test('what nobody asked for is let go', async () => {
  await accept({ certificates: [certificate(1, { hostname: 'x.example' })] })
  await accept({ certificates: [certificate(1, { source: 'custom' })] })
  await accept({ failures: { 'x.example': failure(1) } })
  expect(await known()).toBeUndefined()
  await store.transaction((tx) => putHostname(tx, { ...hostname, acme: false }))
  await accept({ certificates: [certificate(1)] })
  expect(await known()).toBeUndefined()
})

test('an edge seals an imported one for others, and puts no other in its place', async () => {
  const imported = certificate(5, { source: 'custom' })
  await store.transaction((tx) => putCertificate(tx, imported))
  await accept({ certificates: [{ ...imported, sealedKeys: { ['a' as HostId]: 'x' } }] })
  await accept({ certificates: [certificate(9, { source: 'custom' })] })
  expect(await known()).toEqual({ ...imported, sealedKeys: { a: 'x' } })
})
