import { expect, test } from 'vitest'
import { describeError } from './platform-error.ts'
import { runCommand } from './run-command.ts'

test('output comes back, and input goes in', async () => {
  expect(await runCommand(['cat'], { input: 'hello' })).toEqual({ stdout: 'hello', stderr: '' })
})

test('a failure tells the last lines of standard error', async () => {
  const failed = runCommand(['sh', '-c', 'echo one >&2; echo two >&2; exit 3'])
  expect(describeError(await failed.catch((error: unknown) => error))).toMatch(/one\ntwo/)
})

test('a child of its own that holds its output open does not make it last longer than its time', async () => {
  const began = Date.now()
  const late = runCommand(['sh', '-c', 'sleep 20 & echo $!; wait'], { timeoutMs: 300 })
  expect(describeError(await late.catch((error: unknown) => error))).toContain(
    'no end after 300 ms',
  )
  expect(Date.now() - began).toBeLessThan(10_000)
}, 15_000)

test('an abort ends it', async () => {
  const abort = new AbortController()
  const run = runCommand(['sleep', '20'], { signal: abort.signal })
  abort.abort()
  expect(describeError(await run.catch((error: unknown) => error))).toContain('aborted')
})
