import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { extract } from 'tar-stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type ContextToPack, packContext } from './pack-context.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-context-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function files(contents: Record<string, string>): void {
  for (const [path, content] of Object.entries(contents)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), content)
  }
}

async function packed(context: Partial<ContextToPack> = {}): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const tar = Readable.from(packContext({ folder, dockerfile: 'Dockerfile', ...context }))
    .pipe(createGunzip())
    .pipe(extract())
  for await (const entry of tar) {
    const chunks: Buffer[] = []
    for await (const chunk of entry) chunks.push(chunk as Buffer)
    const { name, type, linkname, uid } = entry.header
    expect(uid).toBe(0)
    if (type === 'file') found[name] = Buffer.concat(chunks).toString()
    if (type === 'symlink') found[name] = `-> ${linkname}`
  }
  return found
}

test('files, empty files, folders and links arrive', async () => {
  files({ Dockerfile: 'FROM a', 'src/a.js': 'a', 'src/empty': '', big: 'x'.repeat(300_000) })
  symlinkSync('a.js', join(folder, 'src/link'))
  expect(await packed()).toEqual({
    Dockerfile: 'FROM a',
    big: 'x'.repeat(300_000),
    'src/a.js': 'a',
    'src/empty': '',
    'src/link': '-> a.js',
  })
})

test('.dockerignore is followed, with exceptions, and never hides the Dockerfile', async () => {
  files({
    Dockerfile: 'FROM a',
    '.dockerignore': '*\n!src\nsrc/**/*.log\n!src/keep.log\nnode_modules',
    'src/a.js': 'a',
    'src/x.log': 'x',
    'src/keep.log': 'k',
    'node_modules/p/index.js': 'p',
    README: 'r',
  })
  expect(Object.keys(await packed()).sort()).toEqual([
    '.dockerignore',
    'Dockerfile',
    'src/a.js',
    'src/keep.log',
  ])
})

test("a Dockerfile's own ignore file goes before the general one, and a named one before both", async () => {
  files({
    'docker/web': 'FROM a',
    'docker/web.dockerignore': 'b',
    '.dockerignore': 'a',
    other: 'a\nb\nother\n.dockerignore',
    a: 'a',
    b: 'b',
  })
  expect(Object.keys(await packed({ dockerfile: 'docker/web' }))).not.toContain('b')
  expect(Object.keys(await packed({ dockerfile: 'docker/web' }))).toContain('a')
  const own = await packed({ dockerfile: 'docker/web', ignorefile: 'other' })
  expect(Object.keys(own).sort()).toEqual([
    '.dockerignore',
    'docker/web',
    'docker/web.dockerignore',
  ])
  // The builder follows it too, under the name that it knows.
  expect(own['.dockerignore']).toBe('a\nb\nother\n.dockerignore\n.dockerignore\n')
})

test('the same folder gives the same bytes', async () => {
  files({ Dockerfile: 'FROM a', b: '1', a: '2' })
  const bytes = async () => {
    const chunks: Uint8Array[] = []
    for await (const chunk of packContext({ folder, dockerfile: 'Dockerfile' })) chunks.push(chunk)
    return Buffer.concat(chunks).toString('base64')
  }
  expect(await bytes()).toBe(await bytes())
})

test('an ignore file that is not there is told', async () => {
  files({ Dockerfile: 'FROM a' })
  const chunks = packContext({ folder, dockerfile: 'Dockerfile', ignorefile: 'nope' })
  await expect(chunks.next()).rejects.toThrow('there is no nope')
})

test('who stops reading leaves nothing running', async () => {
  files({ Dockerfile: 'FROM a', big: 'x'.repeat(5_000_000) })
  for await (const chunk of packContext({ folder, dockerfile: 'Dockerfile' })) {
    expect(chunk.length).toBeGreaterThan(0)
    break
  }
})
