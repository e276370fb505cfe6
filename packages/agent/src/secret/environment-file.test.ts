import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { environmentText, writeEnvironmentFile } from './environment-file.ts'

const hard = {
  QUOTES: `'"\\$HOME \`id\``,
  LINES: 'one\ntwo\n\n',
  EMPTY: '',
  ODD: 'tab\tCR\r\x01 ☃ 🐦',
  LONG: 'x'.repeat(100_000),
}

test('a shell reads back every byte', () => {
  const dir = mkdtempSync(join(tmpdir(), 'roost-env-'))
  try {
    const file = join(dir, 'env')
    writeFileSync(file, environmentText(hard))
    const seen = execFileSync(
      '/usr/bin/env',
      ['-i', '/bin/busybox', 'sh', '-c', `. ${file}; exec /usr/bin/env -0`],
      { maxBuffer: 1e7 },
    )
    const entries = Object.fromEntries(
      seen
        .toString('utf8')
        .split('\0')
        .filter((line) => line !== '')
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    )
    expect(entries).toMatchObject(hard)
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('names and values that no environment can hold are refused', () => {
  expect(() => environmentText({ 'a-b': '1' })).toThrow('"a-b"')
  expect(() => environmentText({ A: 'x\0y' })).toThrow('zero byte')
  expect(() => environmentText({ A: 'x'.repeat(140_000) })).toThrow('longer than')
})

test('the file is for its owner alone, and only on tmpfs', () => {
  const dir = mkdtempSync('/dev/shm/roost-env-')
  try {
    writeEnvironmentFile(dir, { A: '1' }, { uid: 1000, gid: 1001 })
    const { mode, uid, gid } = statSync(join(dir, 'env'))
    expect([mode & 0o777, uid, gid]).toEqual([0o400, 1000, 1001])
    expect(readFileSync(join(dir, 'env'), 'utf8')).toBe("export A='1'\n")
    expect(() => writeEnvironmentFile('/proc', { A: '1' }, { uid: 0, gid: 0 })).toThrow(
      'for secrets',
    )
  } finally {
    rmSync(dir, { recursive: true })
  }
})
