import type { MachineGuest } from '@roost/core'

export const CPU_PERIOD_US = 100_000
const PIDS_MAX = 4096

/** What a machine of that size may use, as the kernel counts it. */
export function machineLimits({ cpu_kind, cpus, memory_mb }: MachineGuest) {
  return {
    memoryBytes: memory_mb * 1024 * 1024,
    cpuShares: cpus * (cpu_kind === 'shared' ? 64 : 1024),
    cpuQuotaUs: cpus * CPU_PERIOD_US,
    pids: PIDS_MAX,
  }
}
