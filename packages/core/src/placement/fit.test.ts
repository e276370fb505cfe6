import { describe, expect, test } from 'vitest'
import type { HostId, RegionCode } from '../id.ts'
import { fit } from './fit.ts'
import type { PlacementHost } from './place.ts'

const host = (id: string, region: string, memoryMb: number): PlacementHost => ({
  id: id as HostId,
  name: id,
  region: region as RegionCode,
  capacity: { cpus: 4, memoryMb },
  availability: 'active',
  status: 'ok',
})
const hosts = [host('a', 'ams', 1024), host('b', 'fra', 2048), host('c', 'fra', 256)]
const guest = { cpu_kind: 'shared', cpus: 1, memory_mb: 512 } as const
const ask = (regions: string[], count: number, used: [string, number][] = []) =>
  fit(
    { guest, regions: regions as (RegionCode | 'any')[], count },
    hosts,
    new Map(used.map(([id, memoryMb]) => [id as HostId, { cpus: 0, memoryMb }])),
  )

describe('fit', () => {
  test('counts what fits beside what is there, and leaves out where nothing does', () => {
    expect(ask(['any'], 0)).toEqual([
      { region: 'fra', count: 4 },
      { region: 'ams', count: 2 },
    ])
    expect(ask(['any'], 0, [['b', 2048]])).toEqual([{ region: 'ams', count: 2 }])
  })

  test('goes by the order that was asked for, and stops when there are enough', () => {
    expect(ask(['ams', 'any'], 3)).toEqual([
      { region: 'ams', count: 2 },
      { region: 'fra', count: 1 },
    ])
    expect(ask(['ams'], 9)).toEqual([{ region: 'ams', count: 2 }])
    expect(ask(['syd'], 1)).toEqual([])
  })

  test('reserves whole cpus for those that have them to themselves', () => {
    const big = { cpu_kind: 'performance', cpus: 2, memory_mb: 64 } as const
    const fits = fit({ guest: big, regions: ['ams' as RegionCode], count: 0 }, hosts, new Map())
    expect(fits).toEqual([{ region: 'ams', count: 2 }])
  })
})
