import { expect, test } from 'vitest'
import { createChallengeBoard } from './challenge-board.ts'

const presented = (token: string, change: object = {}) => ({
  hostname: 'www.example.com',
  challenge: 'dns-01' as const,
  token,
  keyAuthorization: `${token}.thumb`,
  end: false,
  ...change,
})

test('what is put there can be found until it is taken away, and not for ever', () => {
  let now = 0
  const board = createChallengeBoard(() => now)
  board.put(presented('one'))
  board.put(presented('two', { hostname: '*.example.com' }))
  board.put(presented('three', { challenge: 'http-01' }))
  expect(board.texts('www.example.com')).toHaveLength(1)
  expect(board.texts('example.com')).toHaveLength(1)
  expect(board.texts('www.example.com')[0]).toMatch(/^[A-Za-z0-9_-]{43}$/)
  board.end({ token: 'one' })
  expect(board.texts('www.example.com')).toEqual([])
  now = 199_999
  expect(board.list()).toHaveLength(2)
  now = 200_000
  expect(board.list()).toEqual([])
})

test('it has room for so many, and the oldest goes', () => {
  const board = createChallengeBoard(() => 0)
  for (let n = 0; n < 600; n++) board.put(presented(`t${n}`))
  expect(board.list()).toHaveLength(500)
  expect(board.list().at(-1)?.token).toBe('t599')
})
