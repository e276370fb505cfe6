import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { clearSwaps } from './clear-swap.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'roost-swap-'))
})
afterEach(() => rmSync(root, { recursive: true }))

function write(path: string, text: string): void {
  mkdirSync(join(root, path, '..'), { recursive: true })
  writeFileSync(join(root, path), text)
}

test('memory that is swapped stays secret in zram and on what is encrypted, also below LVM', () => {
  // A mapping may have another below it; a name stands for a device, which is a file here.
  const swaps = ['/dev/zram0', '/dev/dm-0', '/dev/dm-1', '/dev/sda2', '/gone']
  write('proc/swaps', ['Filename Type Size', ...swaps.map((n) => `${n}\tpartition\t1`)].join('\n'))
  for (const name of ['zram0', 'dm-0', 'dm-1', 'sda2'])
    mkdirSync(join(root, 'dev', name), { recursive: true })
  write('sys/class/block/dm-0/dm/uuid', 'CRYPT-LUKS2-x\n')
  write('sys/class/block/dm-1/dm/uuid', 'LVM-x\n')
  write('sys/class/block/dm-1/slaves/dm-0', '')
  expect(clearSwaps(root)).toEqual(['/dev/sda2', '/gone'])
})

test('no swap is no danger', () => {
  expect(clearSwaps(root)).toEqual([])
  write('proc/swaps', 'Filename Type Size\n')
  expect(clearSwaps(root)).toEqual([])
})
