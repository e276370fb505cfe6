import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Host } from '../host/host.ts'
import type { AppName, HostId, InstanceId, MachineId, RegionCode } from '../id.ts'
import type { MachineConfig } from '../machine/config.ts'
import { describeListening } from '../machine/listening.ts'
import type { Assignment, MachineStatus } from '../machine/machine.ts'
import { firstAssignment, type MachineCommand, request } from '../machine/request.ts'
import { groupOf } from './group.ts'
import {
  LEAVING_MS,
  nextReleaseStep,
  PROVED_MS,
  RELEASE_STEPS,
  releasesAtWork,
} from './next-release-step.ts'
import { planRelease } from './plan-release.ts'
import { planReturn } from './plan-return.ts'
import {
  configOfRelease,
  DEPLOY_STRATEGIES,
  isFinal,
  isInPlace,
  type Release,
  type Replacement,
  releaseOf,
  type Scale,
} from './release.ts'
import { isServing, type ReleaseMachine } from './release-machine.ts'
import { replacedAtATime } from './waves.ts'

const CONFIG: MachineConfig = {
  image: 'registry.internal/shop@sha256:1',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [
    {
      protocol: 'tcp',
      internal_port: 8080,
      ports: [],
      checks: [],
      concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
      autostop: 'off',
      autostart: true,
      min_machines_running: 0,
    },
  ],
  checks: {},
  restart: { policy: 'on-failure', max_retries: 10 },
  stop_config: { signal: 'SIGINT', timeout_ms: 5_000 },
  metadata: {},
  auto_destroy: false,
}
/** What works in the background: nobody outside reaches it. */
const WORKER: MachineConfig = {
  ...CONFIG,
  services: [],
  metadata: { fly_process_group: 'worker' },
}
const id = (name: string) => name as MachineId
const ams = 'ams' as RegionCode

function release(change: Partial<Release> = {}): Release {
  return {
    app: 'shop' as AppName,
    version: 2,
    cause: 'deploy',
    status: 'starting',
    image: CONFIG.image,
    imageDigest: 'sha256:1',
    config: CONFIG,
    primaryRegion: null,
    ask: { scale: null, regions: [], ha: true },
    strategy: 'rolling',
    maxUnavailable: null,
    secrets: {},
    secretsBefore: null,
    rollbackOf: null,
    returnTo: 1,
    plan: [replacement('old', 'new')],
    undo: [],
    returned: null,
    createdAt: 0,
    updatedAt: 0,
    waitTimeoutMs: 300_000,
    deadline: 300_000,
    reason: null,
    createdBy: 'admin',
    source: null,
    ...change,
  }
}

function replacement(source: string | null, target: string | null, wave = 0): Replacement {
  return {
    region: ams,
    source: source === null ? null : id(source),
    target: target === null ? null : id(target),
    host: target === null ? null : ('h' as HostId),
    wave,
    round: wave,
  }
}

/** Of release 2 what is called so, of release 1 the others. */
function assignment(name: string, version = /^(new|b|d|t)/.test(name) ? 2 : 1): Assignment {
  return firstAssignment({
    id: id(name),
    name,
    app: 'shop' as AppName,
    host: 'h' as HostId,
    region: ams,
    instanceId: `i-${name}` as InstanceId,
    config: configOfRelease({ app: 'shop' as AppName, version, config: CONFIG }),
    imageDigest: 'sha256:1',
    privateIpv4: '10.210.4.2',
    privateIpv6: 'fdaa::2',
    cordoned: false,
    sealedSecrets: null,
    primaryRegion: null,
    launch: true,
  })
}

function status(name: string, change: Partial<MachineStatus> = {}): MachineStatus {
  return {
    id: id(name),
    host: 'h' as HostId,
    state: 'started',
    generation: 1,
    instanceId: `i-${name}` as InstanceId,
    configGeneration: 1,
    sequence: 1,
    startedAt: 0,
    updatedAt: 0,
    exit: null,
    reason: null,
    restartCount: 0,
    checks: [check('passing')],
    ...change,
  }
}

function check(state: 'passing' | 'critical', output = '') {
  return { name: 'servicecheck-00-tcp-8080', status: state, output, updatedAt: 0 }
}

function machine(name: string, change: Partial<ReleaseMachine> = {}): ReleaseMachine {
  return {
    id: id(name),
    region: ams,
    host: 'h' as HostId,
    hostName: 'ams-1',
    hostSilentMs: 100,
    assignment: assignment(name),
    status: status(name),
    readyMs: 5_000,
    startedMs: 5_000,
    carried: true,
    ...change,
  }
}

