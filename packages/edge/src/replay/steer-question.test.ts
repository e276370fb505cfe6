import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { askPatiently } from './steer-question.ts'

test('an edge that is away is asked again; an answer that does not end is none, and is not asked for again', async () => {
  const name = `roost-test-question-${process.pid}`
  const asked: string[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      asked.push(`${chunk}`)
      if (asked.length === 1) socket.destroy()
      else socket.end(asked.length === 2 ? 'here\n' : 'x'.repeat(300_000))
    })
  })
  await new Promise<void>((resolve) => server.listen({ path: abstractPath(name) }, resolve))
  const signal = AbortSignal.timeout(10_000)
  expect(await askPatiently(name, 'files a', signal)).toBe('here')
  expect(asked).toEqual(['files a\n', 'files a\n'])
  expect(await askPatiently(name, 'files b', signal)).toBeNull()
  expect(asked.length).toBe(3)
  await new Promise((closed) => server.close(closed))
})
