import { existsSync, readFileSync } from 'node:fs'
import { layoutOf } from '../host/layout.ts'
import { processesOf, startedAt } from '../host/processes.ts'
import { programsIn, type RunningProgram } from '../host/programs.ts'
import type { PlaygroundPlan, RegionPlan } from './plan.ts'
import { apiUrlOf, hostSpecOf, planOf, tokenFileOf } from './state.ts'
import { caFileOf } from './up.ts'
import type { Faults } from './wan/links.ts'
import { NO_FAULTS } from './wan/links.ts'
import { tellWan, wanPidDir } from './wan-program.ts'

/** The reply of `roost playground status --json`: names as scripts expect them. */
export interface PlaygroundStatus {
  readonly name: string
  readonly server: string
  readonly domain: string
  /** Roost's DNS as clients reach it: their provider's resolver. */
  readonly dns: string
  readonly token_file: string
  readonly ca_file: string
  readonly regions: readonly {
    readonly code: string
    readonly host: string
    readonly host_id: string | null
    readonly address: string
    readonly edge: { readonly http: string; readonly https: string }
    readonly client_ns: string
    readonly host_ns: string
    readonly containerd: string
    readonly power: 'on' | 'off'
    readonly programs: readonly RunningProgram[]
  }[]
  readonly wan: RunningProgram
  readonly faults: Faults
}

export async function playgroundStatus(name?: string): Promise<PlaygroundStatus> {
  const plan = planOf(name)
  const faults = await tellWan(plan, { command: 'stats' }).then(
    (reply) => reply.faults,
    () => NO_FAULTS,
  )
  const stopped: RunningProgram = { name: 'wan', pid: null, since: null, ended: null }
  return {
    name: plan.name,
    server: apiUrlOf(plan),
    domain: plan.domain,
    dns: plan.resolverAddress,
    token_file: tokenFileOf(plan),
    ca_file: caFileOf(plan),
    regions: plan.regions.map((region) => regionStatus(plan, region, faults)),
    wan: programsIn(wanPidDir(plan))[0] ?? stopped,
    faults,
  }
}

function regionStatus(plan: PlaygroundPlan, region: RegionPlan, faults: Faults) {
  const layout = layoutOf(hostSpecOf(plan, region))
  const started = engineNames.flatMap((name) =>
    enginesOf(region, name).map((pid) => ({
      name,
      pid,
      since: startedAt(pid)?.toISOString() ?? null,
      ended: null,
    })),
  )
  return {
    code: region.code,
    host: region.code,
    host_id: hostIdIn(layout.configOf('agent')),
    address: region.address,
    edge: { http: `http://${region.address}`, https: `https://${region.address}` },
    client_ns: region.client.netns,
    host_ns: region.netns,
    containerd: layout.containerd.socket,
    power: faults.down.includes(region.code) ? ('off' as const) : ('on' as const),
    programs: [...programsIn(layout.pidDir), ...started],
  }
}

/** Engines that our programs start by themselves. */
export const engineNames = ['haproxy', 'wireguard-go'] as const
export type EngineName = (typeof engineNames)[number]

/** Process ids of an engine on a host. Machines live in namespaces of their own, so a machine's HAProxy is none of these. */
export function enginesOf(region: RegionPlan, name: EngineName): number[] {
  return processesOf({ owner: '/', netns: [region.netns], cgroup: '/roost/none' })
    .filter(({ command }) => command.split(' ')[0]?.split('/').at(-1) === name)
    .map(({ pid }) => pid)
}

function hostIdIn(agentConfigFile: string): string | null {
  if (!existsSync(agentConfigFile)) return null
  const { hostId } = JSON.parse(readFileSync(agentConfigFile, 'utf8')) as { hostId?: string }
  return hostId ?? null
}