const exit = (code: number) => ({
  code,
  signal: 0,
  oomKilled: false,
  requested: false,
  cause: null,
  at: 1,
})

function next(change: Partial<Release>, machines: ReleaseMachine[], now = 1_000) {
  return nextReleaseStep(
    release(change),
    { machines: new Map(machines.map((m) => [m.id, m])), earlier: null, supersededBy: null },
    now,
  )
}
const retired = (m: ReleaseMachine, now = 1_000): ReleaseMachine => {
  const result = request(m.assignment, { kind: 'destroy' }, now)
  return result.kind === 'refused' ? m : { ...m, assignment: result.assignment }
}

describe('while it starts', () => {
  test('it creates what the plan names and does not exist', () => {
    expect(next({}, [machine('old')])).toMatchObject({
      kind: 'create',
      replacements: [{ target: 'new' }],
    })
  })
  test('it waits until the new machine has been ready for a moment', () => {
    expect(next({}, [machine('old'), machine('new', { readyMs: 400 })]).kind).toBe('wait')
  })
  test('it waits until every edge carries the new machine', () => {
    expect(next({}, [machine('old'), machine('new', { carried: false })])).toMatchObject({
      kind: 'wait',
      why: expect.stringContaining('edges'),
    })
  })
  test('the next wave comes up while this one shows that it stays up, and takes over after it', () => {
    const plan = [replacement('a', 'b', 0), { ...replacement('c', 'd', 1), round: 0 }]
    const prepared = machine('d', { readyMs: null, status: status('d', { state: 'created' }) })
    const d = { ...prepared, assignment: { ...prepared.assignment, goal: 'created' as const } }
    const at = (b: ReleaseMachine, rest: ReleaseMachine[], change: Partial<Release> = {}) =>
      next({ plan, ...change }, [machine('a'), b, machine('c'), ...rest])
    expect(at(machine('b', { readyMs: null }), [d]).kind).toBe('wait')
    expect(at(machine('b', { readyMs: 0 }), [d])).toEqual({ kind: 'start', machines: ['d'] })
    expect(at(machine('b', { readyMs: 0 }), [d], { strategy: 'canary' }).kind).toBe('wait')
    expect(at(machine('b', { readyMs: 0 }), [machine('d')]).kind).toBe('wait')
    expect(at(machine('b'), [machine('d')])).toEqual({ kind: 'retire', machines: ['a'] })
  })
  test('it commits when all new machines serve', () => {
    expect(next({}, [machine('old'), machine('new')])).toEqual({
      kind: 'commit',
      machines: ['old'],
    })
  })
  test('a wave goes on when the one before has made room', () => {
    const plan = [replacement('a', 'b', 0), replacement('c', 'd', 1)]
    const all = [machine('a'), machine('b'), machine('c')]
    expect(next({ plan }, all)).toEqual({ kind: 'retire', machines: ['a'] })
    const leaving = [retired(machine('a')), machine('b'), machine('c')]
    expect(next({ plan }, leaving).kind).toBe('wait')
    const left = [
      { ...retired(machine('a')), status: status('a', { state: 'destroyed' }) },
      machine('b'),
      machine('c'),
    ]
    expect(next({ plan }, left)).toMatchObject({ kind: 'create', replacements: [{ target: 'd' }] })
  })
})

