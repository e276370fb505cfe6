import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { runCommand, silentLogger, systemClock } from '@roost/base'
import type { MachineId } from '@roost/core'
import koffi from 'koffi'
import { pack } from 'tar-stream'
import { ImagePuller, type PullRoom } from '../image/puller.ts'
import { mountLogFileSystem, showLogFileSystemTo } from '../log/file-system.ts'
import { LogKeeper } from '../log/machine-logs.ts'
import { HostNetwork } from '../network/host-network.ts'
import type { ImageToPull } from '../runtime.ts'
import { openCgroups } from './cgroup.ts'
import { ContainerdClient } from './client.ts'
import { ContainerdRuntime } from './containerd-runtime.ts'
import { openFreezer } from './freezer.ts'
import { ImageStore } from './image-store.ts'
import { MachineDirs } from './machine-dir.ts'
import { createStaticFolders } from './static-folders.ts'

/**
 * A host for tests: a network namespace, a containerd in its own mount namespace, an image registry on its loopback, all under
 * one temporary directory. The calling process enters the network namespace, as an agent lives in its host's.
 */
export interface TrialHost {
  readonly name: string
  readonly dir: string
  readonly runDir: string
  readonly containerdRoot: string
  readonly cgroupParent: string
  readonly registryUrl: string
  /** What an agent would keep. */
  readonly dataDir: string
  readonly rawLogs: string
  /** Folders of images whose files edges serve. */
  readonly staticsDir: string
  /** The file that holds containerd's root and `dataDir`, where they were given a disk of their own. */
  readonly diskFile: string | null
  openAgent(options?: {
    readonly room?: PullRoom
    /** Stands between the agent and what it uses, to end it in the middle of a deed. */
    readonly through?: <T extends object>(part: T) => T
  }): Promise<TrialAgent>
  startContainerd(): Promise<void>
  killContainerd(): Promise<void>
  /** Puts an image into the registry and says how to pull it. */
  push(repository: string, image: TrialImage): Promise<ImageToPull>
  close(): Promise<void>
}

export interface TrialAgent {
  readonly runtime: ContainerdRuntime
  readonly client: ContainerdClient
  readonly logs: LogKeeper
  readonly network: HostNetwork
  close(): Promise<void>
}

export interface TrialImage {
  readonly layers: readonly Readonly<Record<string, TrialFile>>[]
  readonly config?: object
  readonly architecture?: string
}
/** `link` is a symbolic link. */
export type TrialFile =
  | { readonly content: string | Buffer; readonly mode?: number; readonly uid?: number }
  | { readonly link: string }

const LIMIT_MS = 20_000
const CLONE_NEWNET = 0x40000000

