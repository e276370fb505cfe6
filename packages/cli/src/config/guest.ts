/** Fly's sizes of machines: a kind of cpu, a number of them, and the memory that comes with each. */
const SIZES = {
  shared: { prefix: 'shared-cpu', cpus: [1, 2, 4, 6, 8], memoryMbEach: 256 },
  performance: { prefix: 'performance', cpus: [1, 2, 4, 6, 8, 10, 12, 14, 16], memoryMbEach: 2048 },
} as const

export interface Guest {
  readonly cpu_kind: 'shared' | 'performance'
  readonly cpus: number
  readonly memory_mb: number
}

const PRESETS: ReadonlyMap<string, Guest> = new Map(
  (['shared', 'performance'] as const).flatMap((kind) => {
    const { prefix, cpus, memoryMbEach } = SIZES[kind]
    return cpus.map((n): [string, Guest] => [
      `${prefix}-${n}x`,
      { cpu_kind: kind, cpus: n, memory_mb: n * memoryMbEach },
    ])
  }),
)

export const GUEST_SIZES: readonly string[] = [...PRESETS.keys()]
export const GUEST_SIZE_DEFAULT = 'shared-cpu-1x'

export function guestPreset(size: string): Guest | null {
  return PRESETS.get(size) ?? null
}
