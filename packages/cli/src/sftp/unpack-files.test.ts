import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { refuseExisting, unpackFiles } from './unpack-files.ts'

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
