import { PlatformError } from '@roost/base'
import type { MachineConfig } from '@roost/core'
import { clearSwaps, describeClearSwap, hasSwap } from '../secret/clear-swap.ts'

/**
 * Swap in MB that a machine may use beyond its memory. Throws `unsupported` for good where this host can't give it, or where
 * what the machine holds in memory would come to lie on a disk in clear.
 */
export function swapOf(
  { init }: Pick<MachineConfig, 'init'>,
  host: { readonly swapAccounting: boolean; readonly root?: string },
): number {
  const { swap_size_mb: swapMb = 0 } = init
  if (swapMb === 0) return 0
  const why = whyNot(host)
  if (why === null) return swapMb
  throw new PlatformError('unsupported', `swap_size_mb: ${why}`, { retry: 'never' })
}

function whyNot({ swapAccounting, root = '/' }: Parameters<typeof swapOf>[1]): string | null {
  const [clear] = clearSwaps(root)
  if (clear !== undefined) return describeClearSwap(clear)
  if (!hasSwap(root)) return 'this host has no swap; give it some in memory: apt install zram-tools'
  return swapAccounting
    ? null
    : 'the kernel of this host does not count swap; boot it with swapaccount=1'
}
