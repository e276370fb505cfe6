import { createReadStream, existsSync, type Stats } from 'node:fs'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { constants, createGzip } from 'node:zlib'
import dockerignore, { type Ignore } from '@balena/dockerignore'
import { type Pack, pack } from 'tar-stream'
import { Failure } from '../failure/failure.ts'

/** Its types speak of a `default`, which the module itself does not have. */
const newRules = dockerignore as unknown as typeof dockerignore.default

export interface ContextToPack {
  /** Absolute. */
  readonly folder: string
  /** Path inside the folder. It is sent even where the ignore file names it, as at Docker. */
  readonly dockerfile: string
  /** Default: `<dockerfile>.dockerignore`, then `.dockerignore`. */
  readonly ignorefile?: string | undefined
  /** Told now and then how much was read so far. */
  readonly onProgress?: (read: { readonly files: number; readonly bytes: number }) => void
}

/** What a builder takes; beyond it, something was sent by mistake. */
const BYTES_MAX = 2_000_000_000
const FILES_MAX = 200_000
const IGNORE_FILE = '.dockerignore'
/** Smaller files are read whole: a stream for each of thousands takes longer than their bytes. */
const SMALL_BYTES = 256_000

interface Found {
  /** With `/`, without one at its start. */
  readonly path: string
  readonly stats: Stats
}

/** The folder as a gzipped TAR, without what the ignore file names; streamed, never whole in memory or on disk. */
export async function* packContext(context: ContextToPack): AsyncGenerator<Uint8Array> {
  const ignored = await ignoreRules(context)
  const tar = pack()
  const gzip = createGzip({ level: constants.Z_BEST_SPEED })
  const feeding = feed(tar, context, ignored).catch((error: unknown) => {
    tar.destroy(error instanceof Error ? error : new Error(String(error)))
  })
  const piping = pipeline(tar, gzip)
  // Whoever reads hears of a failure by reading.
  piping.catch(() => {})
  try {
    yield* gzip
    await piping
  } finally {
    tar.destroy()
    gzip.destroy()
    await feeding
  }
}

async function feed(tar: Pack, context: ContextToPack, ignored: Rules): Promise<void> {
  const { folder, dockerfile } = context
  const weights = new Map<string, number>()
  let files = 0
  let bytes = 0
  // The builder hides from COPY what this names, so it must be the one that was followed.
  if (ignored.text !== null)
    tar.entry({ name: IGNORE_FILE, mode: 0o644, mtime: new Date(0) }, ignored.text)
  for await (const { path, stats } of filesIn(folder, ignored, dockerfile)) {
    if (tar.destroyed) return
    if (path === IGNORE_FILE && ignored.text !== null) continue
    files++
    if (stats.isFile()) {
      bytes += stats.size
      const top = path.split('/')[0] ?? ''
      weights.set(top, (weights.get(top) ?? 0) + stats.size)
    }
    if (bytes > BYTES_MAX || files > FILES_MAX) throw tooMuch(weights)
    context.onProgress?.({ files, bytes })
    // Names of users mean nothing on the builder; everything belongs to root there, as with docker build.
    const header = { name: path, mode: stats.mode & 0o7777, mtime: stats.mtime, uid: 0, gid: 0 }
    if (stats.isDirectory()) tar.entry({ ...header, type: 'directory' })
    else if (stats.isSymbolicLink())
      tar.entry({ ...header, type: 'symlink', linkname: await readlink(join(folder, path)) })
    else await addFile(tar, join(folder, path), { ...header, size: stats.size })
  }
  tar.finalize()
}

async function addFile(
  tar: Pack,
  path: string,
  header: { readonly name: string; readonly size: number },
): Promise<void> {
  try {
    if (header.size <= SMALL_BYTES) {
      // One that changed its size meanwhile is sent as it is now.
      const content = await readFile(path)
      await new Promise<void>((resolve, reject) => {
        tar.entry({ ...header, size: content.length }, content, (error) =>
          error ? reject(error) : resolve(),
        )
      })
      return
    }
    // A log that grows meanwhile is sent as long as it was.
    await pipeline(createReadStream(path, { end: header.size - 1 }), tar.entry(header))
  } catch (cause) {
    if (tar.destroyed) return
    throw new Failure(`${path} can't be sent to the builder`, {
      why: cause instanceof Error ? cause.message : String(cause),
      fix: 'name it in .dockerignore if it is not needed',
      cause,
    })
  }
}

function tooMuch(weights: ReadonlyMap<string, number>): Failure {
  const heaviest = [...weights].sort((a, b) => b[1] - a[1]).slice(0, 3)
  const shown = heaviest.map(([name, bytes]) => `${name} (${Math.round(bytes / 1e6)} MB)`)
  return new Failure(
    `the folder has more than ${BYTES_MAX / 1e9} GB or ${FILES_MAX / 1000},000 files to send to the builder`,
    {
      why: `the largest so far: ${shown.join(', ')}`,
      fix: 'name what the image does not need in .dockerignore',
    },
  )
}

interface Rules {
  readonly rules: Ignore
  /** Text of the ignore file that is followed, for the builder; null: there is none. */
  readonly text: string | null
  /** Without `!` a folder that is ignored need not be looked into. */
  readonly hasExceptions: boolean
}

async function ignoreRules({ folder, dockerfile, ignorefile }: ContextToPack): Promise<Rules> {
  if (ignorefile !== undefined && !existsSync(at(folder, ignorefile)))
    throw new Failure(`there is no ${ignorefile}`, { exitCode: 2 })
  const path = [ignorefile, `${dockerfile}.dockerignore`, '.dockerignore']
    .flatMap((name) => (name === undefined ? [] : [at(folder, name)]))
    .find((file) => existsSync(file))
  const text = path === undefined ? null : await readFile(path, 'utf8')
  const lines = text?.split('\n') ?? []
  const isGeneral = path === join(folder, IGNORE_FILE)
  return {
    // One that stands in for it is no file of the folder.
    text: text === null || isGeneral ? text : `${text.trimEnd()}\n${IGNORE_FILE}\n`,
    rules: newRules({ ignorecase: false }).add(lines),
    hasExceptions: lines.some((line) => line.trim().startsWith('!')),
  }
}

/** In the order of their names, so that the same folder gives the same stream. */
async function* filesIn(
  folder: string,
  ignored: Rules,
  dockerfile: string,
  inside = '',
): AsyncGenerator<Found> {
  const names = (await readdir(join(folder, inside))).sort()
  for (const name of names) {
    const path = inside === '' ? name : `${inside}/${name}`
    const stats = await lstat(join(folder, path))
    const wanted = path === dockerfile || !ignored.rules.ignores(path)
    if (stats.isDirectory()) {
      const holdsDockerfile = dockerfile.startsWith(`${path}/`)
      if (wanted) yield { path, stats }
      if (wanted || ignored.hasExceptions || holdsDockerfile)
        yield* filesIn(folder, ignored, dockerfile, path)
    } else if (wanted && (stats.isFile() || stats.isSymbolicLink())) yield { path, stats }
  }
}

function at(folder: string, path: string): string {
  return isAbsolute(path) ? path : resolve(folder, path)
}
