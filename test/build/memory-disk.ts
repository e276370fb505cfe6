import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'

/** Engines wait for a real disk after each thing that they write down; what lies on `dir` lies in memory from now on. */
export function mountInMemory(dir: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=700,size=75%', 'roost-test', dir])
}

/**
 * A file system of this size, from a file beside `dir`. Unlike what lies in memory itself, its files count for no control group
 * whose processes write them.
 */
export function mountDisk(dir: string, sizeMb: number): void {
  mkdirSync(dir)
  const file = `${dir}.ext4`
  execFileSync('truncate', ['-s', `${sizeMb}M`, file])
  execFileSync('mke2fs', ['-q', '-F', '-t', 'ext4', '-m', '0', file])
  execFileSync('mount', ['-o', 'loop', file, dir])
}
