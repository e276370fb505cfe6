import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type CacheFact, cacheBytesMax, cacheToRemove } from './cache-to-remove.ts'

const DAY = 86_400_000
const now = 100 * DAY
const entry = (
  name: string,
  days: number,
  parent: string | null = null,
  bytes = 10,
): CacheFact => ({
  name,
  bytes,
  usedAt: now - days * DAY,
  parent,
})
const asked = (entries: readonly CacheFact[], limits: { max?: number; free?: number } = {}) =>
  cacheToRemove({ entries, now, bytesMax: limits.max ?? 1e9, bytesToFree: limits.free ?? 0 })

test('what was not used for two weeks goes, unless something newer is made on top of it', () => {
  const entries = [entry('base', 20), entry('step', 1, 'base'), entry('old', 15)]
  expect(asked(entries)).toEqual([{ name: 'old', bytes: 10, why: 'unused for 15 days' }])
})

test('over the bound the longest unused go, what is on top before what is below', () => {
  const entries = [entry('base', 3), entry('a', 3, 'base'), entry('b', 3, 'a'), entry('new', 0)]
  expect(asked(entries, { max: 25 }).map(({ name }) => name)).toEqual(['b', 'a'])
  expect(asked(entries, { free: 1e9 }).map(({ name }) => name)).toEqual(['b', 'a', 'base', 'new'])
  expect(asked(entries, { free: 5 })).toEqual([
    { name: 'b', bytes: 10, why: 'the disk is nearly full' },
  ])
})

test('on a small disk caches get a quarter of it', () => {
  expect(cacheBytesMax(40e9)).toBe(10e9)
  expect(cacheBytesMax(1e13)).toBe(20e9)
})

test('nothing goes before what is made on top of it', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: -1, max: 9 })), {
        maxLength: 10,
      }),
      fc.integer({ min: 0, max: 150 }),
      (rows, free) => {
        const entries = rows.map(([days, parent], n) =>
          entry(`e${n}`, days, parent >= 0 && parent < n ? `e${parent}` : null),
        )
        const removed = asked(entries, { free }).map(({ name }) => name)
        for (const [at, name] of removed.entries())
          for (const child of entries.filter(({ parent }) => parent === name))
            expect(removed.slice(0, at)).toContain(child.name)
      },
    ),
    { numRuns: 1000 },
  )
})
