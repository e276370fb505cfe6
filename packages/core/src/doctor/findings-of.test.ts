import { describe, expect, test } from 'vitest'
import type { DiskSpace } from '../host/disk.ts'
import type { AppFacts, DoctorFacts, HostFacts } from './facts.ts'
import { findingsOf } from './findings-of.ts'

const NOW = 1_000_000_000_000
const GB = 1e9
const DAY = 86_400_000

const disk = (given: Partial<DiskSpace> = {}): DiskSpace => ({
  path: '/',
  bytes: 40 * GB,
  freeBytes: 20 * GB,
  inodes: 1_000,
  freeInodes: 900,
  ...given,
})
const FULL = disk({ freeBytes: 0.1 * GB })
const LOW = disk({ freeBytes: 3 * GB })

const host = (given: Partial<HostFacts> = {}): HostFacts => ({
  name: 'ams-1',
  region: 'ams',
  status: 'ok',
  agentSeenAt: NOW - 1_000,
  edgeSeenAt: NOW - 1_000,
  edgeExpected: true,
  clockOffsetMs: 12,
  versions: { agent: '0.1.0', edge: '0.1.0', containerd: '1.6.20' },
  refusedRecords: [],
  freeMemoryMb: 2_000,
  memoryMb: 4_000,
  freeCpus: 2,
  usage: { fileSystems: [disk()], kinds: [], refused: [], warnings: [] },
  ...given,
})
const app = (given: Partial<AppFacts> = {}): AppFacts => ({
  name: 'shop',
  release: { version: 7, status: 'complete', reason: null },
  machines: [],
  ...given,
})
function facts(given: Partial<DoctorFacts> = {}): DoctorFacts {
  return {
    now: NOW,
    domain: 'example.org',
    server: {
      version: '0.1.0',
      database: { path: '/var/lib/roost/server/roost.db', bytes: 1e6, walBytes: 4e6 },
      space: disk(),
      trouble: null,
    },
    imageStore: { failure: null, space: disk(), bytes: 2 * GB, collectableBytes: GB },
    hosts: [host()],
    apps: [app()],
    dns: [],
    certificates: [],
    ...given,
  }
}
const told = (given: Partial<DoctorFacts>) =>
  findingsOf(facts(given)).map(({ severity, about, problem }) => `${severity} ${about}: ${problem}`)

test('an installation that is well has no finding', () => {
  expect(findingsOf(facts())).toEqual([])
})

test('records that an edge refuses are named', () => {
  const refusedRecords = ['app shop: name is 5', 'a', 'b', 'c']
  const [found] = findingsOf(facts({ hosts: [host({ refusedRecords })] }))
  expect(found).toMatchObject({
    severity: 'error',
    about: 'host ams-1',
    problem: 'its edge refuses 4 records and goes on with what it knew before',
    why: 'app shop: name is 5; a; b',
  })
})

test('errors come before warnings, and every finding says what to do', () => {
  const findings = findingsOf(
    facts({
      hosts: [
        host({ usage: { fileSystems: [LOW], kinds: [], refused: [], warnings: [] } }),
        host({ name: 'iad-1', status: 'unreachable', agentSeenAt: NOW - 60_000 }),
      ],
      apps: [app({ release: { version: 7, status: 'failed', reason: 'port 8080 is closed' } })],
    }),
  )
  expect(findings.map(({ severity }) => severity)).toEqual(['error', 'warning', 'warning'])
  for (const { fixes } of findings) expect(fixes.length).toBeGreaterThan(0)
})