describe('it is undone, and says why,', () => {
  const unready = { readyMs: null, startedMs: null }
  test('when the image exits at once', () => {
    const broken = machine('new', {
      ...unready,
      status: status('new', { state: 'stopped', exit: exit(0), checks: [] }),
    })
    expect(next({}, [machine('old'), broken])).toMatchObject({
      kind: 'revert',
      reason: 'machine new in ams exited with code 0',
    })
  })
  test('when it keeps exiting, but not at the first exit', () => {
    const crashing = (restartCount: number) =>
      machine('new', {
        ...unready,
        status: status('new', { state: 'starting', exit: exit(3), checks: [], restartCount }),
      })
    expect(next({}, [machine('old'), crashing(0)]).kind).toBe('wait')
    expect(next({}, [machine('old'), crashing(2)])).toMatchObject({
      kind: 'revert',
      reason: 'machine new in ams exited 3 times with code 3',
    })
  })
  test('when its host gives up pulling', () => {
    const failed = machine('new', {
      ...unready,
      status: status('new', { state: 'failed', checks: [], reason: 'pull: no such image' }),
    })
    expect(next({}, [failed])).toMatchObject({
      kind: 'revert',
      reason: expect.stringContaining('pull: no such image'),
    })
  })
  test('when nothing listens on its port', () => {
    const deaf = (startedMs: number) =>
      machine('new', {
        readyMs: null,
        startedMs,
        status: status('new', { checks: [check('critical', 'connection refused')] }),
      })
    expect(next({}, [deaf(5_000)])).toMatchObject({
      kind: 'wait',
      why: expect.stringContaining('nothing listens on port 8080: connection refused'),
    })
    expect(next({}, [deaf(61_000)])).toMatchObject({
      kind: 'revert',
      reason: expect.stringContaining('nothing listens on port 8080: connection refused'),
    })
  })
  test.each([
    [['127.0.0.1:8080'], 5_000, 'the program listens on 127.0.0.1:8080, where only itself'],
    [['0.0.0.0:3000'], 20_000, 'on 0.0.0.0:3000: set internal_port = 3000 in fly.toml'],
    [[], 60_000, 'nothing listens on port 8080, nor on any other'],
  ])('soon, when what listens is known to be %j', (listening, patienceMs, text) => {
    const output = describeListening(8080, listening)
    const deaf = (startedMs: number) =>
      machine('new', {
        readyMs: null,
        startedMs,
        status: status('new', { checks: [{ ...check('critical', output), listening }] }),
      })
    expect(next({}, [deaf(patienceMs - 1)]).kind).toBe('wait')
    expect(next({}, [deaf(patienceMs)])).toMatchObject({
      kind: 'revert',
      reason: expect.stringContaining(text),
    })
  })
  test('when it runs out of memory, with what it has and what raises it', () => {
    const over = status('new', {
      state: 'failed',
      exit: { ...exit(137), oomKilled: true },
      checks: [],
    })
    expect(next({}, [machine('new', { ...unready, status: over })])).toMatchObject({
      kind: 'revert',
      reason:
        'machine new in ams ran out of memory: it has 256 MB; give it more: memory = "512mb" in [[vm]] of fly.toml, or roost deploy --vm-memory 512',
    })
  })
  test('when its host does not answer', () => {
    const lost = machine('new', { ...unready, status: null, hostSilentMs: 31_000 })
    expect(next({}, [lost])).toMatchObject({ reason: expect.stringContaining('host ams-1') })
  })
  test('when a person destroys the new machine', () => {
    expect(next({}, [retired(machine('new'))])).toMatchObject({ kind: 'revert' })
  })
  test('when the time is over', () => {
    const slow = machine('new', { ...unready, status: status('new', { state: 'starting' }) })
    expect(next({}, [slow], 300_000)).toMatchObject({
      kind: 'revert',
      reason: expect.stringContaining('machine new in ams is starting'),
    })
  })
})

describe('while it is undone', () => {
  const at = { status: 'reverting', reason: 'no' } as const
  const back = (name: string) => ({ ...machine(name), assignment: assignment(name, 1) })
  test('new machines go, and it fails when they are gone', () => {
    const undo = [replacement('new', null)]
    expect(next({ ...at, undo }, [machine('old'), machine('new')])).toEqual({
      kind: 'retire',
      machines: ['new'],
    })
    const gone = { ...retired(machine('new')), status: status('new', { state: 'destroyed' }) }
    expect(next({ ...at, undo }, [machine('old'), gone])).toEqual({
      kind: 'fail',
      reason: 'no',
      returned: true,
    })
  })
  test('it fails though they take their time to go', () => {
    const undo = [replacement('new', null)]
    const going = retired(machine('new'))
    expect(next({ ...at, undo }, [machine('old'), going], LEAVING_MS - 1).kind).toBe('wait')
    expect(next({ ...at, undo }, [machine('old'), going], LEAVING_MS).kind).toBe('fail')
  })
  test('what was replaced comes again before that which replaced it goes', () => {
    const plan = [replacement('a', 'b', 0), replacement('c', 'd', 1)]
    const undo = [replacement('d', null), { ...replacement('b', 'a2'), wave: 1 }]
    const change = { ...at, plan, undo }
    const rest = [retired(machine('a')), machine('b'), machine('c')]
    expect(next(change, [...rest, machine('d')])).toEqual({ kind: 'retire', machines: ['d'] })
    const after = [...rest, retired(machine('d'))]
    expect(next(change, after)).toMatchObject({
      kind: 'create',
      replacements: [{ target: 'a2' }],
      wave: 1,
    })
    const starting = { ...back('a2'), readyMs: null, status: null }
    expect(next(change, [...after, starting]).kind).toBe('wait')
    expect(next(change, [...after, back('a2')])).toEqual({ kind: 'retire', machines: ['b'] })
  })
  test('what does not come again is named, with the command that mends it', () => {
    const plan = [replacement('a', 'b', 0), replacement('c', 'd', 1)]
    const undo = [{ ...replacement('b', 'a2'), wave: 1 }]
    const dead = {
      ...back('a2'),
      readyMs: null,
      status: status('a2', { state: 'failed', reason: 'pull: no such image' }),
    }
    const all = [retired(machine('a')), machine('b'), machine('c'), dead]
    expect(next({ ...at, plan, undo }, all)).toEqual({ kind: 'retire', machines: ['a2'] })
    const over = [...all.slice(0, 3), retired(dead)]
    expect(next({ ...at, plan, undo }, over, LEAVING_MS)).toEqual({
      kind: 'fail',
      returned: false,
      reason:
        'no; not everything could be returned: machine b in ams runs release 2. Bring all to one release: roost rollback 1 -a shop, or roost deploy -a shop',
    })
  })
})

