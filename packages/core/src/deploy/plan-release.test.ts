import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Host } from '../host/host.ts'
import type { HostId, MachineId, RegionCode } from '../id.ts'
import type { MachineGuest } from '../machine/config.ts'
import { type PlannedMachine, type PlanRequest, planRelease } from './plan-release.ts'

const GUEST: MachineGuest = { cpu_kind: 'shared', cpus: 1, memory_mb: 256 }
const region = (code: string) => code as RegionCode

function host(name: string, change: Partial<Host> = {}): Host {
  return {
    id: name as HostId,
    name,
    region: region(name.split('-')[0] ?? ''),
    number: 1,
    publicAddress: '198.51.100.1',
    wireguard: { endpoint: '198.51.100.1:51820', publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 4, memoryMb: 4096 },
    builder: false,
    availability: 'active',
    agentSeenAt: 0,
    edgeSeenAt: 0,
    status: 'ok',
    ...change,
  }
}

function machine(
  id: string,
  hostName: string,
  change: Partial<PlannedMachine> = {},
): PlannedMachine {
  return {
    id: id as MachineId,
    group: 'app',
    region: region(hostName.split('-')[0] ?? ''),
    host: hostName as HostId,
    guest: GUEST,
    serving: true,
    ...change,
  }
}

type Change = Partial<PlanRequest> & { readonly guest?: MachineGuest }

function plan({ guest = GUEST, ...change }: Change = {}) {
  let next = 0
  return planRelease({
    cause: 'deploy',
    ask: { scale: null, regions: [], ha: true, ...change.ask },
    strategy: 'rolling',
    maxUnavailable: null,
    primaryRegion: null,
    groups: [{ name: 'app', guest, served: true }],
    machines: [],
    hosts: [host('ams-1'), host('iad-1'), host('syd-1')],
    used: new Map(),
    newId: () => `new-${next++}` as MachineId,
    ...change,
  })
}

const ask = (change: Partial<PlanRequest['ask']>) => ({
  scale: null,
  regions: [],
  ha: true,
  ...change,
})

function planned(change: Change = {}) {
  const result = plan(change)
  if (result.kind !== 'planned') throw new Error(`${result.code}: ${result.message}`)
  return result
}

const regionsOf = (change: Partial<PlanRequest>) =>
  planned(change).replacements.map((r) => (r.target === null ? `-${r.region}` : r.region))

describe('a first release', () => {
  test('has two machines in the region that was asked for', () => {
    expect(regionsOf({ ask: ask({ regions: [region('iad')] }) })).toEqual(['iad', 'iad'])
  })
  test('has them on different hosts where the region has several', () => {
    const { replacements } = planned({
      hosts: [host('ams-1'), host('ams-2'), host('ams-3')],
      ask: ask({ regions: [region('ams')] }),
    })
    expect(new Set(replacements.map((r) => r.host)).size).toBe(2)
  })
  test('has one machine in each region when several are asked for', () => {
    const regions = ['ams', 'iad', 'syd'].map(region)
    expect(regionsOf({ ask: ask({ regions }) }).sort()).toEqual(['ams', 'iad', 'syd'])
  })
  test('has one machine without ha', () => {
    expect(regionsOf({ primaryRegion: region('syd'), ask: ask({ ha: false }) })).toEqual(['syd'])
  })
  test('has two machines on two hosts when no region is named', () => {
    const { replacements } = planned()
    expect(new Set(replacements.map((r) => r.host)).size).toBe(2)
  })
  test('is refused in a region without hosts, with those that there are', () => {
    expect(plan({ ask: ask({ regions: [region('fra')] }) })).toMatchObject({
      kind: 'refused',
      code: 'unknown_region',
      message: expect.stringContaining('ams, iad, syd'),
    })
  })
  test('is refused where nothing has room, with the figures', () => {
    const guest = { ...GUEST, memory_mb: 8192 }
    expect(plan({ guest, ask: ask({ regions: [region('ams')] }) })).toMatchObject({
      kind: 'refused',
      code: 'no_room',
      message: expect.stringContaining('8192 MB'),
    })
  })
})

