import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AppName, HostId, InstanceId, MachineId, RegionCode } from '../id.ts'
import type { MachineService } from '../machine/config.ts'
import { type RoutableMachine, routesFor } from './routes-for.ts'
import { staticFilesAt } from './static-files.ts'

const image = (letter: string) => `sha256:${letter.repeat(64)}`
const REGIONS = ['ams', 'iad', 'syd'] as RegionCode[]
const service: MachineService = {
  ...{ protocol: 'tcp', internal_port: 8080, checks: [], autostop: 'off', autostart: true },
  ports: [{ port: 80, handlers: ['http'], force_https: false }],
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  min_machines_running: 0,
}

function machine(
  id: string,
  region: string,
  options: {
    image: string
    startedAt: number
    routed?: boolean
    prefixes?: Record<string, string>
  },
): RoutableMachine {
  const { startedAt, routed = true, prefixes = { '/assets': '/app/public' } } = options
  return {
    ...{ id: id as MachineId, app: 'shop', host: `host-${region}` as HostId, routed },
    ...{ region: region as RegionCode, privateIpv4: '10.210.4.2', services: [service] },
    status: {
      ...{ id: id as MachineId, host: `host-${region}` as HostId, state: 'started' },
      ...{ generation: 1, instanceId: 'I' as InstanceId, configGeneration: 1, sequence: 1 },
      ...{ startedAt, updatedAt: 1, exit: null, reason: null, restartCount: 0, checks: [] },
    },
    statics: {
      image: image(options.image),
      folders: Object.entries(prefixes).map(([url_prefix, guest_path]) => ({
        ...{ url_prefix, guest_path },
      })),
    },
  }
}

function foldersOf(machines: RoutableMachine[]) {
  const [route] = routesFor({
    self: { host: 'host-ams' as HostId, region: 'ams' as RegionCode },
    hosts: REGIONS.map((region) => ({ id: `host-${region}` as HostId, region })),
    apps: [{ name: 'shop' as AppName }],
    machines,
    roundTripMs: new Map([
      ['host-iad' as HostId, 80],
      ['host-syd' as HostId, 250],
    ]),
    domain: 'roost.test',
  })
  return route?.statics ?? []
}

test('a file is looked for in the newest image, at the nearest hosts that have it', () => {
  const folders = foldersOf([
    machine('1', 'syd', { image: 'b', startedAt: 20 }),
    machine('2', 'iad', { image: 'b', startedAt: 21 }),
    machine('3', 'ams', { image: 'a', startedAt: 10 }),
  ])
  const of = { guestPath: '/app/public', urlPrefix: '/assets/' }
  expect(staticFilesAt(folders, '/assets/css/a%20b.css')).toEqual([
    {
      folder: { ...of, image: image('b'), hosts: ['host-iad', 'host-syd'] },
      path: 'css/a b.css',
    },
    { folder: { ...of, image: image('a'), hosts: ['host-ams'] }, path: 'css/a b.css' },
  ])
})

test('what is not ready has no say, and an app without files has no folders', () => {
  const out = machine('1', 'ams', { image: 'a', startedAt: 1, routed: false })
  expect(foldersOf([out])).toEqual([])
  const { statics: _, ...without } = machine('2', 'ams', { image: 'a', startedAt: 1 })
  expect(foldersOf([without])).toEqual([])
})

test('of prefixes that contain each other, the longest comes first; `/` is one', () => {
  const prefixes = { '/': '/public', '/assets/': '/app/assets' }
  const folders = foldersOf([machine('1', 'ams', { image: 'a', startedAt: 1, prefixes })])
  const found = (path: string) =>
    staticFilesAt(folders, path).map((file) => `${file.folder.guestPath} ${file.path}`)
  expect(found('/assets/x.js')).toEqual(['/app/assets x.js', '/public assets/x.js'])
  expect(found('/robots.txt')).toEqual(['/public robots.txt'])
  expect(found('/')).toEqual([])
})

test('only what is plainly a file below the prefix is one', () => {
  const folders = foldersOf([machine('1', 'ams', { image: 'a', startedAt: 1 })])
  for (const path of [
    ...['/assets', '/assets/', '/assetsx/a', '/Assets/a', '/x/assets/a', '/assets//a'],
    ...['/assets/../etc/passwd', '/assets/%2e%2e/a', '/assets/a%2f..%2f..%2fb', '/assets/./a'],
    ...['/assets/a%00.css', '/assets/%zz', '/assets/a/'],
  ])
    expect([path, staticFilesAt(folders, path)]).toEqual([path, []])
})

test('whatever is asked for, a path never leads out of its folder', () => {
  const folders = foldersOf([
    machine('1', 'ams', { image: 'a', startedAt: 1, prefixes: { '/': '/p' } }),
  ])
  const part = fc.oneof(
    fc.constantFrom('..', '.', '', '%2e%2e', '%2F', '..%2f', '%5c', '%00', 'a'),
    fc.string(),
  )
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      for (const { path } of staticFilesAt(folders, `/${parts.join('/')}`)) {
        expect(path.split('/')).not.toContain('..')
        expect(path.startsWith('/')).toBe(false)
        expect(path).not.toContain('\0')
      }
    }),
  )
})