export async function raiseTrialHost(
  options: {
    /** A file system of this size, mounted from a file, for containerd and the agent: to be filled. */
    readonly diskMb?: number
  } = {},
): Promise<TrialHost> {
  const name = `rt${randomBytes(3).toString('hex')}`
  const dir = mkdtempSync(join(tmpdir(), `${name}-`))
  // In memory: containerd and the registry wait for a disk after each thing that they write down.
  await runCommand(['mount', '-t', 'tmpfs', '-o', 'mode=700', name, dir])
  const runDir = mkdtempSync(`/dev/shm/${name}-`)
  const disk = join(dir, 'disk')
  mkdirSync(disk)
  // What is mounted below it must be seen where containerd runs.
  await runCommand(['mount', '--bind', runDir, runDir])
  await runCommand(['mount', '--make-shared', runDir])
  const diskFile = options.diskMb === undefined ? null : join(dir, 'disk.ext4')
  if (diskFile !== null) {
    await runCommand(['truncate', '-s', `${options.diskMb}M`, diskFile])
    await runCommand(['mke2fs', '-q', '-F', '-t', 'ext4', '-m', '0', diskFile])
    await runCommand(['mount', '-o', 'loop', diskFile, disk])
  }
  const containerdRoot = join(disk, 'containerd')
  const dataDir = join(disk, 'data')
  const socket = join(runDir, 'containerd.sock')
  const cgroupParent = `/roost-${name}`
  const rawLogs = join(runDir, 'logs')
  const children: ChildProcess[] = []
  const namespace = 'roost'
  mkdirSync(dataDir)
  mkdirSync(containerdRoot)
  writeFileSync(join(dir, 'wireguard.key'), randomBytes(32).toString('base64'))
  writeFileSync(join(dir, 'containerd.toml'), containerdConfig(containerdRoot, runDir, socket))
  writeFileSync(join(dir, 'registry.yml'), registryConfig(join(dir, 'registry')))
  await runCommand(['ip', 'netns', 'add', name])
  await runCommand(['ip', '-n', name, 'link', 'set', 'lo', 'up'])
  const leave = enterNetns(name)

  const start = (argv: readonly string[], log: string): ChildProcess => {
    const output = openSync(join(dir, log), 'a')
    const [program = '', ...args] = argv
    const child = spawn(program, args, { stdio: ['ignore', output, output], cwd: '/' })
    closeSync(output)
    children.push(child)
    return child
  }
  const running: { containerd: ChildProcess | null; push: Promise<unknown> } = {
    containerd: null,
    push: Promise.resolve(),
  }
  const registryUrl = 'http://127.0.0.1:5999'
  const images = createImagePusher(registryUrl)
  start(['docker-registry', 'serve', join(dir, 'registry.yml')], 'registry.log')

  const host: TrialHost = {
    name,
    dir,
    runDir,
    containerdRoot,
    cgroupParent,
    registryUrl,
    dataDir,
    rawLogs,
    staticsDir: join(disk, 'statics'),
    diskFile,
    async startContainerd() {
      const config = ['containerd', '-c', join(dir, 'containerd.toml')]
      running.containerd = start(
        ['unshare', '-m', '--propagation', 'slave', ...config],
        'containerd.log',
      )
      const client = new ContainerdClient(socket, namespace)
      try {
        await eventually(() => client.version())
      } finally {
        client.close()
      }
    },
    async killContainerd() {
      const child = running.containerd
      if (!child || child.exitCode !== null || child.signalCode !== null) return
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
    },
    async openAgent({ room, through = <T extends object>(part: T): T => part } = {}) {
      const connection = new ContainerdClient(socket, namespace)
      const client = through(connection)
      const store = new ImageStore(client)
      const log = silentLogger
      const clock = systemClock
      await mountLogFileSystem({ dir: rawLogs, imageFile: join(disk, 'logs.ext4'), sizeMb: 32 })
      await showLogFileSystemTo(socket, rawLogs)
      const storeDir = join(dataDir, 'logs')
      mkdirSync(storeDir, { recursive: true })
      const logs = new LogKeeper({
        rawDir: rawLogs,
        storeDir,
        region: 'ams',
        host: name,
        clock,
        log,
      })
      const network = new HostNetwork({
        hostNumber: 1,
        wireguard: {
          interface: `wg${name}`,
          listenPort: 51820,
          privateKeyFile: join(dir, 'wireguard.key'),
        },
        uplink: null,
        nameservers: ['198.18.0.53'],
        runDir,
        dataDir,
        clock,
        log,
      })
      const runtime = new ContainerdRuntime({
        client,
        store,
        puller: new ImagePuller({
          store,
          ...(room === undefined ? {} : { room }),
          places: (repository) => [
            { name: repository, url: registryUrl, path: repository, ca: null, token: null },
          ],
        }),
        network: through(network),
        logs,
        cgroups: openCgroups(),
        freezer: openFreezer(clock),
        gvisorWrapper: join(dataDir, 'bin/gvisor'),
        dirs: new MachineDirs(runDir),
        cgroupParent,
        runDir,
        statics: createStaticFolders({ dir: join(disk, 'statics') }),
        tempDir: join(dataDir, 'temp'),
        nameservers: ['198.18.0.53'],
        clock,
        log,
      })
      await runtime.open()
      logs.start()
      const following = runtime.followEvents()
      return {
        runtime,
        client,
        logs,
        network,
        async close() {
          await runtime.close()
          await following
          await logs.stop()
          connection.close()
        },
      }
    },
    push(repository, image) {
      // One after the other: the registry confuses uploads of the same blob.
      const mine = running.push.then(() => images.push(repository, image))
      running.push = mine.catch(() => {})
      return mine
    },
    async close() {
      const dead = running.containerd?.exitCode !== null || running.containerd.signalCode !== null
      if (dead) await host.startContainerd()
      const agent = await host.openAgent()
      for (const { id } of await agent.runtime.list()) await agent.runtime.remove(id)
      await agent.close()
      for (const child of children) {
        if (child.exitCode !== null || child.signalCode !== null) continue
        const ended = new Promise((resolve) => child.once('exit', resolve))
        child.kill('SIGKILL')
        await ended
      }
      // A user-space WireGuard lives in our namespace.
      for (const pid of processesIn(name)) if (pid !== process.pid) process.kill(pid, 'SIGKILL')
      leave()
      await runCommand(['umount', rawLogs]).catch(() => {})
      await runCommand(['umount', '--lazy', runDir])
      await runCommand(['ip', 'netns', 'del', name])
      // Other mount namespaces may hold the file system for logs, which lies on it, for a while.
      if (diskFile !== null) await runCommand(['umount', '--lazy', disk])
      openCgroups().remove(cgroupParent)
      await runCommand(['umount', '--lazy', dir])
      rmSync(dir, { recursive: true, force: true })
      rmSync(runDir, { recursive: true, force: true })
    },
  }
  await host.startContainerd()
  await eventually(async () => {
    if (!(await fetch(`${registryUrl}/v2/`)).ok) throw new Error('not yet')
  })
  return host
}