describe('a later release', () => {
  const machines = [machine('a', 'ams-1'), machine('i', 'iad-1')]
  test('replaces each machine in its region', () => {
    expect(planned({ machines }).replacements).toMatchObject([
      { region: 'ams', source: 'a', target: 'new-0', host: 'ams-1', wave: 0 },
      { region: 'iad', source: 'i', target: 'new-1', host: 'iad-1', wave: 1 },
    ])
  })
  test('adds a machine in a region that is asked for and has none', () => {
    expect(regionsOf({ machines, ask: ask({ regions: [region('syd')] }) })).toEqual([
      'ams',
      'iad',
      'syd',
    ])
  })
  test('follows an explicit scale, and removes what it does not name', () => {
    expect(
      planned({ machines, ask: ask({ scale: { [region('ams')]: 2 } }) }).replacements,
    ).toMatchObject([
      { source: 'a', target: 'new-0' },
      { source: null, target: 'new-1' },
      { region: 'iad', source: 'i', target: null },
    ])
  })
  test('is refused while the only host of a region is silent, and says how to go on', () => {
    const hosts = [host('ams-1'), host('iad-1', { status: 'unreachable' })]
    expect(plan({ machines, hosts })).toMatchObject({
      code: 'host_unreachable',
      message: expect.stringContaining('iad-1'),
    })
  })
  test('runs in rounds where the room is short', () => {
    const three = ['a', 'b', 'c'].map((id) => machine(id, 'ams-1'))
    const hosts = [host('ams-1', { capacity: { cpus: 4, memoryMb: 4 * 256 } })]
    const used = new Map([['ams-1' as HostId, { cpus: 0, memoryMb: 3 * 256 }]])
    const result = planned({ machines: three, hosts, used })
    expect(result.replacements.map((r) => r.wave)).toEqual([0, 1, 2])
    expect(result.replacements.map((r) => r.round)).toEqual([0, 1, 2])
    expect(result.rounds).toBe(3)
  })
  test('is refused when not even one machine fits beside the old ones', () => {
    const hosts = [host('ams-1', { capacity: { cpus: 4, memoryMb: 256 } })]
    const used = new Map([['ams-1' as HostId, { cpus: 0, memoryMb: 256 }]])
    expect(plan({ machines: [machine('a', 'ams-1')], hosts, used })).toMatchObject({
      code: 'no_room',
      message: expect.stringContaining('beside'),
    })
  })
})

describe('a strategy', () => {
  const many = (count: number) =>
    ['ams', 'iad', 'syd'].flatMap((code) =>
      Array.from({ length: count }, (_, n) => machine(`${code}${n}`, `${code}-1`)),
    )
  const wavesOf = (change: Partial<PlanRequest>) =>
    planned({ machines: many(2), ...change }).replacements.reduce<string[][]>((waves, r) => {
      waves[r.wave] = [...(waves[r.wave] ?? []), r.region]
      return waves
    }, [])
  test('rolling replaces a third at a time, regions in turn', () => {
    expect(wavesOf({ strategy: 'rolling' })).toEqual([
      ['ams', 'iad'],
      ['ams', 'syd'],
      ['iad', 'syd'],
    ])
  })
  test.each([
    [0.5, 2],
    [1, 6],
    [4, 2],
    [0, 6],
    [100, 1],
  ])('max_unavailable %d makes %d waves of six', (maxUnavailable, waves) => {
    expect(wavesOf({ maxUnavailable })).toHaveLength(waves)
  })
  test('canary begins with one', () => {
    expect(wavesOf({ strategy: 'canary' }).map((w) => w.length)).toEqual([1, 2, 2, 1])
  })
  test('bluegreen and immediate replace all at once', () => {
    expect(wavesOf({ strategy: 'bluegreen' })).toHaveLength(1)
    expect(wavesOf({ strategy: 'immediate' })).toHaveLength(1)
  })
  test('bluegreen is refused where there is no room for all', () => {
    const hosts = [host('ams-1', { capacity: { cpus: 4, memoryMb: 3 * 256 } })]
    const used = new Map([['ams-1' as HostId, { cpus: 0, memoryMb: 2 * 256 }]])
    const two = ['a', 'b'].map((id) => machine(id, 'ams-1'))
    expect(plan({ strategy: 'bluegreen', machines: two, hosts, used })).toMatchObject({
      code: 'no_room',
      message: expect.stringContaining('--strategy rolling'),
    })
  })
  test('recreate replaces each where it is, one after the other, without room beside it', () => {
    const hosts = [host('ams-1', { capacity: { cpus: 4, memoryMb: 2 * 256 } })]
    const used = new Map([['ams-1' as HostId, { cpus: 0, memoryMb: 2 * 256 }]])
    const two = ['a', 'b'].map((id) => machine(id, 'ams-1'))
    const request = { strategy: 'recreate' as const, machines: two, hosts, used }
    expect(planned(request).replacements).toMatchObject([
      { source: 'a', target: 'a', host: 'ams-1', wave: 0, round: 0 },
      { source: 'b', target: 'b', host: 'ams-1', wave: 1, round: 0 },
    ])
    const larger = { ...GUEST, memory_mb: 512 }
    expect(plan({ ...request, guest: larger })).toMatchObject({
      code: 'no_room',
      message: expect.stringContaining('512 MB of memory are needed there, and 256 MB'),
    })
    const silent = [host('ams-1', { status: 'unreachable' })]
    expect(plan({ ...request, hosts: silent })).toMatchObject({ code: 'host_unreachable' })
  })
})

