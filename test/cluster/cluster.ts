import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { playgroundDown } from '../../packages/cli/src/playground/down.ts'
import type { PlaygroundStatus } from '../../packages/cli/src/playground/status.ts'
import { playgroundUp } from '../../packages/cli/src/playground/up.ts'

/** Several simulated hosts for a test, by the functions that `roost playground` uses. */
export interface Cluster {
  readonly status: PlaygroundStatus
  down(): Promise<void>
}

/** Raises hosts that hold nothing yet, and takes away what an earlier run of the same name left. Each test file has a name of its own. */
export async function raiseCluster(options: {
  readonly name: string
  readonly regions: readonly string[]
  /** First half of its addresses: no two that are up at once may share it. */
  readonly network?: string
  readonly seed?: boolean
}): Promise<Cluster> {
  const { name, regions, network = '198.19', seed = false } = options
  await playgroundDown(name)
  try {
    const status = await playgroundUp({ name, regions, network, seed, saveContext: false })
    return { status, down: async () => void (await playgroundDown(name)) }
  } catch (error) {
    await playgroundDown(name)
    throw error
  }
}

/** Runs a program as somebody near a region would, and returns what it printed. */
export function inNamespace(netns: string, argv: readonly string[], msMax = 20_000) {
  return new Promise<{ code: number | null; stdout: string }>((resolve, reject) => {
    const child = spawn('nsenter', [`--net=/run/netns/${netns}`, '--', ...argv], {
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: msMax,
      killSignal: 'SIGKILL',
    })
    const said: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => said.push(chunk))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout: Buffer.concat(said).toString('utf8') }))
  })
}

/**
 * What there is on this machine that has to do with an installation, by its name alone: read from /proc, /sys and the disk, and through
 * no line of the product. Empty when nothing is left.
 */
export async function traces(name: string): Promise<string[]> {
  const speaksOf = new RegExp(`(^|[^a-z0-9])${name}([^a-z0-9]|wg\\d|$)`)
  const processes = readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .flatMap((pid) => {
      const command = text(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')
      const owner = text(`/proc/${pid}/environ`)
        .split('\0')
        .find((pair) => pair.startsWith('ROOST_OWNER='))
      const ours = owner?.startsWith(`ROOST_OWNER=${name}/`) || /roost\/\S+/.test(command)
      return ours && speaksOf.test(`${owner} ${command}`) ? [`process ${pid} ${command}`] : []
    })
  // A mount may be seen in some other process' namespace only.
  const mounts = new Set(
    readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid))
      .flatMap((pid) => text(`/proc/${pid}/mountinfo`).split('\n'))
      .map((line) => line.split(' ')[4] ?? '')
      .filter((point) => /^\/(run|var|sys)\//.test(point) && speaksOf.test(point)),
  )
  const folders = [
    '/run/netns',
    '/etc/netns',
    '/run/roost',
    '/run/wireguard',
    '/run',
    '/var/lib/roost/playground',
    '/var/lib/roost/hosts',
    '/sys/class/net',
  ]
  const files = folders.flatMap((folder) =>
    entries(folder)
      .filter((entry) => speaksOf.test(entry))
      .map((entry) => join(folder, entry)),
  )
  const cgroups = entries('/sys/fs/cgroup')
    .flatMap((hierarchy) => [`/sys/fs/cgroup/${hierarchy}/roost`])
    .concat('/sys/fs/cgroup/roost')
    .flatMap((parent) => entries(parent).map((entry) => join(parent, entry)))
    .filter((path) => path.endsWith(`/${name}`))
  const loops = entries('/sys/block').flatMap((device) => {
    const backing = text(`/sys/block/${device}/loop/backing_file`)
    return speaksOf.test(backing) ? [`${device} ${backing}`] : []
  })
  const tables = (await inThisNamespace(['nft', 'list', 'tables'])).filter((line) =>
    line.endsWith(` ${name}`),
  )
  return [
    ...processes,
    ...[...mounts].map((m) => `mount ${m}`),
    ...files,
    ...cgroups,
    ...loops,
    ...tables,
  ]
}

async function inThisNamespace(argv: readonly [string, ...string[]]): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] })
    const said: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => said.push(chunk))
    child.on('error', reject)
    child.on('close', () => resolve(Buffer.concat(said).toString('utf8').trim().split('\n')))
  })
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
