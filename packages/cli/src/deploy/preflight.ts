import type { ApiClient } from '@roost/api'
import type { FlyToml } from '../config/fly-toml.ts'
import { machineConfigOf } from '../config/machine-config.ts'
import { nearest } from '../config/reader.ts'
import { Failure } from '../failure/failure.ts'

type Region = Awaited<ReturnType<ApiClient['listRegions']>>[number]

/** `said`: what named the region, where that is no flag. */
export function checkRegions(
  regions: readonly string[],
  all: readonly Region[],
  said: 'flag' | 'primary_region' = 'flag',
): void {
  for (const region of regions) {
    if (all.some(({ code }) => code === region)) continue
    const near = nearest(region, all, ({ code }) => code)
    const fix =
      said === 'flag'
        ? `--regions ${near?.code}`
        : `primary_region = "${near?.code}"   # in fly.toml`
    throw new Failure(`no host is in region "${region}"`, {
      why: `There ${all.length === 1 ? 'is' : 'are'} ${all.map(({ code }) => code).join(', ')}.`,
      fix: near === null ? 'roost regions' : fix,
      exitCode: 2,
      code: 'unknown_region',
    })
  }
}

/** What a machine has without a `[[vm]]`. */
const MEMORY_MB_DEFAULT = 256

/** Where no host of a region could hold even one machine, nothing need be built to find that out. */
export function checkRoom(
  regions: readonly string[],
  all: readonly Region[],
  config: FlyToml,
): void {
  const neededMb = machineConfigOf(config).guest?.memory_mb ?? MEMORY_MB_DEFAULT
  for (const region of regions) {
    const found = all.find(({ code }) => code === region)
    if (found === undefined || found.free_memory_mb >= neededMb) continue
    const withRoom = all.filter(({ free_memory_mb }) => free_memory_mb >= neededMb)
    const free = all.map(({ code, free_memory_mb }) => `${code} ${free_memory_mb} MB`)
    throw new Failure(`no room in ${region} for a machine of ${neededMb} MB`, {
      why: `Free memory: ${free.join(', ')}.`,
      fix: [
        ...(withRoom.length === 0
          ? []
          : [`--regions ${withRoom.map(({ code }) => code).join(',')}`]),
        ...(found.free_memory_mb >= 64 ? ['--vm-memory MB   # less for each machine'] : []),
        'roost apps list   # what else runs',
      ],
      code: 'no_room',
    })
  }
}
