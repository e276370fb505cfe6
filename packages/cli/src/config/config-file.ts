import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
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
    if (!existsSync(file)) throw usage(`there is no ${named}`)
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
  const tree = tomlTree(content)
  const app = 'table' in tree ? tree.table.entries.get('app')?.value : undefined
  return app?.kind === 'value' && typeof app.value === 'string' && app.value !== ''
    ? app.value
    : null
}

function read(path: string, shown: string): ConfigFile {
  if (!/\.toml$/.test(path))
    throw usage(`${shown} is not read: only TOML is, and its name ends with .toml`)
  return { path, shown, folder: dirname(path), content: readFileSync(path, 'utf8') }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
