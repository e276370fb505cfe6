import type { MachineId } from '@roost/core'
import { expect, test } from 'vitest'
import { type Entry, patienceFor, serverOptions } from './entry.ts'

const entry = (change: Partial<Entry> = {}): Entry => ({
  ...{ machine: '0000000000f001' as MachineId, role: 'active', number: 0 },
  ...{ address: '10.210.4.2', port: 8080, maxConnections: 0, far: false },
  ...change,
})
const checks = (change: Partial<Entry>) =>
  /inter (\d+)ms fastinter \d+ms downinter (\d+)ms/.exec(serverOptions(entry(change)))?.slice(1)

test('where there are many servers, those that are up are checked more rarely, near ones twice at most', () => {
  const ms = (servers: number, far: boolean) => checks({ patience: patienceFor(servers), far })
  expect([1, 500, 501, 100_000].map((servers) => ms(servers, false))).toEqual([
    ['500', '500'],
    ['500', '500'],
    ['1000', '500'],
    ['1000', '500'],
  ])
  expect([500, 501, 100_000].map((servers) => ms(servers, true))).toEqual([
    ['1000', '1000'],
    ['2000', '1000'],
    ['5000', '1000'],
  ])
})

test('whoever is checked how rarely, the first connection that fails takes it out', () => {
  for (const far of [true, false])
    expect(serverOptions(entry({ far, patience: 5 }))).toContain(
      'observe layer4 error-limit 1 on-error mark-down',
    )
})

test('a machine that is told who came is checked at a port of its own, so that checks tell it nothing', () => {
  for (const dialect of ['proxy-v1', 'proxy-v2'] as const)
    expect(serverOptions(entry({ port: 9000, dialect }))).toContain(' port 9000 check ')
  for (const dialect of ['h2', undefined] as const)
    expect(serverOptions(entry({ port: 9000, dialect }))).not.toContain(' port ')
})
