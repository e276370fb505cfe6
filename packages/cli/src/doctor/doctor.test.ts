import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DoctorReply } from '@roost/api'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  startTrialServer,
  type TrialAnswers,
  type TrialServer,
  trialTerminal,
} from '../session/trial-server.ts'
import { lookHere } from './look-here.ts'

let server: TrialServer | null = null
let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'doctor-'))
})
afterEach(async () => {
  await server?.close()
  server = null
  rmSync(folder, { recursive: true })
})

const space = {
  path: '/',
  bytes: 40e9,
  free_bytes: 20e9,
  inodes: 0,
  free_inodes: 0,
  state: 'ok' as const,
}
const well: DoctorReply = {
  checked_at: '2026-01-01T00:00:00.000Z',
  version: '0.1.0',
  findings: [],
  usage: [
    {
      where: 'ams-1',
      file_systems: [space],
      kinds: [{ kind: 'images', path: '/images', bytes: 3e9, count: 4, freeable_bytes: 1e9 }],
    },
  ],
  hosts: [
    {
      name: 'ams-1',
      region: 'ams',
      status: 'ok',
      agent_seen_at: null,
      edge_seen_at: null,
      clock_offset_ms: 3,
      versions: {},
    },
  ],
}
const ill: DoctorReply = {
  ...well,
  findings: [
    {
      severity: 'error',
      about: 'host ams-1',
      problem: 'the disk at / is full',
      why: 'images 3 GB',
      fixes: ['roost registry collect', 'du /'],
    },
    {
      severity: 'warning',
      about: 'app shop',
      problem: 'its last release, 2, failed',
      why: null,
      fixes: ['roost deploy -a shop'],
    },
  ],
}

async function run(answers: TrialAnswers, ...argv: string[]) {
  server = await startTrialServer(answers)
  return at(server.url, ...argv)
}

function at(url: string, ...argv: string[]) {
  const env = { ROOST_API_URL: url, ROOST_API_TOKEN: 'trial' }
  return trialTerminal({ cwd: folder, env }).run(...argv)
}

test('all well: what takes room, and 0', async () => {
  const { code, out } = await run({ doctor: () => ({ value: well }) }, 'doctor')
  expect(code).toBe(0)
  expect(out).toContain('All is well: 1 host looked at.')
  expect(out).toMatch(/ams-1 +images +3\.0 GB +1\.0 GB +4 +\/images/)
})

test('what is wrong, why, and the commands that mend it, and 1', async () => {
  const { code, out, err } = await run({ doctor: () => ({ value: ill }) }, 'doctor')
  expect(code).toBe(1)
  expect(err).toBe('')
  expect(out).toContain(
    '✗ host ams-1: the disk at / is full\n    images 3 GB\n    Try: roost registry collect\n         du /\n! app shop: its last release, 2, failed\n    Try: roost deploy -a shop\n',
  )
  expect(out).toContain('1 error, 1 warning')
})

test('with --json one object, and the same exit code', async () => {
  const { code, out } = await run({ doctor: () => ({ value: ill }) }, 'doctor', '--json')
  expect(code).toBe(1)
  expect(JSON.parse(out)).toEqual({ ...ill, server_reached: true })
})

test('a token that may not is no finding', async () => {
  const refusal = { status: 403, code: 'forbidden', error: 'this token does not allow host:read' }
  const { code, err } = await run({ doctor: () => ({ refusal }) }, 'doctor')
  expect(code).toBe(4)
  expect(err).toContain('this token may not do that')
})

test('a server that is gone is the first finding', async () => {
  server = await startTrialServer({})
  const { url } = server
  await server.close()
  server = null
  const { code, out } = await at(url, 'doctor', '--json')
  expect(code).toBe(1)
  const report = JSON.parse(out)
  expect(report.server_reached).toBe(false)
  expect(report.findings[0]).toMatchObject({
    severity: 'error',
    about: 'server',
    problem: expect.stringContaining('no server listens'),
  })
})

