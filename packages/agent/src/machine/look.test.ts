import { expect, test } from 'vitest'
import { createLook } from './look.ts'

test('those who ask while a listing runs share the next one', async () => {
  let begun = 0
  const endings: (() => void)[] = []
  const look = createLook(() => {
    begun++
    return new Promise((resolve) => endings.push(() => resolve([])))
  })
  const first = look()
  const second = look()
  const third = look()
  expect(begun).toBe(1)
  expect(second).toBe(third)
  endings.shift()?.()
  await first
  await Promise.resolve()
  expect(begun).toBe(2)
  endings.shift()?.()
  await second
  void look()
  expect(begun).toBe(3)
})

test('a listing that fails is not the answer to those who ask later', async () => {
  let n = 0
  const look = createLook(async () => {
    if (n++ === 0) throw new Error('gone')
    return []
  })
  await expect(look()).rejects.toThrow('gone')
  expect((await look()).size).toBe(0)
})
