import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  bytesOf,
  type CollectionFacts,
  planCollection,
  type StoredManifest,
  type StoredRepository,
} from './collection.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const NOW = 1_000 * DAY

const manifest = (
  digest: string,
  ageMs: number,
  given: Partial<StoredManifest> = {},
): StoredManifest => ({
  digest,
  pushedAt: NOW - ageMs,
  tags: [],
  references: [`${digest}-layer`],
  ...given,
})
const repository = (
  name: string,
  manifests: StoredManifest[],
  given: Partial<StoredRepository> = {},
): StoredRepository => ({
  name,
  manifests,
  layers: manifests.flatMap(({ references, pushedAt }) =>
    (references ?? []).map((digest) => ({ digest, linkedAt: pushedAt })),
  ),
  uploads: [],
  ...given,
})
function facts(
  repositories: StoredRepository[],
  given: Partial<CollectionFacts> = {},
): CollectionFacts {
  const blobs = new Map<string, number>()
  for (const { manifests, layers } of repositories)
    for (const { digest } of [...manifests, ...layers]) blobs.set(digest, 10)
  return {
    now: NOW,
    stored: { repositories, blobs },
    needed: new Set(),
    apps: new Set(['shop']),
    busy: new Set(),
    thorough: false,
    ...given,
  }
}
const going = (given: CollectionFacts) =>
  planCollection(given).manifests.map(({ digest }) => digest)
const blobsOf = (given: CollectionFacts) => planCollection(given).blobs.map(({ digest }) => digest)

test('what a machine runs or a release may return to stays, however old', () => {
  const shop = repository('shop', [manifest('old', 900 * DAY), manifest('older', 901 * DAY)])
  const plan = planCollection(facts([shop], { needed: new Set(['shop@old']), thorough: true }))
  expect(plan.manifests).toEqual([
    {
      repository: 'shop',
      digest: 'older',
      tags: [],
      why: 'no release that may be returned to has it',
    },
  ])
  expect(plan.layers).toEqual([{ repository: 'shop', digest: 'older-layer' }])
  expect(plan.blobs.map(({ digest }) => digest)).toEqual(['older', 'older-layer'])
  expect(bytesOf(plan)).toBe(20)
})

test('of what no release has the newest few stay for a week; when room is short only what is fresh', () => {
  const ages = [0.5, 2, 3, 4, 5, 6, 7].map((hours) => manifest(`${hours}h`, hours * HOUR))
  const shop = repository('shop', [...ages, manifest('8d', 8 * DAY)])
  expect(going(facts([shop]))).toEqual(['6h', '7h', '8d'])
  expect(going(facts([shop], { thorough: true }))).toEqual([
    '2h',
    '3h',
    '4h',
    '5h',
    '6h',
    '7h',
    '8d',
  ])
})

test('the mirror keeps every tag, and what a tag has left for a month', () => {
  const mirror = repository('docker.io/library/debian', [
    manifest('now', 400 * DAY, { tags: ['bookworm-slim'] }),
    manifest('recent', 20 * DAY),
    manifest('last-year', 300 * DAY),
  ])
  expect(going(facts([mirror]))).toEqual(['last-year'])
  expect(going(facts([mirror], { thorough: true }))).toEqual(['recent', 'last-year'])
})

test('an index keeps what it lists, with all its layers', () => {
  const shop = repository('shop', [
    manifest('index', 90 * DAY, { references: ['amd64', 'arm64'] }),
    manifest('amd64', 90 * DAY),
    manifest('arm64', 90 * DAY),
  ])
  const kept = facts([shop], { needed: new Set(['shop@index']), thorough: true })
  expect(going(kept)).toEqual([])
  expect(blobsOf(kept)).toEqual([])
})

test('a layer that another image or another repository has stays', () => {
  const shared = { references: ['base', 'own-a'] }
  const shop = repository('shop', [
    manifest('a', 90 * DAY, shared),
    manifest('b', 90 * DAY, { references: ['base', 'own-b'] }),
  ])
  const mirror = repository('docker.io/library/node', [
    manifest('n', 90 * DAY, { tags: ['22'], references: ['base'] }),
  ])
  const needed = new Set(['shop@b'])
  expect(blobsOf(facts([shop], { needed, thorough: true }))).toEqual(['a', 'own-a'])
  const none = facts([shop, mirror], { thorough: true })
  expect(blobsOf(none)).toEqual(['a', 'b', 'own-a', 'own-b'])
})

