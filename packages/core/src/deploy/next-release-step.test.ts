import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AppName, HostId, InstanceId, MachineId, RegionCode } from '../id.ts'
import type { MachineConfig } from '../machine/config.ts'
import { describeListening } from '../machine/listening.ts'
import type { Assignment, MachineStatus } from '../machine/machine.ts'
import { firstAssignment, request } from '../machine/request.ts'
import {
  isServing,
  nextReleaseStep,
  type ReleaseMachine,
  releasesAtWork,
  retireTimeMs,
} from './next-release-step.ts'
import { isFinal, type Release, type Replacement } from './release.ts'

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
    plan: [replacement('old', 'new')],
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
  }
}

function assignment(name: string): Assignment {
  return firstAssignment({
    id: id(name),
    name,
    app: 'shop' as AppName,
    host: 'h' as HostId,
    region: ams,
    instanceId: `i-${name}` as InstanceId,
    config: CONFIG,
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
    { machines: new Map(machines.map((m) => [m.id, m])), earlier: null },
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
  test('new machines go, and it fails when they are gone', () => {
    const at = { status: 'reverting', reason: 'no' } as const
    expect(next(at, [machine('old'), machine('new')])).toEqual({
      kind: 'retire',
      machines: ['new'],
    })
    const gone = { ...retired(machine('new')), status: status('new', { state: 'destroyed' }) }
    expect(next(at, [machine('old'), gone])).toEqual({ kind: 'fail', reason: 'no' })
  })
  test('a machine whose predecessor is gone stays, and the reason says so', () => {
    const plan = [replacement('a', 'b', 0), replacement('c', 'd', 1)]
    const at = { status: 'reverting', reason: 'no', plan } as const
    const gone = { ...retired(machine('d')), status: status('d', { state: 'destroyed' }) }
    expect(next(at, [retired(machine('a')), machine('b'), machine('c'), gone])).toMatchObject({
      kind: 'fail',
      reason: expect.stringContaining('1 machine had been replaced'),
    })
  })
})

test('while it drains it never fails, and ends at its deadline though a machine does not go', () => {
  const at = { status: 'draining', deadline: 30_000 } as const
  const broken = machine('new', { readyMs: null, status: status('new', { state: 'failed' }) })
  const leaving = retired(machine('old'))
  expect(next(at, [leaving, broken], 29_999).kind).toBe('wait')
  expect(next(at, [leaving, broken], 30_000).kind).toBe('complete')
})

test('a release waits for an earlier one, and says for which', () => {
  const step = nextReleaseStep(
    release({ status: 'pending', version: 3 }),
    { machines: new Map(), earlier: 2 },
    0,
  )
  expect(step).toMatchObject({ kind: 'wait', why: expect.stringContaining('release 2') })
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
 * A small honest world: hosts do what they are told after a while, or misbehave as their data says. The server may die
 * between any two steps, which loses what it remembers of how long machines have been ready.
 */
type Fate = 'ok' | 'exits' | 'deaf' | 'fails' | 'silent'
const fate = fc.constantFrom<Fate>('ok', 'ok', 'ok', 'ok', 'exits', 'deaf', 'fails', 'silent')

test('a release always ends by its deadline, and never takes away a machine before its successor serves', () => {
  let completed = 0
  let failed = 0
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          source: fc.boolean(),
          target: fc.boolean(),
          wave: fc.nat(2),
          fate,
          startMs: fc.integer({ min: 0, max: 20_000 }),
          stopMs: fc.integer({ min: 0, max: 40_000 }),
        }),
        { minLength: 1, maxLength: 5 },
      ),
      fc.array(fc.nat(60), { maxLength: 4 }),
      (rows, deaths) => {
        // As planRelease makes them: what goes without a successor goes last.
        const plan = rows
          .map(({ source, target, wave }, n) =>
            replacement(source ? `s${n}` : null, target ? `t${n}` : null, target ? wave : 2),
          )
          .filter((r) => r.source !== null || r.target !== null)
        const fates = new Map(rows.map((row, n) => [`t${n}`, row]))
        const stopMs = (name: string) => rows[Number(name.slice(1))]?.stopMs ?? 0
        const machines = new Map<MachineId, ReleaseMachine>()
        const bornAt = new Map<MachineId, number>()
        const toldAt = new Map<MachineId, number>()
        const readyAt = new Map<MachineId, number>()
        for (const r of plan) if (r.source) machines.set(r.source, machine(r.source))
        const before = machines.size
        const wanted = before + plan.filter((r) => r.source === null).length
        const floor = Math.min(before, wanted - plan.filter((r) => r.target === null).length)

        let at = release({ plan, waitTimeoutMs: 120_000, deadline: 120_000 })
        let now = 0
        let steps = 0

        const world = () => {
          for (const [name, m] of machines) {
            const row = fates.get(name)
            const told = toldAt.get(name)
            const age = now - (bornAt.get(name) ?? -60_000)
            if (row?.fate === 'silent' && told === undefined) {
              machines.set(name, { ...m, status: null, readyMs: null, hostSilentMs: age })
              continue
            }
            if (told !== undefined) {
              const state = now - told >= stopMs(name) ? 'destroyed' : 'destroying'
              machines.set(name, {
                ...m,
                status: status(name, { state, checks: [] }),
                readyMs: null,
              })
              continue
            }
            if (row === undefined) {
              machines.set(name, { ...m, readyMs: 60_000 })
              continue
            }
            const up = age >= row.startMs
            const startedMs = up ? age - row.startMs : null
            const is = (): Partial<ReleaseMachine> => {
              if (!up) return { status: status(name, { state: 'starting', checks: [] }) }
              if (row.fate === 'exits')
                return { status: status(name, { state: 'stopped', exit: exit(1), checks: [] }) }
              if (row.fate === 'fails')
                return { status: status(name, { state: 'failed', reason: 'pull', checks: [] }) }
              if (row.fate === 'deaf')
                return { startedMs, status: status(name, { checks: [check('critical')] }) }
              readyAt.set(name, readyAt.get(name) ?? now)
              const readyMs = now - (readyAt.get(name) ?? now)
              return { startedMs, readyMs, carried: readyMs > 300, status: status(name) }
            }
            machines.set(name, { ...m, readyMs: null, startedMs: null, ...is() })
          }
        }

        const retire = (names: readonly MachineId[]) => {
          for (const name of names) {
            const m = machines.get(name)
            if (!m) continue
            machines.set(name, retired(m, now))
            toldAt.set(name, now)
          }
        }

        while (!isFinal(at.status)) {
          expect(steps++).toBeLessThan(1000)
          if (deaths.includes(steps)) readyAt.clear()
          world()
          const serving = [...machines.values()].filter(
            (m) => m.assignment.goal === 'started' && (m.readyMs ?? -1) >= 0,
          ).length
          if (at.status !== 'draining') expect(serving).toBeGreaterThanOrEqual(floor)
          const step = nextReleaseStep(at, { machines, earlier: null }, now)
          const limit = now + retireTimeMs([5_000])
          switch (step.kind) {
            case 'create':
              for (const r of step.replacements) {
                if (r.target === null) continue
                expect(machines.has(r.target)).toBe(false)
                machines.set(r.target, machine(r.target, { status: null, readyMs: null }))
                bornAt.set(r.target, now)
              }
              break
            case 'retire':
              retire(step.machines)
              break
            case 'commit': {
              for (const r of plan)
                if (r.target !== null) {
                  const m = machines.get(r.target)
                  expect(m !== undefined && isServing(m)).toBe(true)
                }
              retire(step.machines)
              at = { ...at, status: 'draining', deadline: limit }
              break
            }
            case 'revert':
              at = { ...at, status: 'reverting', reason: step.reason, deadline: limit }
              break
            case 'wait':
              expect(step.why).not.toBe('')
              expect(step.until).toBeGreaterThan(now)
              now = step.until
              break
            case 'complete':
              at = { ...at, status: 'complete' }
              break
            case 'fail':
              expect(step.reason).not.toBe('')
              at = { ...at, status: 'failed', reason: step.reason }
              break
            default:
              throw new Error(`unexpected ${step.kind}`)
          }
        }
        expect(now).toBeLessThanOrEqual(120_000 + retireTimeMs([5_000]) + 1_000)
        if (at.status === 'complete') {
          completed++
          for (const r of plan) {
            if (r.target !== null) expect(machines.get(r.target)?.assignment.goal).toBe('started')
            if (r.source !== null) expect(machines.get(r.source)?.assignment.goal).toBe('destroyed')
          }
        } else {
          failed++
          for (const r of plan) {
            if (r.target === null) continue
            const source = r.source === null ? undefined : machines.get(r.source)
            const target = machines.get(r.target)
            if (source?.assignment.goal === 'started' || r.source === null)
              expect(target?.assignment.goal ?? 'destroyed').toBe('destroyed')
          }
        }
      },
    ),
    { numRuns: 1000 },
  )
  expect(completed).toBeGreaterThan(50)
  expect(failed).toBeGreaterThan(50)
})
