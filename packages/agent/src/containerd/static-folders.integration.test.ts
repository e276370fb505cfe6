import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describeError, staticFolderName } from '@roost/base'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { conformanceConfig } from '../runtime.conformance.ts'
import type { ImageToPull, MachineSpec } from '../runtime.ts'
import {
  busyboxLayers,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialFile,
  type TrialHost,
} from './trial-host.ts'

let host: TrialHost
let agent: TrialAgent
beforeAll(async () => {
  host = await raiseTrialHost()
  agent = await host.openAgent()
})
afterAll(async () => {
  await agent.close()
  await host.close()
})

const signal = new AbortController().signal
const slots = { next: 0 }

async function pushed(files: Record<string, TrialFile>): Promise<ImageToPull> {
  const image = await host.push('statics', { layers: [...busyboxLayers(), files] })
  await agent.runtime.pull(image, signal)
  return image
}

function specOf(image: ImageToPull, ...guestPaths: string[]): MachineSpec {
  const id = newMachineId()
  const statics = guestPaths.map((guest_path) => ({ guest_path, url_prefix: guest_path }))
  return {
    ...{ id, stamp: `1:${id}`, image, hostname: id, ipv4: `10.210.4.${2 + slots.next++}` },
    config: { ...conformanceConfig({ init: { exec: ['sleep', '1000'] } }), statics },
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
}

const folderOf = (image: ImageToPull, guestPath: string) =>
  join(host.staticsDir, staticFolderName(image.digest, guestPath))

test('files of an image are copied before its machine is made, and nothing of the host comes with them', async () => {
  const image = await pushed({
    'app/real/a.css': { content: 'p{}', mode: 0o600, uid: 1000 },
    'app/real/deep/b.js': { content: 'export {}', mode: 0o755 },
    'app/real/secret': { link: '/etc/shadow' },
    'app/public': { link: '/app/real' },
    'app/out': { link: '../../../../../../etc' },
    'app/no-folder': { content: 'x' },
  })
  await agent.runtime.create(specOf(image, '/app/public', '/app/real/deep'), signal)
  const folder = folderOf(image, '/app/public')
  expect(readdirSync(folder).sort()).toEqual(['a.css', 'deep'])
  expect(readFileSync(join(folder, 'a.css'), 'utf8')).toBe('p{}')
  expect(statSync(join(folder, 'a.css')).mode & 0o777).toBe(0o644)
  expect(statSync(folder).mode & 0o777).toBe(0o755)
  expect(readdirSync(folderOf(image, '/app/real/deep'))).toEqual(['b.js'])
  expect(readdirSync(host.staticsDir).filter((name) => name.startsWith('part-'))).toEqual([])

  for (const [path, why] of [
    [
      '/app/none',
      '"/app/none" is no folder of it: name another guest_path under [[statics]] in fly',
    ],
    ['/app/no-folder', 'is no folder of it'],
  ] as const) {
    const refused = await agent.runtime
      .create(specOf(image, path), signal)
      .catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'image_unusable', retry: 'never' })
    expect(describeError(refused)).toContain(why)
  }
  const long = Array.from({ length: 12 }, (_, n) => `${n}`.padStart(250, 'x')).join('/')
  const names = Object.fromEntries(
    Array.from({ length: 2000 }, (_, n) => [`app/long/${long}/${n}`, { content: '' }]),
  )
  const large = await pushed(names)
  const tooMuch = agent.runtime.create(specOf(large, '/app/long'), signal)
  expect(describeError(await tooMuch.catch((error: unknown) => error))).toContain('of names')
  // A link that leads out of the image leads to the image's own root.
  await agent.runtime.create(specOf(image, '/app/out'), signal).then(
    () => expect(readdirSync(folderOf(image, '/app/out'))).not.toContain('shadow'),
    (error: unknown) => expect(describeError(error)).toContain('is no folder of it'),
  )
})

test('machines that are made at once copy once; what a crash left and what no image needs goes', async () => {
  const image = await pushed({ 'www/index.html': { content: 'hello' } })
  await Promise.all([1, 2, 3].map(() => agent.runtime.create(specOf(image, '/www'), signal)))
  const folder = folderOf(image, '/www')
  const { ino } = statSync(folder)
  await agent.runtime.create(specOf(image, '/www'), signal)
  expect(statSync(folder).ino).toBe(ino)

  const other = join(host.staticsDir, `sha256-${'f'.repeat(64)}`)
  for (const left of [join(host.staticsDir, 'part-abc'), other]) mkdirSync(left)
  await agent.runtime.sweepLeftovers()
  expect(existsSync(other)).toBe(false)
  expect(readdirSync(host.staticsDir).filter((name) => name.startsWith('part-'))).toEqual([])
  expect(readFileSync(join(folder, 'index.html'), 'utf8')).toBe('hello')
})
