import fc from 'fast-check'
import { expect, test } from 'vitest'
import { joinCommand, splitCommand } from './split-command.ts'

test.each<[string, readonly string[] | null]>([
  ['', []],
  ['  ls   -l\t/app\n', ['ls', '-l', '/app']],
  [`echo 'a b' "c d"`, ['echo', 'a b', 'c d']],
  [`sh -c 'echo "$HOME"; ls'`, ['sh', '-c', 'echo "$HOME"; ls']],
  [String.raw`a\ b "\"\$\x" c\\`, ['a b', String.raw`"$\x`, 'c\\']],
  [`a''b "" ''`, ['ab', '', '']],
  [`"it's"`, [`it's`]],
  ['a \\\n b', ['a', 'b']],
  [`echo 'open`, null],
  ['echo "open', null],
  ['echo \\', null],
])('%j is split as a shell would', (text, words) => {
  expect(splitCommand(text)).toEqual(words)
})

test('what is joined is split into the same words, whatever is in them', () => {
  fc.assert(
    fc.property(fc.array(fc.string()), (words) => {
      expect(splitCommand(joinCommand(words))).toEqual(words)
    }),
  )
})
