import { readdir, readFile, readlink } from 'node:fs/promises'
import type { ProcessReply } from '@roost/api'
import { addressOf } from '../check/listening-in.ts'

const PROCESSES_MAX = 512
const FILES_MAX = 2048
/** The kernel's unit of time in these files, wherever Roost runs. */
const TICK_MS = 10
const PAGE_BYTES = 4096
const [LISTEN, UDP_UNCONNECTED] = ['0A', '07']

/** What runs in a machine, by the kernel's own tables; nothing is run in it. What ends meanwhile is left away. */
export async function processesOf(pids: readonly number[]): Promise<readonly ProcessReply[]> {
  const sinceBootMs = Number((await readFile('/proc/uptime', 'utf8')).split(' ')[0]) * 1000
  const shown = pids.slice(0, PROCESSES_MAX)
  const sockets = shown[0] === undefined ? new Map() : await listeningSockets(shown[0])
  const found = await Promise.all(shown.map((pid) => processOf(pid, sinceBootMs, sockets)))
  return found.filter((process) => process !== null).sort((a, b) => a.pid - b.pid)
}

type Sockets = ReadonlyMap<string, { readonly proto: string; readonly address: string }>

async function processOf(
  pid: number,
  sinceBootMs: number,
  sockets: Sockets,
): Promise<ProcessReply | null> {
  try {
    const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8')
    const [stat, status, cmdline] = await Promise.all([
      read('stat'),
      read('status'),
      read('cmdline'),
    ])
    // The name may have anything in it, and ends with the last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [user, kernel, started] = [11, 12, 19].map((n) => Number(fields[n]) * TICK_MS) as [
      number,
      number,
      number,
    ]
    const command = cmdline.replace(/\0+$/, '').replaceAll('\0', ' ')
    return {
      pid: Number(/^NSpid:\t.*?(\d+)$/m.exec(status)?.[1] ?? pid),
      stime: kernel,
      rtime: Math.max(0, Math.round(sinceBootMs - started)),
      command: command === '' ? `[${/^Name:\t(.*)$/m.exec(status)?.[1] ?? ''}]` : command,
      directory: await readlink(`/proc/${pid}/cwd`).catch(() => ''),
      cpu: user + kernel,
      rss: Number(fields[21]) * PAGE_BYTES,
      listen_sockets: sockets.size === 0 ? [] : await openOf(pid, sockets),
    }
  } catch {
    return null
  }
}

async function openOf(pid: number, sockets: Sockets) {
  const names = await readdir(`/proc/${pid}/fd`).catch(() => [])
  const links = await Promise.all(
    names.slice(0, FILES_MAX).map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')),
  )
  const inodes = new Set(links.map((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? ''))
  return [...sockets].filter(([inode]) => inodes.has(inode)).map(([, socket]) => socket)
}

/** By inode, of the network namespace in which this process is. */
async function listeningSockets(pid: number): Promise<Sockets> {
  const found = new Map<string, { proto: string; address: string }>()
  for (const [file, proto, wanted] of [
    ['tcp', 'tcp', LISTEN],
    ['tcp6', 'tcp', LISTEN],
    ['udp', 'udp', UDP_UNCONNECTED],
    ['udp6', 'udp', UDP_UNCONNECTED],
  ] as const) {
    const table = await readFile(`/proc/${pid}/net/${file}`, 'utf8').catch(() => '')
    for (const line of table.split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/)
      const address = addressOf(fields[1] ?? '')
      if (fields[3] === wanted && address !== null && fields[9] !== undefined)
        found.set(fields[9], { proto, address })
    }
  }
  return found
}
