import {
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { extract, type Header } from 'tar-stream'
import { Failure } from '../failure/failure.ts'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants

export interface Unpacked {
  readonly files: number
  readonly bytes: number
  /** Links and devices: they would mean something else here. */
  readonly leftAway: number
}

/**
 * Writes what comes as tar to `target`, which is not there yet. Whatever the machine says, nothing is written elsewhere: each name
 * is taken apart, files are made new and no link is ever made or followed. `folders`: whether it may be a folder.
 */
export async function unpackFiles(
  tar: AsyncIterable<Uint8Array>,
  target: string,
  options: {
    readonly folders: boolean
    readonly heard?: (bytes: number, of: number | null) => void
  },
): Promise<Unpacked> {
  const count = { files: 0, bytes: 0, leftAway: 0 }
  const unpacker = extract()
  const reading = (async () => {
    for await (const entry of unpacker) {
      const { header } = entry
      const path = placeOf(header, target)
      if (header.type === 'directory') {
        if (!options.folders)
          throw new Failure(`${header.name} is a folder`, { fix: 'add -r to take all of it' })
        mkdirSync(path, { recursive: true, mode: 0o700 | ((header.mode ?? 0o755) & 0o777) })
        entry.resume()
      } else if (header.type === 'file' || header.type === 'contiguous-file') {
        const mode = (header.mode ?? 0o644) & 0o777
        const file = await open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, mode)
        try {
          for await (const chunk of entry) {
            await file.writeFile(chunk as Uint8Array)
            count.bytes += (chunk as Uint8Array).length
            options.heard?.(count.bytes, options.folders ? null : (header.size ?? null))
          }
        } finally {
          await file.close()
        }
        count.files++
      } else {
        count.leftAway++
        entry.resume()
      }
    }
  })()
  reading.catch((error: Error) => unpacker.destroy(error))
  try {
    for await (const bytes of tar) {
      if (unpacker.destroyed) break
      if (!unpacker.write(Buffer.from(bytes)))
        await new Promise<void>((resolve) => {
          unpacker.once('drain', resolve)
          unpacker.once('close', resolve)
        })
    }
    unpacker.end(undefined)
  } catch (error) {
    unpacker.destroy()
    await reading.catch(() => {})
    throw error
  }
  await reading
  return count
}

/** The first part of each name is what was asked for; the rest is below it. */
function placeOf({ name }: Header, target: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..') || name.includes('\0'))
    throw new Failure(`the machine sent a path that leads elsewhere: ${name}`)
  return join(target, ...parts.slice(1))
}

/**
 * `make` writes to a place beside `target`, and what it made goes there when all of it is made: half of it would look like all of
 * it. What somebody else puts at `target` meanwhile is neither written to nor taken away.
 */
export async function makeWhole<T>(
  target: string,
  make: (draft: string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(dirname(target), '.roost-get-'))
  try {
    const draft = join(folder, basename(target))
    const made = await make(draft)
    refuseExisting(target)
    // Of a link nothing is made.
    if (existsSync(draft)) renameSync(draft, target)
    return made
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export function refuseExisting(target: string): void {
  if (!existsSync(target) && !isDeadLink(target)) return
  throw new Failure(`${target} is there already`, {
    why: 'nothing here is overwritten',
    fix: 'give it another name: roost sftp get REMOTE LOCAL',
  })
}

function isDeadLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink()
  } catch {
    return false
  }
}