describe('in place', () => {
  const plan = [replacement('old', 'old')]
  const updated = (change: Partial<ReleaseMachine> = {}) => ({
    ...machine('old'),
    assignment: assignment('old', 2),
    ...change,
  })
  test('a machine gets the new version, and its own readiness is waited for', () => {
    const at = { strategy: 'recreate', plan } as const
    expect(next(at, [machine('old')])).toEqual({ kind: 'update', machines: ['old'] })
    expect(next(at, [updated({ readyMs: null, status: null })]).kind).toBe('wait')
    expect(next(at, [updated()])).toEqual({ kind: 'commit', machines: [] })
  })
  test('it gets the old version again when the new one fails', () => {
    const broken = updated({ readyMs: null, status: status('old', { state: 'failed' }) })
    const at = { strategy: 'recreate', plan } as const
    expect(next(at, [broken]).kind).toBe('revert')
    const back = { ...at, status: 'reverting', reason: 'no', undo: plan } as const
    expect(next(back, [broken])).toEqual({ kind: 'update', machines: ['old'] })
    expect(next(back, [machine('old')])).toEqual({
      kind: 'fail',
      reason: 'no; all machines run release 1 again',
      returned: true,
    })
  })
  test('one that somebody stopped is done with the update', () => {
    const stopped = request(assignment('old', 2), { kind: 'stop' }, 0)
    if (stopped.kind === 'refused') throw new Error('refused')
    const down = updated({ assignment: stopped.assignment, readyMs: null })
    expect(next({ strategy: 'recreate', plan }, [down]).kind).toBe('commit')
  })
  test('one whose host was removed is no reason to wait', () => {
    expect(next({ strategy: 'recreate', plan }, [])).toMatchObject({
      kind: 'revert',
      reason: 'machine old in ams is gone with its host before it was replaced',
    })
  })
})

describe('a lease of somebody else', () => {
  const lease = 'lease currently held by ana, expires at 2026-01-01T00:00:00Z'
  test('is waited for, and named, and in the end it is given up', () => {
    const all = [machine('old', { lease }), machine('new')]
    expect(next({}, all)).toMatchObject({ kind: 'wait', why: expect.stringContaining(lease) })
    expect(next({}, all, 300_000)).toMatchObject({
      kind: 'revert',
      reason: expect.stringContaining(lease),
    })
  })
  test('outlasts a return, which says so', () => {
    const undo = [replacement('new', null)]
    const at = { status: 'reverting', reason: 'no', undo } as const
    const all = [machine('old'), machine('new', { lease })]
    expect(next(at, all).kind).toBe('wait')
    expect(next(at, all, 300_000)).toMatchObject({
      kind: 'fail',
      returned: false,
      reason: expect.stringContaining(lease),
    })
  })
})

test('who asks for a rollback need not wait for the release that is on its way', () => {
  const step = nextReleaseStep(
    release(),
    {
      machines: new Map(),
      earlier: null,
      supersededBy: { version: 3, createdBy: 'ana' },
    },
    0,
  )
  expect(step).toMatchObject({
    kind: 'revert',
    reason: 'ana asked for a rollback meanwhile (release 3)',
  })
})

