import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeWhole, refuseExisting, unpackFiles } from './unpack-files.ts'

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'roost-unpack-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

type Entry = Parameters<ReturnType<typeof pack>['entry']>[0] & { readonly content?: string }

function tarOf(entries: readonly Entry[]): AsyncIterable<Uint8Array> {
  const tar = pack()
  for (const { content, ...header } of entries) tar.entry(header, content ?? '')
  tar.finalize()
  return tar as AsyncIterable<Uint8Array>
}

test('links and devices are left away, and what is written lies below its target', async () => {
  const entries: Entry[] = [
    { name: 'data', type: 'directory' },
    { name: 'data/a', content: 'one' },
    { name: 'data/evil', type: 'symlink', linkname: '/etc' },
    { name: 'data/null', type: 'character-device' },
    { name: 'data/hard', type: 'link', linkname: 'data/a' },
  ]
  const unpacked = await unpackFiles(tarOf(entries), join(dir, 'out'), { folders: true })
  expect(unpacked).toEqual({ files: 1, bytes: 3, leftAway: 3 })
  expect(readdirSync(join(dir, 'out'))).toEqual(['a'])
  expect(readFileSync(join(dir, 'out/a'), 'utf8')).toBe('one')
})

test.each(['../outside', 'data/../../outside', 'data/x/../../../outside'])(
  'a path that leads elsewhere is refused: %s',
  async (name) => {
    const entries: Entry[] = [
      { name: 'data', type: 'directory' },
      { name, content: 'x' },
    ]
    const unpacking = unpackFiles(tarOf(entries), join(dir, 'out'), { folders: true })
    await expect(unpacking).rejects.toThrow('leads elsewhere')
    expect(existsSync(join(dir, 'outside'))).toBe(false)
  },
)

test('a name that comes twice does not write over the first', async () => {
  const entries: Entry[] = [
    { name: 'data', type: 'directory' },
    { name: 'data/a', content: 'one' },
    { name: 'data/a', content: 'two' },
  ]
  await expect(unpackFiles(tarOf(entries), join(dir, 'out'), { folders: true })).rejects.toThrow()
  expect(readFileSync(join(dir, 'out/a'), 'utf8')).toBe('one')
})

test('a folder where a file was asked for is refused, and so is what is there already', async () => {
  const entries: Entry[] = [{ name: 'data', type: 'directory' }]
  const unpacking = unpackFiles(tarOf(entries), join(dir, 'out'), { folders: false })
  await expect(unpacking).rejects.toThrow('is a folder')
  symlinkSync('/nowhere', join(dir, 'dead'))
  expect(() => refuseExisting(join(dir, 'dead'))).toThrow('there already')
  expect(() => refuseExisting(join(dir, 'new'))).not.toThrow()
})

const DATA: Entry = { name: 'data', type: 'directory' }
test.each([
  ['a file', [{ name: 'data', content: 'mine' }], () => writeFileSync(join(dir, 'out'), 'theirs')],
  ['a folder', [DATA], () => mkdirSync(join(dir, 'out'))],
])('%s that somebody else made meanwhile stays as it is', async (_, entries, meanwhile) => {
  const made = makeWhole(join(dir, 'out'), async (draft) => {
    await unpackFiles(tarOf(entries), draft, { folders: true })
    expect(existsSync(join(dir, 'out'))).toBe(false)
    meanwhile()
  })
  await expect(made).rejects.toThrow('there already')
  expect(readdirSync(dir)).toEqual(['out'])
  if (entries[0] !== DATA) expect(readFileSync(join(dir, 'out'), 'utf8')).toBe('theirs')
})

test('what breaks off leaves nothing of its own and takes nothing else away; what does not is there whole', async () => {
  const entries: Entry[] = [DATA, { name: 'data/a', content: 'one' }]
  const unpack = (more: readonly Entry[], meanwhile = () => {}) =>
    makeWhole(join(dir, 'out'), async (draft) => {
      meanwhile()
      return unpackFiles(tarOf([...entries, ...more]), draft, { folders: true })
    })
  const theirs = () => {
    mkdirSync(join(dir, 'out'))
    writeFileSync(join(dir, 'out/theirs'), 'x')
  }
  await expect(unpack(entries)).rejects.toThrow('EEXIST')
  expect(readdirSync(dir)).toEqual([])
  await expect(unpack(entries, theirs)).rejects.toThrow('EEXIST')
  expect(readdirSync(join(dir, 'out'))).toEqual(['theirs'])
  rmSync(join(dir, 'out'), { recursive: true })
  expect(await unpack([])).toMatchObject({ files: 1 })
  expect([readdirSync(dir), readdirSync(join(dir, 'out'))]).toEqual([['out'], ['a']])
})

test('of a link alone nothing is made, and that is no error', async () => {
  const entries: Entry[] = [{ name: 'data', type: 'symlink', linkname: '/etc' }]
  const made = makeWhole(join(dir, 'out'), (draft) =>
    unpackFiles(tarOf(entries), draft, { folders: true }),
  )
  expect(await made).toEqual({ files: 0, bytes: 0, leftAway: 1 })
  expect(readdirSync(dir)).toEqual([])
})
