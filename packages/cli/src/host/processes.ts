import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PlatformError } from '@roost/base'

/** Who a process belongs to: each program gets this variable with `<installation>/<host>`, and all that it starts inherits it. */
export const OWNER_VARIABLE = 'ROOST_OWNER'

/** What marks the processes of an installation or of one of its hosts. A process is theirs by any of these. */
export interface ProcessMarks {
  /** Value of OWNER_VARIABLE, or the beginning of it before a slash. */
  readonly owner: string
  /** Network namespaces that are theirs alone, by name. */
  readonly netns: readonly string[]
  /** Parent of their cgroups: `/roost/pg`. */
  readonly cgroup: string
}

export interface OwnedProcess {
  readonly pid: number
  readonly command: string
}

const KILL_MS_MAX = 15_000
const REAP_MS_MAX = 3000

/** Looked up in /proc each time: pid files may lie, and what a killed program left behind is in none. */
export function processesOf(marks: ProcessMarks): OwnedProcess[] {
  const spaces = new Set(marks.netns.flatMap((name) => inode(join('/run/netns', name)) ?? []))
  const spared = selfAndAncestors()
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => !spared.has(pid))
    .filter((pid) => isOurs(pid, marks, spaces))
    .map((pid) => ({ pid, command: (read(pid, 'cmdline') ?? '').split('\0').join(' ').trim() }))
}

function isOurs(pid: number, marks: ProcessMarks, spaces: ReadonlySet<bigint>): boolean {
  if (isZombie(pid)) return false
  const space = inode(`/proc/${pid}/ns/net`)
  if (space !== null && spaces.has(space)) return true
  const cgroups = (read(pid, 'cgroup') ?? '').split('\n').map((line) => line.split(':')[2] ?? '')
  if (cgroups.some((path) => path === marks.cgroup || path.startsWith(`${marks.cgroup}/`)))
    return true
  // What lives among processes of its own is a machine's or a build's, which may set any variable.
  if (inode(`/proc/${pid}/ns/pid`) !== inode('/proc/self/ns/pid')) return false
  const owner = environmentOf(pid)[OWNER_VARIABLE]
  return owner === marks.owner || owner?.startsWith(`${marks.owner}/`) === true
}

/** SIGKILL to all of them, again and again until a look finds none: some start others while they die. */
export async function killProcesses(marks: ProcessMarks): Promise<number> {
  const killed = new Set<number>()
  const untilMs = Date.now() + KILL_MS_MAX
  for (let pauseMs = 5; ; pauseMs = Math.min(100, pauseMs * 2)) {
    const living = processesOf(marks)
    if (living.length === 0) return untilReaped(killed)
    if (Date.now() > untilMs)
      throw new PlatformError(
        'internal',
        `these processes do not end: ${living.map((p) => `${p.pid} ${p.command}`.slice(0, 100)).join('; ')}`,
      )
    for (const { pid } of living) {
      killed.add(pid)
      signal(pid, 'SIGKILL')
    }
    await sleep(pauseMs)
  }
}

/** What is dead still has a number until its parent, or init, has heard of it: not for long, but a look may come before. */
async function untilReaped(pids: ReadonlySet<number>): Promise<number> {
  const untilMs = Date.now() + REAP_MS_MAX
  while ([...pids].some((pid) => signal(pid, 0)) && Date.now() < untilMs) await sleep(20)
  return pids.size
}

export function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    return false
  }
}

export function isAlive(pid: number): boolean {
  return signal(pid, 0) && !isZombie(pid)
}

/** When it began, or null when there is no such process. */
export function startedAt(pid: number): Date | null {
  const stat = read(pid, 'stat')
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
  // The name may hold spaces and brackets; what follows it does not. Field 22 is the start in ticks of 10 ms since boot.
  const ticks = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  if (!Number.isFinite(ticks)) return null
  return new Date(Date.now() - (uptime - ticks / 100) * 1000)
}

export function environmentOf(pid: number): Record<string, string> {
  const pairs = (read(pid, 'environ') ?? '').split('\0').filter((pair) => pair.includes('='))
  return Object.fromEntries(
    pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
  )
}

function isZombie(pid: number): boolean {
  const stat = read(pid, 'stat')
  return stat === null || /^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
}

function selfAndAncestors(): Set<number> {
  const spared = new Set<number>([1])
  for (let pid = process.pid; pid > 1 && !spared.has(pid); ) {
    spared.add(pid)
    pid = Number(/^PPid:\s*(\d+)/m.exec(read(pid, 'status') ?? '')?.[1] ?? 0)
  }
  return spared
}

function inode(path: string): bigint | null {
  try {
    return statSync(path, { bigint: true }).ino
  } catch {
    return null
  }
}

function read(pid: number, name: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch {
    return null
  }
}

/** Network namespace that a process runs in, as `net:[4026531840]`; null when it is gone. */
export function netnsOf(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`)
  } catch {
    return null
  }
}
