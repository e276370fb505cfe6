import { describe, expect, test } from 'vitest'
import type { Host } from '../host/host.ts'
import type { HostId, MachineId, RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import { groupTakingOver } from './group.ts'
import { type PlannedMachine, type PlanRequest, planRelease } from './plan-release.ts'
import type { ReleaseAsk } from './release.ts'

const SMALL: MachineGuest = { cpu_kind: 'shared', cpus: 1, memory_mb: 256 }
const LARGE: MachineGuest = { ...SMALL, memory_mb: 1024 }
const WEB = { name: 'web', guest: SMALL, served: true }
const WORKER = { name: 'worker', guest: LARGE, served: false }

function host(name: string): Host {
  return {
    id: name as HostId,
    name,
    region: name.split('-')[0] as RegionCode,
    number: 1,
    publicAddress: '198.51.100.1',
    wireguard: { endpoint: '198.51.100.1:51820', publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 4, memoryMb: 8192 },
    builder: false,
    availability: 'active',
    agentSeenAt: 0,
    edgeSeenAt: 0,
    status: 'ok',
  }
}
const HOSTS = ['ams-1', 'ams-2', 'iad-1', 'iad-2'].map(host)

function machine(id: string, group: string, hostName: string): PlannedMachine {
  return {
    id: id as MachineId,
    group,
    region: hostName.split('-')[0] as RegionCode,
    host: hostName as HostId,
    guest: group === 'worker' ? LARGE : SMALL,
    serving: true,
  }
}

/** `web ams x>n0` for each replacement: group, region, what goes and what comes. */
function planned(change: Partial<Omit<PlanRequest, 'ask'>> & { ask?: Partial<ReleaseAsk> } = {}) {
  let next = 0
  const plan = planRelease({
    cause: 'deploy',
    strategy: 'rolling',
    maxUnavailable: null,
    primaryRegion: 'ams' as RegionCode,
    groups: [WEB, WORKER],
    machines: [],
    hosts: HOSTS,
    used: new Map(),
    newId: () => `n${next++}` as MachineId,
    ...change,
    ask: { scale: null, regions: [], ha: true, ...change.ask },
  })
  if (plan.kind === 'refused') return plan
  return {
    ...plan,
    shown: plan.replacements.map(
      (r) =>
        `${r.group} ${r.region} ${r.source ?? ''}>${r.target === null ? '' : 'new'} w${r.wave}`,
    ),
  }
}
const shown = (change?: Parameters<typeof planned>[0]) => {
  const plan = planned(change)
  if (plan.kind === 'refused') throw new Error(plan.message)
  return plan.shown
}
const regions = (...codes: string[]) => codes as RegionCode[]

describe('a first release with process groups', () => {
  test('has two machines of what strangers reach, and one of what works in the background', () => {
    expect(shown()).toEqual(['web ams >new w0', 'web ams >new w0', 'worker ams >new w0'])
    expect(shown({ ask: { ha: false } })).toEqual(['web ams >new w0', 'worker ams >new w0'])
  })

  test('puts the first into each region that is named, the other into one', () => {
    const ask = { regions: regions('iad', 'ams') }
    expect(shown({ ask })).toEqual(['web iad >new w0', 'web ams >new w0', 'worker ams >new w0'])
    expect(shown({ ask, primaryRegion: null })).toContain('worker iad >new w0')
  })

  test('gives each group the room that it needs', () => {
    const plan = planned({
      hosts: HOSTS.map((h) => ({ ...h, capacity: { cpus: 4, memoryMb: 700 } })),
      ask: { ha: false },
    })
    expect(plan).toMatchObject({ kind: 'refused', code: 'no_room' })
  })
})

describe('a later release', () => {
  const machines = [
    machine('a', 'web', 'ams-1'),
    machine('b', 'web', 'ams-2'),
    machine('c', 'web', 'iad-1'),
    machine('d', 'worker', 'ams-1'),
  ]

  test('replaces machines by those of their own group, of each group a third at a time', () => {
    expect(shown({ machines })).toEqual([
      'web ams a>new w0',
      'web ams b>new w2',
      'web iad c>new w1',
      'worker ams d>new w0',
    ])
  })

  test('lets the machines of a group that was removed go, when the others have proved themselves', () => {
    expect(shown({ machines, groups: [WEB], formerDefault: 'web' })).toEqual([
      'web ams a>new w0',
      'web ams b>new w2',
      'web iad c>new w1',
      'worker ams d> w2',
    ])
  })

  test('makes the machines of a group that is new beside those that run', () => {
    expect(shown({ machines: machines.slice(0, 1) })).toEqual([
      'web ams a>new w0',
      'worker ams >new w0',
    ])
  })

  test('replaces the machines of a default group that is called differently now one by one', () => {
    const before = [machine('a', 'app', 'ams-1'), machine('b', 'app', 'iad-1')]
    expect(shown({ machines: before, groups: [WEB] })).toEqual([
      'web ams a>new w0',
      'web iad b>new w1',
    ])
    const app = { ...WEB, name: 'app' }
    expect(shown({ machines, groups: [app], formerDefault: 'web' })).toContain('worker ams d> w2')
    expect(groupTakingOver('web', ['app', 'jobs'], 'web')).toBe('app')
    expect(groupTakingOver('web', ['app'], 'app')).toBe(null)
  })

  test('of another number changes that group alone', () => {
    const cause = 'scale' as const
    expect(shown({ machines, cause, ask: { groups: { worker: { iad: 2 } as never } } })).toEqual([
      'worker iad >new w0',
      'worker iad >new w0',
    ])
    expect(shown({ machines, cause, ask: { scale: { iad: 0 } as never } })).toEqual([
      'web iad c> w0',
    ])
    expect(planned({ machines, cause, ask: { groups: { wroker: {} } } })).toMatchObject({
      code: 'invalid',
      message: 'there is no process group wroker; there are: web, worker',
    })
  })

  test('of another size replaces the machines of that group', () => {
    const ask = { guests: { worker: { memory_mb: 512 } } }
    expect(shown({ machines, cause: 'scale', ask })).toEqual(['worker ams d>new w0'])
  })

  test('keeps machines of one group apart, whatever runs of others', () => {
    const plan = planned({ machines: [machine('d', 'worker', 'ams-1')], ask: { ha: true } })
    if (plan.kind === 'refused') throw new Error(plan.message)
    const web = plan.replacements.filter((r) => r.group === 'web').map((r) => r.host)
    expect(new Set(web).size).toBe(2)
  })
})
