import { existsSync, type Stats } from 'node:fs'
import { lstat, open, readdir, readFile, readlink } from 'node:fs/promises'
import { isAbsolute, join, posix, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { constants, createGzip } from 'node:zlib'
import dockerignore, { type Ignore } from '@balena/dockerignore'
import { type Pack, pack } from 'tar-stream'
import { Failure } from '../failure/failure.ts'
import { bytes as sizeText } from '../terminal/time.ts'

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
  /** Default: what a builder takes. */
  readonly limits?: { readonly bytes: number; readonly files: number }
}

export interface ContextSurvey {
  readonly files: number
  readonly bytes: number
  /** `node_modules (250 MB, 31,000 files)`, the largest three. */
  readonly largest: readonly string[]
}

/** What a builder takes; beyond it, something was sent by mistake. */
const LIMITS = { bytes: 2_000_000_000, files: 200_000 }
/** Beyond twice the limit nobody needs to know how much it is. */
const COUNTED_TIMES = 2
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
  const state: { failure: unknown } = { failure: null }
  const feeding = feed(tar, context, ignored).catch((error: unknown) => {
    state.failure = error
    tar.destroy(error instanceof Error ? error : new Error(String(error)))
  })
  const piping = pipeline(tar, gzip)
  // Whoever reads hears of a failure by reading.
  piping.catch(() => {})
  try {
    yield* gzip
    await piping
  } catch (error) {
    tar.destroy()
    await feeding
    // The archive's own word for it says less.
    throw state.failure ?? error
  } finally {
    tar.destroy()
    gzip.destroy()
    await feeding
  }
}

async function feed(tar: Pack, context: ContextToPack, ignored: Rules): Promise<void> {
  const { folder, dockerfile, limits = LIMITS } = context
  let files = 0
  let bytes = 0
  // The builder hides from COPY what this names, so it must be the one that was followed.
  if (ignored.text !== null)
    tar.entry({ name: IGNORE_FILE, mode: 0o644, mtime: new Date(0) }, ignored.text)
  for await (const { path, stats } of filesIn(folder, ignored, dockerfile)) {
    if (tar.destroyed) return
    if (path === IGNORE_FILE && ignored.text !== null) continue
    files++
    if (stats.isFile()) bytes += stats.size
    // It was less a moment ago.
    if (bytes > limits.bytes || files > limits.files)
      throw new Failure('the folder grows while it is read', {
        why: `it has more than ${shownLimits(limits)} by now`,
        fix: 'stop what writes to it, or name that in .dockerignore',
      })
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
    // Opened before its header is sent: what can't be read must not begin. A log that grows is sent as long as it was.
    const file = await open(path)
    await pipeline(file.createReadStream({ end: header.size - 1 }), tar.entry(header))
  } catch (cause) {
    const shrank = cause instanceof Error && cause.message.includes('Size mismatch')
    if (tar.destroyed && !shrank) return
    // An editor's file that came and went.
    if (codeOf(cause) === 'ENOENT') return
    throw unreadable(
      path,
      shrank ? new Error('it became shorter while it was read', { cause }) : cause,
    )
  }
}

function unreadable(path: string, cause: unknown): Failure {
  const mayNot = codeOf(cause) === 'EACCES' || codeOf(cause) === 'EPERM'
  return new Failure(`${path} can't be sent to the builder`, {
    why: mayNot
      ? 'this user may not read it'
      : cause instanceof Error
        ? cause.message
        : String(cause),
    fix: [
      'name it in .dockerignore if the image does not need it',
      ...(mayNot ? [`chmod u+r ${path}`] : []),
    ],
    exitCode: 2,
    cause,
  })
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** Looks at all of it before anything is sent: what is too much, or can't be part of it, is told at once. */
export async function surveyContext(context: ContextToPack): Promise<ContextSurvey> {
  const ignored = await ignoreRules(context)
  const { folder, dockerfile, limits = LIMITS } = context
  const weights = new Map<string, { bytes: number; files: number }>()
  let files = 0
  let bytes = 0
  for await (const { path, stats } of filesIn(folder, ignored, dockerfile)) {
    files++
    const top = path.split('/')[0] ?? ''
    const weight = weights.get(top) ?? { bytes: 0, files: 0 }
    weights.set(top, weight)
    weight.files++
    if (stats.isFile()) {
      bytes += stats.size
      weight.bytes += stats.size
    }
    if (stats.isSymbolicLink()) checkLink(path, await readlink(join(folder, path)))
    if (bytes > COUNTED_TIMES * limits.bytes || files > COUNTED_TIMES * limits.files) break
  }
  const tooMany = files > limits.files && bytes <= limits.bytes
  const largest = [...weights]
    .sort(([, a], [, b]) => (tooMany ? b.files - a.files : b.bytes - a.bytes))
    .slice(0, 3)
    .map(
      ([name, weight]) =>
        `${name} (${sizeText(weight.bytes)}, ${weight.files.toLocaleString('en')} ${weight.files === 1 ? 'file' : 'files'})`,
    )
  if (bytes > limits.bytes || files > limits.files)
    throw new Failure(`the folder is too large to send: more than ${shownLimits(limits)}`, {
      why: `The largest in it: ${largest.join(', ')}.`,
      fix: `echo ${(largest[0] ?? '').replace(/ \([^(]*$/, '')} >> .dockerignore   # if the image does not need it`,
      exitCode: 2,
    })
  return { files, bytes, largest }
}

function shownLimits(limits: { readonly bytes: number; readonly files: number }): string {
  return `${sizeText(limits.bytes)} or ${limits.files.toLocaleString('en')} files`
}

/** The builder has nothing but the folder, so a link out of it leads nowhere there, or to somebody else's file. */
function checkLink(path: string, target: string): void {
  const inside = posix.normalize(posix.join(posix.dirname(path), target))
  if (!target.startsWith('/') && inside !== '..' && !inside.startsWith('../')) return
  const top = path.split('/')[0] ?? path
  throw new Failure(`${path} is a link to ${target}, which is not in the folder`, {
    why: 'only the folder is sent to the builder',
    fix: [
      `echo ${top} >> .dockerignore   # if the image does not need it`,
      'or make it a link relative to itself, or a copy',
    ],
    exitCode: 2,
  })
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
  for (const name of await namesIn(join(folder, inside))) {
    const path = inside === '' ? name : `${inside}/${name}`
    const stats = await lstat(join(folder, path)).catch((cause: unknown) => {
      if (codeOf(cause) === 'ENOENT' && !name.includes('\uFFFD')) return null
      throw name.includes('\uFFFD')
        ? unreadable(join(folder, path), new Error('its name is not UTF-8'))
        : unreadable(join(folder, path), cause)
    })
    if (stats === null) continue
    const wanted = path === dockerfile || !ignored.rules.ignores(path)
    if (stats.isDirectory()) {
      const holdsDockerfile = dockerfile.startsWith(`${path}/`)
      if (wanted) yield { path, stats }
      if (wanted || ignored.hasExceptions || holdsDockerfile)
        yield* filesIn(folder, ignored, dockerfile, path)
    } else if (wanted && (stats.isFile() || stats.isSymbolicLink())) yield { path, stats }
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort()
  } catch (cause) {
    // One that went away meanwhile is empty.
    if (codeOf(cause) === 'ENOENT') return []
    throw unreadable(folder, cause)
  }
}

function at(folder: string, path: string): string {
  return isAbsolute(path) ? path : resolve(folder, path)
}
