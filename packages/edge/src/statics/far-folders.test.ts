import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { staticFolderName } from '@roost/base'
import { afterEach, expect, test } from 'vitest'
import { until } from '../trial-edge.ts'
import { createFarFolders } from './far-folders.ts'
import { createFolderNames } from './folder-names.ts'
import { openStaticsPort } from './statics-port.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closer of closers.splice(0).reverse()) await closer()
})
const folder = staticFolderName(`sha256:${'a'.repeat(64)}`, '/app/public')

async function hostWith(files: Record<string, string>) {
  const dir = await mkdtemp(join(tmpdir(), 'roost-statics-'))
  closers.push(() => rm(dir, { recursive: true }))
  await mkdir(join(dir, folder, 'css'), { recursive: true })
  for (const [path, text] of Object.entries(files)) await writeFile(join(dir, folder, path), text)
  const port = await openStaticsPort({ dir, listen: { address: '127.0.0.1', port: 0 } })
  closers.push(() => port.close())
  return port
}

async function bodyOf(answer: IncomingMessage | null): Promise<string | null> {
  if (answer === null) return null
  const chunks: Buffer[] = []
  for await (const chunk of answer as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

function asked(path: string, headers: Record<string, string> = {}, hosts = ['127.0.0.1']) {
  const request = { method: 'GET', headers } as unknown as IncomingMessage
  return { request, folder, path, hosts, signal: AbortSignal.timeout(10_000) }
}

test('a file of another host comes with its conditions and ranges; what is none is known without asking', async () => {
  const { port } = await hostWith({ 'a b.txt': 'text', 'css/x.css': 'p{}' })
  const far = createFarFolders({ port, names: createFolderNames() })
  expect(await bodyOf(await far.fetch(asked('a b.txt')))).toBe('text')
  const css = await far.fetch(asked('css/x.css', { range: 'bytes=0-0' }))
  expect([css?.statusCode, css?.headers['content-type'], await bodyOf(css)]).toEqual([
    ...[206, 'text/css; charset=utf-8', 'p'],
  ])
  const { etag } = (await far.fetch(asked('css/x.css')))?.headers ?? {}
  const same = await far.fetch(asked('css/x.css', { 'if-none-match': `${etag}` }))
  expect([same?.statusCode, await bodyOf(same)]).toEqual([304, ''])
  expect(await far.fetch(asked('css'))).toBeNull()
  expect(await far.fetch(asked('none'))).toBeNull()
})

test('a host that does not answer, or has nothing, is passed over', async () => {
  const { port } = await hostWith({ 'a.txt': 'text' })
  const far = createFarFolders({ port, names: createFolderNames() })
  expect(await bodyOf(await far.fetch(asked('a.txt', {}, ['127.0.0.2', '127.0.0.1'])))).toBe('text')
  const other = { ...asked('a.txt'), folder: folder.replace('a', 'b') }
  expect(await far.fetch(other)).toBeNull()
})

test('a list that is not one or does not end is no list, and is asked for again later', async () => {
  const said = { text: 'no list' }
  const server = createServer((_, response) => response.end(said.text)).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  closers.push(() => new Promise((closed) => server.close(closed)))
  const { port } = server.address() as { port: number }
  const far = createFarFolders({ port, names: createFolderNames() })
  expect(await far.fetch(asked('a.txt'))).toBeNull()
  said.text = '["a.txt"]'
  const found = await until('it is asked for again', () => far.fetch(asked('a.txt')))
  expect(found.statusCode).toBe(200)
  found.resume()
})

test('the port answers for folders of images alone', async () => {
  const { port } = await hostWith({ 'a.txt': 'text' })
  const status = async (path: string, method = 'GET') =>
    (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status
  expect(await status(`/${folder}/a.txt`)).toBe(200)
  expect(await status(`/${folder}/a.txt`, 'POST')).toBe(404)
  for (const path of [
    ...['/', `/${folder}`, '/..%2f..%2fetc/passwd', `/${folder}/..%2f..%2f..%2fx`, '/a/b/c'],
    ...[`/${folder.replace('a', '.')}/a.txt`, `/${folder}/none`],
  ])
    expect([path, await status(path)]).toEqual([path, 404])
  expect(await status(`/${folder}/%zz`)).toBe(500)
})
