import { existsSync, readdirSync, readFileSync, rmdirSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'

const CGROUP2_MAGIC = 0x63677270
const ROOT = '/sys/fs/cgroup'

/** Control groups of this kernel, version 1 (also "hybrid") or 2. Paths are the same in every hierarchy. */
export interface Cgroups {
  readonly version: 1 | 2
  /** Whether memory and swap can be limited together. */
  readonly swapAccounting: boolean
  /** How often the kernel killed for want of memory in this group; 0 when it is gone. */
  oomKills(path: string): number
  children(path: string): readonly string[]
  /** Removes a group and all below it, in every hierarchy. What still holds processes stays. */
  remove(path: string): void
}

export function openCgroups(root = ROOT): Cgroups {
  const version = statfsSync(root).type === CGROUP2_MAGIC ? 2 : 1
  const hierarchies =
    version === 2
      ? [root]
      : readdirSync(root, { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .map((entry) => join(root, entry.name))
  const memory = version === 2 ? root : join(root, 'memory')
  const eventsFile = version === 2 ? 'memory.events' : 'memory.oom_control'

  return {
    version,
    swapAccounting: version === 2 || existsSync(join(memory, 'memory.memsw.limit_in_bytes')),
    oomKills(path) {
      try {
        const text = readFileSync(join(memory, path, eventsFile), 'utf8')
        return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0)
      } catch {
        return 0
      }
    },
    children(path) {
      const names = hierarchies.flatMap((hierarchy) => subgroups(join(hierarchy, path)))
      return [...new Set(names)]
    },
    remove(path) {
      for (const hierarchy of hierarchies) removeTree(join(hierarchy, path))
    },
  }
}

function subgroups(path: string): string[] {
  try {
    return readdirSync(path).filter((name) => statSync(join(path, name)).isDirectory())
  } catch {
    return []
  }
}

function removeTree(path: string): void {
  for (const name of subgroups(path)) removeTree(join(path, name))
  try {
    rmdirSync(path)
  } catch {
    // Gone, or processes are still in it.
  }
}
