import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { createGzip, gzipSync } from 'node:zlib'
import { describeError } from '@roost/base'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
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

test('what inflates without end has an end, also without a single entry', async () => {
  const zeros = Buffer.alloc(1_000_000)
  async function* endless() {
    for (let n = 0; n < 200; n++) yield zeros
  }
  const bomb = Readable.from(endless()).pipe(createGzip())
  const signal = new AbortController().signal
  await expect(
    unpackContext(bomb, folder, signal, { bytes: 5_000_000, entries: 10 }),
  ).rejects.toThrow('inflates to more than 5 MB')
})

test('an entry that claims to be huge is refused before anything of it is written', async () => {
  const tar = pack()
  tar.entry({ name: 'huge', size: 8_000_000_000 })
  let start: Uint8Array = Buffer.alloc(0)
  for await (const chunk of tar) {
    start = chunk as Buffer
    break
  }
  const source = Readable.from([gzipSync(start)])
  await expect(unpackContext(source, folder, new AbortController().signal)).rejects.toThrow(
    'more than 2000 MB',
  )
  expect(existsSync(join(folder, 'huge'))).toBe(false)
})

test('names that no file system takes are refused, and those that differ in case are two', async () => {
  await expect(unpack([{ name: 'n'.repeat(256) }])).rejects.toThrow('more than 255 bytes')
  await expect(unpack([{ name: `${'d/'.repeat(2100)}f` }])).rejects.toThrow('not a file name')
  await unpack([
    { name: 'Makefile', content: 'one' },
    { name: 'makefile', content: 'two' },
    { name: 'n'.repeat(255), content: 'long' },
  ])
  expect(readFileSync(join(folder, 'Makefile'), 'utf8')).toBe('one')
  expect(readFileSync(join(folder, 'makefile'), 'utf8')).toBe('two')
})

test('the rest of what is refused is read and thrown away, so that its connection can be used again', async () => {
  const evil = await archive([{ name: '../x' }])
  let ended = false
  async function* sent() {
    yield evil
    for (let n = 0; n < 100; n++) yield Buffer.alloc(100_000)
    ended = true
  }
  const source = Readable.from(sent())
  const signal = new AbortController().signal
  await expect(unpackContext(source, folder, signal)).rejects.toThrow('leads out')
  await vi.waitFor(() => expect(ended).toBe(true))
  expect(source.readableEnded).toBe(true)
})

test('a sender that hangs up is told from one that is done', async () => {
  const source = new Readable({ read() {} })
  source.push((await archive([{ name: 'a', content: 'x' }])).subarray(0, 20))
  const unpacking = unpackContext(source, folder, new AbortController().signal)
  source.destroy()
  await expect(unpacking).rejects.toThrow('read the context')
})

test('a sender that falls silent is not waited for', async () => {
  const silent = new Readable({ read() {} })
  silent.push((await archive([{ name: 'a', content: 'x' }])).subarray(0, 20))
  const signal = new AbortController().signal
  await expect(unpackContext(silent, folder, signal, undefined, 50)).rejects.toThrow(
    'nothing came for 0.05 s',
  )
  expect(silent.destroyed).toBe(true)
})

test('an abort ends it', async () => {
  const abort = new AbortController()
  const stuck = new Readable({ read() {} })
  const unpacking = unpackContext(stuck, folder, abort.signal)
  abort.abort()
  await expect(unpacking).rejects.toThrow(/abort/i)
})
