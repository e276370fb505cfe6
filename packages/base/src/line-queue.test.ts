import { expect, test } from 'vitest'
import { createLineQueue } from './line-queue.ts'

test('a writer waits while it is full, and everything comes in order', async () => {
  const queue = createLineQueue<number>(2)
  const written: number[] = []
  const writer = (async () => {
    for (let n = 0; n < 5; n++) {
      await queue.push(n)
      written.push(n)
    }
  })()
  await new Promise((resolve) => setImmediate(resolve))
  expect(written).toEqual([0, 1])
  const read: (number | null)[] = []
  for (let n = 0; n < 5; n++) read.push(await queue.pull())
  await writer
  expect(read).toEqual([0, 1, 2, 3, 4])
})

test('closing lets a waiting reader and a waiting writer go', async () => {
  const queue = createLineQueue<number>(1)
  const reader = queue.pull()
  queue.close()
  expect(await reader).toBe(null)
  expect(await queue.push(1)).toBe(false)

  const full = createLineQueue<number>(1)
  await full.push(1)
  const writer = full.push(2)
  full.close()
  expect(await writer).toBe(false)
  expect(await full.pull()).toBe(1)
  expect(await full.pull()).toBe(null)
})

test('a writer that can not wait is told that there is no room, by number or by weight', async () => {
  const queue = createLineQueue<string>(3, { of: (text) => text.length, max: 10 })
  expect(queue.offer('123456')).toBe(true)
  expect(queue.offer('123456')).toBe(true)
  expect(queue.offer('1')).toBe(false)
  expect(await queue.pull()).toBe('123456')
  expect([queue.offer('1'), queue.offer('2'), queue.offer('3')]).toEqual([true, true, false])
})
