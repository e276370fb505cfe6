import { type AcmeSettings, agentUsageReply, type DoctorReply } from '@roost/api'
import { type PeerClient, PlatformError } from '@roost/base'
import type { HostId } from '@roost/core'
import { expect, test } from 'vitest'
import { createControlPlane, memoryDeps } from '../control-plane.ts'
import type { Deps } from '../deps.ts'
import { createSteppedClock } from '../laps/simulated-hosts.ts'
import { trialHost } from './trial-host.ts'

const usage = agentUsageReply.parse({
  host: 'x',
  measured_at: '2026-01-01T00:00:00.000Z',
  file_systems: [
    {
      path: '/',
      bytes: 40e9,
      free_bytes: 0.1e9,
      inodes: 0,
      free_inodes: 0,
      state: 'full',
      holds: ['images'],
    },
  ],
  kinds: [
    {
      kind: 'images',
      path: '/images',
      file_system: '/',
      bytes: 9e9,
      count: 3,
      oldest_at: null,
      freeable_bytes: 4e9,
      freeable_count: 1,
    },
  ],
  last_collection: null,
  refused: [],
  warnings: [],
})

function agentThat(answers: (path: string) => unknown): PeerClient {
  return {
    json: async <T>(_method: string, path: string) => (await answers(path)) as T,
    // biome-ignore lint/correctness/useYield: nobody asks for lines.
    async *lines() {
      throw new Error('no lines')
    },
    close: async () => {},
  }
}

async function open(change: Partial<Deps> = {}, acme: AcmeSettings | null = null) {
  const clock = createSteppedClock(1_000_000)
  const control = createControlPlane(memoryDeps({ clock, change }))
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
    acme,
  })
  const join = (name: string, region: string, n: number) =>
    control.addHost(trialHost(name, { region, public_address: `198.51.100.${n}` }))
  const beat = async (
    host: HostId,
    program: 'agent' | 'edge',
    { skewMs = 0, ...word }: { skewMs?: number; refused?: string[] } = {},
  ) =>
    control.heartbeat(
      { program, host },
      {
        applied: 0,
        draining: [],
        program: {
          ...{ version: '0.0.0', clock: clock.now() + skewMs, certificate_expires_at: 1e15 },
          ...word,
        },
      },
    )
  const doctor = async () => (await control.call('doctor')) as DoctorReply
  return { clock, control, join, beat, doctor }
}

const problems = ({ findings }: DoctorReply) =>
  findings.map((one) => `${one.about}: ${one.problem}`)

test('hosts are asked what takes room; one that does not answer is a finding, and the others are still told of', async () => {
  const asked: string[] = []
  const { join, beat, doctor } = await open({
    agent: (host) =>
      agentThat((path) => {
        asked.push(`${host.name} ${path}`)
        if (host.name === 'iad-1')
          throw new PlatformError('unavailable', `GET ${path}`, {
            cause: new Error('no reply within 3000 ms'),
          })
        return path.endsWith('health') ? { host: host.id, containerd: '1.6.20' } : usage
      }),
  })
  const [ams, iad] = [await join('ams-1', 'ams', 1), await join('iad-1', 'iad', 2)]
  for (const { id } of [ams, iad])
    for (const program of ['agent', 'edge'] as const) await beat(id, program)
  const report = await doctor()
  expect(asked.sort()).toEqual([
    'ams-1 /agent/v1/health',
    'ams-1 /agent/v1/usage',
    'iad-1 /agent/v1/health',
    'iad-1 /agent/v1/usage',
  ])
  expect(problems(report)).toEqual([
    'host ams-1: the disk at / is full: 100 MB of 40.0 GB are free',
    'host iad-1: its agent does not say what takes room there',
  ])
  expect(report.findings[1]?.why).toContain('no reply within 3000 ms')
  expect(report.usage.map(({ where }) => where)).toEqual(['ams-1'])
  expect(report.hosts[0]).toMatchObject({
    name: 'ams-1',
    versions: { agent: '0.0.0', edge: '0.0.0', containerd: '1.6.20' },
  })
})

