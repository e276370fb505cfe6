import { expect, test } from 'vitest'
import { lineBudget } from './line-budget.ts'

test('so many lines in each second, and what is left out is counted once', () => {
  const budget = lineBudget(3)
  const taken = (at: number) => Array.from({ length: 5 }, () => budget.take(at)).filter(Boolean)
  expect(taken(10_999)).toHaveLength(3)
  expect(budget.leftOut()).toBe(2)
  expect(budget.leftOut()).toBe(0)
  expect(taken(11_000)).toHaveLength(3)
  expect(budget.take(11_999)).toBe(false)
  budget.miss(10)
  expect(budget.leftOut()).toBe(13)
})

test('a clock that is set back gives a new second, and no more than that', () => {
  const budget = lineBudget(1)
  expect([5000, 5000, 1000, 1000, 5000].map((at) => budget.take(at))).toEqual([
    ...[true, false, true, false, true],
  ])
})