describe('when it serves', () => {
  const at = { status: 'draining', updatedAt: 0 } as const
  const leaving = retired(machine('old'))
  test('it is complete when the new machines have stayed up and the old are gone', () => {
    const gone = { ...leaving, status: status('old', { state: 'destroyed' as const }) }
    const fresh = machine('new', { readyMs: PROVED_MS - 200 })
    expect(next(at, [gone, fresh], 1_000)).toMatchObject({ kind: 'wait', until: 1_200 })
    expect(next(at, [gone, machine('new')], 1_000)).toEqual({ kind: 'complete', leaving: 0 })
  })
  test('old machines that take their time are not waited for beyond a moment', () => {
    expect(next(at, [leaving, machine('new')], LEAVING_MS - 1).kind).toBe('wait')
    expect(next(at, [leaving, machine('new')], LEAVING_MS)).toEqual({
      kind: 'complete',
      leaving: 1,
    })
  })
  test('it is undone when a new machine ends for good after all', () => {
    const over = status('new', { state: 'stopped', exit: exit(1), checks: [] })
    expect(next(at, [leaving, machine('new', { readyMs: null, status: over })])).toMatchObject({
      kind: 'revert',
      reason: 'it served, but machine new in ams exited with code 1',
    })
  })
  test('it is not undone because a host dies or a person stops a machine', () => {
    const silent = machine('new', { readyMs: null, status: null, hostSilentMs: 40_000 })
    expect(next(at, [leaving, silent], LEAVING_MS).kind).toBe('complete')
    const stopped = request(assignment('new'), { kind: 'stop' }, 0)
    if (stopped.kind === 'refused') throw new Error('refused')
    const down = machine('new', { readyMs: null, assignment: stopped.assignment })
    expect(next(at, [leaving, down], LEAVING_MS).kind).toBe('complete')
  })
})

test('a release waits for an earlier one, and says for which', () => {
  const step = nextReleaseStep(
    release({ status: 'pending', version: 3 }),
    {
      machines: new Map(),
      earlier: { version: 2, cause: 'deploy', createdBy: 'ana' },
      supersededBy: null,
    },
    0,
  )
  expect(step).toMatchObject({
    kind: 'wait',
    why: 'release 2 (deploy) by ana is still being rolled out',
  })
})

test('of several unfinished releases of an app only the oldest is at work', () => {
  const all = [
    release({ version: 1, status: 'complete' }),
    release({ version: 3, status: 'pending' }),
    release({ version: 2, status: 'starting' }),
    release({ app: 'blog' as AppName, version: 9, status: 'reverting' }),
  ]
  expect(releasesAtWork(all).map((r) => `${r.app} ${r.version}`)).toEqual(['shop 2', 'blog 9'])
})

/**
 * A small honest world: hosts do what they are told after a while, or misbehave as their data says. Plans are made by
 * `planRelease` and `planReturn`, machines change by `request` alone.
 */
type Fate = 'ok' | 'exits' | 'deaf' | 'fails' | 'silent' | 'dies later'

const walked = new Set<string>()
const strategy = fc.constantFrom(...DEPLOY_STRATEGIES)

interface Live {
  readonly machine: ReleaseMachine
  /** When it is up, and of which try it is: its fate. */
  readonly upAt: number
  readonly fate: Fate
  readonly goneAt: number
}

/** Asked at each of a million steps, where `expect` itself would be most of the time. */
function atLeast(value: number, least: number): void {
  if (!(value >= least)) expect(value).toBeGreaterThanOrEqual(least)
}

