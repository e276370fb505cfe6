import { chmodSync, chownSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MachineFile } from '@roost/core'
import { assertTmpfs } from '../secret/environment-file.ts'
import type { ImageUser } from './user.ts'

/** A file whose content is known. */
export interface WrittenFile {
  readonly path: string
  readonly content: Uint8Array
}

const MODE_DEFAULT = 0o644

/** Where the n-th file of a configuration lies on this host. */
const nameOf = (n: number) => `file-${n}`

/**
 * Bind mounts of `files`: what is in them never comes to a disk. runc makes the folders above them, and follows no link out of
 * the container.
 */
export function fileMounts(dir: string, files: readonly MachineFile[]): readonly object[] {
  return files.map(({ guest_path }, n) => ({
    destination: guest_path,
    type: 'bind',
    source: join(dir, nameOf(n)),
    options: ['bind', 'rw', 'nosuid', 'nodev'],
  }))
}

/** Before each start, in the order of `files`. They belong to whom the program runs as. */
export function writeFiles(
  dir: string,
  files: readonly MachineFile[],
  contents: readonly WrittenFile[],
  owner: Pick<ImageUser, 'uid' | 'gid'>,
): void {
  if (files.length === 0) return
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  assertTmpfs(dir)
  for (const [n, file] of files.entries()) {
    const found = contents.find(({ path }) => path === file.guest_path)
    const path = join(dir, nameOf(n))
    // Another file, since the old one may still be seen somewhere.
    writeFileSync(`${path}.next`, found?.content ?? '', { mode: 0o600 })
    chownSync(`${path}.next`, owner.uid, owner.gid)
    chmodSync(`${path}.next`, file.mode ?? MODE_DEFAULT)
    renameSync(`${path}.next`, path)
  }
}