test('clocks that are apart, hosts that are silent, and an image store that is gone', async () => {
  const { clock, join, beat, doctor, control } = await open({
    agent: () =>
      agentThat((path) =>
        path.endsWith('health') ? {} : { ...usage, file_systems: [], kinds: [] },
      ),
    images: {
      resolve: async () => Promise.reject(new Error('not asked')),
      answers: async () =>
        Promise.reject(new PlatformError('unavailable', 'the image store does not answer')),
    },
  })
  const stop = control.start()
  const [ams, iad] = [await join('ams-1', 'ams', 1), await join('iad-1', 'iad', 2)]
  for (const { id } of [ams, iad])
    for (const program of ['agent', 'edge'] as const) await beat(id, program)
  for (let n = 0; n < 15; n++) {
    await beat(ams.id, 'agent', { skewMs: 90_000 })
    await beat(ams.id, 'edge')
    await clock.advance(1_000)
  }
  const report = await doctor()
  expect(problems(report)).toEqual([
    'image store: it does not answer: nothing can be built or pulled',
    "host ams-1: its clock is 90 s ahead of the server's",
    'host iad-1: its agent was last heard 15 s ago',
  ])
  const stopped = stop()
  await clock.advance(20_000)
  await stopped
})

test('what an edge refuses is told with its host', async () => {
  const { join, beat, doctor } = await open({
    agent: () =>
      agentThat((path) =>
        path.endsWith('health') ? {} : { ...usage, file_systems: [], kinds: [] },
      ),
  })
  const ams = await join('ams-1', 'ams', 1)
  await beat(ams.id, 'agent')
  await beat(ams.id, 'edge', { refused: ['machine 0000000000000a: services is missing'] })
  const [first] = (await doctor()).findings
  expect(first).toMatchObject({
    about: 'host ams-1',
    problem: 'its edge refuses a record and goes on with what it knew before',
    why: 'machine 0000000000000a: services is missing',
  })
  await beat(ams.id, 'edge')
  expect(problems(await doctor())).toEqual([])
})

test('without hosts the way to one', async () => {
  const { doctor } = await open()
  const [first] = (await doctor()).findings
  expect(first).toMatchObject({ about: 'hosts', fixes: [expect.stringMatching(/^roost up/)] })
})

test('a name whose order failed is told with what the authority said, where its DNS leads, and what mends both', async () => {
  const asked: string[] = []
  const facts = { aaaa: [], cname: [], challengeCname: [], ownership: [] }
  const { clock, control, join, beat, doctor } = await open(
    {
      lookUpName: async ({ name }) => {
        asked.push(name)
        return { ...facts, a: name === 'www.example.com' ? ['203.0.113.9'] : ['198.51.100.1'] }
      },
      agent: () =>
        agentThat((path) =>
          path.endsWith('health') ? {} : { ...usage, file_systems: [], kinds: [] },
        ),
    },
    { directory: 'https://acme.test/dir', email: null, ca: null },
  )
  const { id } = await join('ams-1', 'ams', 1)
  for (const program of ['agent', 'edge'] as const) await beat(id, program)
  await control.call('createApp', { body: { app_name: 'shop', org_slug: 'personal' } })
  for (const hostname of ['www.example.com', 'new.example.com', 'inside.test'])
    await control.call('addAcmeCertificate', { params: { app: 'shop' }, body: { hostname } })
  asked.length = 0
  // By a clock that is ahead of the server's.
  const failure = { at: clock.now() + 5000, host: id, count: 1, challenge: 'http-01' as const }
  await control.certificateReport(
    { program: 'edge', host: id },
    {
      certificates: [],
      failures: { 'www.example.com': { ...failure, why: 'unauthorized: 404' } },
    },
  )
  const { findings } = await doctor()
  expect(asked.sort()).toEqual(['new.example.com', 'www.example.com'])
  expect(findings).toEqual([
    {
      severity: 'error',
      about: 'certificate of www.example.com',
      problem: 'it has none, and its last order failed',
      why: 'unauthorized: 404 (tried last 0 s ago by http-01, again in 2 min); www.example.com leads to 203.0.113.9, which is no edge of this installation',
      fixes: [
        'CNAME www.example.com → shop.roost.test or 198.51.100.1   # at who keeps its DNS',
        'roost certs check www.example.com -a shop   # looks at DNS again, and orders at once',
      ],
    },
  ])
})