function rollOut(input: {
  readonly strategy: Release['strategy']
  readonly maxUnavailable: number | null
  /** Machines by region, before and wanted. */
  readonly before: readonly [number, number]
  readonly wanted: readonly [number, number]
  /** Of a second process group, in the first region, before and wanted; 0: that release has no such group. */
  readonly workers?: readonly [number, number]
  /** How many more than those there are fit on each region's host. */
  readonly spare: number
  /** Of the new machines, in the order in which they are made; those of the old release are well. */
  readonly fates: readonly { readonly fate: Fate; readonly startMs: number }[]
  readonly stopMs: number
}) {
  const regions = ['ams', 'iad'] as RegionCode[]
  const count = (counts: readonly number[]) => counts.reduce((sum, n) => sum + n, 0)
  const { workers = [0, 0] } = input
  const madeFrom = (version: number) => ({
    ...{ app: 'shop' as AppName, version, config: CONFIG },
    groups: (workers[version - 1] ?? 0) === 0 ? {} : { worker: { config: WORKER } },
  })
  const hosts = regions.map(
    (code, n): Host => ({
      id: `h-${code}` as HostId,
      name: `${code}-1`,
      region: code,
      number: n + 1,
      publicAddress: '198.51.100.1',
      wireguard: { endpoint: '', publicKey: '' },
      sealingKey: '',
      capacity: {
        cpus: 4,
        memoryMb:
          256 *
          (Math.max(input.before[n] ?? 0, input.wanted[n] ?? 0) +
            (n === 0 ? Math.max(...workers) : 0) +
            input.spare),
      },
      builder: false,
      availability: 'active',
      agentSeenAt: 0,
      edgeSeenAt: 0,
      status: 'ok',
    }),
  )
  const world = new Map<MachineId, Live>()
  let made = 0
  let now = 0
  const nextFate = (version: number) =>
    version === 1 ? { fate: 'ok' as const, startMs: 500 } : input.fates[made++ % input.fates.length]
  const put = (id: MachineId, change: Partial<Live> & { machine: ReleaseMachine }) => {
    const old = world.get(id) ?? { upAt: 0, fate: 'ok', goneAt: Number.POSITIVE_INFINITY }
    world.set(id, { ...old, ...change })
  }
  const newMachine = (
    id: MachineId,
    region: RegionCode,
    version: number,
    launch: boolean,
    group?: string,
  ) => {
    const config = configOfRelease(madeFrom(version), group)
    const first = { ...assignment(id, version), config }
    const base = { ...first, region, host: `h-${region}` as HostId }
    const made: Assignment = launch ? base : { ...base, goal: 'created', routed: false }
    return machine(id, { region, host: base.host, assignment: made, status: null, readyMs: null })
  }
  const ids = (n: number) => `m${n}` as MachineId
  let born = 0
  for (const [n, region] of regions.entries())
    for (let k = 0; k < (input.before[n] ?? 0); k++) {
      const name = ids(born++)
      put(name, { machine: newMachine(name, region, 1, true), upAt: -60_000 })
    }
  for (let k = 0; k < workers[0]; k++) {
    const name = ids(born++)
    const [region = 'ams' as RegionCode] = regions
    put(name, { machine: newMachine(name, region, 1, true, 'worker'), upAt: -60_000 })
  }
  const used = () => {
    const taken = new Map<HostId, { cpus: number; memoryMb: number }>()
    for (const { machine: m, goneAt } of world.values())
      if (now < goneAt)
        taken.set(m.host, { cpus: 0, memoryMb: (taken.get(m.host)?.memoryMb ?? 0) + 256 })
    return taken
  }
  const wantedMachines = () =>
    [...world.values()].filter(({ machine: m }) => m.assignment.goal !== 'destroyed')

  /** What the server sees of a machine at this moment. */
  function see({ machine: m, upAt, fate, goneAt }: Live): ReleaseMachine {
    const { configGeneration, goal } = m.assignment
    const says = (change: Partial<MachineStatus>) =>
      status(m.id, { configGeneration, checks: [], ...change })
    const down = { readyMs: null, startedMs: null, carried: false }
    if (goal === 'destroyed') {
      const state = now >= goneAt ? 'destroyed' : 'destroying'
      return { ...m, ...down, status: says({ state }) }
    }
    if (goal === 'created')
      return { ...m, ...down, status: says({ state: fate === 'fails' ? 'failed' : 'created' }) }
    if (fate === 'silent') return { ...m, ...down, status: null, hostSilentMs: now - upAt + 500 }
    if (now < upAt) return { ...m, ...down, status: says({ state: 'starting' }) }
    const upMs = now - upAt
    if (fate === 'exits' || (fate === 'dies later' && upMs >= 2_000))
      return { ...m, ...down, status: says({ state: 'stopped', exit: exit(1) }) }
    if (fate === 'fails') return { ...m, ...down, status: says({ state: 'failed', reason: 'no' }) }
    if (fate === 'deaf')
      return { ...m, ...down, startedMs: upMs, status: says({ checks: [check('critical')] }) }
    const ready = says({ checks: [check('passing')] })
    return { ...m, startedMs: upMs, readyMs: upMs, carried: upMs > 300, status: ready }
  }

  const plan = planRelease({
    cause: 'deploy',
    ask: {
      scale: Object.fromEntries(regions.map((code, n) => [code, input.wanted[n] ?? 0])),
      ...(workers[1] === 0 ? {} : { groups: { worker: { ams: workers[1] } as Scale } }),
      regions: [],
      ha: true,
    },
    strategy: input.strategy,
    maxUnavailable: input.maxUnavailable,
    primaryRegion: null,
    groups: ['app', ...(workers[1] === 0 ? [] : ['worker'])].map((name) => ({
      ...{ name, guest: CONFIG.guest, served: name === 'app' },
    })),
    machines: [...world.values()].map(({ machine: m }) => ({
      id: m.id,
      group: groupOf(m.assignment.config),
      region: m.region,
      host: m.host,
      guest: CONFIG.guest,
      serving: true,
    })),
    hosts,
    used: used(),
    newId: () => ids(born++),
  })
  if (plan.kind === 'refused') return null
  const swaps = plan.replacements.filter((r) => r.source !== null && r.target !== null)
  const groups = [
    { name: 'app', floor: Math.min(count(input.before), count(input.wanted)) },
    { name: 'worker', floor: Math.min(...workers) },
  ].map(({ name, floor }) => {
    const own = swaps.filter((r) => r.group === name)
    const atATime = replacedAtATime(input.strategy, input.maxUnavailable, own.length)
    return { name, floor, atATime }
  })
  /** Nothing can be brought back to a host that doesn't answer. */
  const silent = input.fates.some(({ fate }) => fate === 'silent')
  const diesLater = input.fates.some(({ fate }) => fate === 'dies later')
  let at = release({
    strategy: input.strategy,
    maxUnavailable: input.maxUnavailable,
    plan: plan.replacements,
    waitTimeoutMs: 120_000,
    deadline: 120_000,
  })
  const change = (id: MachineId, command: MachineCommand) => {
    const live = world.get(id)
    if (live === undefined) throw new Error(`${command.kind} of nothing`)
    const result = request(live.machine.assignment, command, now)
    if (result.kind === 'refused') throw new Error(result.refusal.text)
    const changed = { ...live.machine, assignment: result.assignment }
    if (command.kind === 'destroy') return put(id, { machine: changed, goneAt: now + input.stopMs })
    if (command.kind === 'start') return put(id, { machine: changed, upAt: now + live.upAt })
    if (command.kind === 'update') {
      const version = releaseOf(command.config) ?? 0
      const { fate = 'ok', startMs = 0 } = nextFate(version) ?? {}
      return put(id, { machine: changed, fate, upAt: now + input.stopMs + startMs })
    }
    put(id, { machine: changed })
  }
  for (let steps = 0; !isFinal(at.status); steps++) {
    atLeast(2_999, steps)
    const machines = new Map([...world].map(([id, live]) => [id, see(live)]))
    for (const { name, floor, atATime } of groups) {
      const serving = [...machines.values()].filter(
        (m) =>
          m.assignment.goal === 'started' &&
          m.readyMs !== null &&
          groupOf(m.assignment.config) === name,
      ).length
      if (input.strategy === 'recreate' && !diesLater && at.status !== 'reverting')
        atLeast(serving, floor - atATime)
      else if (
        input.strategy !== 'recreate' &&
        input.strategy !== 'immediate' &&
        !diesLater &&
        !(silent && at.status === 'reverting')
      )
        // On the way back one at a time is replaced in place where there is no room beside it.
        atLeast(serving, floor - (at.undo.some(isInPlace) ? 1 : 0))
    }
    const taken = used()
    for (const { id, capacity } of hosts) atLeast(capacity.memoryMb, taken.get(id)?.memoryMb ?? 0)
    const step = nextReleaseStep(at, { machines, earlier: null, supersededBy: null }, now)
    if (step.kind !== 'wait') walked.add(`${at.status} ${step.kind}`)
    const from = at.status === 'reverting' ? 1 : 2
    const touched = { updatedAt: now, deadline: now + 120_000 }
    switch (step.kind) {
      case 'create':
        for (const { target, region, wave, group } of step.replacements) {
          if (target === null) continue
          expect(world.has(target)).toBe(false)
          const launch = wave === step.wave
          const { fate = 'ok', startMs = 0 } = nextFate(from) ?? {}
          const upAt = launch ? now + startMs : startMs
          let born = newMachine(target, region, from, launch, group)
          if (at.strategy === 'bluegreen' && at.status === 'starting')
            born = { ...born, assignment: { ...born.assignment, cordoned: true, routed: false } }
          put(target, { machine: born, fate, upAt })
        }
        at = { ...at, ...touched }
        break
      case 'start':
      case 'update':
      case 'admit':
      case 'retire':
        for (const id of step.machines)
          if (step.kind === 'update')
            change(id, {
              kind: 'update',
              config: configOfRelease(
                madeFrom(from),
                [...at.plan, ...at.undo].findLast((r) => isInPlace(r) && r.target === id)?.group,
              ),
              imageDigest: 'sha256:2',
              instanceId: 'i-2' as InstanceId,
            })
          else if (step.kind === 'start') change(id, { kind: 'start' })
          else change(id, { kind: step.kind === 'admit' ? 'uncordon' : 'destroy' })
        at = { ...at, ...touched }
        break
      case 'commit':
        for (const { target } of at.plan) {
          const m = target === null ? undefined : machines.get(target)
          if (m !== undefined && at.strategy !== 'immediate') expect(isServing(m)).toBe(true)
        }
        for (const id of step.machines) change(id, { kind: 'destroy' })
        at = { ...at, status: 'draining', updatedAt: now }
        break
      case 'revert': {
        const guestOf = () => CONFIG.guest
        const back = planReturn({
          ...{ release: at, to: { guestOf }, machines, hosts, used: used() },
          newId: () => ids(born++),
        })
        if (!silent) expect(back.lost).toEqual([])
        at = {
          ...at,
          ...touched,
          status: 'reverting',
          reason: step.reason,
          undo: back.replacements,
        }
        break
      }
      case 'wait':
        atLeast(step.why.length, 1)
        atLeast(step.until, now + 1)
        now = step.until
        break
      case 'complete':
        at = { ...at, status: 'complete' }
        break
      case 'fail':
        expect(step.reason).not.toBe('')
        if (!silent) expect(step.returned).toBe(true)
        at = { ...at, status: 'failed' }
        break
      default:
        throw new Error(`unexpected ${step.kind}`)
    }
  }
  const complete = at.status === 'complete'
  if (!complete && silent) return { complete, now }
  const versions = wantedMachines().map(({ machine: m }) => releaseOf(m.assignment.config))
  expect(new Set(versions)).toEqual(new Set(versions.length === 0 ? [] : [complete ? 2 : 1]))
  const of = (group: string, region: string) =>
    wantedMachines().filter(
      ({ machine: m }) => m.region === region && groupOf(m.assignment.config) === group,
    )
  for (const [n, region] of regions.entries())
    expect(of('app', region)).toHaveLength((complete ? input.wanted : input.before)[n] ?? 0)
  expect(of('worker', 'ams')).toHaveLength(workers[complete ? 1 : 0])
  if (!complete)
    for (const live of wantedMachines()) expect(see(live).readyMs).toBeGreaterThanOrEqual(0)
  return { complete, now }
}

