import { chownSync, renameSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PlatformError } from '@roost/base'
import type { Environment } from '../runtime.ts'

const TMPFS_MAGIC = 0x01021994
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
/** The kernel takes no longer one: `NAME=value` and its end. */
const VARIABLE_BYTES_MAX = 131_071

/** Secrets lie in files that must never reach a disk. */
export function assertTmpfs(dir: string): void {
  if (statfsSync(dir).type !== TMPFS_MAGIC)
    throw new PlatformError('internal', `use ${dir} for secrets`, {
      cause: new Error('it is not on a tmpfs: mount one there (runDir in the agent’s config)'),
    })
}

/** What a machine's shell reads before it runs the program: byte for byte the values, whatever is in them. */
export function environmentText(environment: Environment): string {
  return Object.entries(environment)
    .map(([name, value]) => {
      if (!NAME.test(name))
        throw new PlatformError('invalid', `environment variable "${name}": not a variable's name`)
      if (value.includes('\0'))
        throw new PlatformError('invalid', `environment variable ${name}: contains a zero byte`)
      if (Buffer.byteLength(name) + Buffer.byteLength(value) + 1 > VARIABLE_BYTES_MAX)
        throw new PlatformError(
          'invalid',
          `environment variable ${name}: longer than ${VARIABLE_BYTES_MAX} bytes`,
        )
      return `export ${name}='${value.replaceAll("'", "'\\''")}'\n`
    })
    .join('')
}

/** Readable by the machine's user alone. The rename is seen inside a running machine, since the directory is mounted. */
export function writeEnvironmentFile(
  dir: string,
  environment: Environment,
  owner: { readonly uid: number; readonly gid: number },
): void {
  const text = environmentText(environment)
  assertTmpfs(dir)
  const next = join(dir, 'env.next')
  writeFileSync(next, text, { mode: 0o400 })
  chownSync(next, owner.uid, owner.gid)
  renameSync(next, join(dir, 'env'))
}
