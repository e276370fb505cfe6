import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  startTrialServer,
  type TrialAnswers,
  type TrialServer,
  trialTerminal,
} from '../session/trial-server.ts'

let folder = ''
let server: TrialServer | null = null
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-deploy-'))
})
afterEach(async () => {
  await server?.close()
  server = null
  rmSync(folder, { recursive: true, force: true })
})

const AT = '2026-01-01T00:00:00.000Z'
const IMAGE = 'registry.internal/shop@sha256:abc'
const release = (more: object = {}) => ({
  app: 'shop',
  version: 4,
  status: 'starting',
  cause: 'deploy',
  image: IMAGE,
  reason: null,
  created_at: AT,
  updated_at: AT,
  created_by: 'admin',
  strategy: 'rolling',
  serving: false,
  rollback_of: null,
  returned: null,
  before: null,
  plan: [
    { kind: 'replace', region: 'ams', host: 'ams-1', machine: 'new1', replaces: 'old1', wave: 0 },
    { kind: 'create', region: 'iad', host: 'iad-1', machine: 'new2', replaces: null, wave: 0 },
  ],
  ...more,
})
const event = (status: string, message: string, machine: string | null = null) => ({
  at: AT,
  status,
  message,
  machine,
  region: machine === null ? null : 'ams',
})
const refusal = (status: number, code: string, error: string) => ({
  refusal: { status, code, error },
})

/** A server on which everything works; tests replace what they are about. */
function working(more: TrialAnswers = {}): TrialAnswers {
  return {
    appStatus: () => ({
      value: {
        name: 'shop',
        hostname: 'shop.roost.test',
        release: release({ version: 3, status: 'complete' }),
        machines: [],
      },
    }),
    createBuild: () => ({
      lines: async function* () {
        yield { kind: 'step', name: 'STEP 1/2: FROM a' }
        yield { kind: 'output', text: 'hello\n' }
        yield { kind: 'done', image: IMAGE, size_bytes: 1_000_000, build_ms: 5, push_ms: 3 }
      },
    }),
    createRelease: () => ({ value: release() }),
    followRelease: () => ({
      lines: async function* () {
        yield event('starting', 'machine new1 starts in ams', 'new1')
        yield event('draining', 'machine old1 drains', 'old1')
        yield event('complete', 'release v4 is complete')
      },
    }),
    getRelease: () => ({ value: release({ status: 'complete' }) }),
    listRegions: () => ({
      value: ['ams', 'iad'].map((code) => ({
        code,
        name: code,
        latitude: null,
        longitude: null,
        hosts: 1,
        free_memory_mb: 1000,
      })),
    }),
    createApp: ({ body }) => ({
      value: {
        id: 'x',
        name: (body as { app_name: string }).app_name,
        status: 'pending',
        machine_count: 0,
        volume_count: 0,
        network: 'default',
        organization: { name: 'p', slug: 'personal' },
      },
    }),
    ...more,
  }
}

