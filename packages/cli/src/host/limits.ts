import type { HostLayout } from './layout.ts'

/** What a control group may use. */
export interface GroupLimits {
  /** The same path in every hierarchy. */
  readonly cgroup: string
  readonly memoryMb: number
  /** Processes and threads. */
  readonly pids: number
}

/** What one program of a host may use. Its keeper puts it into its control group, which is made anew at each start. */
export interface Limits extends GroupLimits {
  /** Whom the kernel takes first when the machine itself runs out of memory; the highest goes first. */
  readonly oomScoreAdj: number
  /** Groups that are made with it, for what it starts. */
  readonly others?: readonly GroupLimits[]
}

/** Programs that run under limits; a build has its own group below the agent's machines. */
export type LimitedProgram =
  | 'server'
  | 'agent'
  | 'edge'
  | 'haproxy'
  | 'registry'
  | 'containerd'
  | 'shims'

/**
 * Share of the host's memory, between a least and a most, in MB. They are upper bounds for a program gone wrong and not
 * reservations: together they are more than a small host has. What the kernel takes first on a full host: builds (800), then
 * machines (300), then what can be fetched again (registry), and last what keeps machines running and reachable.
 */
const BOUNDS: Readonly<
  Record<
    LimitedProgram,
    {
      readonly share: number
      readonly leastMb: number
      readonly mostMb: number
      readonly pids: number
      readonly oomScoreAdj: number
    }
  >
> = {
  server: { share: 0.25, leastMb: 384, mostMb: 4096, pids: 512, oomScoreAdj: -700 },
  agent: { share: 0.2, leastMb: 320, mostMb: 2048, pids: 1024, oomScoreAdj: -900 },
  edge: { share: 0.2, leastMb: 256, mostMb: 2048, pids: 512, oomScoreAdj: -900 },
  haproxy: { share: 0.25, leastMb: 256, mostMb: 8192, pids: 512, oomScoreAdj: -900 },
  registry: { share: 0.2, leastMb: 256, mostMb: 2048, pids: 1024, oomScoreAdj: -300 },
  containerd: { share: 0.25, leastMb: 320, mostMb: 4096, pids: 8192, oomScoreAdj: -900 },
  // One for each machine, 5 MB of its own: they are what machines cost, so there is no bound but the number of processes.
  shims: { share: 0.5, leastMb: 512, mostMb: 65_536, pids: 32_768, oomScoreAdj: -900 },
}

export function limitsOf(
  layout: Pick<HostLayout, 'programsCgroup'>,
  program: LimitedProgram,
  hostMemoryMb: number,
): Limits {
  const { share, leastMb, mostMb, pids, oomScoreAdj } = BOUNDS[program]
  return {
    cgroup: `${layout.programsCgroup}/${program}`,
    memoryMb: Math.round(Math.min(mostMb, Math.max(leastMb, share * hostMemoryMb))),
    pids,
    oomScoreAdj,
  }
}

/**
 * Node's heap may take three fifths of the limit: the rest is for buffers, code and the threads. Beyond it the program ends
 * with a message of its own, before the kernel ends it without one. A small young generation costs a little time in the
 * collector and saves tens of MB; so does code for size, which only the server needs to be fast.
 */
export function nodeArguments(program: LimitedProgram, { memoryMb }: Limits): string[] {
  const size = program === 'server' ? [] : ['--optimize-for-size']
  return [`--max-old-space-size=${Math.round(memoryMb * 0.6)}`, '--max-semi-space-size=4', ...size]
}

/** The allocator of the C library otherwise keeps what threads once used: 25 MB in an agent that does nothing. */
export const NODE_ENVIRONMENT: Readonly<Record<string, string>> = {
  NODE_ENV: 'production',
  MALLOC_ARENA_MAX: '2',
  MALLOC_TRIM_THRESHOLD_: '131072',
  MALLOC_MMAP_THRESHOLD_: '131072',
}

/** Of all builds of a host together. They are the first to go when the machine itself runs out of memory. */
export function buildMemoryMb(hostMemoryMb: number): number {
  return Math.max(512, Math.round(hostMemoryMb / 2))
}
