import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** A process of this kernel, told from a later one of the same number by when it began. */
export interface ProcessRef {
  readonly pid: number
  /** Clock ticks since the kernel started. */
  readonly startTicks: string
}

const LAPS_MAX = 50

export function processRef(pid: number): ProcessRef | null {
  const stat = statOf(pid)
  return stat === null ? null : { pid, startTicks: stat.startTicks }
}

/**
 * Kills all that a process has started, and what those have, and so on; not the process itself. It must be a subreaper, or
 * PID 1 has adopted some of them. What is found is stopped first, since nothing that is stopped starts anything: each lap leaves fewer
 * that could, and a machine's limit of processes bounds how many there are.
 */
export function killDescendants(root: ProcessRef): void {
  const stopped = new Set<number>()
  for (let lap = 0; lap < LAPS_MAX; lap++) {
    const running = descendantsOf(root).filter((pid) => !stopped.has(pid))
    if (running.length === 0) break
    for (const pid of running) {
      signal(pid, 'SIGSTOP')
      stopped.add(pid)
    }
  }
  for (const pid of descendantsOf(root)) signal(pid, 'SIGKILL')
}

function signal(pid: number, name: 'SIGSTOP' | 'SIGKILL'): void {
  try {
    process.kill(pid, name)
  } catch {
    // It was quicker.
  }
}

function descendantsOf(root: ProcessRef): readonly number[] {
  if (statOf(root.pid)?.startTicks !== root.startTicks) return []
  const parents = new Map<number, number>()
  for (const pid of neighboursOf(root.pid)) {
    const stat = statOf(pid)
    if (stat !== null && stat.state !== 'Z') parents.set(pid, stat.parent)
  }
  const found = new Set([root.pid])
  for (let before = 0; before !== found.size; ) {
    before = found.size
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid)
  }
  found.delete(root.pid)
  return [...found]
}

/** All of its control group: cheaper than all of the kernel. */
function neighboursOf(pid: number): readonly number[] {
  const group = cgroupOf(pid)
  const text = group === null ? null : readOrNull(join(group, 'cgroup.procs'))
  if (text !== null)
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map(Number)
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
}

function cgroupOf(pid: number): string | null {
  for (const line of (readOrNull(`/proc/${pid}/cgroup`) ?? '').split('\n')) {
    const [, controllers, path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers === undefined || path === '/' || path === '') continue
    const names = controllers.split(',')
    if (names.includes('pids')) return existing(`/sys/fs/cgroup/pids${path}`)
    if (controllers === '') {
      const unified = existing(`/sys/fs/cgroup${path}`)
      if (unified !== null) return unified
    }
  }
  return null
}

function existing(path: string): string | null {
  try {
    return statSync(path).isDirectory() ? path : null
  } catch {
    return null
  }
}

function statOf(pid: number): { state: string; parent: number; startTicks: string } | null {
  const text = readOrNull(`/proc/${pid}/stat`)
  // The name may have anything in it, and ends with the last bracket.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ')
  if (fields === undefined || fields.length < 20) return null
  return { state: fields[0] ?? '', parent: Number(fields[1]), startTicks: fields[19] ?? '' }
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
