import { Failure } from '../failure/failure.ts'
import { layoutOf } from '../host/layout.ts'
import { powerOff } from '../host/power-off.ts'
import { killProcesses, signal } from '../host/processes.ts'
import { killProgram } from '../host/programs.ts'
import { programNames, startJoined } from '../host/raise.ts'
import type { PlaygroundPlan, RegionPlan } from './plan.ts'
import { hostSpecOf, lockPlayground, planOf, regionOfPlan } from './state.ts'
import { type EngineName, engineNames, enginesOf } from './status.ts'
import type { Faults } from './wan/links.ts'
import { tellWan } from './wan-program.ts'

/** Things that go wrong, made on purpose. Each returns what is wrong with the network afterwards. */

/** Power failure of a region's host: nothing more leaves it, then every process of it is gone. */
export async function faultKillRegion(region: string, name?: string): Promise<Faults> {
  return withPlan(name, async (plan) => {
    const found = regionOfPlan(plan, region)
    // The network first: the last word of a dying connection would tell others what silence must.
    const { faults } = await tellWan(plan, { command: 'port', endpoint: found.code, up: false })
    await killProcesses(hostMarks(plan, found))
    return faults
  })
}

/** Power is back: what was in memory is gone, what was on disk is there, and all programs start. */
export async function faultRestoreRegion(region: string, name?: string): Promise<Faults> {
  return withPlan(name, async (plan) => {
    const found = regionOfPlan(plan, region)
    const { faults: before } = await tellWan(plan, { command: 'stats' })
    if (!before.down.includes(found.code))
      throw new Failure(`${found.code} is not dead`, {
        fix: `roost playground fault kill ${found.code}`,
      })
    const spec = hostSpecOf(plan, found)
    await powerOff(spec)
    const { faults } = await tellWan(plan, { command: 'port', endpoint: found.code, up: true })
    await startJoined(spec, () => {})
    return faults
  })
}

export const killableNames = [
  'agent',
  'edge',
  'haproxy',
  'containerd',
  'server',
  'registry',
  'wireguard-go',
] as const

/** kill -9 of one program of a host; whoever keeps it starts it again. Returns the process ids that were killed. */
export async function faultKillProgram(
  program: string,
  region: string | undefined,
  name?: string,
): Promise<number[]> {
  return withPlan(name, async (plan) => {
    if (!killableNames.some((one) => one === program))
      throw new Failure(`no program is called ${program}`, {
        why: `there are ${killableNames.join(', ')}`,
        exitCode: 2,
      })
    const found = regionOfPlan(plan, region ?? onlyRegionOf(plan, program))
    if (engineNames.some((one) => one === program)) {
      const pids = enginesOf(found, program as EngineName)
      if (pids.length === 0) throw new Failure(`${program} does not run in ${found.code} just now`)
      for (const pid of pids) signal(pid, 'SIGKILL')
      return pids
    }
    const spec = hostSpecOf(plan, found)
    if (!programNames(spec).some((one) => one === program))
      throw new Failure(`${program} does not run in ${found.code}`, {
        why: `it runs in ${plan.regions[0]?.code} only`,
        exitCode: 2,
      })
    return [killProgram(layoutOf(spec).pidDir, program)]
  })
}

export function faultCut(a: string, b: string, name?: string): Promise<Faults> {
  return pairFault({ command: 'cut', a, b }, name)
}

/** Ends all that is wrong between two ends. */
export function faultHeal(a: string, b: string, name?: string): Promise<Faults> {
  return pairFault({ command: 'heal', a, b }, name)
}

/** `ms` is a round trip. */
export function faultDelay(a: string, b: string, ms: number, name?: string): Promise<Faults> {
  return pairFault({ command: 'delay', a, b, ms }, name)
}

/** Of the packets in each direction. */
export function faultLoss(a: string, b: string, percent: number, name?: string): Promise<Faults> {
  return pairFault({ command: 'loss', a, b, percent }, name)
}

export async function faultList(name?: string): Promise<Faults> {
  return (await tellWan(planOf(name), { command: 'stats' })).faults
}

/** Faults given at the same moment follow each other. */
const FAULT_WAIT_MS = 20_000

async function pairFault(
  command: Parameters<typeof tellWan>[1],
  name: string | undefined,
): Promise<Faults> {
  return withPlan(name, async (plan) => (await tellWan(plan, command)).faults)
}

async function withPlan<T>(
  name: string | undefined,
  work: (plan: PlaygroundPlan) => Promise<T>,
): Promise<T> {
  const plan = planOf(name)
  const unlock = await lockPlayground(plan.name, FAULT_WAIT_MS)
  try {
    return await work(plan)
  } finally {
    unlock()
  }
}

function onlyRegionOf(plan: PlaygroundPlan, program: string): string {
  const first = plan.regions[0] as RegionPlan
  if (plan.regions.length === 1 || program === 'server' || program === 'registry') return first.code
  throw new Failure(`in which region is ${program} to be killed?`, {
    fix: `add --region: ${plan.regions.map(({ code }) => code).join(', ')}`,
    exitCode: 2,
  })
}

function hostMarks(plan: PlaygroundPlan, region: RegionPlan) {
  const layout = layoutOf(hostSpecOf(plan, region))
  return {
    owner: layout.owner,
    netns: [region.netns, layout.builderNetns],
    cgroup: layout.cgroupParent,
  }
}