async function terminalOn(answers: TrialAnswers) {
  server = await startTrialServer(answers)
  return trialTerminal({
    cwd: folder,
    env: { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token' },
  })
}

function sources(files: Record<string, string> = {}): void {
  const all = {
    'fly.toml': 'app = "shop"\nprimary_region = "ams"\n[http_service]\ninternal_port = 3000\n',
    Dockerfile: 'FROM a\nEXPOSE 3000\n',
    ...files,
  }
  for (const [name, content] of Object.entries(all)) writeFileSync(join(folder, name), content)
}

describe('deploy', () => {
  test('builds, shows the plan, releases and follows to the end', async () => {
    sources()
    const terminal = await terminalOn(working())
    const { code, out, err } = await terminal.run(
      'deploy',
      '--build-arg',
      'A=1',
      '--build-target',
      'prod',
      '--no-cache',
    )
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out.replace(/\d+\.\d s/g, 'T s')).toBe(`STEP 1/2: FROM a
hello
Image ${IMAGE} (1.0 MB) in T s
Plan of release v4 of shop:
  ~ ams  new machine on ams-1, then old1 drains and goes
  + iad  new machine on iad-1
machine new1 starts in ams
machine old1 drains
release v4 is complete
Release v4 of shop is complete: http://shop.roost.test
Times: upload T s, build T s, push T s, release T s; T s in all
`)
    const build = server?.of('createBuild')[0]
    expect(
      JSON.parse(Buffer.from(String(build?.headers['roost-build']), 'base64').toString()),
    ).toEqual({
      dockerfile: 'Dockerfile',
      target: 'prod',
      args: { A: '1' },
      no_cache: true,
    })
    expect(gunzipSync(build?.body as Buffer).toString()).toContain('EXPOSE 3000')
    const [plan, real] = server?.of('createRelease').map((call) => call.body) ?? []
    expect(plan).toMatchObject({ plan_only: true, config: { image: IMAGE } })
    expect(real).toMatchObject({
      config: { image: IMAGE, services: [{ internal_port: 3000 }] },
      primary_region: 'ams',
      ha: true,
      wait_timeout: 300,
      source: expect.stringContaining('app = "shop"'),
    })
    expect(real).not.toHaveProperty('plan_only')
    expect(real).not.toHaveProperty('regions')
  })

  test('--json prints one object on stdout and the progress elsewhere', async () => {
    sources()
    const terminal = await terminalOn(working())
    const { code, out, err } = await terminal.run('deploy', '--json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({
      app: 'shop',
      version: 4,
      status: 'complete',
      image: IMAGE,
      url: 'http://shop.roost.test',
      plan: [{ kind: 'replace' }, { kind: 'create' }],
      times_ms: { build: 5, push: 3 },
    })
    expect(err).toContain('Plan of release v4')
  })

  test('--image skips the build; --regions and --ha=false are passed on', async () => {
    sources()
    const terminal = await terminalOn(working())
    const { code } = await terminal.run(
      'deploy',
      '--image',
      'debian:bookworm',
      '--regions',
      'iad,ams',
      '--ha=false',
      '--wait-timeout',
      '90',
    )
    expect(code).toBe(0)
    expect(server?.of('createBuild')).toEqual([])
    expect(server?.of('createRelease')[1]?.body).toMatchObject({
      config: { image: 'debian:bookworm' },
      regions: ['iad', 'ams'],
      ha: false,
      wait_timeout: 90,
    })
  })

  test('--plan shows and does nothing', async () => {
    sources()
    const terminal = await terminalOn(working())
    expect((await terminal.run('deploy', '--image', 'x', '--plan')).code).toBe(0)
    expect(server?.of('createRelease')).toHaveLength(1)
    expect(server?.of('followRelease')).toEqual([])
  })

  test('a release that fails ends with 1 and its reason', async () => {
    sources()
    const terminal = await terminalOn(
      working({
        getRelease: () => ({
          value: release({
            status: 'failed',
            reason: 'machine new1 in ams exited with 3',
            returned: true,
            before: 3,
          }),
        }),
      }),
    )
    const { code, err } = await terminal.run('deploy')
    expect(code).toBe(1)
    expect(err).toBe(`Error: release v4 of shop failed
  machine new1 in ams exited with 3
  Release v3 serves on.
  Try: roost logs -a shop
       roost status -a shop
`)
  })

  test('strategy, bound and waiting are taken from fly.toml, and flags go before it', async () => {
    sources()
    const toml = readFileSync(join(folder, 'fly.toml'), 'utf8')
    const deploy = '[deploy]\nstrategy = "canary"\nmax_unavailable = 0.5\nwait_timeout = "90s"\n'
    writeFileSync(join(folder, 'fly.toml'), toml + deploy)
    const terminal = await terminalOn(working())
    expect((await terminal.run('deploy', '--image', 'x')).err).toBe('')
    expect(server?.of('createRelease')[1]?.body).toMatchObject({
      strategy: 'canary',
      max_unavailable: 0.5,
      wait_timeout: 90,
      wait: true,
    })
    const flags = ['--strategy', 'recreate', '--max-unavailable', '25%', '--wait-timeout', '2m']
    await terminal.run('deploy', '--image', 'x', ...flags, '--no-wait')
    expect(server?.of('createRelease')[3]?.body).toMatchObject({
      strategy: 'recreate',
      max_unavailable: 0.25,
      wait_timeout: 120,
      wait: false,
    })
  })

  test.each([
    ['--strategy', 'slowly', 'Allowed choices are rolling'],
    ['--max-unavailable', 'all', 'It is a number of machines, or a part of them'],
    ['--max-unavailable', '150%', 'It is a number of machines, or a part of them'],
  ])('%s %s is refused', async (flag, value, message) => {
    const terminal = await terminalOn(working())
    const { code, err } = await terminal.run('deploy', flag, value)
    expect(code).toBe(2)
    expect(err).toContain(message)
  })

  test('--detach leaves it to the server, and says how to follow', async () => {
    sources()
    const terminal = await terminalOn(working())
    const { code, out } = await terminal.run('deploy', '--image', 'x', '--detach')
    expect(code).toBe(0)
    expect(out).toContain('Release v4 of shop is carried out by the server.')
    expect(out).toContain('Follow it: roost releases 4 --follow -a shop')
    expect(server?.of('followRelease')).toEqual([])
  })

  test('a build that fails releases nothing', async () => {
    sources()
    const terminal = await terminalOn(
      working({
        createBuild: () => ({
          lines: async function* () {
            yield { kind: 'failed', code: 'build_failed', message: 'RUN exit 1: exited with 1' }
          },
        }),
      }),
    )
    const { code, err } = await terminal.run('deploy')
    expect(code).toBe(1)
    expect(err).toBe('Error: the build failed; nothing was released\n  RUN exit 1: exited with 1\n')
    expect(server?.of('createRelease')).toEqual([])
  })

  test('what the server refuses is told with what helps', async () => {
    sources()
    const terminal = await terminalOn(
      working({ createRelease: () => refusal(422, 'no_room', 'no host in ams has 9000 MB free') }),
    )
    const { code, err } = await terminal.run('deploy', '--image', 'x')
    expect(code).toBe(1)
    expect(err).toBe(
      'Error: no host in ams has 9000 MB free\n  Try: roost regions   # shows the memory that is free\n',
    )
  })

  test('the connection to a release may break; it is followed on, and each event told once', async () => {
    sources()
    let connection = 0
    const terminal = await terminalOn(
      working({
        followRelease: () => {
          connection += 1
          const first = connection === 1
          return {
            lines: async function* (response) {
              yield event('starting', 'machine new1 starts in ams', 'new1')
              if (first) {
                await new Promise((resolve) => response.write('', resolve))
                response.destroy()
                return
              }
              yield event('complete', 'release v4 is complete')
            },
          }
        },
      }),
    )
    const { code, out } = await terminal.run('deploy', '--image', 'x')
    expect(code).toBe(0)
    expect(out.split('machine new1 starts in ams')).toHaveLength(2)
    expect(out).toMatch(
      /the release goes on when it is back\nthe server answers again\nrelease v4 is complete\n/,
    )
  })

  test('Ctrl-C while a release is followed says that it goes on', async () => {
    sources()
    const terminal = await terminalOn(
      working({
        followRelease: () => ({
          lines: async function* () {
            yield event('starting', 'machine new1 starts in ams', 'new1')
            terminal.interrupt()
            await new Promise(() => {})
          },
        }),
      }),
    )
    const { code, err } = await terminal.run('deploy', '--image', 'x')
    expect(code).toBe(130)
    expect(err).toBe(`Stopped: no longer watching; release v4 goes on in the server
  Try: roost releases 4 --follow -a shop
       roost status -a shop
`)
  })

  test('Ctrl-C while it is built releases nothing', async () => {
    sources()
    const terminal = await terminalOn(
      working({
        createBuild: () => ({
          lines: async function* () {
            yield { kind: 'step', name: 'STEP 1' }
            terminal.interrupt()
            await new Promise(() => {})
          },
        }),
      }),
    )
    const { code, err } = await terminal.run('deploy')
    expect(code).toBe(130)
    expect(err).toBe('Stopped: the build was cancelled; nothing was released\n')
    expect(server?.of('createRelease')).toEqual([])
  })

  test('without fly.toml the port is the one that the Dockerfile exposes, and a first release goes to the first region', async () => {
    writeFileSync(join(folder, 'Dockerfile'), 'FROM a\nEXPOSE 9000\n')
    const terminal = await terminalOn(
      working({
        appStatus: () => ({
          value: { name: 'shop', hostname: 'shop.roost.test', release: null, machines: [] },
        }),
      }),
    )
    expect((await terminal.run('deploy', '-a', 'shop')).code).toBe(0)
    expect(server?.of('createRelease')[1]?.body).toMatchObject({
      config: { services: [{ internal_port: 9000 }], env: { PRIMARY_REGION: 'ams' } },
      regions: ['ams'],
      primary_region: 'ams',
    })
  })

  test('a folder may be named, and its fly.toml is used', async () => {
    const inside = join(folder, 'web')
    mkdirSync(inside)
    writeFileSync(
      join(inside, 'fly.toml'),
      'app = "shop"\n[build]\ndockerfile = "Dockerfile.prod"\n',
    )
    writeFileSync(join(inside, 'Dockerfile.prod'), 'FROM b\n')
    const terminal = await terminalOn(working())
    expect((await terminal.run('deploy', 'web')).code).toBe(0)
    expect(server?.calls[0]?.path).toBe('/api/v1/apps/shop/status')
  })

  test('keys that do nothing yet are named once, on stderr', async () => {
    sources({ 'fly.toml': 'app = "shop"\nswap_size_mb = 512\n[http_service]\n' })
    const terminal = await terminalOn(working())
    expect((await terminal.run('deploy')).err).toBe(
      'Warning: fly.toml: this key does nothing yet: swap_size_mb (line 2)\n',
    )
  })

  test('mistakes in fly.toml end it before anything is asked', async () => {
    sources({ 'fly.toml': 'app = "shop"\nprimry_region = "ams"\n' })
    const terminal = await terminalOn(working())
    const { code, err } = await terminal.run('deploy')
    expect(code).toBe(2)
    expect(err).toBe(
      'Error: fly.toml has a mistake\n  fly.toml:2:1: unknown key primry_region: did you mean primary_region?\n    2 | primry_region = "ams"\n      | ^\n',
    )
    expect(server?.calls).toEqual([])
  })

  test('a folder without a Dockerfile is told before anything is sent', async () => {
    writeFileSync(join(folder, 'fly.toml'), 'app = "shop"\n')
    const terminal = await terminalOn(working())
    const { code, err } = await terminal.run('deploy')
    expect(code).toBe(2)
    expect(err).toContain(`Error: there is no Dockerfile in ${folder}\n`)
    expect(server?.of('createBuild')).toEqual([])
  })
})

