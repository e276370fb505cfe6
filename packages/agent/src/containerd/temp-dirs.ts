import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { PlatformError, runCommand } from '@roost/base'
import type { MachineConfig, MachineId, VolumeConfig } from '@roost/core'
import type { MachineDirs } from './machine-dir.ts'

const OPTIONS = 'nodev,nosuid,noatime'
/** Of one on disk that names no size. */
const DISK_MB_DEFAULT = 1024
/** Everybody may write there, and nobody remove what is another's: containers may run as different users. */
const MODE = 0o1777

/**
 * Folders that the containers of a machine share (`volumes` with `temp_dir`), empty at each start of the machine. In memory: a
 * tmpfs, whose pages count as memory of the machine. On disk: a file system of its own in a file without holes to fill the
 * host's disk through. Both are mounted below the directory of the machine, which containerd sees.
 */
export class TempDirs {
  readonly #dirs: MachineDirs
  /** On disk. */
  readonly #root: string
  constructor(dirs: MachineDirs, root: string) {
    this.#dirs = dirs
    this.#root = root
  }

  path(id: MachineId, name: string): string {
    return join(this.#dirs.path(id), 'volumes', name)
  }

  /** Machines of which there is a file. */
  ids(): readonly MachineId[] {
    return existsSync(this.#root) ? (readdirSync(this.#root) as MachineId[]) : []
  }

  /** Empty ones. What they held before is gone. */
  async renew(id: MachineId, config: Pick<MachineConfig, 'volumes' | 'guest'>): Promise<void> {
    await this.remove(id)
    for (const volume of config.volumes ?? []) await this.#mount(id, volume, config.guest.memory_mb)
  }

  /** As they are; what is not mounted any more, as after a reboot, is made anew. */
  async ensure(id: MachineId, config: Pick<MachineConfig, 'volumes' | 'guest'>): Promise<void> {
    const there = new Set(mountsBelow(this.#dirs.path(id)))
    for (const volume of config.volumes ?? [])
      if (!there.has(this.path(id, volume.name)))
        await this.#mount(id, volume, config.guest.memory_mb)
  }

  async remove(id: MachineId): Promise<void> {
    // Lazily: whoever still looks at it keeps nobody else from going on.
    for (const path of [...mountsBelow(this.#dirs.path(id))].reverse())
      await runCommand(['umount', '--lazy', path])
    rmSync(join(this.#dirs.path(id), 'volumes'), { recursive: true, force: true })
    rmSync(join(this.#root, id), { recursive: true, force: true })
  }

  async #mount(id: MachineId, { name, temp_dir }: VolumeConfig, memoryMb: number): Promise<void> {
    if (temp_dir === undefined) return
    const path = this.path(id, name)
    mkdirSync(path, { recursive: true, mode: 0o711 })
    try {
      if (temp_dir.storage_type === 'memory')
        await runCommand([
          'mount',
          '-t',
          'tmpfs',
          '-o',
          tmpfsOptions(temp_dir.size_mb ?? memoryMb),
          'tmpfs',
          path,
        ])
      else await this.#mountFile(id, name, temp_dir.size_mb ?? DISK_MB_DEFAULT, path)
    } catch (cause) {
      throw new PlatformError('internal', `make the temporary folder "${name}"`, {
        cause,
        retry: 'later',
      })
    }
  }

  async #mountFile(id: MachineId, name: string, sizeMb: number, path: string): Promise<void> {
    const folder = join(this.#root, id)
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const file = join(folder, `${name}.ext4`)
    await runCommand(['truncate', '--size', `${sizeMb}M`, file])
    // No journal: nothing in it is to outlive a crash.
    const features = ['-O', '^has_journal', '-m', '0', '-E', 'lazy_itable_init=1,nodiscard']
    await runCommand(['mke2fs', '-q', '-F', '-t', 'ext4', ...features, file])
    await runCommand(['mount', '-t', 'ext4', '-o', `loop,discard,${OPTIONS}`, file, path])
    rmSync(join(path, 'lost+found'), { recursive: true, force: true })
    chmodSync(path, MODE)
  }
}

const tmpfsOptions = (sizeMb: number) => `${OPTIONS},mode=1777,size=${sizeMb}m`

/** Outer ones first. */
function mountsBelow(folder: string): readonly string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${folder}/`))
}
