import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { PlatformError, runCommand } from '@roost/base'

export interface Look {
  /** Contents, '' where the image has no such file. */
  readonly passwd: string
  readonly group: string
  /** Whether the program is there and may be run. */
  readonly executable: boolean
  /** It brings what programs for 32 bits need, or is one. */
  readonly has32Bit: boolean
}

const FILE_BYTES_MAX = 500_000

/**
 * Looks into an image as a program in it would: by the kernel, with its links and layers, in a mount namespace that is
 * gone afterwards. Nothing of the image is run and none of its devices can be opened.
 */
export async function lookInto(options: {
  /** Layers as the snapshotter mounts them, uppermost first. */
  readonly lowerDirs: readonly string[]
  readonly busyboxPath: string
  readonly tmpDir: string
  readonly program: string
  readonly path: string
  readonly workingDir: string
}): Promise<Look> {
  const work = mkdtempSync(join(options.tmpDir, 'look-'))
  try {
    for (const name of ['tools/.roost-look', 'root'])
      mkdirSync(join(work, name), { recursive: true })
    const script = [
      'set -e',
      'busybox=$1 work=$2',
      'cp "$busybox" "$work/tools/.roost-look/busybox"',
      // The tools come first, so that no layer can put something in their place.
      'mount -t overlay overlay -o "ro,nodev,nosuid,lowerdir=$work/tools:$3" "$work/root"',
      'shift 3',
      'exec chroot "$work/root" /.roost-look/busybox sh -c "$LOOK" sh "$@"',
    ].join('\n')
    const { stdout } = await runCommand(
      [
        'unshare',
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-c',
        script,
        'sh',
        options.busyboxPath,
        work,
        options.lowerDirs.join(':'),
        options.program,
        options.path,
        options.workingDir === '' ? '/' : options.workingDir,
      ],
      {
        timeoutMs: 10_000,
        env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LOOK: INSIDE },
        outputBytesMax: 4 * FILE_BYTES_MAX,
      },
    )
    const [passwd = '', group = '', executable = '', bits = ''] = stdout.split('\0')
    return { passwd, group, executable: executable === 'yes', has32Bit: bits === '32' }
  } catch (cause) {
    throw new PlatformError('internal', 'look into the image', { cause, retry: 'later' })
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const INSIDE = `
b=/.roost-look/busybox
show() { [ -f "$1" ] && $b head -c ${FILE_BYTES_MAX} "$1"; $b printf '\\0'; }
show /etc/passwd
show /etc/group
runs() { [ -f "$1" ] && [ -x "$1" ]; }
found=''
case "$1" in
  /*) runs "$1" && found=$1 ;;
  */*) cd "$3" 2>/dev/null || cd /; runs "$1" && found=$1 ;;
  *) IFS=:; for dir in $2; do [ -z "$found" ] && runs "$dir/$1" && found=$dir/$1; done ;;
esac
[ -n "$found" ] && $b printf 'yes\\0' || $b printf 'no\\0'
class=$([ -n "$found" ] && $b head -c 5 "$found" | $b hexdump -ve '1/1 "%02x"')
if [ "$class" = 7f454c4601 ] || [ -e /lib/ld-linux.so.2 ] || [ -e /lib/ld-musl-i386.so.1 ]; then $b printf 32; fi
`
