import { expect, test } from 'vitest'
import type { CliContext } from '../cli-context.ts'
import { watchUntilInterrupted } from './watch.ts'

function watched(isTTY: boolean, texts: readonly string[]) {
  const ended = new AbortController()
  const written: string[] = []
  const context = {
    stdout: { isTTY, write: (text: string) => written.push(text) },
    interrupted: () => ended.signal,
  } as unknown as CliContext
  let n = 0
  const look = async () => {
    const text = texts[n++] ?? ''
    if (n > texts.length) ended.abort()
    return text
  }
  return watchUntilInterrupted(context, look, 1).then(() => written)
}

test('where lines stay each piece of news is told once, until Ctrl-C', async () => {
  expect(await watched(false, ['a 9 s ago', 'a 11 s ago', 'b', 'a'])).toEqual([
    'a 9 s ago',
    'b',
    'a',
  ])
})

test('on a terminal it stays in its place', async () => {
  expect(await watched(true, ['a', 'a'])).toEqual(['\x1b[H\x1b[2Ja', '\x1b[H\x1b[2Ja'])
})

test('what fails ends it', async () => {
  const context = { interrupted: () => new AbortController().signal } as unknown as CliContext
  await expect(
    watchUntilInterrupted(context, async () => {
      throw new Error('no server')
    }),
  ).rejects.toThrow('no server')
})
