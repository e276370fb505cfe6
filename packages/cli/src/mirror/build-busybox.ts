import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { runCommand } from '@roost/base'
import { pack } from 'tar-stream'
import { addLayer, finishImage } from './image-layout.ts'
import { entry } from './tar-entry.ts'

const BUSYBOX = '/bin/busybox'
const FOLDERS = ['bin', 'etc', 'home', 'root', 'tmp', 'usr', 'usr/bin', 'usr/sbin', 'sbin', 'var']

/** `busybox` of Debian's static binary: one program and a link for each of its names. */
export async function buildBusybox(dir: string, signal?: AbortSignal): Promise<void> {
  const { stdout } = await runCommand([BUSYBOX, '--list-full'], {
    timeoutMs: 10_000,
    ...(signal === undefined ? {} : { signal }),
  })
  const layer = pack()
  const added = addLayer(dir, Readable.from(layer))
  for (const name of FOLDERS) {
    const mode = name === 'tmp' ? 0o1777 : 0o755
    await entry(layer, { name, type: 'directory', mode })
  }
  await entry(layer, { name: 'bin/busybox', mode: 0o755 }, await readFile(BUSYBOX))
  const names = new Set(stdout.split('\n').map((name) => name.trim().replace(/^linuxrc$/, '')))
  for (const name of names)
    if (name !== '' && name !== 'bin/busybox')
      await entry(layer, { name, type: 'symlink', linkname: '/bin/busybox' })
  for (const [name, text] of Object.entries(ACCOUNTS))
    await entry(layer, { name, mode: 0o644 }, text)
  layer.finalize()
  await finishImage(dir, [await added], {
    env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    cmd: ['sh'],
    createdBy: 'roost mirror seed: busybox from the package busybox-static',
  })
}

const ACCOUNTS: Readonly<Record<string, string>> = {
  'etc/passwd':
    'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
  'etc/group': 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n',
}