test('of the hosts on this machine: programs that do not run, disks, and edges that do not answer', async () => {
  const host = (dir: string, given: object) => {
    mkdirSync(dir, { recursive: true })
    const spec = {
      installation: 'sdtest',
      name: 'ams-1',
      region: 'ams',
      publicAddress: '127.9.9.9',
      dataDir: dir,
      runDir: join(dir, 'run'),
      server: {},
      ...given,
    }
    writeFileSync(join(dir, 'host.json'), JSON.stringify(spec))
    return dir
  }
  const state = { hosts: join(folder, 'hosts'), playgrounds: join(folder, 'playground') }
  const ours = host(join(state.hosts, 'host'), {})
  host(join(state.playgrounds, 'other', 'iad'), {
    region: 'iad',
    installation: 'other',
    name: 'iad',
    publicAddress: '127.9.9.8',
  })
  mkdirSync(join(ours, 'log'))
  writeFileSync(join(ours, 'log', 'server.out'), 'roost server: read /etc/x: it is no JSON\n')
  const here = await lookHere('https://127.9.9.9:4280', state)
  expect(
    here.findings.map(({ about, problem, why, fixes }) => [about, problem, why, fixes[0]]),
  ).toEqual([
    [
      'host ams-1',
      'containerd, agent, edge, server, registry do not run on this machine',
      'roost server: read /etc/x: it is no JSON',
      'roost up',
    ],
    [
      'host ams-1',
      'nothing serves requests at 127.9.9.9:80',
      expect.stringMatching(/ECONNREFUSED|no answer/),
      expect.stringMatching(/^roost up/),
    ],
  ])
  expect(here.usage.map(({ where }) => where)).toEqual(['ams-1'])
  const there = await lookHere('https://127.9.9.8:4280', { ...state, hosts: join(folder, 'none') })
  expect(there.findings[0]?.fixes[0]).toBe('roost playground fault restore iad --name other')
})

test('what a collection removed, and what it would', async () => {
  const done = {
    dry_run: true,
    bytes: 2e9,
    images: [
      {
        repository: 'shop',
        digest: `sha256:${'a'.repeat(64)}`,
        tags: ['deployment-1'],
        why: 'no release has it',
      },
    ],
    repositories: ['gone'],
    uploads: 2,
    passed_over: [{ repository: 'blog', why: 'somebody may be pushing to it' }],
    file_system: space,
  }
  const { code, out } = await run(
    { collectImages: () => ({ value: done }) },
    'registry',
    'collect',
    '--dry-run',
  )
  expect(code).toBe(0)
  expect(server?.of('collectImages')[0]?.body).toEqual({ dry_run: true })
  expect(out).toMatch(/shop +deployment-1 +no release has it/)
  expect(out).toContain('gone: all of it')
  expect(out).toContain('blog: left alone, somebody may be pushing to it')
  expect(out).toContain('2.0 GB would be freed\n20.0 GB of 40.0 GB are free at /')
})

test('what lies in the image store, largest first', async () => {
  const found = {
    file_system: space,
    bytes: 5e9,
    uploads: { count: 1, bytes: 1e9 },
    repositories: [
      { name: 'small', images: 1, needed: 1, bytes: 1e6, newest_at: null },
      { name: 'large', images: 9, needed: 2, bytes: 4e9, newest_at: '2026-01-01T00:00:00.000Z' },
    ],
    collectable: { images: 7, bytes: 3e9 },
    last_collection: null,
  }
  const { code, out } = await run({ imageStore: () => ({ value: found }) }, 'registry', 'usage')
  expect(code).toBe(0)
  expect(out.indexOf('large')).toBeLessThan(out.indexOf('small'))
  expect(out).toContain(
    '5.0 GB in all (what images share counts once), of that 1.0 GB in unfinished uploads',
  )
  expect(out).toContain('3.0 GB can go: roost registry collect')
})
