import { closeSync, fstatSync, openSync, statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import koffi from 'koffi'

const fallocate = koffi
  .load('libc.so.6')
  .func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')

export function bytesFree(dir: string): number {
  const { bavail, bsize } = statfsSync(dir)
  return bavail * bsize
}

/**
 * For tests: takes all of a disk but so many bytes with this file. Nothing is written, which would take from those who work
 * meanwhile; and there is a look before each piece, since they may write.
 */
export function fillDisk(file: string, leave = 0): void {
  const fd = openSync(file, 'a')
  try {
    let { size: end } = fstatSync(fd)
    for (const size of [1 << 23, 1 << 20, 1 << 12])
      while (bytesFree(dirname(file)) - size >= leave && fallocate(fd, 0, end, size) === 0)
        end += size
  } finally {
    closeSync(fd)
  }
}
