import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'

/**
 * Swap of this machine that is neither in memory (zram) nor encrypted: what is in memory in clear may come to lie there in
 * clear. By name, as `swapoff` takes it.
 */
export function clearSwaps(root = '/'): readonly string[] {
  return swapsOf(root).filter((name) => !isSafe(root, name))
}

export function hasSwap(root = '/'): boolean {
  return swapsOf(root).length > 0
}

function swapsOf(root: string): string[] {
  try {
    const lines = readFileSync(join(root, 'proc/swaps'), 'utf8').trim().split('\n').slice(1)
    return lines.map((line) => line.split(/\s+/)[0] ?? '').filter((name) => name !== '')
  } catch {
    return []
  }
}

function isSafe(root: string, name: string): boolean {
  try {
    const real = realpathSync(join(root, name))
    const found = statSync(real)
    if (!found.isFile()) return isEncrypted(root, basename(real))
    // A file is as safe as the disk that it lies on.
    const device = `${found.dev >> 8}:${found.dev & 0xff}`
    return isEncrypted(root, basename(realpathSync(join(root, 'sys/dev/block', device))))
  } catch {
    return false
  }
}

function isEncrypted(root: string, device: string): boolean {
  if (/^zram\d+$/.test(device)) return true
  const folder = join(root, 'sys/class/block', device)
  try {
    if (readFileSync(join(folder, 'dm/uuid'), 'utf8').startsWith('CRYPT-')) return true
  } catch {
    // No mapping of the device mapper.
  }
  const below = (() => {
    try {
      return readdirSync(join(folder, 'slaves'))
    } catch {
      return []
    }
  })()
  return below.length > 0 && below.every((one) => isEncrypted(root, one))
}

/** For a person, with what mends it. */
export function describeClearSwap(name: string): string {
  return `swap ${name} is not encrypted: secrets of machines may be written to it; swapoff ${name}, or use zram instead (apt install zram-tools)`
}
