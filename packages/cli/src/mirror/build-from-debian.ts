import { createReadStream, createWriteStream } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { PlatformError, runCommand } from '@roost/base'
import { extract, type Header, type Pack, pack } from 'tar-stream'
import {
  addLayer,
  blobPath,
  finishImage,
  type ImageLayout,
  type ImageSettings,
  type Layer,
  MEDIA,
} from './image-layout.ts'
import { buffer, entry } from './tar-entry.ts'

/** What is put on top of our Debian image, from Debian packages alone. */
export interface DebianRecipe {
  readonly packages: readonly string[]
  /** Shell lines, without single quotes, that run inside after the packages are there. */
  readonly run?: readonly string[]
  readonly settings: ImageSettings
}

/**
 * An image of two layers: our Debian, which all of them share, and what installing packages has changed in it. mmdebstrap makes the
 * whole root again from the base layer, so nothing is mounted here and nothing stays behind when this is cut off.
 */
export async function buildFromDebian(
  dir: string,
  debian: ImageLayout,
  recipe: DebianRecipe,
  signal?: AbortSignal,
): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'roost-image-'))
  try {
    const base = await baseLayer(debian)
    await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true })
    await copyFile(blobPath(debian.dir, base.digest), blobPath(dir, base.digest))
    const before = join(work, 'base.tar')
    const after = join(work, 'root.tar')
    await pipeline(
      createReadStream(blobPath(debian.dir, base.digest)),
      createGunzip(),
      createWriteStream(before),
    )
    await install(before, after, recipe, signal)
    const layer = pack()
    const added = addLayer(dir, Readable.from(layer))
    // Whichever fails first is what is told; the other must not be left unheard.
    await Promise.all([writeChanges(layer, before, after), added])
    await finishImage(dir, [base, await added], recipe.settings)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** The one layer of our Debian image. */
export async function baseLayer(debian: ImageLayout): Promise<Layer> {
  const [config, layer] = debian.blobs
  if (config === undefined || layer === undefined)
    throw new PlatformError('image_unusable', `Debian image in ${debian.dir}`)
  const document = JSON.parse(await readFile(blobPath(debian.dir, config.digest), 'utf8')) as {
    rootfs: { diff_ids: string[] }
  }
  return { ...layer, mediaType: MEDIA.layer, diffId: document.rootfs.diff_ids[0] ?? '' }
}

async function install(
  before: string,
  after: string,
  recipe: DebianRecipe,
  signal: AbortSignal | undefined,
): Promise<void> {
  const inside = [
    'apt-get -qq update',
    `apt-get -qq install -y --no-install-recommends ${recipe.packages.join(' ')}`,
    ...(recipe.run ?? []),
    'find /usr/share/doc -type f ! -name copyright -delete; rm -rf /usr/share/man/* /usr/share/info/* /usr/share/locale/* /usr/share/gtk-doc',
    'rm -rf /var/lib/apt/lists/*_* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache',
  ]
  const hooks = [
    'cp /etc/resolv.conf "$1/etc/resolv.conf"',
    ...inside.map((line) => `chroot "$1" env DEBIAN_FRONTEND=noninteractive sh -ec '${line}'`),
    'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
  ]
  await runCommand(
    [
      'mmdebstrap',
      '--quiet',
      '--mode=root',
      '--variant=custom',
      '--skip=setup,update,cleanup,output/dev',
      `--setup-hook=tar -C "$1" -xf ${before}`,
      '--setup-hook=mkdir -p "$1/dev/pts" "$1/dev/shm" "$1/proc" "$1/sys"',
      // Our base has no device nodes; without them apt can check no signature.
      ...DEVICES.map(([name, minor]) => `--setup-hook=mknod -m 666 "$1/dev/${name}" c 1 ${minor}`),
      ...hooks.map((hook) => `--customize-hook=${hook}`),
      'bookworm',
      after,
      'deb http://deb.debian.org/debian bookworm main',
    ],
    { timeoutMs: 900_000, ...(signal === undefined ? {} : { signal }) },
  )
}

const DEVICES = [
  ['null', 3],
  ['zero', 5],
  ['full', 7],
  ['random', 8],
  ['urandom', 9],
] as const

/** What belongs to the running machine and never to an image. */
const FOREIGN = /^\.\/(dev|proc|sys|run|tmp)(\/|$)/

/** Entries that are new or differ, and a whiteout for each that is gone. */
async function writeChanges(layer: Pack, before: string, after: string): Promise<void> {
  const known = new Map<string, string>()
  await forEachEntry(before, async (header) => {
    known.set(pathOf(header), fingerprint(header))
  })
  await forEachEntry(after, async (header, content) => {
    const path = pathOf(header)
    const same = known.get(path) === fingerprint(header)
    known.delete(path)
    if (same || FOREIGN.test(path)) return
    await (header.type === 'file'
      ? entry(layer, header, await buffer(content))
      : entry(layer, header))
  })
  for (const path of known.keys()) {
    const parent = path.slice(0, path.lastIndexOf('/'))
    if (known.has(parent) || FOREIGN.test(path)) continue
    const name = `${parent}/.wh.${path.slice(parent.length + 1)}`
    await entry(layer, { name, mode: 0o644 }, '')
  }
  layer.finalize()
}

function pathOf(header: Header): string {
  return header.name.replace(/\/$/, '').replace(/^(?!\.(\/|$))/, './')
}

/** A folder's time changes with what is put into it, which says nothing of the folder. */
function fingerprint(header: Header): string {
  const { type, mode, uid, gid, size, linkname, mtime } = header
  const time = type === 'directory' ? 0 : Math.trunc((mtime?.getTime() ?? 0) / 1000)
  return [type, mode, uid, gid, size, linkname, time].join(' ')
}

async function forEachEntry(
  file: string,
  heard: (header: Header, content: AsyncIterable<unknown> & { resume(): void }) => Promise<void>,
): Promise<void> {
  const reader = extract()
  const reading = pipeline(createReadStream(file), reader)
  for await (const file of reader) {
    await heard(file.header, file)
    file.resume()
  }
  await reading
}
