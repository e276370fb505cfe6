import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CALM_LOOKS, CLOSED, nextOverflow, type Overflow, sharesOf } from './overflow.ts'

const at = (load: number, tiers = [2, 2, 1], softLimit = 10) => ({ tiers, softLimit, load })
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

  test('farther machines get the excess alone, and all the same when all are full', () => {
    expect(sharesOf(2, at(20))).toEqual([100, 11, 0])
    expect(sharesOf(2, at(30))).toEqual([100, 67, 0])
    expect(sharesOf(3, at(500))).toEqual([100, 100, 100])
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
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 0, max: 2000 }),
        fc.integer({ min: 1, max: 9 }),
        (machines, softLimit, load, from) => {
          const seen = { tiers: machines, softLimit, load }
          let state: Overflow = { open: from, calm: 0 }
          for (let n = 0; n <= CALM_LOOKS; n++) state = nextOverflow(state, seen)
          expect(nextOverflow(state, seen).open).toBe(state.open)
          const room = (count: number, part: number) =>
            machines.slice(0, count).reduce((sum, n) => sum + n * softLimit * part, 0)
          if (state.open < machines.length) expect(load).toBeLessThan(room(state.open, 1))
          if (state.open > 1) expect(load).toBeGreaterThanOrEqual(room(state.open - 1, 0.8))
          const shares = sharesOf(state.open, seen)
          expect(shares).toEqual(shares.toSorted((a, b) => b - a))
          expect(shares.filter((share) => share > 0)).toHaveLength(state.open)
        },
      ),
    )
  })
})