describe('launch', () => {
  const dockerfile = (content = 'FROM a\nENV PORT=4000\nEXPOSE $PORT\n') =>
    writeFileSync(join(folder, 'Dockerfile'), content)

  test('--yes takes the defaults, writes fly.toml and deploys', async () => {
    dockerfile()
    const terminal = await terminalOn(working())
    const { code, out } = await terminal.run(
      'launch',
      '--yes',
      '--name',
      'shop',
      '--regions',
      'ams,iad',
    )
    expect(code).toBe(0)
    expect(
      readFileSync(join(folder, 'fly.toml'), 'utf8'),
    ).toBe(`# Written by roost launch. The format is Fly's fly.toml.
app = "shop"
primary_region = "ams"

[http_service]
  internal_port = 4000

[[vm]]
  size = "shared-cpu-1x"
`)
    expect(server?.of('createApp')[0]?.body).toMatchObject({ app_name: 'shop' })
    expect(server?.of('createRelease')[1]?.body).toMatchObject({
      regions: ['ams', 'iad'],
      primary_region: 'ams',
      config: { guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 } },
    })
    expect(out).toContain('App shop in ams, iad, shared-cpu-1x, port 4000. Wrote fly.toml.\n')
    expect(out).toContain('Release v4 of shop is complete: http://shop.roost.test')
  })

  test('a name from the folder gets a suffix when somebody has it, and the regions are the first and the one nearest to it', async () => {
    dockerfile()
    let n = 0
    const terminal = await terminalOn(
      working({
        createApp: (call) => {
          n += 1
          if (n === 1) return refusal(422, 'name_taken', 'taken')
          return working().createApp?.(call) ?? refusal(500, 'internal', '')
        },
      }),
    )
    expect((await terminal.run('launch', '-y')).code).toBe(0)
    const [first, second] =
      server?.of('createApp').map((call) => (call.body as { app_name: string }).app_name) ?? []
    expect(second).toMatch(new RegExp(`^${first}-[a-z0-9]{4}$`))
    expect(server?.of('createRelease')[1]?.body).toMatchObject({
      regions: ['ams', 'iad'],
    })
  })

  test('a name that was asked for is not changed', async () => {
    dockerfile()
    const terminal = await terminalOn(
      working({ createApp: () => refusal(422, 'name_taken', 'taken') }),
    )
    const { code, err } = await terminal.run('launch', '--yes', '--name', 'shop')
    expect(code).toBe(1)
    expect(err).toContain('Error: the name "shop" is taken\n')
    expect(() => readFileSync(join(folder, 'fly.toml'))).toThrow()
  })

  test.each<[string, string[], string]>([
    [
      'without a terminal and --yes',
      ['launch'],
      'there is no terminal to ask for name, regions and size on',
    ],
    [
      'a region without hosts',
      ['launch', '-y', '--regions', 'asm'],
      'no host is in region "asm"\n  There are ams, iad.\n  Try: --regions ams',
    ],
    [
      'a size that does not exist',
      ['launch', '-y', '--vm-size', 'shared-cpu-3x'],
      'there is no size "shared-cpu-3x"',
    ],
    [
      'a port that does not exist',
      ['launch', '-y', '--internal-port', '70000'],
      '--internal-port is a number from 1 to 65535',
    ],
    [
      'a name that is none',
      ['launch', '-y', '--name', 'My App'],
      '"My App" can\'t be the name of an app',
    ],
  ])('%s ends with 2 and makes nothing', async (_, argv, message) => {
    dockerfile()
    const terminal = await terminalOn(working())
    const { code, err } = await terminal.run(...argv)
    expect(code).toBe(2)
    expect(err).toContain(message)
    expect(server?.of('createApp')).toEqual([])
  })

  test('a fly.toml that is there is not replaced without a word', async () => {
    sources()
    const terminal = await terminalOn(working())
    const { code, err } = await terminal.run('launch', '--yes', '--name', 'shop')
    expect(code).toBe(2)
    expect(err).toContain('roost launch --force')
    expect(server?.calls).toEqual([])
    expect((await terminal.run('launch', '--yes', '--name', 'shop', '--force')).code).toBe(0)
  })

  test('a fly.toml that names no app is gone by, and gets a name and a region', async () => {
    dockerfile('FROM a\n')
    writeFileSync(
      join(folder, 'fly.toml'),
      '# An example.\n[http_service]\n  internal_port = 4000\n',
    )
    const terminal = await terminalOn(working())
    expect((await terminal.run('launch', '--yes', '--name', 'shop')).code).toBe(0)
    expect(readFileSync(join(folder, 'fly.toml'), 'utf8')).toBe(
      '# An example.\napp = "shop"\nprimary_region = "ams"\n[http_service]\n  internal_port = 4000\n',
    )
    expect(JSON.stringify(server?.of('createRelease')[0])).toContain('4000')
    const refused = await terminal.run(
      'launch',
      '--yes',
      '--copy-config',
      '--vm-size',
      'shared-cpu-2x',
    )
    expect(refused).toMatchObject({ code: 2 })
  })

  const deletable = {
    appStatus: () => ({
      value: { name: 'shop', hostname: 'shop.roost.test', release: null, machines: [] },
    }),
    deleteApp: () => ({ value: {} }),
  } satisfies TrialAnswers

  test('one whose release fails leaves nothing, and says how it is done again', async () => {
    dockerfile('FROM a\n')
    const reason =
      'nothing listens on port 8080, but on 0.0.0.0:3000: set internal_port = 3000 in fly.toml, or'
    const terminal = await terminalOn(
      working({
        ...deletable,
        getRelease: () => ({ value: release({ status: 'failed', reason }) }),
      }),
    )
    const { code, out, err } = await terminal.run('launch', '--yes', '--name', 'shop')
    expect(code).toBe(1)
    expect(out).toContain('port 8080 (the Dockerfile exposes none)')
    expect(err).toBe(`Error: release v4 of shop failed
  ${reason}
  Nothing is left of it: no app, no machine, no fly.toml.
  Try: roost launch --yes --name shop --regions ams,iad --vm-size shared-cpu-1x --internal-port 3000
`)
    expect(readdirSync(folder)).toEqual(['Dockerfile'])
    expect(server?.of('deleteApp')[0]).toMatchObject({
      path: '/v1/apps/shop',
      query: { force: 'true' },
    })
  })

  test('one whose build fails leaves nothing, and the fly.toml that was there is back', async () => {
    sources()
    const before = readFileSync(join(folder, 'fly.toml'), 'utf8')
    const terminal = await terminalOn(
      working({
        ...deletable,
        createBuild: () => ({
          lines: async function* () {
            yield { kind: 'failed', code: 'build_failed', message: 'RUN exit 1: exited with 1' }
          },
        }),
      }),
    )
    const { code, err } = await terminal.run('launch', '-y', '--name', 'shop', '--force')
    expect(code).toBe(1)
    expect(err).toContain('RUN exit 1: exited with 1\n  Nothing is left of it')
    expect(readFileSync(join(folder, 'fly.toml'), 'utf8')).toBe(before)
    expect(server?.of('deleteApp')).toHaveLength(1)
  })

  test('Ctrl-C while it is built leaves nothing and ends with 130 within a second', async () => {
    dockerfile()
    let at = 0
    const terminal = await terminalOn(
      working({
        ...deletable,
        createBuild: () => ({
          lines: async function* () {
            yield { kind: 'step', name: 'STEP 1' }
            at = performance.now()
            terminal.interrupt()
            await new Promise(() => {})
          },
        }),
      }),
    )
    const { code, err } = await terminal.run('launch', '-y', '--name', 'shop')
    expect(performance.now() - at).toBeLessThan(5000)
    expect(code).toBe(130)
    expect(err).toBe(`Stopped: the build was cancelled; nothing was released
  Nothing is left of it: no app, no machine, no fly.toml.
`)
    expect(readdirSync(folder)).toEqual(['Dockerfile'])
    expect(server?.of('deleteApp')).toHaveLength(1)
  })

  test('Ctrl-C while the server does not answer ends within a second and says what may be left', async () => {
    dockerfile()
    let at = 0
    const terminal = await terminalOn(
      working({
        createApp: () => ({
          lines: async function* () {
            at = performance.now()
            terminal.interrupt()
            await new Promise(() => {})
          },
        }),
      }),
    )
    const { code, err } = await terminal.run('launch', '-y', '--name', 'shop')
    expect(performance.now() - at).toBeLessThan(5000)
    expect(code).toBe(130)
    expect(err).toContain('Try: roost apps list   # whether the name was reserved is not known')
    expect(readdirSync(folder)).toEqual(['Dockerfile'])
  })

  test('Ctrl-C while its release is followed leaves it to the server, and says how to take it back', async () => {
    dockerfile()
    const terminal = await terminalOn(
      working({
        followRelease: () => ({
          lines: async function* () {
            yield event('starting', 'machine new1 starts in ams', 'new1')
            terminal.interrupt()
            await new Promise(() => {})
          },
        }),
      }),
    )
    const { code, err } = await terminal.run('launch', '-y', '--name', 'shop')
    expect(code).toBe(130)
    expect(err).toBe(`Stopped: no longer watching; release v4 goes on in the server
  The app shop and fly.toml stay.
  Try: roost releases 4 --follow -a shop
       roost status -a shop
       roost apps destroy shop   # takes all of it back
`)
    expect(server?.of('deleteApp')).toEqual([])
    expect(readdirSync(folder).sort()).toEqual(['Dockerfile', 'fly.toml'])
  })

  test('one that is too large for every region is refused before anything is made', async () => {
    dockerfile()
    const terminal = await terminalOn(working())
    const { code, err } = await terminal.run('launch', '-y', '--vm-memory', '4gb')
    expect(code).toBe(1)
    expect(err).toBe(`Error: no room in ams for a machine of 4096 MB
  Free memory: ams 1000 MB, iad 1000 MB.
  Try: --vm-memory MB   # less for each machine
       roost apps list   # what else runs
`)
    expect(server?.of('createApp')).toEqual([])
  })
})

