import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { limitShare } from './limit-share.ts'

/** What each of the edges would set when each knows what all want. */
function shares(limit: number, wanted: readonly number[]): readonly number[] {
  const users = wanted.map((n, at) => ({ edge: `e${at}`, wanted: n }))
  return users.map((self) =>
    limitShare({
      limit,
      self: { ...self, told: self.wanted },
      others: users.filter((user) => user !== self).reverse(),
    }),
  )
}
const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0)
const limits = fc.integer({ min: 1, max: 300 })
const edges = { minLength: 1, maxLength: 9 }
/** What waits for one of several machines counts in parts on each. */
const fractions = fc.oneof(
  fc.integer({ min: 0, max: 400 }),
  fc.double({ min: 0, max: 400, noNaN: true }),
)

describe('the share of a hard limit', () => {
  test('is all of it while nobody else wants anything', () => {
    expect(shares(10, [3])).toEqual([10])
    expect(shares(10, [30, 0])).toEqual([10, 1])
    expect(shares(10, [0, 0])).toEqual([10, 10])
  })

  test('is what it wants where that fits, and of the rest the same as others', () => {
    expect(shares(10, [3, 1])).toEqual([6, 4])
    expect(shares(12, [1, 2, 3, 0])).toEqual([3, 4, 5, 6])
    expect(shares(10, [9, 1])).toEqual([9, 1])
  })

  test('is in proportion where it does not fit, and never less than one', () => {
    expect(shares(10, [20, 20])).toEqual([5, 5])
    expect(shares(10, [40, 1])).toEqual([9, 1])
    // One that had a share of one, and much in its line.
    expect(shares(10, [10, 50])).toEqual([2, 8])
    expect(shares(5, [20, 20])).toEqual([3, 2])
    expect(shares(2, [9, 9, 9])).toEqual([1, 1, 1])
    expect(shares(1, [1, 1])).toEqual([1, 1])
  })

  test('is the same for who heard a little less', () => {
    const seen = (mine: number, theirs: number) =>
      limitShare({
        limit: 10,
        self: { edge: 'a', wanted: mine, told: mine },
        others: [{ edge: 'b', wanted: theirs }],
      })
    expect([seen(20, 20), seen(20, 19), seen(19, 20), seen(21, 20)]).toEqual([5, 5, 5, 5])
  })

  test('of what nobody was told of yet, what is free; the rest when it was told', () => {
    const seen = (wanted: number, told: number, theirs: number) =>
      limitShare({
        limit: 10,
        self: { edge: 'a', wanted, told },
        others: [{ edge: 'b', wanted: theirs }],
      })
    expect([seen(20, 0, 10), seen(20, 20, 10)]).toEqual([1, 7])
    expect([seen(20, 0, 6), seen(20, 2, 6), seen(20, 5, 6)]).toEqual([4, 4, 5])
    // What it gave up it leaves once that was told.
    expect([seen(0, 20, 20), seen(0, 0, 20)]).toEqual([5, 1])
  })

  test('whatever they want: never more than the limit together, or one for each; those that want nothing leave all', () => {
    fc.assert(
      fc.property(limits, fc.array(fractions, edges), (limit, wanted) => {
        const got = shares(limit, wanted)
        const busy = wanted.filter((n) => n > 0)
        for (const share of got) {
          expect(share).toBeGreaterThanOrEqual(1)
          expect(Number.isInteger(share)).toBe(true)
        }
        if (busy.length === 0) expect(got.every((share) => share === limit)).toBe(true)
        else
          expect(sum(got.filter((_, n) => (wanted[n] ?? 0) > 0))).toBe(Math.max(limit, busy.length))
        const idle = got.filter((_, n) => wanted[n] === 0)
        for (const share of idle) expect(share).toBeLessThanOrEqual(Math.max(1, limit - sum(busy)))
      }),
    )
  })

  test('whatever they want: nothing waits while there is room, and who wants more gets no less', () => {
    fc.assert(
      fc.property(limits, fc.array(fc.integer({ min: 0, max: 400 }), edges), (limit, wanted) => {
        const got = shares(limit, wanted)
        const used = got.map((share, n) => Math.min(share, wanted[n] ?? 0))
        const busy = wanted.filter((n) => n > 0).length
        expect(sum(used)).toBe(Math.min(sum(wanted), Math.max(limit, busy)))
        // Two that want the same may differ by the one that can't be halved.
        for (const [n, mine] of wanted.entries())
          for (const [m, theirs] of wanted.entries())
            if (mine > theirs && theirs > 0)
              expect(got[n]).toBeGreaterThanOrEqual((got[m] ?? 0) - 1)
      }),
    )
  })

  test('edges that hear of each other late and in any order settle, and the machine is full and no more', () => {
    const edge = fc.record({
      /** So many clients, each with one request at a time. */
      clients: fc.integer({ min: 0, max: 60 }),
      /** Who hears when: one bit for each edge in each round. */
      hears: fc.array(fc.integer({ min: 0, max: 31 }), { minLength: 12, maxLength: 12 }),
      from: fc.integer({ min: 1, max: 40 }),
    })
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.array(edge, { minLength: 2, maxLength: 5 }),
        (limit, made) => {
          let share = made.map(({ from }) => from)
          const heard = made.map(() => made.map(() => 0))
          let told = made.map(() => 0)
          for (let round = 0; round < 16; round++) {
            const wanted = made.map(({ clients }, n) => {
              const working = Math.min(clients, share[n] ?? 0)
              const waiting = clients - working
              return working + waiting
            })
            for (const [n, { hears }] of made.entries())
              for (const m of made.keys())
                if (m === n || (((hears[round] ?? 31) >> m) & 1) === 1)
                  (heard[n] as number[])[m] = wanted[m] ?? 0
            share = made.map((_, n) => {
              const users = (heard[n] ?? []).map((w, m) => ({ edge: `e${m}`, wanted: w }))
              const [self] = users.splice(n, 1)
              if (self === undefined) throw new Error('each hears itself')
              return limitShare({ limit, self: { ...self, told: told[n] ?? 0 }, others: users })
            })
            told = wanted
          }
          const used = made.map(({ clients }, n) => Math.min(clients, share[n] ?? 0))
          const busy = made.filter(({ clients }) => clients > 0)
          expect(sum(used)).toBe(
            Math.min(sum(busy.map(({ clients }) => clients)), Math.max(limit, busy.length)),
          )
        },
      ),
    )
  })
})
