import fc from 'fast-check'
import { expect, test } from 'vitest'
import { freeableImages, imagesToRemove, type StoredImageFact } from './images-to-remove.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const now = 100 * DAY

function image(name: string, change: Partial<StoredImageFact> & { ageMs?: number } = {}) {
  const { ageMs = 2 * HOUR, ...rest } = change
  return {
    name,
    repository: name.replace(/@.*/, ''),
    layers: [{ id: `top of ${name}`, bytes: 10 }],
    usedAt: now - ageMs,
    inUse: false,
    ...rest,
  }
}
const names = (images: readonly StoredImageFact[], bytesToFree = 0) =>
  imagesToRemove({ images, now, bytesToFree }).map(({ name }) => name)

test('while there is room the last three unused of each app stay, and what is in use', () => {
  const images = [5, 4, 3, 2, 1].map((n) => image(`shop@${n}`, { ageMs: n * 2 * HOUR }))
  expect(names([...images, image('other@1', { ageMs: 29 * DAY })])).toEqual(['shop@5', 'shop@4'])
  const used = images.map((one) => ({ ...one, inUse: one.name === 'shop@5' }))
  expect(names(used)).toEqual(['shop@4'])
})

test('what nobody used for a month goes, with its reason', () => {
  expect(
    imagesToRemove({ images: [image('old@1', { ageMs: 31 * DAY })], now, bytesToFree: 0 }),
  ).toEqual([{ name: 'old@1', bytes: 10, why: 'unused for 31 days' }])
})

test('without room the oldest unused go first, and no more than needed', () => {
  const images = [3, 2, 1].map((n) => image(`shop@${n}`, { ageMs: n * DAY }))
  expect(names(images, 15)).toEqual(['shop@3', 'shop@2'])
  expect(names(images, 10)).toEqual(['shop@3'])
  expect(names(images, Number.POSITIVE_INFINITY)).toEqual(['shop@3', 'shop@2', 'shop@1'])
})

test('what was pulled a moment ago stays, also without room; a time in the future protects nothing', () => {
  expect(names([image('new@1', { ageMs: 1000 })], 1000)).toEqual([])
  expect(names([image('odd@1', { ageMs: -50 * DAY })], 1000)).toEqual(['odd@1'])
})

test('shared layers count for the last one that has them', () => {
  const base = { id: 'base', bytes: 100 }
  const images = [3, 2, 1].map((n) =>
    image(`shop@${n}`, { ageMs: n * DAY, layers: [base, { id: `l${n}`, bytes: 1 }] }),
  )
  expect(imagesToRemove({ images, now, bytesToFree: 1000 }).map(({ bytes }) => bytes)).toEqual([
    1, 1, 101,
  ])
  expect(freeableImages(images)).toEqual({ bytes: 103, count: 3 })
  const used = images.map((one, n) => ({ ...one, inUse: n === 0 }))
  expect(freeableImages(used)).toEqual({ bytes: 2, count: 2 })
})

test('nothing in use ever goes, and what is said to be freed is no more than what is freed', () => {
  const fact = fc.record({
    name: fc.integer({ min: 0, max: 30 }).map((n) => `app${n % 3}@${n}`),
    layers: fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { maxLength: 5 }),
    ageMs: fc.integer({ min: -DAY, max: 60 * DAY }),
    inUse: fc.boolean(),
  })
  fc.assert(
    fc.property(
      fc.uniqueArray(fact, { selector: ({ name }) => name, maxLength: 20 }),
      fc.integer({ min: 0, max: 300 }),
      (facts, bytesToFree) => {
        const images = facts.map(({ name, layers, ageMs, inUse }) =>
          image(name, {
            ageMs,
            inUse,
            layers: layers.map((n) => ({ id: `l${n}`, bytes: n * 3 })),
          }),
        )
        const removals = imagesToRemove({ images, now, bytesToFree })
        const gone = new Set(removals.map(({ name }) => name))
        for (const one of images) if (one.inUse) expect(gone.has(one.name)).toBe(false)
        const layersOf = (list: typeof images) =>
          new Map(list.flatMap(({ layers }) => layers).map(({ id, bytes }) => [id, bytes]))
        const total = (list: typeof images) =>
          [...layersOf(list).values()].reduce((sum, bytes) => sum + bytes, 0)
        const freed = total(images) - total(images.filter(({ name }) => !gone.has(name)))
        expect(removals.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(freed)
        expect(freeableImages(images).bytes).toBeGreaterThanOrEqual(freed)
        // Twice the same question has nothing more to say once there is room.
        const left = images.filter(({ name }) => !gone.has(name))
        if (freed >= bytesToFree)
          expect(imagesToRemove({ images: left, now, bytesToFree: 0 })).toEqual([])
      },
    ),
    { numRuns: 1000 },
  )
})
