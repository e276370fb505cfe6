import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CALM_LOOKS, CLOSED, nextOverflow, type Overflow, roomOf, sharesOf } from './overflow.ts'

const NONE = Number.POSITIVE_INFINITY
/** Machines with a soft limit of 10 in each region. */
const at = (load: number, tiers = [2, 2, 1], hardLimit = NONE) => ({
  tiers: tiers.map((machines) => ({
    machines,
    softRoom: machines * 10,
    hardRoom: machines * hardLimit,
  })),
  load,
})
const after = (looks: number, from: Overflow, load: number) => {
  let state = from
  for (let n = 0; n < looks; n++) state = nextOverflow(state, at(load))
  return state
}

describe('overflow', () => {
  test('nothing goes far while the own region has room below its soft limit', () => {
    expect(nextOverflow(CLOSED, at(19))).toEqual(CLOSED)
    expect(sharesOf(1, at(19))).toEqual([100, 0, 0])
  })

  test('regions open one after the other, at once, as far as the load asks', () => {
    expect(nextOverflow(CLOSED, at(20)).open).toBe(2)
    expect(nextOverflow(CLOSED, at(40)).open).toBe(3)
    expect(nextOverflow(CLOSED, at(1000)).open).toBe(3)
  })

  test('a region closes after two seconds in which the nearer ones had room enough', () => {
    const open = { open: 2, calm: 0 }
    expect(after(CALM_LOOKS + 5, open, 16).open).toBe(2)
    expect(after(CALM_LOOKS - 1, open, 15).open).toBe(2)
    expect(after(CALM_LOOKS, open, 15).open).toBe(1)
    // One busy moment counts anew.
    const nearly = after(CALM_LOOKS - 1, open, 15)
    expect(nextOverflow(nextOverflow(nearly, at(17)), at(15))).toEqual({ open: 2, calm: 1 })
  })

  test('farther machines get the excess alone', () => {
    expect(sharesOf(2, at(20))).toEqual([100, 11, 0])
    expect(sharesOf(2, at(30))).toEqual([100, 67, 0])
  })

  test('when all are full the rest stays at home up to the hard limit, then goes to the next', () => {
    // 45 fill nine tenths of all; home takes what is left: 250 on each of its machines.
    expect(sharesOf(3, at(500 + 27))).toEqual([100, 5, 5])
    // 24 fit below the hard limits at home, 24 in the next region.
    expect(sharesOf(3, at(50, [2, 2, 1], 12))).toEqual([100, 78, 78])
    expect(sharesOf(3, at(56, [2, 2, 1], 12))).toEqual([100, 96, 75])
    expect(nextOverflow(CLOSED, at(24, [2], 12)).open).toBe(1)
  })

  test('where others have taken the room, nothing goes', () => {
    const [home, next, last] = at(0).tiers
    if (!home || !next || !last) throw new Error('three tiers')
    const taken = { ...next, softRoom: 0 }
    expect(nextOverflow(CLOSED, { tiers: [home, taken, last], load: 25 }).open).toBe(3)
    expect(sharesOf(3, { tiers: [home, taken, last], load: 25 })).toEqual([100, 0, 78])
    const all = [home, taken, { ...last, softRoom: 0 }]
    expect(nextOverflow(CLOSED, { tiers: all, load: 500 }).open).toBe(1)
    expect(nextOverflow({ open: 3, calm: 0 }, { tiers: all, load: 500 }).calm).toBe(1)
    expect(sharesOf(3, { tiers: all, load: 500 })).toEqual([100, 0, 0])
  })

  test('a region that dies takes its room with it; without any there is nothing to decide', () => {
    expect(nextOverflow({ open: 3, calm: 0 }, at(5, [1])).open).toBe(1)
    expect(nextOverflow(CLOSED, at(5, [])).open).toBe(1)
  })

  test('whatever the load: a steady one settles, never with more regions than it needs for good', () => {
    const tiers = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(
        tiers,
        fc.option(fc.integer({ min: 10, max: 30 }), { nil: NONE }),
        fc.integer({ min: 0, max: 2000 }),
        fc.integer({ min: 1, max: 9 }),
        (machines, hardLimit, load, from) => {
          const seen = at(load, machines, hardLimit)
          let state: Overflow = { open: from, calm: 0 }
          for (let n = 0; n <= CALM_LOOKS; n++) state = nextOverflow(state, seen)
          expect(nextOverflow(state, seen).open).toBe(state.open)
          const room = (count: number, part: number) =>
            machines.slice(0, count).reduce((sum, n) => sum + n * 10 * part, 0)
          if (state.open < machines.length) expect(load).toBeLessThan(room(state.open, 1))
          if (state.open > 1) expect(load).toBeGreaterThanOrEqual(room(state.open - 1, 0.8))
          const shares = sharesOf(state.open, seen)
          expect(shares[0]).toBe(100)
          expect(shares.filter((share) => share > 0)).toHaveLength(state.open)
        },
      ),
    )
  })
})

describe('room that several edges share', () => {
  const room = (mine: number, equals: number, before = 0) =>
    roomOf({ limit: 20, mine, before, equals })

  test('the edges of the region come first, then each keeps what fits', () => {
    expect(room(0, 0)).toBe(20)
    expect(room(9, 0, 15)).toBe(5)
    expect(room(9, 0, 33)).toBe(0)
    expect(room(6, 8)).toBe(12)
    expect(room(15, 25)).toBe(7.5)
    expect(roomOf({ limit: NONE, mine: 5, before: 50, equals: 50 })).toBe(NONE)
  })

  test('edges that all want it, and hear of each other late, share it and stay so', () => {
    const wishes = fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 2, maxLength: 5 })
    fc.assert(
      fc.property(wishes, (wanted) => {
        let has = wanted.map(() => 0)
        const sum = () => has.reduce((a, b) => a + b, 0)
        for (let second = 0; second < 30; second++) {
          const heard = has
          has = wanted.map((want, n) => {
            const equals = heard.reduce((total, part, m) => (m === n ? total : total + part), 0)
            return Math.min(want, room(heard[n] ?? 0, equals))
          })
        }
        const before = has
        expect(sum()).toBeLessThanOrEqual(20.001)
        expect(sum()).toBeGreaterThanOrEqual(
          Math.min(20, ...[wanted.reduce((a, b) => a + b, 0)]) - 0.001,
        )
        const again = wanted.map((want, n) =>
          Math.min(want, room(before[n] ?? 0, sum() - (before[n] ?? 0))),
        )
        for (const [n, part] of again.entries()) expect(part).toBeCloseTo(before[n] ?? 0, 1)
      }),
    )
  })
})
