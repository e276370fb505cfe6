import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { describeError } from '@roost/base'
import { usage } from '../failure/failure.ts'
import type { LocalFile } from './container-config.ts'

/** All of them go with each machine's configuration, which is held in memory by every program that hears of it. */
const BYTES_MAX = 1_000_000

/** Reads the files that `[[files]]` names, from where fly.toml lies. */
export function localFiles(folder: string): LocalFile {
  const seen = new Map<string, string>()
  let total = 0
  return (path) => {
    const known = seen.get(path)
    if (known !== undefined) return known
    const at = resolve(folder, path)
    try {
      const { size } = statSync(at)
      total += size
      if (total > BYTES_MAX)
        throw usage(
          `the files of [[files]] have more than ${BYTES_MAX / 1e6} MB together, with ${path}: what is larger belongs into the image`,
          `COPY ${path} …   # in the Dockerfile`,
        )
      const content = readFileSync(at).toString('base64')
      seen.set(path, content)
      return content
    } catch (error) {
      if (error instanceof Error && error.name === 'Failure') throw error
      throw usage(`the file ${path} of [[files]] can't be read: ${describeError(error)}`)
    }
  }
}
