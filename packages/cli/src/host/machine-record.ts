import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mountPoints, quietly, readSysctl, removeIfEmpty, writeSysctl } from './sweep.ts'

/**
 * What this machine was like before the first installation of Roost on it, so that the last one to go leaves it like that. Several may
 * be up at once (a real host, playgrounds, tests), and they go in any order.
 */
const STATE = '/var/lib/roost'
const RECORD = join(STATE, 'machine.json')
/** One folder for each real host: `host`, or in tests the name of its network namespace. */
export const HOST_STATE = join(STATE, 'hosts')
export const PLAYGROUND_STATE = join(STATE, 'playground')
const FOLDERS = [
  '/run/containerd/s',
  '/run/containerd',
  '/run/wireguard',
  '/run/roost',
  '/run/netns',
  '/etc/netns',
  PLAYGROUND_STATE,
  HOST_STATE,
  STATE,
]
const RECEIVE_BUFFER = 'net.core.rmem_default'
const RECEIVE_BUFFER_BYTES = 4_194_304
const SYSCTLS = ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding', RECEIVE_BUFFER]

interface MachineRecord {
  /** The folders that did not exist. */
  readonly absent: readonly string[]
  readonly sysctls: Readonly<Record<string, string>>
  readonly netnsMounted: boolean
}

/** Call before anything is changed. */
export function recordMachine(): void {
  if (existsSync(RECORD)) return
  const record: MachineRecord = {
    absent: FOLDERS.filter((folder) => !existsSync(folder)),
    sysctls: Object.fromEntries(
      SYSCTLS.flatMap((name) => {
        const value = readSysctl(name)
        return value === null ? [] : [[name, value]]
      }),
    ),
    netnsMounted: mountPoints().includes('/run/netns'),
  }
  mkdirSync(STATE, { recursive: true })
  writeFileSync(RECORD, JSON.stringify(record))
}

/** What hosts on this machine are better for; set back by `restoreMachine`. */
export function tuneMachine(): void {
  // User-space WireGuard takes the default, in which what arrives during one round trip of a far way has no room.
  const hasKernelWireguard = existsSync('/sys/module/wireguard')
  if (!hasKernelWireguard && Number(readSysctl(RECEIVE_BUFFER)) < RECEIVE_BUFFER_BYTES)
    writeSysctl(RECEIVE_BUFFER, String(RECEIVE_BUFFER_BYTES))
}

/** Names of all installations whose state lies on this machine, real hosts and playgrounds. */
export function installations(): string[] {
  return [PLAYGROUND_STATE, HOST_STATE].flatMap((folder) =>
    existsSync(folder) ? readdirSync(folder) : [],
  )
}

/** Call when an installation's own things are gone. Does nothing while there are others. */
export async function restoreMachine(): Promise<void> {
  if (installations().length > 0 || !existsSync(RECORD)) return
  const record = JSON.parse(readFileSync(RECORD, 'utf8')) as MachineRecord
  for (const [name, value] of Object.entries(record.sysctls))
    if (readSysctl(name) !== value) writeSysctl(name, value)
  rmSync(RECORD)
  // `ip netns add` mounts the folder on itself, so that namespaces can be seen from other mount namespaces.
  const netnsInUse = existsSync('/run/netns') && readdirSync('/run/netns').length > 0
  if (!record.netnsMounted && !netnsInUse) await quietly(['umount', '/run/netns'])
  for (const folder of FOLDERS) if (record.absent.includes(folder)) removeIfEmpty(folder)
}
