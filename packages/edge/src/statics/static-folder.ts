import { once } from 'node:events'
import { existsSync, ReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join, relative } from 'node:path'
import type { Readable } from 'node:stream'
import send from '@fastify/send'

/** One of the folders that the agent copied: see `staticFolderName`. What is in it never changes. */
export interface StaticFolderAt {
  /** Of all of them, on this host. */
  readonly dir: string
  readonly folder: string
}
export interface FileAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Readable
}

/** What its hash and its agent's folder are called; whoever asks may write anything. */
export const FOLDER_NAME = /^sha256-[0-9a-f]{64}\/[0-9a-f]{16}$/

export function isHere({ dir, folder }: StaticFolderAt): boolean {
  return existsSync(join(dir, folder))
}

/**
 * The answer to a request for a file, as conditions and ranges ask for it; null: it is not there, or begins with a dot. `path`: below
 * the folder, decoded. Without `Cache-Control`, which is the app's to say.
 */
export async function openFile(
  request: IncomingMessage,
  { dir, folder }: StaticFolderAt,
  path: string,
): Promise<FileAnswer | null> {
  const { type, statusCode, headers, stream } = await send(request, encodePath(path), {
    root: join(dir, folder),
    index: false,
    cacheControl: false,
  })
  // What can't be met is an answer; what can't be found is none.
  const isAnswer = type === 'file' || statusCode === 412 || statusCode === 416
  if (isAnswer && stream instanceof ReadStream)
    // It may have gone since it was looked at.
    await once(stream, 'open').catch(() => stream.destroy())
  if (isAnswer && !stream.destroyed) return { status: statusCode, headers, body: stream }
  stream.destroy()
  return null
}

export async function listFiles({ dir, folder }: StaticFolderAt): Promise<readonly string[]> {
  const root = join(dir, folder)
  const found = await readdir(root, { recursive: true, withFileTypes: true })
  return found
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => relative(root, join(parentPath, name)))
}

export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}