test('nothing of a repository that is busy, or that can not be read, goes', () => {
  const shop = repository('shop', [manifest('old', 90 * DAY)])
  const busy = planCollection(facts([shop], { busy: new Set(['shop']), thorough: true }))
  expect(busy).toMatchObject({
    manifests: [],
    layers: [],
    blobs: [],
    passedOver: [{ repository: 'shop' }],
  })
  const strange = repository('shop', [
    manifest('old', 90 * DAY),
    manifest('odd', 90 * DAY, { references: null }),
  ])
  const unread = planCollection(facts([strange], { thorough: true }))
  expect(unread).toMatchObject({
    manifests: [],
    layers: [],
    passedOver: [{ why: expect.stringContaining('read') }],
  })
})

test('the repository of an app that is gone goes whole, once nothing new came for an hour', () => {
  const gone = (ageMs: number) => repository('gone', [manifest('x', ageMs)])
  expect(planCollection(facts([gone(2 * HOUR)])).repositories).toEqual(['gone'])
  expect(blobsOf(facts([gone(2 * HOUR)]))).toEqual(['x', 'x-layer'])
  expect(planCollection(facts([gone(0.5 * HOUR)])).repositories).toEqual([])
  const borrowed = facts([gone(2 * HOUR)], { needed: new Set(['gone@x']) })
  expect(planCollection(borrowed)).toMatchObject({ repositories: [], manifests: [], blobs: [] })
})

test('a layer that was just uploaded waits for its manifest; an upload that nobody goes on with does not stay', () => {
  const shop = repository('shop', [], {
    layers: [
      { digest: 'new', linkedAt: NOW - 60_000 },
      { digest: 'left', linkedAt: NOW - 2 * HOUR },
    ],
    uploads: [
      { id: 'running', bytes: 5, writtenAt: NOW - 1_000 },
      { id: 'paused', bytes: 6, writtenAt: NOW - 0.5 * HOUR },
      { id: 'forgotten', bytes: 7, writtenAt: NOW - 2 * DAY },
    ],
  })
  const plan = planCollection(facts([shop]))
  expect(plan.blobs.map(({ digest }) => digest)).toEqual(['left'])
  expect(plan.uploads.map(({ id }) => id)).toEqual(['paused', 'forgotten'])
  const busy = planCollection(facts([shop], { busy: new Set(['shop']) }))
  expect(busy.uploads.map(({ id }) => id)).toEqual(['forgotten'])
})

test('whatever there is: what stays has all that it consists of, and what is needed stays', () => {
  const digest = fc.integer({ min: 0, max: 12 }).map((n) => `d${n}`)
  const age = fc.integer({ min: 0, max: 100 * 24 }).map((hours) => hours * HOUR)
  const arbitrary = fc.record({
    repositories: fc.uniqueArray(
      fc.record({
        name: fc.constantFrom('shop', 'gone', 'blog', 'docker.io/library/debian'),
        manifests: fc.uniqueArray(
          fc.record({
            digest,
            ageMs: age,
            tagged: fc.boolean(),
            references: fc.array(digest, { maxLength: 4 }),
          }),
          { selector: (m) => m.digest, maxLength: 6 },
        ),
      }),
      { selector: (r) => r.name },
    ),
    needed: fc.array(fc.tuple(fc.constantFrom('shop', 'blog', 'docker.io/library/debian'), digest)),
    busy: fc.subarray(['shop', 'gone']),
    thorough: fc.boolean(),
  })
  fc.assert(
    fc.property(arbitrary, (given) => {
      const repositories = given.repositories.map(({ name, manifests }) =>
        repository(
          name,
          manifests.map((m) =>
            manifest(m.digest, m.ageMs, { tags: m.tagged ? ['t'] : [], references: m.references }),
          ),
        ),
      )
      const needed = new Set(given.needed.map(([name, d]) => `${name}@${d}`))
      const plan = planCollection(
        facts(repositories, { needed, busy: new Set(given.busy), thorough: given.thorough }),
      )
      const goneBlobs = new Set(plan.blobs.map((b) => b.digest))
      const goneLayers = new Set(plan.layers.map((l) => `${l.repository}@${l.digest}`))
      const goneManifests = new Set(plan.manifests.map((m) => `${m.repository}@${m.digest}`))
      for (const { name, manifests } of repositories) {
        if (plan.repositories.includes(name)) continue
        for (const m of manifests) {
          const id = `${name}@${m.digest}`
          if (goneManifests.has(id)) {
            if (needed.has(id) || given.busy.includes(name)) return false
            continue
          }
          if (goneBlobs.has(m.digest)) return false
          for (const part of m.references ?? []) {
            if (manifests.some((other) => other.digest === part)) {
              if (goneManifests.has(`${name}@${part}`)) return false
            } else if (goneLayers.has(`${name}@${part}`)) return false
            if (goneBlobs.has(part)) return false
          }
        }
      }
      return true
    }),
    { numRuns: 2_000 },
  )
})
