import { randomUUID } from 'node:crypto'
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../failure/failure.ts'
import { type HostSpec, layoutOf } from '../host/layout.ts'
import { isAlive, type ProcessMarks } from '../host/processes.ts'
import { apiUrlOf as hostApiUrlOf } from '../host/raise.ts'
import {
  checkName,
  DEFAULT_NAME,
  type PlaygroundPlan,
  type RegionPlan,
  stateDirOf,
} from './plan.ts'

/** What is written down about a playground before anything of it is made, so that whatever happens it can be taken away. */
export interface PlaygroundState {
  readonly version: 1
  readonly plan: PlaygroundPlan
  /** `raising` also means that `up` was killed half-way. */
  readonly phase: 'raising' | 'up'
  readonly begunAt: string
  /** Name under which the CLI remembers its server; null when that was not wanted. */
  readonly context: string | null
}

const WIREGUARD_PORT = 51820

export function readState(name: string): PlaygroundState | null {
  checkName(name)
  const file = join(stateDirOf(name), 'playground.json')
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as PlaygroundState) : null
}

export function writeState(state: PlaygroundState): void {
  const file = join(state.plan.stateDir, 'playground.json')
  mkdirSync(state.plan.stateDir, { recursive: true, mode: 0o700 })
  writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`)
  renameSync(`${file}.new`, file)
}

/** The plan of a playground that is up; a complaint with the next command when there is none. */
export function planOf(name: string = DEFAULT_NAME): PlaygroundPlan {
  const state = readState(name)
  const flag = name === DEFAULT_NAME ? '' : ` --name ${name}`
  if (state === null)
    throw new Failure(`no playground called ${name} is up`, {
      fix: `roost playground up --regions ams,iad,syd${flag}`,
    })
  if (!isThere(state))
    throw new Failure(`the playground ${name} did not outlive a restart of this machine`, {
      fix: [`roost playground down${flag}`, `roost playground up --regions …${flag}`],
    })
  if (state.phase !== 'up')
    throw new Failure(`the playground ${name} is only half up`, {
      why: 'its `up` did not come to its end',
      fix: `roost playground down${flag}`,
    })
  return state.plan
}

/** Namespaces are gone after a restart of the machine, files are not. */
function isThere(state: PlaygroundState): boolean {
  return state.phase !== 'up' || existsSync(join('/run/netns', state.plan.wanNetns))
}

export function regionOfPlan(plan: PlaygroundPlan, code: string): RegionPlan {
  const region = plan.regions.find((one) => one.code === code)
  if (region === undefined)
    throw new Failure(`the playground has no region ${code}`, {
      why: `it has ${plan.regions.map((one) => one.code).join(', ')}`,
      exitCode: 2,
    })
  return region
}

export function hostSpecOf(plan: PlaygroundPlan, region: RegionPlan): HostSpec {
  return {
    installation: plan.name,
    name: region.code,
    region: region.code,
    netns: region.netns,
    publicAddress: region.address,
    listenAddress: region.address,
    dataDir: join(plan.stateDir, region.code),
    runDir: join(plan.runDir, region.code),
    uplink: 'eth0',
    nameservers: [plan.resolverAddress],
    wireguard: { interface: `${plan.name}wg${region.number}`, port: WIREGUARD_PORT },
    // Each pretends to have this machine for itself: limits of machines are kept, sums over hosts are not.
    capacity: { cpus: availableParallelism(), memoryMb: Math.floor(totalmem() / 1_048_576) },
    // These they do share.
    proxyThreads: Math.max(1, Math.floor(availableParallelism() / plan.regions.length)),
    builder: region.number === 1,
    ownMounts: true,
    server:
      region.number === 1
        ? {
            domain: plan.domain,
            clientNetworks: plan.regions.map((one) => ({
              cidr: one.clientNetwork,
              region: one.code,
            })),
            tokenFile: tokenFileOf(plan),
          }
        : null,
  }
}

/** Where the playground's server answers. */
export function apiUrlOf(plan: PlaygroundPlan): string {
  return hostApiUrlOf(hostSpecOf(plan, plan.regions[0] as RegionPlan))
}

export function tokenFileOf(plan: PlaygroundPlan): string {
  return join(plan.stateDir, 'token')
}

/** What marks all processes of a playground. */
export function marksOf(plan: PlaygroundPlan): ProcessMarks {
  return {
    owner: plan.name,
    netns: [
      plan.wanNetns,
      ...plan.regions.flatMap((region) => [
        region.netns,
        region.client.netns,
        layoutOf(hostSpecOf(plan, region)).builderNetns,
      ]),
    ],
    cgroup: `/roost/${plan.name}`,
  }
}

const LOCK_POLL_MS = 20

/**
 * One `up`, `down` or fault at a time; others wait for as long as `waitMs`. A lock whose holder is dead is nobody's.
 * Returns what opens it again.
 */
export async function lockPlayground(name: string, waitMs = 0): Promise<() => void> {
  const file = `/run/roost-playground-${name}.lock`
  const untilMs = Date.now() + waitMs
  // The lock appears with its holder in it, or not at all.
  const mine = `${file}.${process.pid}.${randomUUID()}`
  writeFileSync(mine, String(process.pid))
  try {
    for (;;) {
      try {
        linkSync(mine, file)
        return () => rmSync(file, { force: true })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const holder = readHolder(file)
      if (holder !== null && !isAlive(holder)) rmSync(file, { force: true })
      else if (Date.now() >= untilMs)
        throw new Failure(`another command is working on the playground ${name}`, {
          why: `process ${holder}`,
        })
      else await sleep(LOCK_POLL_MS)
    }
  } finally {
    rmSync(mine, { force: true })
  }
}

function readHolder(file: string): number | null {
  try {
    return Number(readFileSync(file, 'utf8'))
  } catch {
    return null
  }
}
