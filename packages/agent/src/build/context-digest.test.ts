import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { contextDigest } from './context-digest.ts'

const at = { dir: '' }
const file = (name: string, content: string) => writeFileSync(join(at.dir, name), content)
const digest = (path: string) => contextDigest(at.dir, path)
beforeEach(() => {
  at.dir = mkdtempSync(join(tmpdir(), 'roost-context-'))
  mkdirSync(join(at.dir, 'src'))
  for (const name of ['src/a', 'src/b', 'other']) file(name, name)
  symlinkSync('src', join(at.dir, 'link'))
})
afterEach(() => rmSync(at.dir, { recursive: true }))

test('it changes with names, modes and contents of what is read, and with nothing else', async () => {
  const seen = new Set([await digest('src')])
  for (const path of ['src', '/src', './src/', '../../src', 'other/../src'])
    seen.add(await digest(path))
  file('other', 'changed')
  utimesSync(join(at.dir, 'src/a'), 1, 1)
  seen.add(await digest('src'))
  expect(seen.size).toBe(1)
  for (const change of [
    () => file('src/a', 'src/A'),
    () => file('src/c', ''),
    () => rmSync(join(at.dir, 'src/b')),
    () => chmodSync(join(at.dir, 'src/a'), 0o700),
    () => symlinkSync('/etc/passwd', join(at.dir, 'src/d')),
  ]) {
    change()
    expect(seen).not.toContain(await digest('src'))
    seen.add(await digest('src'))
  }
})

test('by way of a link, or where there is nothing, it is of the whole context', async () => {
  for (const path of ['link', 'link/a', 'none', '', '.', '/'])
    expect(await digest(path)).toBe(await digest('/'))
  const before = await digest('link')
  file('src/a', 'changed')
  expect(await digest('link')).not.toBe(before)
  expect(await digest('src/a')).not.toBe(await digest('src/b'))
})
