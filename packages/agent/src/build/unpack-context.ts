import { constants, createWriteStream } from 'node:fs'
import { chmod, link, lstat, mkdir, readlink, rm, symlink, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { finished, type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { describeError, PlatformError } from '@roost/base'
import { extract, type Header } from 'tar-stream'
import { isNoSpace } from '../disk/no-space.ts'

/** Bounds of a context. `bytes` counts file contents after decompression. */
export interface ContextLimits {
  readonly bytes: number
  readonly entries: number
}

export const CONTEXT_LIMITS: ContextLimits = { bytes: 2_000_000_000, entries: 200_000 }
const PATH_BYTES_MAX = 4000
/** What file systems take. */
const NAME_BYTES_MAX = 255
/** Headers and padding of each entry, long names included. */
const ENTRY_BYTES = 2048
/** Of a sender that says nothing: a connection that died, or somebody who only holds it open. */
const SILENCE_MS_MAX = 60_000
const LINKS_FOLLOWED_MAX = 40

/**
 * Unpacks a gzipped TAR of strangers into an empty folder. Nothing is written through a link, nothing outside of the folder, and
 * no link in it leads out, so that later steps may follow links without a look. Everything belongs to root afterwards.
 */
export async function unpackContext(
  source: Readable,
  folder: string,
  signal: AbortSignal,
  limits: ContextLimits = CONTEXT_LIMITS,
  silenceMsMax = SILENCE_MS_MAX,
): Promise<{ bytes: number; entries: number }> {
  const reader = extract()
  const bound = atMost(limits.bytes + ENTRY_BYTES * (limits.entries + 10))
  const heard = spoken(silenceMsMax)
  // The source is not part of it: a request whose rest nobody reads holds up the next one on its connection.
  source.pipe(heard)
  const unwatch = finished(source, { writable: false }, (error) => {
    if (error) heard.destroy(error)
  })
  const feeding = pipeline(heard, createGunzip(), bound, reader, { signal })
  // A failure of either ends the other; only the first one is told.
  feeding.catch(() => {})
  const links: string[] = []
  const folders: { path: string; header: Header }[] = []
  const made = new Set<string>([''])
  let bytes = 0
  let entries = 0
  try {
    for await (const file of reader) {
      signal.throwIfAborted()
      const { header } = file
      entries++
      if (entries > limits.entries)
        refuse(`more than ${limits.entries} files; name what is not needed in .dockerignore`)
      const name = checkedName(header.name)
      if (name === '') {
        file.resume()
        continue
      }
      bytes += header.size ?? 0
      if (bytes > limits.bytes)
        refuse(
          `more than ${Math.round(limits.bytes / 1e6)} MB; name what is not needed in .dockerignore`,
        )
      await parentOf(name)
      const path = join(folder, name)
      switch (header.type) {
        case 'directory':
          await makeFolder(name)
          folders.push({ path, header })
          break
        case 'file':
        case 'contiguous-file':
          await clear(path)
          await pipeline(
            file as unknown as Readable,
            createWriteStream(path, {
              flags:
                constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
              mode: 0o600,
            } as unknown as { flags: string }),
            { signal },
          )
          await chmod(path, modeOf(header))
          await utimes(path, header.mtime, header.mtime)
          break
        case 'symlink':
          await clear(path)
          await symlink(checkedTarget(name, header.linkname), path)
          links.push(name)
          break
        case 'link': {
          const target = checkedName(header.linkname ?? '')
          await plainParents(target, name)
          const found = await lstat(join(folder, target)).catch(() => null)
          if (found === null || !found.isFile())
            refuse(`${name}: a hard link to ${target}, which is no file of the context`)
          await clear(path)
          await link(join(folder, target), path)
          break
        }
        default:
          refuse(`${name}: a ${header.type} can't be part of a context; name it in .dockerignore`)
      }
      file.resume()
    }
    await feeding
    // Deepest first: a folder without the right to write would refuse its own files.
    for (const { path, header } of folders.reverse()) {
      await chmod(path, modeOf(header))
      await utimes(path, header.mtime, header.mtime)
    }
    for (const name of links) await checkLink(folder, name)
  } catch (cause) {
    source.unpipe(heard)
    const isSilent = cause instanceof PlatformError && cause.code === 'timeout'
    if (signal.aborted || isSilent) source.destroy()
    else source.resume()
    signal.throwIfAborted()
    if (cause instanceof PlatformError) throw cause
    if (isNoSpace(cause))
      throw new PlatformError('disk_full', 'read the context', { cause, retry: 'later' })
    throw new PlatformError('invalid', 'read the context', {
      cause: new Error(`no gzipped TAR, or cut off: ${describeError(cause)}`),
    })
  } finally {
    unwatch()
  }
  return { bytes, entries }

  /** Folders that an archive doesn't list are made; one that is a link or a file is refused. */
  async function parentOf(name: string): Promise<void> {
    const parent = dirname(name)
    if (parent !== '.') await makeFolder(parent)
  }

  async function makeFolder(name: string): Promise<void> {
    if (made.has(name)) return
    await parentOf(name)
    const path = join(folder, name)
    const found = await lstat(path).catch(() => null)
    if (found === null) await mkdir(path, { mode: 0o755 })
    else if (!found.isDirectory()) refuse(`${name}: a folder and something else at once`)
    made.add(name)
  }

  async function plainParents(target: string, name: string): Promise<void> {
    const parts = target.split('/').slice(0, -1)
    for (let n = 1; n <= parts.length; n++)
      if (!made.has(parts.slice(0, n).join('/')))
        refuse(`${name}: a hard link to ${target}, which is no file of the context`)
  }

  /** A later entry of the same name replaces the earlier one, as tar does; folders stay. */
  async function clear(path: string): Promise<void> {
    const found = await lstat(path).catch(() => null)
    if (found === null) return
    if (found.isDirectory())
      refuse(`${path.slice(folder.length + 1)}: a folder and something else at once`)
    await rm(path)
  }
}

/** Ends a stream that grows beyond all that its entries could need: what inflates endlessly need have no entries at all. */
function atMost(bytesMax: number): Transform {
  let seen = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      seen += chunk.length
      if (seen <= bytesMax) return done(null, chunk)
      done(unfit(`it inflates to more than ${Math.round(bytesMax / 1e6)} MB`))
    },
  })
}