test('a release ends with all machines of the new release or all of the old one, and serves all the while', () => {
  const ends = { complete: 0, failed: 0, refused: 0 }
  fc.assert(
    fc.property(
      fc.record({
        strategy,
        maxUnavailable: fc.constantFrom(null, 0.33, 0.5, 1, 2, 5),
        before: fc.tuple(fc.integer({ min: 0, max: 4 }), fc.nat(3)),
        wanted: fc.tuple(fc.integer({ min: 0, max: 4 }), fc.nat(3)),
        workers: fc.tuple(fc.constantFrom(0, 0, 1, 3), fc.constantFrom(0, 0, 1, 2)),
        spare: fc.constantFrom(0, 1, 2, 9),
        fates: fc.array(
          fc.record({
            fate: fc.constantFrom<Fate>(
              ...(['ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'exits', 'deaf'] as const),
              ...(['fails', 'silent', 'dies later'] as const),
            ),
            startMs: fc.integer({ min: 0, max: 20_000 }),
          }),
          { minLength: 1, maxLength: 5 },
        ),
        stopMs: fc.integer({ min: 0, max: 40_000 }),
      }),
      (input) => {
        const end = rollOut(input)
        ends[end === null ? 'refused' : end.complete ? 'complete' : 'failed']++
      },
    ),
    { numRuns: 2000 },
  )
  expect(ends.complete).toBeGreaterThan(200)
  expect(ends.failed).toBeGreaterThan(200)
  const known = RELEASE_STEPS.map(({ status: state, step }) => `${state} ${step}`)
  expect([...walked].filter((walk) => !known.includes(walk))).toEqual([])
  expect(known.filter((walk) => walk !== 'pending begin' && !walked.has(walk))).toEqual([])
})

test('machines that can not run twice go and come one at a time', () => {
  const end = rollOut({
    strategy: 'recreate',
    maxUnavailable: null,
    before: [3, 0],
    wanted: [3, 0],
    spare: 0,
    fates: [{ fate: 'ok', startMs: 100 }],
    stopMs: 100,
  })
  expect(end?.complete).toBe(true)
})

test('on the way back, what is gone without a successor takes its room before what could be replaced in place', () => {
  const end = rollOut({
    strategy: 'rolling',
    maxUnavailable: null,
    before: [3, 0],
    wanted: [2, 0],
    workers: [1, 1],
    spare: 1,
    fates: (['ok', 'ok', 'dies later', 'ok'] as const).map((fate) => ({ fate, startMs: 0 })),
    stopMs: 0,
  })
  expect(end?.complete).toBe(false)
})
