import { describe, expect, test } from 'vitest'
import type { AppName, HostId, InstanceId, MachineId, RegionCode } from '../id.ts'
import { comingOf } from './coming.ts'
import type { MachineConfig } from './config.ts'
import type { Assignment, MachineStatus } from './machine.ts'
import { request } from './request.ts'

const ID = '00000000000001' as MachineId
const config: MachineConfig = {
  image: 'registry.internal/shop:v1',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [],
  checks: {},
  restart: { policy: 'on-failure', max_retries: 3 },
  stop_config: { signal: 'SIGINT', timeout_ms: 5_000 },
  metadata: {},
  auto_destroy: false,
}
function wanted(changes: Partial<Assignment> = {}): Assignment {
  return {
    id: ID,
    name: 'quiet-sun-1',
    app: 'shop' as AppName,
    host: 'h' as HostId,
    region: 'ams' as RegionCode,
    goal: 'started',
    generation: 1,
    configGeneration: 1,
    startGeneration: 1,
    instanceId: 'I1' as InstanceId,
    config,
    imageDigest: 'sha256:1',
    privateIpv4: '10.210.4.2',
    privateIpv6: 'fdaa::1',
    cordoned: false,
    routed: true,
    drain: null,
    stop: null,
    sealedSecrets: null,
    primaryRegion: null,
    ...changes,
  }
}
function seen(changes: Partial<MachineStatus> = {}): MachineStatus {
  return {
    id: ID,
    host: 'h' as HostId,
    state: 'started',
    generation: 1,
    instanceId: 'I1' as InstanceId,
    configGeneration: 1,
    sequence: 1,
    startedAt: 1,
    updatedAt: 1,
    exit: null,
    reason: null,
    restartCount: 0,
    checks: [],
    ...changes,
  }
}
const crash = { code: 1, signal: 0, oomKilled: false, requested: false, cause: null, at: 1 }
const critical = [
  { name: 'servicecheck-00-tcp-80', status: 'critical', output: '', updatedAt: 1 },
] as const
const starting = { kind: 'starting', stopsAt: null }

describe('what is on its way', () => {
  test.each([
    ['a new machine', wanted(), null, starting],
    ['one that starts', wanted(), seen({ state: 'starting' }), starting],
    ['one that does not pass its checks yet', wanted(), seen({ checks: critical }), starting],
    ['one that is up', wanted(), seen(), null],
    ['one that nobody wants up', wanted({ goal: 'stopped' }), seen({ state: 'starting' }), null],
    ['a cordoned one', wanted({ cordoned: true }), seen({ state: 'starting' }), null],
    ['one that failed', wanted(), seen({ state: 'failed' }), null],
    ['one that ended and stays so', wanted(), seen({ state: 'stopped' }), null],
    [
      'one that crashed so often that the next start is far',
      wanted(),
      seen({ state: 'starting', restartCount: 5, exit: crash }),
      null,
    ],
    [
      'one that crashed as often before it was stopped to be replaced',
      wanted(),
      seen({ state: 'starting', restartCount: 5, exit: { ...crash, requested: true } }),
      starting,
    ],
    [
      'one that failed and is asked to start anew',
      wanted({ generation: 2, startGeneration: 2 }),
      seen({ state: 'failed' }),
      starting,
    ],
  ])('%s', (_, assignment, status, coming) => {
    expect(comingOf(assignment, status)).toEqual(coming)
  })

  test('a machine that is updated is on its way from the wish to its first answer', () => {
    const asked = request(
      wanted(),
      { kind: 'update', config, imageDigest: 'sha256:2', instanceId: 'I2' as InstanceId },
      1000,
    )
    if (asked.kind !== 'changed') throw new Error('refused')
    const { assignment } = asked
    const replaced = { kind: 'replaced', stopsAt: null }
    expect(comingOf(assignment, seen())).toEqual({ kind: 'replaced', stopsAt: 6000 })
    const drained = request(assignment, { kind: 'drained' }, 1100)
    if (drained.kind !== 'changed') throw new Error('refused')
    const told = drained.assignment
    expect(comingOf(told, seen())).toEqual(replaced)
    expect(comingOf(told, seen({ state: 'stopping', generation: 3 }))).toEqual(replaced)
    const next = { instanceId: 'I2' as InstanceId, configGeneration: 2, generation: 3 }
    expect(comingOf(told, seen({ ...next, state: 'starting' }))).toEqual(replaced)
    expect(comingOf(told, seen({ ...next, state: 'failed' }))).toBeNull()
    const up = request(told, { kind: 'running', configGeneration: 2 }, 1200)
    if (up.kind !== 'changed') throw new Error('refused')
    expect(comingOf(up.assignment, seen({ ...next, checks: critical }))).toEqual(starting)
    expect(comingOf(up.assignment, seen(next))).toBeNull()
  })
})
