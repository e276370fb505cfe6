import { expect, test } from 'vitest'
import { createBodyRooms } from './body-room.ts'

test('no app gets more than a quarter, and what it gives back is there again', () => {
  const roomOf = createBodyRooms(400)
  expect(roomOf('shop').take(60)).toBe(true)
  expect(roomOf('shop').take(41)).toBe(false)
  expect(roomOf('shop').take(40)).toBe(true)
  expect(roomOf('shop').take(1)).toBe(false)
  expect(roomOf('bank').take(100)).toBe(true)
  roomOf('shop').give(60)
  expect(roomOf('shop').take(61)).toBe(false)
  expect(roomOf('shop').take(60)).toBe(true)
})

test('all together get no more than there is', () => {
  const roomOf = createBodyRooms(400)
  for (const app of ['a', 'b', 'c', 'd']) expect(roomOf(app).take(100)).toBe(true)
  expect(roomOf('e').take(1)).toBe(false)
  roomOf('a').give(100)
  expect(roomOf('e').take(100)).toBe(true)
  expect(roomOf('a').take(1)).toBe(false)
})
