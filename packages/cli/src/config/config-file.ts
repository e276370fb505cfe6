import { isUtf8 } from 'node:buffer'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describeError } from '@roost/base'
import { Failure, usage } from '../failure/failure.ts'
import { tomlTree } from './toml-tree.ts'

export interface ConfigFile {
  /** Absolute. */
  readonly path: string
  /** As the person would call it. */
  readonly shown: string
  readonly folder: string
  readonly content: string
}

const OTHER_FORMATS = ['fly.json', 'fly.yaml', 'fly.yml']

/** `-c FILE` or `-c FOLDER`, else `fly.toml` in the folder; null when there is none. */
export function findConfig(folder: string, named?: string): ConfigFile | null {
  if (named !== undefined) {
    const path = resolve(folder, named)
    const file = isFolder(path) ? join(path, 'fly.toml') : path
    if (!existsSync(file)) throw usage(`there is no ${named}`, 'roost launch   # writes fly.toml')
    return read(file, isFolder(path) ? join(named, 'fly.toml') : named)
  }
  const path = join(folder, 'fly.toml')
  if (existsSync(path)) return read(path, 'fly.toml')
  const other = OTHER_FORMATS.find((name) => existsSync(join(folder, name)))
  if (other !== undefined)
    throw new Failure(`${other} is not read: only fly.toml is`, {
      fix: `write its settings to fly.toml`,
      exitCode: 2,
    })
  return null
}

/** Only the name, so that `roost status` works beside a file with mistakes. */
export function appNameIn(content: string): string | null {
  return textIn(content, 'app')
}

/** What `roost console` runs. */
export function consoleCommandIn(content: string): string | null {
  return textIn(content, 'console_command')
}

function textIn(content: string, key: string): string | null {
  const tree = tomlTree(content)
  const found = 'table' in tree ? tree.table.entries.get(key)?.value : undefined
  return found?.kind === 'value' && typeof found.value === 'string' && found.value !== ''
    ? found.value
    : null
}

function read(path: string, shown: string): ConfigFile {
  if (!/\.toml$/.test(path))
    throw usage(`${shown} is not read: only TOML is, and its name ends with .toml`)
  return { path, shown, folder: dirname(path), content: contentOf(path, shown) }
}

/** What the server keeps of one with a release. */
const BYTES_MAX = 200_000

function contentOf(path: string, shown: string): string {
  const found = statSync(path)
  if (!found.isFile()) throw usage(`${shown} is no file`)
  if (found.size > BYTES_MAX)
    throw usage(`${shown} is ${found.size} bytes long: at most ${BYTES_MAX} are read`)
  return textOf(path, shown)
}

/** A file of the user's as text; says what is wrong with one that can't be read, or is none. */
export function textOf(path: string, shown: string): string {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : ''
    throw new Failure(`${shown} can't be read`, {
      why: code === 'EACCES' ? 'this user may not' : describeError(cause),
      fix: code === 'EACCES' ? `chmod u+r ${path}` : undefined,
      exitCode: 2,
      cause,
    })
  }
  const line = brokenLine(bytes)
  if (line === null) return bytes.toString('utf8')
  throw usage(
    `${shown} is not text in UTF-8: line ${line} is not`,
    `iconv -f LATIN1 -t UTF-8 ${shown} > new.txt   # if it was written as Latin 1`,
  )
}

/** The first line that is no UTF-8, or has a NUL; null: there is none. No character of more bytes has a newline in it. */
function brokenLine(bytes: Buffer): number | null {
  if (isUtf8(bytes) && !bytes.includes(0)) return null
  let from = 0
  for (let line = 1; from <= bytes.length; line++) {
    const end = bytes.indexOf(10, from)
    const part = bytes.subarray(from, end < 0 ? bytes.length : end)
    if (end < 0 || !isUtf8(part) || part.includes(0)) return line
    from = end + 1
  }
  return null
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
