import { expect, test } from 'vitest'
import { progressOn } from './progress.ts'

function screen(live: boolean) {
  const written: string[] = []
  const write = (text: string) => written.push(text)
  const target = live ? { write, isTTY: true, columns: 30 } : { write }
  const context = { env: {}, stdout: target } as unknown as Parameters<typeof progressOn>[0]
  return { written, progress: progressOn(context, target) }
}

test('without a terminal each piece of news is a line, told once', () => {
  const { written, progress } = screen(false)
  progress.update('a', 'a starts')
  progress.update('a', 'a starts')
  progress.passing('upload', '10 files')
  progress.line('between')
  progress.finish('a', 'done', 'a runs')
  progress.stop()
  expect(written).toEqual(['a starts\n', 'between\n', 'a runs\n'])
})

test('on a terminal what is under way is drawn again below what stays, and cut to its width', () => {
  const { written, progress } = screen(true)
  progress.update('a', 'a starts')
  progress.line('stays')
  progress.finish('a', 'failed', 'a failed for a reason that is much too long')
  progress.stop()
  const text = written.join('')
  expect(text).toContain('\u001b[1A\u001b[Jstays\n')
  expect(text.endsWith('a failed for a reason that…\n')).toBe(true)
})

test('what only passes leaves no trace', () => {
  const { written, progress } = screen(true)
  progress.passing('upload', '10 files')
  progress.passing('upload', null)
  progress.passing('upload', null)
  progress.stop()
  expect(written.at(-1)).toBe('\u001b[1A\u001b[J')
})
