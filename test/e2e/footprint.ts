import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { run } from './terminal.ts'

/** What a playground could leave behind, read from the kernel and the disk and not through our own code. */
export interface Footprint {
  readonly processes: readonly string[]
  readonly mounts: readonly string[]
  readonly namespaces: readonly string[]
  readonly cgroups: readonly string[]
  readonly links: readonly string[]
  readonly tables: readonly string[]
  readonly loops: readonly string[]
  readonly files: readonly string[]
}

const ENGINES =
  /containerd|haproxy|wireguard-go|docker-registry|buildah|runc|tini|packages\/(server|agent|edge|cli)\/|keep\.sh/

export async function footprint(): Promise<Footprint> {
  const processes = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
        return ENGINES.test(command) ? [command] : []
      } catch {
        return []
      }
    })
  const lines = async (...argv: string[]) =>
    (await run(argv)).stdout
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '')
  const under = (folder: string) =>
    existsSync(folder) ? readdirSync(folder).map((name) => `${folder}/${name}`) : []
  return {
    processes: processes.sort(),
    mounts: readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '')
      .sort(),
    namespaces: under('/run/netns').sort(),
    cgroups: readdirSync('/sys/fs/cgroup')
      .flatMap((controller) => under(`/sys/fs/cgroup/${controller}`))
      .filter((path) => /roost|e2e/.test(path))
      .sort(),
    links: (await lines('ip', '-o', 'link')).map((line) => line.split(': ')[1] ?? '').sort(),
    tables: (await lines('nft', 'list', 'tables')).sort(),
    loops: (await lines('losetup', '--noheadings', '--output', 'BACK-FILE', '--list')).sort(),
    files: [
      ...under('/var/lib/roost'),
      ...under('/var/lib/roost/playground'),
      ...under('/run/roost'),
      ...under('/run/wireguard'),
      ...under('/run/containerd/s'),
      ...under('/etc/netns'),
      ...under('/var/lib/cni'),
      ...under('/etc/cni/net.d'),
    ].sort(),
  }
}
