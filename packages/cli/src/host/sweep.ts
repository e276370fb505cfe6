import {
  existsSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { runCommand } from '@roost/base'

/**
 * Taking away what programs left behind. Each function looks at the machine, not at notes, does what is already done without
 * complaint, and so works after any crash and any number of times.
 */

/** Unmounts everything at and below a folder in this mount namespace, the deepest first. */
export async function unmountBelow(folder: string): Promise<void> {
  // Mounts may lie on top of each other, and unmounting one may free another's device: look again until none is left.
  for (let look = 0; look < 20; look++) {
    const points = mountPoints().filter((at) => at === folder || at.startsWith(`${folder}/`))
    if (points.length === 0) return
    for (const point of points.reverse()) await quietly(['umount', '--lazy', point])
  }
}

export function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((at) => at !== '')
    .map((at) =>
      at.replace(/\\(\d{3})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 8))),
    )
}

/** Frees loop devices whose files lie below a folder, also when the file is gone already. */
export async function detachLoopsBelow(folder: string): Promise<void> {
  for (const name of readdirSync('/sys/block').filter((name) => name.startsWith('loop'))) {
    const backing = readText(`/sys/block/${name}/loop/backing_file`)
    if (backing?.startsWith(`${folder}/`)) await quietly(['losetup', '-d', `/dev/${name}`])
  }
}

/** Removes a cgroup and all below it in every hierarchy there is (one with v2, a dozen with v1). They must be empty of processes. */
export function removeCgroups(path: string): void {
  for (const root of cgroupRoots()) {
    const top = join(root, path)
    for (const folder of [...foldersBelow(top), top]) rmdirQuietly(folder)
  }
}

/** Removes a cgroup that others may use too, if nobody does. */
export function removeCgroupIfEmpty(path: string): void {
  for (const root of cgroupRoots()) rmdirQuietly(join(root, path))
}

function cgroupRoots(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(' ')[4] as string)
}

/** Deepest first. */
function foldersBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .flatMap((entry) => {
        const path = join(folder, entry.name)
        return [...foldersBelow(path), path]
      })
  } catch {
    return []
  }
}

export async function removeNetns(name: string): Promise<void> {
  if (existsSync(join('/run/netns', name))) await quietly(['ip', 'netns', 'del', name])
  rmSync(join('/etc/netns', name), { recursive: true, force: true })
}

/**
 * Back to a network namespace as it was before programs ran in it: `kept` devices only, no filter rules, no routes by others.
 */
export async function clearNetns(name: string, kept: readonly string[]): Promise<void> {
  if (!existsSync(join('/run/netns', name))) return
  for (const device of await devicesIn(name))
    if (!kept.includes(device)) await quietly(['ip', '-n', name, 'link', 'del', device])
  await quietly(['nsenter', `--net=/run/netns/${name}`, 'nft', 'flush', 'ruleset'])
}

/** Names of the network devices of a namespace; null: this machine's own. */
export async function devicesIn(netns: string | null): Promise<string[]> {
  if (netns !== null && !existsSync(join('/run/netns', netns))) return []
  const where = netns === null ? [] : ['-n', netns]
  const { stdout } = await runCommand(['ip', ...where, '-json', 'link'])
  return (JSON.parse(stdout) as { ifname: string }[]).map(({ ifname }) => ifname)
}

const SHIM_SOCKETS = '/run/containerd/s'

/** Addresses of the shims that a containerd knows of; asked before its state is removed. */
export function shimSocketsOf(containerdState: string): string[] {
  const tasks = join(containerdState, 'io.containerd.runtime.v2.task')
  return foldersIn(tasks)
    .flatMap((namespace) =>
      foldersIn(join(tasks, namespace)).map((id) => join(tasks, namespace, id)),
    )
    .map((bundle) => readText(join(bundle, 'address'))?.replace(/^unix:\/\//, '') ?? '')
    .filter((path) => path.startsWith(`${SHIM_SOCKETS}/`))
}

/** Shim sockets of a time that nobody listens on: their shims were killed and could not remove them. */
export async function deadShimSockets(sinceMs: number): Promise<string[]> {
  const sockets = entriesIn(SHIM_SOCKETS).map((name) => join(SHIM_SOCKETS, name))
  const young = sockets.filter(
    (path) => (statSync(path, { throwIfNoEntry: false })?.birthtimeMs ?? 0) >= sinceMs,
  )
  const dead = await Promise.all(young.map(refusesConnections))
  return young.filter((_, n) => dead[n])
}

function refusesConnections(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const end = (dead: boolean) => {
      socket.destroy()
      resolve(dead)
    }
    socket.setTimeout(500, () => end(false))
    socket.on('connect', () => end(false))
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code === 'ECONNREFUSED'))
  })
}

/** Images have tens of thousands of files: several folders at once, and not one by one from here. */
export async function removeFolders(folders: readonly string[]): Promise<void> {
  await Promise.all(
    folders.map((folder) => runCommand(['rm', '-rf', '--', folder], { timeoutMs: 300_000 })),
  )
}

/** Names of this namespace's tables. */
export async function nftTables(family: string): Promise<string[]> {
  const { stdout } = await runCommand(['nft', 'list', 'tables', family]).catch(() => ({
    stdout: '',
  }))
  return [...stdout.matchAll(/^table \S+ (\S+)$/gm)].map((match) => match[1] ?? '')
}

export async function removeNftTable(family: string, name: string): Promise<void> {
  await quietly(['nft', 'delete', 'table', family, name])
}

export async function removeDevice(name: string): Promise<void> {
  if ((await devicesIn(null)).includes(name)) await quietly(['ip', 'link', 'del', name])
}

export function removeIfEmpty(folder: string): void {
  rmdirQuietly(folder)
}

/** For what may be gone already, by somebody else's hand. */
export async function quietly(argv: readonly [string, ...string[]]): Promise<void> {
  await runCommand(argv).catch(() => {})
}

function rmdirQuietly(folder: string): void {
  try {
    rmdirSync(folder)
  } catch {
    // Not there, or not empty: both are for the next look.
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return null
  }
}

function entriesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function foldersIn(folder: string): string[] {
  return entriesIn(folder).filter((name) =>
    statSync(join(folder, name), { throwIfNoEntry: false })?.isDirectory(),
  )
}

export function writeSysctl(name: string, value: string): void {
  writeFileSync(join('/proc/sys', name.replaceAll('.', '/')), value)
}

export function readSysctl(name: string): string | null {
  return readText(join('/proc/sys', name.replaceAll('.', '/')))
}