describe('disks', () => {
  test('a full one of a host says what Roost keeps there, largest first, and what of it is of no use', () => {
    const kinds = [
      { kind: 'logs', path: '/l', fileSystem: '/', bytes: 1e8, freeableBytes: 0 },
      { kind: 'images', path: '/i', fileSystem: '/', bytes: 9 * GB, freeableBytes: 4 * GB },
      { kind: 'snapshots', path: '/s', fileSystem: '/data', bytes: 50 * GB, freeableBytes: 0 },
    ]
    const [found] = findingsOf(
      facts({
        hosts: [host({ usage: { fileSystems: [FULL], kinds, refused: [], warnings: [] } })],
      }),
    )
    expect(found).toMatchObject({
      severity: 'error',
      about: 'host ams-1',
      problem: 'the disk at / is full: 100 MB of 40.0 GB are free',
      why: "Roost keeps there: images 9.0 GB (4.0 GB of it not used), logs 100 MB; the rest is not Roost's",
    })
  })

  test('one without inodes says so instead of bytes', () => {
    const none = disk({ freeInodes: 3 })
    expect(
      told({
        hosts: [host({ usage: { fileSystems: [none], kinds: [], refused: [], warnings: [] } })],
      }),
    ).toEqual(['error host ams-1: the disk at / is full: 3 of 1000 inodes are free'])
  })

  test('one that server and image store share is told of once, with the command that frees it', () => {
    const findings = findingsOf(
      facts({
        server: { ...facts().server, space: LOW },
        imageStore: { failure: null, space: LOW, bytes: GB, collectableBytes: GB },
      }),
    )
    expect(findings.map(({ about }) => about)).toEqual(['server'])
    expect(findings[0]?.fixes).toContain('roost registry collect')
    const own = {
      failure: null,
      space: disk({ bytes: 80 * GB, freeBytes: GB / 10 }),
      bytes: GB,
      collectableBytes: 0,
    }
    expect(told({ imageStore: own })[0]).toMatch(/^error image store: the disk/)
  })

  test('what failed for want of room is told where there is room again', () => {
    const refused = [{ what: 'pull registry.internal/shop', path: '/' }]
    expect(
      told({
        hosts: [host({ usage: { fileSystems: [disk()], kinds: [], refused, warnings: [] } })],
      }),
    ).toEqual(['warning host ams-1: something failed there for want of room in the last hour'])
    expect(
      told({ hosts: [host({ usage: { fileSystems: [FULL], kinds: [], refused, warnings: [] } })] }),
    ).toHaveLength(1)
  })

  test('a server that can write nothing down says why and since when', () => {
    const trouble = { message: 'write roost.db: the file system is full', since: NOW - 300_000 }
    const [found] = findingsOf(facts({ server: { ...facts().server, trouble } }))
    expect(found).toMatchObject({
      severity: 'error',
      problem: expect.stringContaining('write nothing down since 5 min'),
      why: trouble.message,
    })
  })

  test('a log that is not emptied names the way to whoever reads it', () => {
    const database = { path: '/roost.db', bytes: 1, walBytes: 2e8 }
    const [found] = findingsOf(facts({ server: { ...facts().server, database } }))
    expect(found?.fixes[0]).toContain('fuser -v /roost.db')
  })
})

describe('hosts', () => {
  test('one that is silent has one finding, whatever else is wrong with it', () => {
    const silent = host({
      agentSeenAt: NOW - 45_000,
      edgeSeenAt: null,
      clockOffsetMs: 1e9,
      usage: { failure: 'no' },
    })
    expect(told({ hosts: [silent] })).toEqual([
      'error host ams-1: its agent was last heard 45 s ago',
    ])
    expect(told({ hosts: [host({ agentSeenAt: null })] })).toEqual([
      'error host ams-1: its agent was not heard since the server started',
    ])
  })

  test.each([
    ['edge', { edgeSeenAt: NOW - 30_000 }, 'error host ams-1: its edge was last heard 30 s ago'],
    [
      'clock',
      { clockOffsetMs: -8_000 },
      "warning host ams-1: its clock is 8 s behind the server's",
    ],
    [
      'clock',
      { clockOffsetMs: 3_600_000 },
      "error host ams-1: its clock is 60 min ahead of the server's",
    ],
    [
      'version',
      { versions: { agent: '0.0.9', edge: '0.1.0' } },
      'warning host ams-1: its agent is of version 0.0.9, the server of 0.1.0',
    ],
    [
      'usage',
      { usage: { failure: 'no reply within 3000 ms' } },
      'warning host ams-1: its agent does not say what takes room there',
    ],
    ['memory', { freeMemoryMb: 100 }, 'warning host ams-1: nothing more can be placed there'],
    ['cpus', { freeCpus: 0 }, 'warning host ams-1: nothing more can be placed there'],
  ] as const)('%s', (_name, given, expected) => {
    expect(told({ hosts: [host(given)] })).toEqual([expected])
  })

  test('what a host finds wrong with itself is passed on', () => {
    const warnings = ['swap is in clear: swapoff -a']
    const usage = { fileSystems: [disk()], kinds: [], refused: [], warnings }
    expect(told({ hosts: [host({ usage })] })).toEqual([`warning host ams-1: ${warnings[0]}`])
  })

  test('none at all is an error with the command that makes one', () => {
    expect(findingsOf(facts({ hosts: [] }))[0]?.fixes[0]).toMatch(/^roost up/)
  })
})

