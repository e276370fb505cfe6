import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { swapOf } from './swap-of.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'roost-swap-of-'))
  mkdirSync(join(root, 'proc'))
})
afterEach(() => rmSync(root, { recursive: true }))

function swaps(...names: string[]): void {
  const lines = names.map((name) => `${name} partition 1`)
  writeFileSync(join(root, 'proc/swaps'), ['Filename Type Size', ...lines].join('\n'))
  for (const name of names) mkdirSync(join(root, name), { recursive: true })
}
const asked = { init: { swap_size_mb: 512 } }

test('a machine has swap where it asks for some, and nothing of it lies on a disk in clear', () => {
  swaps('/dev/zram0')
  expect(swapOf({ init: {} }, { swapAccounting: true, root })).toBe(0)
  expect(swapOf(asked, { swapAccounting: true, root })).toBe(512)
})

test('else it is refused for good, with what would mend it', () => {
  const refusal = (swapAccounting = true) => {
    try {
      swapOf(asked, { swapAccounting, root })
    } catch (error) {
      expect(error).toMatchObject({ code: 'unsupported', retry: 'never' })
      return (error as Error).message
    }
    return null
  }
  expect(refusal()).toContain(
    'this host has no swap; give it some in memory: apt install zram-tools',
  )
  swaps('/dev/zram0', '/dev/sda2')
  expect(refusal()).toContain('swap /dev/sda2 is not encrypted')
  swaps('/dev/zram0')
  expect(refusal(false)).toContain('boot it with swapaccount=1')
})
