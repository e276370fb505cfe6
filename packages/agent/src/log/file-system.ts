import {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { PlatformError, runCommand } from '@roost/base'

export interface LogFileSystem {
  /** Where it is mounted. */
  readonly dir: string
  /** The file that holds it. */
  readonly imageFile: string
  readonly sizeMb: number
}

const OPTIONS = 'noatime,nodev,noexec,nosuid'

/**
 * A file system of their own for what machines write. When the file system under a log is full, the copier of containerd's
 * shim stops and the machine blocks for ever; so nothing but logs may fill this one, and all of its space is taken from the
 * disk at once. It has no journal: what is on it is read within moments, and made anew when it is broken.
 */
export async function mountLogFileSystem(options: LogFileSystem): Promise<void> {
  const { dir, imageFile, sizeMb } = options
  if (mountOf(dir) !== undefined) return
  mkdirSync(dir, { recursive: true, mode: 0o755 })
  mkdirSync(dirname(imageFile), { recursive: true, mode: 0o700 })
  const bytes = sizeMb * 1024 * 1024
  const usable = existsSync(imageFile) && statSync(imageFile).size === bytes
  try {
    if (!usable) await format(imageFile, bytes)
    try {
      await mountLoop(imageFile, dir)
    } catch (error) {
      if (!usable) throw error
      await format(imageFile, bytes)
      await mountLoop(imageFile, dir)
    }
  } catch (cause) {
    throw new PlatformError('internal', `mount a file system for logs on ${dir}`, {
      cause,
      retry: 'later',
    })
  }
}

async function format(imageFile: string, bytes: number): Promise<void> {
  const next = `${imageFile}.next`
  rmSync(next, { force: true })
  await runCommand(['fallocate', '--length', String(bytes), next])
  const features = ['-O', '^has_journal', '-m', '0', '-N', '8192', '-E', 'nodiscard']
  await runCommand(['mke2fs', '-q', '-F', '-t', 'ext4', ...features, next])
  renameSync(next, imageFile)
}

async function mountLoop(imageFile: string, dir: string): Promise<void> {
  await runCommand(['mount', '-t', 'ext4', '-o', `loop,${OPTIONS}`, imageFile, dir])
}

/**
 * containerd may run in a mount namespace of its own, begun before our mount. Its shims must write to the same file system,
 * so it is mounted there too, unless it came there by itself.
 */
export async function showLogFileSystemTo(socket: string, dir: string): Promise<void> {
  const mine = mountOf(dir)
  if (mine === undefined)
    throw new PlatformError('internal', `no file system for logs is mounted on ${dir}`)
  const pid = await listenerOf(socket)
  if (pid === null) return
  if (readlinkSync(`/proc/${pid}/ns/mnt`) === readlinkSync('/proc/self/ns/mnt')) return
  if (mountOf(dir, pid)?.device === mine.device) return
  const space = `--mount=/proc/${pid}/ns/mnt`
  await runCommand(['nsenter', space, '--', 'mount', '-t', 'ext4', '-o', OPTIONS, mine.source, dir])
}

/** The process that listens on a unix socket of our network namespace. */
async function listenerOf(socket: string): Promise<number | null> {
  const { stdout } = await runCommand(['ss', '-xlpnH', 'src', socket])
  const pid = /pid=(\d+)/.exec(stdout)?.[1]
  return pid === undefined ? null : Number(pid)
}

function mountOf(
  dir: string,
  pid: number | 'self' = 'self',
): { readonly device: string; readonly source: string } | undefined {
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => unescapeOctal(fields[4] ?? '') === dir)
  const last = mounts.at(-1)
  if (!last) return undefined
  const after = last.indexOf('-')
  return { device: last[2] ?? '', source: last[after + 2] ?? '' }
}

/** Spaces and the like are written in octal there. */
function unescapeOctal(text: string): string {
  return text.replace(/\\(\d{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
}