test.each([
  [100 * DAY, null, null],
  [10 * DAY, null, 'warning'],
  [2 * DAY, null, 'error'],
  [-1, null, 'error'],
  // One that lives for a week is renewed at two thirds of it: two days left are well.
  [2 * DAY, 7 * DAY, null],
  [1 * DAY, 7 * DAY, 'warning'],
  [0.5 * DAY, 7 * DAY, 'error'],
])('a certificate that ends in %d ms, of %d', (leftMs, lifeMs, severity) => {
  const certificates = [{ of: 'agent of ams-1', expiresAt: NOW + leftMs, lifeMs, fix: 'roost up' }]
  expect(findingsOf(facts({ certificates })).map((found) => found.severity)).toEqual(
    severity === null ? [] : [severity],
  )
})

test('an edge that answers no names is wrong; a resolver that leads elsewhere is a warning', () => {
  const name = { name: 'shop.example.org', addresses: [], failure: 'queryA ETIMEOUT' }
  expect(
    told({
      dns: [
        { ...name, asked: '198.51.100.1', host: 'ams-1' },
        { ...name, asked: "this server's resolver", host: null },
        { ...name, asked: '198.51.100.9', host: 'gone-1' },
        {
          ...name,
          asked: '198.51.100.2',
          host: 'ams-1',
          addresses: ['198.51.100.1'],
          failure: null,
        },
      ],
    }),
  ).toEqual([
    'error host ams-1: its DNS at 198.51.100.1 has no address for shop.example.org',
    "warning dns: this server's resolver has no address for shop.example.org",
  ])
})

describe('apps', () => {
  const machine = {
    id: '3d8d0000000000',
    host: 'ams-1',
    state: 'started',
    wanted: 'started',
    reason: null,
    restarts: 0,
    lastExitAt: null,
    lastExit: null,
  }
  test('a machine that failed, and one that restarts again and again', () => {
    const failed = { ...machine, state: 'failed', reason: 'exit code 1' }
    const restarting = {
      ...machine,
      restarts: 4,
      lastExitAt: NOW - 60_000,
      lastExit: 'it used more memory than it has',
    }
    const calm = { ...machine, restarts: 9, lastExitAt: NOW - DAY }
    const stopped = { ...machine, state: 'failed', wanted: 'stopped' }
    const found = findingsOf(
      facts({ apps: [app({ machines: [failed, restarting, calm, stopped] })] }),
    )
    expect(found.map(({ severity, problem, why }) => [severity, problem, why])).toEqual([
      ['error', 'machine 3d8d0000000000 on ams-1 has failed', 'exit code 1'],
      [
        'warning',
        'machine 3d8d0000000000 on ams-1 was restarted 4 times, last 60 s ago',
        'it used more memory than it has',
      ],
    ])
  })
})

test('an image store that does not answer', () => {
  const imageStore = { failure: 'connection refused', space: null, bytes: 0, collectableBytes: 0 }
  expect(told({ imageStore })).toEqual([
    'error image store: it does not answer: nothing can be built or pulled',
  ])
  expect(told({ imageStore: null })).toEqual([])
})