/** Our network namespace from now on; what is returned leads back. Sockets and children follow the main thread. */
export function enterNetns(name: string): () => void {
  const libc = koffi.load('libc.so.6')
  const setns = libc.func('int setns(int fd, int nstype)')
  const enter = (path: string) => {
    const fd = openSync(path, 'r')
    try {
      if (setns(fd, CLONE_NEWNET) !== 0) throw new Error(`enter ${path}`)
    } finally {
      closeSync(fd)
    }
  }
  const home = openSync('/proc/self/ns/net', 'r')
  enter(`/run/netns/${name}`)
  return () => {
    enter(`/proc/self/fd/${home}`)
    closeSync(home)
  }
}

export async function eventually<T>(attempt: () => Promise<T>, limitMs = LIMIT_MS): Promise<T> {
  const deadline = Date.now() + limitMs
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await systemClock.sleep(25)
    }
  }
}

function processesIn(netns: string): number[] {
  const inode = readlinkSync('/proc/self/ns/net')
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`) === inode
      } catch {
        return false
      }
    })
    .filter(() => netns !== '')
}

export const newMachineId = (): MachineId => randomBytes(7).toString('hex') as MachineId

/** busybox under the names of `applets`, and the users root and app. */
export function busyboxLayers(
  applets: readonly string[] = [
    'sh',
    'cat',
    'echo',
    'false',
    'true',
    'id',
    'env',
    'sleep',
    'nc',
    'httpd',
    'tail',
    'wget',
  ],
): readonly Readonly<Record<string, TrialFile>>[] {
  return [
    {
      'bin/busybox': { content: readFileSync('/bin/busybox'), mode: 0o755 },
      ...Object.fromEntries(applets.map((applet) => [`bin/${applet}`, { link: 'busybox' }])),
    },
    {
      'etc/passwd': {
        content: 'root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n',
      },
      'etc/group': { content: 'root:x:0:\napp:x:1001:\nextra:x:2000:app\n' },
      'home/app/hello': { content: 'hello\n', uid: 1000 },
    },
  ]
}

interface Layer {
  readonly diffId: string
  readonly zipped: Buffer
}

/** Packs each layer once and sends each blob once: most images of a test are busybox and a little more. */
function createImagePusher(url: string) {
  const layers = new Map<string, Promise<Layer>>()
  const sent = new Set<string>()

  const layerOf = (files: TrialImage['layers'][number]): Promise<Layer> => {
    const key = keyOf(files)
    const layer = layers.get(key) ?? packLayer(files)
    layers.set(key, layer)
    return layer
  }
  const send = async (repository: string, blob: Buffer): Promise<void> => {
    const name = `${repository}@${digestOf(blob)}`
    if (sent.has(name)) return
    await pushBlob(url, repository, blob)
    sent.add(name)
  }

  return {
    async push(repository: string, image: TrialImage): Promise<ImageToPull> {
      const packed = await Promise.all(image.layers.map(layerOf))
      const architecture = image.architecture ?? 'amd64'
      const config = Buffer.from(
        JSON.stringify({
          architecture,
          os: 'linux',
          config: image.config ?? {},
          rootfs: { type: 'layers', diff_ids: packed.map(({ diffId }) => diffId) },
        }),
      )
      const zipped = packed.map((layer) => layer.zipped)
      for (const blob of [config, ...zipped]) await send(repository, blob)
      const manifestType = 'application/vnd.oci.image.manifest.v1+json'
      const manifest = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: manifestType,
          config: descriptor('application/vnd.oci.image.config.v1+json', config),
          layers: zipped.map((layer) =>
            descriptor('application/vnd.oci.image.layer.v1.tar+gzip', layer),
          ),
        }),
      )
      const index = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: 'application/vnd.oci.image.index.v1+json',
          manifests: [
            { ...descriptor(manifestType, manifest), platform: { os: 'linux', architecture } },
          ],
        }),
      )
      for (const [body, type] of [
        [manifest, manifestType],
        [index, 'application/vnd.oci.image.index.v1+json'],
      ] as const) {
        const target = `${url}/v2/${repository}/manifests/${digestOf(body)}`
        if (!sent.has(target)) await put(target, body, type)
        sent.add(target)
      }
      return { repository, digest: digestOf(index) }
    },
  }
}

async function packLayer(files: TrialImage['layers'][number]): Promise<Layer> {
  const tar = await tarOf(files)
  return { diffId: digestOf(tar), zipped: gzipSync(tar, { level: 1 }) }
}

/** The same for the same files. */
function keyOf(files: TrialImage['layers'][number]): string {
  const hash = createHash('sha256')
  for (const [path, file] of Object.entries(files))
    if ('link' in file) hash.update(`${JSON.stringify([path, file.link])}\n`)
    else {
      const { content, mode, uid } = file
      hash.update(`${JSON.stringify([path, mode, uid, content.length])}\n`).update(content)
    }
  return hash.digest('hex')
}

async function pushBlob(url: string, repository: string, blob: Buffer): Promise<void> {
  const begun = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST' })
  const location = new URL(begun.headers.get('location') ?? '', url)
  location.searchParams.set('digest', digestOf(blob))
  await put(location.href, blob, 'application/octet-stream')
}

async function put(url: string, body: Buffer, type: string): Promise<void> {
  const reply = await fetch(url, {
    method: 'PUT',
    body: new Uint8Array(body),
    headers: { 'content-type': type },
  })
  if (!reply.ok) throw new Error(`PUT ${url}: ${reply.status} ${await reply.text()}`)
}

const digestOf = (body: Buffer): string =>
  `sha256:${createHash('sha256').update(body).digest('hex')}`
const descriptor = (mediaType: string, body: Buffer) => ({
  mediaType,
  digest: digestOf(body),
  size: body.length,
})

async function tarOf(files: Readonly<Record<string, TrialFile>>): Promise<Buffer> {
  const tar = pack()
  const folders = new Set(
    Object.keys(files).flatMap((path) =>
      path
        .split('/')
        .slice(0, -1)
        .map((_part, n, parts) => parts.slice(0, n + 1).join('/')),
    ),
  )
  const mtime = new Date(0)
  for (const folder of folders) tar.entry({ name: folder, type: 'directory', mode: 0o755, mtime })
  for (const [path, file] of Object.entries(files)) {
    if ('link' in file) tar.entry({ name: path, type: 'symlink', linkname: file.link, mtime })
    else
      tar.entry(
        { name: path, mode: file.mode ?? 0o644, uid: file.uid ?? 0, mtime },
        Buffer.from(file.content),
      )
  }
  tar.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of tar) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function containerdConfig(root: string, runDir: string, socket: string): string {
  const disabled = [
    'grpc.v1.cri',
    'snapshotter.v1.aufs',
    'snapshotter.v1.btrfs',
    'snapshotter.v1.devmapper',
    'snapshotter.v1.zfs',
    'internal.v1.opt',
    'tracing.processor.v1.otlp',
    'internal.v1.tracing',
  ].map((id) => `io.containerd.${id}`)
  return `version = 2
root = "${root}"
state = "${join(runDir, 'containerd')}"
disabled_plugins = ${JSON.stringify(disabled)}
[grpc]
  address = "${socket}"
[debug]
  level = "warn"
`
}

function registryConfig(dir: string): string {
  return `version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: ${dir} } }
http: { addr: 127.0.0.1:5999 }
`
}