describe('a change of scale', () => {
  const machines = [machine('a', 'ams-1'), machine('b', 'ams-1'), machine('i', 'iad-1')]
  test('keeps what runs and leaves other regions alone', () => {
    const scale = { [region('ams')]: 3 }
    expect(planned({ cause: 'scale', machines, ask: ask({ scale }) }).replacements).toMatchObject([
      { region: 'ams', source: null, target: 'new-0' },
    ])
  })
  test('takes those away first that do not serve', () => {
    const scale = { [region('ams')]: 1 }
    const mixed = [machine('a', 'ams-1', { serving: false }), machine('b', 'ams-1')]
    expect(
      planned({ cause: 'scale', machines: mixed, ask: ask({ scale }) }).replacements,
    ).toMatchObject([{ source: 'a', target: null }])
  })
  test('to what is there is a plan of nothing', () => {
    const result = planned({
      cause: 'scale',
      machines,
      ask: ask({ scale: { [region('ams')]: 2 } }),
    })
    expect(result.replacements).toEqual([])
    expect(result.lines).toEqual(['nothing to do: the machines are as asked for'])
  })
  test('to nothing in a region works while its host is silent', () => {
    const hosts = [host('ams-1'), host('iad-1', { status: 'unreachable' })]
    const scale = { [region('iad')]: 0 }
    expect(
      planned({ cause: 'scale', machines, hosts, ask: ask({ scale }) }).replacements,
    ).toMatchObject([{ source: 'i', target: null }])
  })
})

test('a plan ends with the machines that were asked for, and no host ever holds more than it can', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('ams', 'iad'), fc.integer({ min: 1, max: 6 })), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.array(fc.nat(3), { maxLength: 6 }),
      fc.record({ ams: fc.nat(4), iad: fc.nat(4) }),
      fc.constantFrom('deploy' as const, 'scale' as const, 'secrets' as const),
      fc.constantFrom(128, 256, 512),
      (shapes, where, counts, cause, memory_mb) => {
        const hosts = shapes.map(([code, size], n) =>
          host(`${code}-${n}`, { capacity: { cpus: 4, memoryMb: size * 256 } }),
        )
        const guest = { ...GUEST, memory_mb }
        const used = new Map<HostId, { cpus: number; memoryMb: number }>()
        const load = (id: HostId, mb: number) =>
          used.set(id, { cpus: 0, memoryMb: (used.get(id)?.memoryMb ?? 0) + mb })
        const machines: PlannedMachine[] = []
        for (const [n, at] of where.entries()) {
          const on = hosts[at % hosts.length]
          if (!on || (used.get(on.id)?.memoryMb ?? 0) + 256 > on.capacity.memoryMb) continue
          load(on.id, 256)
          machines.push(machine(`old-${n}`, on.name))
        }
        const scale = counts as Record<RegionCode, number>
        const result = plan({ cause, guest, hosts, machines, used, ask: ask({ scale }) })
        if (result.kind === 'refused') return

        const running = new Map(machines.map((m) => [m.id, m.region]))
        for (let wave = 0; wave < result.waves; wave++) {
          const now = result.replacements.filter((r) => r.wave === wave)
          for (const r of now) {
            if (r.target === null || r.host === null) continue
            load(r.host, memory_mb)
            running.set(r.target, r.region)
          }
          for (const h of hosts)
            expect(used.get(h.id)?.memoryMb ?? 0).toBeLessThanOrEqual(h.capacity.memoryMb)
          for (const r of now) {
            const source = machines.find((m) => m.id === r.source)
            if (!source) continue
            load(source.host, -256)
            running.delete(source.id)
          }
        }
        for (const code of ['ams', 'iad']) {
          const here = [...running.values()].filter((r) => r === code).length
          expect(here).toBe(scale[region(code)])
        }
        if (cause !== 'scale') for (const m of machines) expect(running.has(m.id)).toBe(false)
      },
    ),
    { numRuns: 1000 },
  )
})
