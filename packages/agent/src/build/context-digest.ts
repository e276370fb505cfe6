import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'

/**
 * Hexadecimal; changes with what a step that is shown `source` of a build context can read there: names, modes and contents, not times.
 * `source` is as in a Dockerfile, and never leads out of the context.
 */
export async function contextDigest(context: string, source: string): Promise<string> {
  const root = await realpath(context)
  const path = join(root, resolve('/', source)).replace(/\/$/, '')
  const hash = createHash('sha256')
  // By way of a link it may be anything there.
  await add(hash, (await realpath(path).catch(() => null)) === path ? path : root, '.')
  return hash.digest('hex')
}

async function add(hash: Hash, path: string, name: string): Promise<void> {
  const found = await lstat(path)
  const kind = found.isDirectory() ? 'folder' : found.isSymbolicLink() ? 'link' : 'file'
  const target = kind === 'link' ? await readlink(path) : null
  const size = kind === 'folder' ? 0 : found.size
  hash.update(`${JSON.stringify([name, kind, found.mode, target, size])}\n`)
  if (kind === 'folder')
    for (const entry of (await readdir(path)).sort())
      await add(hash, join(path, entry), `${name}/${entry}`)
  else if (found.isFile())
    for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
}
