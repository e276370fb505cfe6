import { expect, test } from 'vitest'
import { harmless, styleOf } from './style.ts'

const terminal = { write: () => {}, isTTY: true }
const pipe = { write: () => {} }

test('colours only on a terminal, and not where NO_COLOR says so', () => {
  expect(styleOf({ env: {} }, terminal).red('x')).toBe('\u001b[31mx\u001b[39m')
  expect(styleOf({ env: { NO_COLOR: '1' } }, terminal).red('x')).toBe('x')
  expect(styleOf({ env: { TERM: 'dumb' } }, terminal).red('x')).toBe('x')
  expect(styleOf({ env: {} }, pipe).red('x')).toBe('x')
})

test.each([
  ['\u001b[1;32mgreen\u001b[0m', '\u001b[1;32mgreen\u001b[0m', 'green'],
  ['\u001b[2J\u001b[Hcleared', 'cleared', 'cleared'],
  ['\u001b]0;title\u0007x', 'x', 'x'],
  ['\u001b]52;c;aGk=\u001b\\x', 'x', 'x'],
  ['bell\u0007 tab\tback\b', 'bell tab\tback', 'bell tab\tback'],
  ['lone \u001b', 'lone ', 'lone '],
  ['é 日本', 'é 日本', 'é 日本'],
])('%j', (text, onTerminal, inPipe) => {
  expect(harmless(text, terminal)).toBe(onTerminal)
  expect(harmless(text, pipe)).toBe(inPipe)
})
