import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { extract } from 'tar-stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type ContextToPack, packContext, surveyContext } from './pack-context.ts'

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

const survey = (limits?: ContextToPack['limits']) =>
  surveyContext({ folder, dockerfile: 'Dockerfile', ...(limits && { limits }) })

test('before it is sent it is looked at: how much it is, and what is the largest', async () => {
  files({ Dockerfile: 'FROM a', 'big/a': 'x'.repeat(5000), 'big/b': 'x', 'c/d': 'xx' })
  expect(await survey()).toEqual({
    files: 6,
    bytes: 5009,
    largest: ['big (5 kB, 3 files)', 'Dockerfile (6 B, 1 file)', 'c (2 B, 2 files)'],
  })
})

test.each([
  [{ bytes: 1000, files: 100 }, 'more than 1 kB or 100 files', 'big (5 kB, 1 file)', 'big'],
  [{ bytes: 100_000, files: 5 }, 'more than 100 kB or 5 files', 'many (6 B, 7 files)', 'many'],
])('too much is refused with what is large: %j', async (limits, message, largest, ignored) => {
  files({ Dockerfile: 'FROM a', big: 'x'.repeat(5000) })
  files(Object.fromEntries(Array.from({ length: 6 }, (_, n) => [`many/${n}`, 'x'])))
  const error = await survey(limits).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({
    message: `the folder is too large to send: ${message}`,
    why: expect.stringContaining(largest),
    fixes: [`echo ${ignored} >> .dockerignore   # if the image does not need it`],
    exitCode: 2,
  })
})

test.each([
  ['/usr/bin/python3', 'venv/bin/python'],
  ['../../../up', 'venv/bin/python'],
  ['..', 'up'],
])('a link to %s is refused before anything is sent', async (target, path) => {
  files({ Dockerfile: 'FROM a', 'venv/bin/keep': '' })
  symlinkSync(target, join(folder, path))
  await expect(survey()).rejects.toMatchObject({
    message: `${path} is a link to ${target}, which is not in the folder`,
    exitCode: 2,
  })
  files({ '.dockerignore': path.split('/')[0] ?? '' })
  await survey()
})

test('pipes and sockets stay here, and files that come and go do no harm', async () => {
  files({ Dockerfile: 'FROM a', a: 'a' })
  execFileSync('mkfifo', [join(folder, 'pipe')])
  expect(Object.keys(await packed())).toEqual(['Dockerfile', 'a'])
  const chunks = packContext({
    folder,
    dockerfile: 'Dockerfile',
    onProgress: () => rmSync(join(folder, 'a'), { force: true }),
  })
  for await (const chunk of chunks) expect(chunk.length).toBeGreaterThan(0)
})

test('a file that becomes shorter while it is read is told', async () => {
  files({ Dockerfile: 'FROM a', log: 'x'.repeat(3_000_000) })
  const chunks = packContext({
    folder,
    dockerfile: 'Dockerfile',
    onProgress: ({ files: count }) => {
      if (count === 2) truncateSync(join(folder, 'log'), 1000)
    },
  })
  const reading = (async () => {
    for await (const chunk of chunks) expect(chunk.length).toBeGreaterThan(0)
  })()
  await expect(reading).rejects.toMatchObject({
    message: `${join(folder, 'log')} can't be sent to the builder`,
    why: 'it became shorter while it was read',
  })
})

test('a folder that grows beyond the limits while it is read is told', async () => {
  files({ Dockerfile: 'FROM a', a: 'x'.repeat(500) })
  const chunks = packContext({
    folder,
    dockerfile: 'Dockerfile',
    limits: { bytes: 100, files: 10 },
  })
  const reading = (async () => {
    for await (const chunk of chunks) expect(chunk.length).toBeGreaterThan(0)
  })()
  await expect(reading).rejects.toThrow('the folder grows while it is read')
})

test('who stops reading leaves nothing running', async () => {
  files({ Dockerfile: 'FROM a', big: 'x'.repeat(5_000_000) })
  for await (const chunk of packContext({ folder, dockerfile: 'Dockerfile' })) {
    expect(chunk.length).toBeGreaterThan(0)
    break
  }
})
