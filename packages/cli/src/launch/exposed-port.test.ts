import { expect, test } from 'vitest'
import { exposedPort } from './exposed-port.ts'

test.each<[string, string, number | null]>([
  ['a plain one', 'FROM a\nEXPOSE 3000', 3000],
  ['the first of several', 'FROM a\nEXPOSE 4000 5000/tcp', 4000],
  ['a range', 'FROM a\nEXPOSE 9090-9092', 9090],
  ['not udp', 'FROM a\nEXPOSE 53/udp 8053/tcp', 8053],
  ['none', 'FROM a\nRUN true', null],
  ['only the last stage counts', 'FROM a\nEXPOSE 1\nFROM b\nEXPOSE 2', 2],
  [
    'a stage that is built on another',
    'FROM a AS base\nENV PORT=3000\nEXPOSE $PORT\nFROM base',
    3000,
  ],
  ['its own before that of its base', 'FROM a AS base\nEXPOSE 1\nFROM Base AS run\nEXPOSE 2', 2],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: as a Dockerfile has it
  ['a variable with a default', 'FROM a\nEXPOSE ${PORT:-7000}/tcp', 7000],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: as a Dockerfile has it
  ['an argument with a default', 'FROM a\nARG PORT=7001\nEXPOSE ${PORT}', 7001],
  ['a variable that nobody sets', 'FROM a\nEXPOSE $PORT', null],
  ['no line of a heredoc', 'FROM a\nRUN <<EOF\nEXPOSE 99\nEOF\nCMD ["x"]', null],
  ['continued lines', 'FROM a\nEXPOSE \\\n  8081', 8081],
  ['in lower case', 'from a\nexpose 8082', 8082],
  ['a stage that names itself', 'FROM a AS a\nEXPOSE 1', 1],
  ['nothing at all', '', null],
])('%s', (_, dockerfile, port) => {
  expect(exposedPort(dockerfile)).toBe(port)
})

test('of the stage that is built', () => {
  expect(exposedPort('FROM a AS one\nEXPOSE 1\nFROM b AS two\nEXPOSE 2', 'one')).toBe(1)
})
