import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { MachineGuest } from '@roost/core'
import { CPU_PERIOD_US, machineLimits } from './limits.ts'

const CGROUP2_MAGIC = 0x63677270
const ROOT = '/sys/fs/cgroup'

/** Control groups of this kernel, version 1 (also "hybrid") or 2. Paths are the same in every hierarchy. */
export interface Cgroups {
  readonly version: 1 | 2
  /** Whether memory and swap can be limited together. */
  readonly swapAccounting: boolean
  /** How often the kernel killed for want of memory in this group; 0 when it is gone. */
  oomKills(path: string): number
  /**
   * Grows when this group or one below it came to its limit of memory (version 1, where much that is only kept for speed does so
   * too) or something in it was killed for that (version 2). With something that was killed, it says why.
   */
  shortages(path: string): number
  children(path: string): readonly string[]
  /** All that is in this group or one below it. */
  processes(path: string): readonly number[]
  /** Makes the group, or changes what it may use. Without the right to it nothing is limited. */
  limit(path: string, limits: { readonly memoryBytes: number; readonly pids: number }): void
  /** Makes the group of a machine that has several below it, with what all of them together may use. */
  limitMachine(path: string, guest: MachineGuest): void
  /**
   * Gives a group, and each above it, the weight of so many processors against whatever else this machine runs. Otherwise all
   * that is in it together weighs as much as a single process outside, and what machines are guaranteed is nothing.
   */
  share(path: string, cpus: number): void
  /** Moves a process into a group, if the group is there. */
  join(path: string, pid: number): void
  /** Files through which a process that is started can enter a group by itself. */
  entries(path: string): readonly string[]
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

  const entriesOf = (path: string) =>
    (version === 2 ? [root] : [memory, join(root, 'pids')])
      .map((hierarchy) => join(hierarchy, path, 'cgroup.procs'))
      .filter((file) => existsSync(file))

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
    shortages(path) {
      try {
        if (version === 1) return Number(readFileSync(join(memory, path, 'memory.failcnt'), 'utf8'))
        const text = readFileSync(join(root, path, 'memory.events'), 'utf8')
        return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0)
      } catch {
        return 0
      }
    },
    children(path) {
      const names = hierarchies.flatMap((hierarchy) => subgroups(join(hierarchy, path)))
      return [...new Set(names)]
    },
    processes: (path) => processesIn(join(version === 2 ? root : join(root, 'pids'), path)),
    limit(path, { memoryBytes, pids }) {
      if (version === 2) {
        let at = root
        for (const part of path.split('/').filter((name) => name !== '')) {
          attempt(join(at, 'cgroup.subtree_control'), '+memory +pids')
          at = join(at, part)
          makeFolder(at)
        }
        attempt(join(at, 'memory.max'), memoryBytes)
        attempt(join(at, 'pids.max'), pids)
        return
      }
      for (const name of ['memory', 'pids']) makeFolder(join(root, name, path))
      attempt(join(memory, path, 'memory.limit_in_bytes'), memoryBytes)
      attempt(join(root, 'pids', path, 'pids.max'), pids)
    },
    limitMachine(path, guest) {
      const { memoryBytes, cpuShares, cpuQuotaUs, pids } = machineLimits(guest)
      if (version === 2) {
        let at = root
        for (const part of path.split('/').filter((name) => name !== '')) {
          attempt(join(at, 'cgroup.subtree_control'), '+memory +pids +cpu')
          at = join(at, part)
          makeFolder(at)
        }
        attempt(join(at, 'cgroup.subtree_control'), '+memory +pids +cpu')
        attempt(join(at, 'memory.max'), memoryBytes)
        attempt(join(at, 'memory.swap.max'), 0)
        attempt(join(at, 'pids.max'), pids)
        // As runc turns shares into a weight.
        attempt(join(at, 'cpu.weight'), 1 + Math.floor(((cpuShares - 2) * 9999) / 262142))
        attempt(join(at, 'cpu.max'), `${cpuQuotaUs} ${CPU_PERIOD_US}`)
        return
      }
      for (const hierarchy of hierarchies) makeFolder(join(hierarchy, path))
      attempt(join(memory, path, 'memory.limit_in_bytes'), memoryBytes)
      attempt(join(memory, path, 'memory.memsw.limit_in_bytes'), memoryBytes)
      attempt(join(root, 'pids', path, 'pids.max'), pids)
      attempt(join(root, 'cpu', path, 'cpu.shares'), cpuShares)
      attempt(join(root, 'cpu', path, 'cpu.cfs_period_us'), CPU_PERIOD_US)
      attempt(join(root, 'cpu', path, 'cpu.cfs_quota_us'), cpuQuotaUs)
    },
    share(path, cpus) {
      let at = version === 2 ? root : join(root, 'cpu')
      for (const part of path.split('/').filter((name) => name !== '')) {
        if (version === 2) attempt(join(at, 'cgroup.subtree_control'), '+cpu')
        at = join(at, part)
        makeFolder(at)
        if (version === 2) attempt(join(at, 'cpu.weight'), Math.min(10_000, 100 * cpus))
        else attempt(join(at, 'cpu.shares'), 1024 * cpus)
      }
    },
    join(path, pid) {
      for (const file of entriesOf(path)) attempt(file, pid)
    },
    entries: entriesOf,
    remove(path) {
      for (const hierarchy of hierarchies) removeTree(join(hierarchy, path))
    },
  }
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true })
  } catch {
    // This machine lets us have none.
  }
}

function attempt(file: string, value: string | number): void {
  try {
    writeFileSync(file, String(value))
  } catch {
    // Not there, not ours, or busy.
  }
}

function subgroups(path: string): string[] {
  try {
    return readdirSync(path).filter((name) => statSync(join(path, name)).isDirectory())
  } catch {
    return []
  }
}

function processesIn(path: string): number[] {
  const own = () => {
    try {
      const text = readFileSync(join(path, 'cgroup.procs'), 'utf8')
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map(Number)
    } catch {
      return []
    }
  }
  return [...own(), ...subgroups(path).flatMap((name) => processesIn(join(path, name)))]
}

function removeTree(path: string): void {
  for (const name of subgroups(path)) removeTree(join(path, name))
  try {
    rmdirSync(path)
  } catch {
    // Gone, or processes are still in it.
  }
}