describe('scale', () => {
  const machines = ['ams', 'iad'].map((region, n) => ({
    id: `3d8d9014b5108${n}`,
    state: 'started',
    region,
    host: region,
    image: IMAGE,
    checks: [],
    private_ip: '',
    updated_at: AT,
    reason: null,
  }))
  const answers = (more: TrialAnswers = {}) =>
    working({
      appStatus: () => ({
        value: { name: 'shop', hostname: 'h', release: release({ status: 'complete' }), machines },
      }),
      setScale: () => ({ value: release({ cause: 'scale' }) }),
      ...more,
    })

  test('count sets the regions that are named, shows the plan and follows', async () => {
    const terminal = await terminalOn(answers())
    const { code, out } = await terminal.run('scale', 'count', 'ams=3', '-a', 'shop')
    expect(code).toBe(0)
    expect(server?.of('setScale').map((call) => call.body)).toEqual([
      { scale: { ams: 3, iad: 1 }, plan_only: true },
      { scale: { ams: 3, iad: 1 } },
    ])
    expect(out).toContain('Scale shop to ams=3 iad=1:\n')
  })

  test('to nothing needs a confirmation', async () => {
    const terminal = await terminalOn(answers())
    expect((await terminal.run('scale', 'count', '0', '-a', 'shop')).code).toBe(2)
    expect(server?.of('setScale')).toEqual([])
    expect((await terminal.run('scale', 'count', '0', '-a', 'shop', '--yes')).code).toBe(0)
  })

  test('that changes nothing makes no release', async () => {
    const terminal = await terminalOn(
      answers({ setScale: () => ({ value: release({ plan: [] }) }) }),
    )
    const { code, out } = await terminal.run('scale', 'count', '2', '-a', 'shop')
    expect({ code, out }).toEqual({
      code: 0,
      out: 'Scale shop to ams=1 iad=1: no machine changes\n',
    })
    expect(server?.of('setScale')).toHaveLength(1)
  })
})
