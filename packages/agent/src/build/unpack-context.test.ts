import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { describeError } from '@roost/base'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type ContextLimits, unpackContext } from './unpack-context.ts'

type Entry = {
  name: string
  type?: 'file' | 'symlink' | 'link' | 'directory' | 'fifo' | 'character-device' | 'block-device'
  linkname?: string
  mode?: number
  content?: string
}

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-unpack-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

async function archive(entries: readonly Entry[]): Promise<Buffer> {
  const tar = pack()
  for (const { content = '', ...header } of entries)
    tar.entry({ ...header, mtime: new Date(86_400_000) }, content)
  tar.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of tar) chunks.push(chunk as Buffer)
  return gzipSync(Buffer.concat(chunks))
}

async function unpack(entries: readonly Entry[], limits?: ContextLimits) {
  const bytes = await archive(entries)
  return unpackContext(Readable.from([bytes]), folder, new AbortController().signal, limits)
}

test('files, folders and links inside come out as they went in', async () => {
  const seen = await unpack([
    { name: './', type: 'directory' },
    { name: 'bin/', type: 'directory', mode: 0o755 },
    { name: 'bin/run', content: 'hello', mode: 0o755 },
    { name: 'deep/er/file', content: 'x', mode: 0o644 },
    { name: 'deep/link', type: 'symlink', linkname: '../bin/run' },
    { name: 'dangling', type: 'symlink', linkname: 'not/there' },
    { name: 'hard', type: 'link', linkname: 'bin/run' },
    { name: 'bin/run', content: 'again', mode: 0o700 },
  ])
  expect(seen.entries).toBe(8)
  expect(readFileSync(join(folder, 'deep/link'), 'utf8')).toBe('again')
  expect(readFileSync(join(folder, 'hard'), 'utf8')).toBe('hello')
  expect(statSync(join(folder, 'bin/run')).mode & 0o7777).toBe(0o700)
  expect(statSync(join(folder, 'bin/run')).mtimeMs).toBe(86_400_000)
})

test.each<[string, Entry[], string]>([
  ['an absolute name', [{ name: '/etc/passwd' }], 'absolute name'],
  ['a name that climbs', [{ name: 'a/../../x' }], 'leads out'],
  [
    'an absolute link',
    [{ name: 'l', type: 'symlink', linkname: '/etc' }],
    'l: a link that leads out',
  ],
  ['a climbing link', [{ name: 'a/l', type: 'symlink', linkname: '../../x' }], 'leads out'],
  [
    'a link that climbs through another',
    [
      { name: 'a/b/up', type: 'symlink', linkname: '../..' },
      { name: 'z/out', type: 'symlink', linkname: '../a/b/up/..' },
    ],
    'z/out: a link that leads out',
  ],
  [
    'a circle',
    [
      { name: 'a', type: 'symlink', linkname: 'b' },
      { name: 'b', type: 'symlink', linkname: 'a' },
    ],
    'circle',
  ],
  [
    'a file through a link',
    [
      { name: 'd', type: 'symlink', linkname: '/tmp' },
      { name: 'd/evil', content: 'x' },
    ],
    'd: a folder and something else',
  ],
  [
    'a hard link to the outside',
    [{ name: 'h', type: 'link', linkname: '../etc/passwd' }],
    'leads out',
  ],
  [
    'a hard link through a link',
    [
      { name: 'd', type: 'symlink', linkname: '/etc' },
      { name: 'h', type: 'link', linkname: 'd/passwd' },
    ],
    'no file of the context',
  ],
  ['a pipe', [{ name: 'p', type: 'fifo' }], 'a fifo'],
  ['a device', [{ name: 'p', type: 'character-device' }], 'a character-device'],
])('%s is refused', async (_what, entries, message) => {
  await expect(unpack(entries)).rejects.toThrow(message)
  expect(existsSync('/tmp/evil')).toBe(false)
})

test('too many files and too many bytes are refused', async () => {
  const small = { bytes: 10, entries: 2 }
  await expect(unpack([{ name: 'a', content: 'x'.repeat(11) }], small)).rejects.toThrow('MB')
  await expect(unpack([{ name: 'a' }, { name: 'b' }, { name: 'c' }], small)).rejects.toThrow(
    'more than 2 files',
  )
})

test('what is no archive, or was cut off, says so', async () => {
  const signal = new AbortController().signal
  await expect(unpackContext(Readable.from([Buffer.from('hi')]), folder, signal)).rejects.toThrow(
    'read the context',
  )
  const whole = await archive([{ name: 'a', content: 'x'.repeat(100_000) }])
  const half = Readable.from([whole.subarray(0, whole.length - 60)])
  const error = await unpackContext(half, folder, signal).catch((thrown: unknown) => thrown)
  expect(describeError(error)).toContain('cut off')
})

test('an abort ends it', async () => {
  const abort = new AbortController()
  const stuck = new Readable({ read() {} })
  const unpacking = unpackContext(stuck, folder, abort.signal)
  abort.abort()
  await expect(unpacking).rejects.toThrow(/abort/i)
})
