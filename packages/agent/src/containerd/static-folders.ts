import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { AgentConfig } from '@roost/api'
import { describeError, PlatformError, runCommand, staticFolderName } from '@roost/base'
import { isNoSpace } from '../disk/no-space.ts'

/**
 * Folders of images whose files edges serve without the machine: copied once for each image, since what is in one never changes. A folder is
 * there as a whole or not at all, and holds files and folders alone, which anybody may read.
 */
export interface StaticFolders {
  /** Makes those of one image. Throws what a person has to hear. */
  ensure(image: StaticImage, guestPaths: readonly string[], signal: AbortSignal): Promise<void>
  /** Removes what belongs to other images than these, and what a crash has left. `digests` is asked once it is known what there is. */
  keepOnly(digests: () => Promise<ReadonlySet<string>>): Promise<void>
}
export interface StaticImage {
  /** As machines name it. */
  readonly name: string
  /** `sha256:…`. */
  readonly digest: string
  /** Layers as the snapshotter mounts them, uppermost first. */
  readonly lowerDirs: readonly string[]
}

const BUSYBOX = '/bin/busybox'
const BYTES_MAX = 1_000_000_000
const FILES_MAX = 50_000
/** Names of files with their folders: edges know all of them. */
const NAMES_BYTES_MAX = 4_000_000
const COPY_MS_MAX = 120_000
const PART = 'part-'

export function staticsDirOf({
  staticsDir,
  dataDir,
}: Pick<AgentConfig, 'staticsDir' | 'dataDir'>): string {
  return staticsDir ?? join(dataDir, 'statics')
}

export function createStaticFolders({ dir }: { readonly dir: string }): StaticFolders {
  /** What is being copied, by where it goes. */
  const copying = new Map<string, Promise<void>>()

  async function copy(image: StaticImage, guestPath: string, to: string): Promise<void> {
    await mkdir(dir, { recursive: true, mode: 0o755 })
    const part = await mkdtemp(join(dir, PART))
    try {
      const { stdout } = await runCommand(
        [
          'unshare',
          ...['--mount', '--propagation', 'private', 'sh', '-c', COPY, 'sh'],
          ...[BUSYBOX, part, image.lowerDirs.join(':'), guestPath],
        ],
        { timeoutMs: COPY_MS_MAX },
      )
      if (stdout in REFUSED) throw new Error(stdout)
      await mkdir(dirname(to), { recursive: true, mode: 0o755 })
      await rename(join(part, 'files'), to)
    } catch (cause) {
      throw explained(cause, image.name, guestPath)
    } finally {
      await rm(part, { recursive: true, force: true })
    }
  }

  return {
    async ensure(image, guestPaths, signal) {
      for (const guestPath of new Set(guestPaths)) {
        const to = join(dir, staticFolderName(image.digest, guestPath))
        if (existsSync(to)) continue
        signal.throwIfAborted()
        // Machines of one image are often made at once.
        const made = copying.get(to) ?? copy(image, guestPath, to)
        copying.set(to, made)
        await made.finally(() => copying.delete(to))
      }
    },
    async keepOnly(digests) {
      const found = await readdir(dir).catch(() => [])
      // Asked afterwards, so that a copy which began meanwhile counts.
      const busy = copying.size > 0
      if (found.length === 0) return
      const names = new Set([...(await digests())].map((digest) => digest.replace(':', '-')))
      for (const name of found)
        if (name.startsWith(PART) ? !busy : !names.has(name))
          await rm(join(dir, name), { recursive: true, force: true })
    },
  }
}

/** By what the script below says of it. */
const REFUSED = {
  absent: 'is no folder of it',
  large: `has more than ${FILES_MAX} files, ${BYTES_MAX / 1e6} MB or ${NAMES_BYTES_MAX / 1e6} MB of names`,
} as const

function explained(cause: unknown, image: string, guestPath: string): unknown {
  const said = describeError(cause)
  if (said === 'absent' || said === 'large')
    return new PlatformError('image_unusable', `image ${image}`, {
      cause: new Error(
        `"${guestPath}" ${REFUSED[said]}: name another guest_path under [[statics]] in fly.toml, and deploy`,
      ),
    })
  const doing = `copy "${guestPath}" of image ${image}`
  return isNoSpace(cause)
    ? new PlatformError('disk_full', doing, { cause, retry: 'later' })
    : new PlatformError('internal', doing, { cause, retry: 'later' })
}

/**
 * Where the folder is, is found as a program of the image would find it: links lead to what is in the image, and to nothing of the host.
 * What is found is a path without links, and the image can't change meanwhile.
 */
const COPY = `
set -eu
busybox=$1 work=$2
mkdir -p "$work/tools/.roost-look" "$work/root" "$work/files"
cp "$busybox" "$work/tools/.roost-look/busybox"
mount -t overlay overlay -o "ro,nodev,nosuid,lowerdir=$work/tools:$3" "$work/root"
at=$(chroot "$work/root" /.roost-look/busybox realpath "$4" 2>/dev/null) || at=
[ -n "$at" ] && [ -d "$work/root$at" ] || { printf absent; exit 0; }
size=$(find "$work/root$at" -xdev -type f -printf '%s %P\\n' | awk '{ n++; b += $1; l += length($0) } END { printf "%d %.0f %.0f", n, b, l }')
set -- $size
[ "$1" -le ${FILES_MAX} ] && [ "$2" -le ${BYTES_MAX} ] && [ "$3" -le ${NAMES_BYTES_MAX} ] || { printf large; exit 0; }
cp -R -P --preserve=timestamps "$work/root$at/." "$work/files"
umount "$work/root"
find "$work/files" ! -type f ! -type d -delete
chmod -R u=rwX,go=rX "$work/files"
sync -f "$work/files"
`