/** Ends a stream from which nothing comes for long. */
function spoken(silenceMsMax: number): Transform {
  const late = () =>
    stream.destroy(
      new PlatformError('timeout', `read the context: nothing came for ${silenceMsMax / 1000} s`),
    )
  let timer = setTimeout(late, silenceMsMax)
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      clearTimeout(timer)
      timer = setTimeout(late, silenceMsMax)
      done(null, chunk)
    },
    flush(done) {
      clearTimeout(timer)
      done()
    },
    destroy(error, done) {
      clearTimeout(timer)
      done(error)
    },
  })
  return stream
}

function unfit(why: string): PlatformError {
  return new PlatformError('invalid', `read the context: ${why}`)
}

function refuse(why: string): never {
  throw unfit(why)
}

function checkedName(raw: string): string {
  if (raw.includes('\0') || Buffer.byteLength(raw) > PATH_BYTES_MAX)
    refuse(`${JSON.stringify(raw.slice(0, 80))}: not a file name`)
  if (raw.startsWith('/')) refuse(`${raw}: an absolute name`)
  const parts = raw.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) refuse(`${raw}: a name that leads out of the context`)
  const long = parts.find((part) => Buffer.byteLength(part) > NAME_BYTES_MAX)
  if (long !== undefined)
    refuse(`${long.slice(0, 40)}…: a name of more than ${NAME_BYTES_MAX} bytes`)
  return parts.join('/')
}

function checkedTarget(name: string, target: string | null | undefined): string {
  if (target === null || target === undefined || target === '' || target.includes('\0'))
    return refuse(`${name}: a link to nothing`)
  return target
}

function modeOf(header: Header): number {
  return (header.mode ?? 0o644) & 0o7777
}

/** Walks a link as the kernel would, seen from the folder as root; refuses it where it would step out. */
async function checkLink(folder: string, name: string): Promise<void> {
  const leaves = () =>
    refuse(`${name}: a link that leads out of the context; name it in .dockerignore`)
  let followed = 0
  const at: string[] = name.split('/').slice(0, -1)
  const todo: string[] = [name.split('/').at(-1) ?? '']
  for (;;) {
    const part = todo.shift()
    if (part === undefined) return
    if (part === '' || part === '.') continue
    if (part === '..') {
      if (at.pop() === undefined) leaves()
      continue
    }
    const path = join(folder, ...at, part)
    const found = await lstat(path).catch(() => null)
    if (found === null || !found.isSymbolicLink()) {
      at.push(part)
      continue
    }
    if (++followed > LINKS_FOLLOWED_MAX) refuse(`${name}: a link that leads in a circle`)
    const target = await readlink(path)
    if (target.startsWith('/')) leaves()
    todo.unshift(...target.split('/'))
  }
}
