import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../failure/failure.ts'
import { machineResolvers } from '../host/machine-resolvers.ts'
import type { Program } from '../host/programs.ts'
import { sourceRoot } from '../host/source-root.ts'
import { portsOf } from './network.ts'
import type { PlaygroundPlan } from './plan.ts'
import { askWan, type WanCommand, type WanReply } from './wan/control.ts'
import type { WanConfig } from './wan/main.ts'

const START_MS_MAX = 15_000

export function wanProgram(plan: PlaygroundPlan): Program {
  return {
    name: 'wan',
    argv: [
      process.execPath,
      join(sourceRoot(), 'packages/cli/src/playground/wan/main.ts'),
      '--config',
      join(plan.stateDir, 'wan.json'),
    ],
    netns: plan.wanNetns,
    pidDir: wanPidDir(plan),
    logFile: join(plan.stateDir, 'wan.out'),
    owner: `${plan.name}/wan`,
  }
}

export function wanPidDir(plan: PlaygroundPlan): string {
  return join(plan.runDir, 'wan')
}

function controlSocket(plan: PlaygroundPlan): string {
  return join(plan.runDir, 'wan.sock')
}

export function writeWanConfig(plan: PlaygroundPlan): void {
  const config: WanConfig = {
    ports: portsOf(plan),
    controlSocket: controlSocket(plan),
    faultsFile: join(plan.stateDir, 'faults.json'),
    logFile: join(plan.stateDir, 'wan.log'),
    resolver: {
      address: plan.resolverAddress,
      domain: plan.domain,
      edges: plan.regions.map(({ code, address }) => ({ region: code, address })),
      clientNetworks: plan.regions.map(({ code, clientNetwork }) => ({
        region: code,
        cidr: clientNetwork,
      })),
      upstream: machineResolvers(),
    },
  }
  mkdirSync(wanPidDir(plan), { recursive: true })
  writeFileSync(join(plan.stateDir, 'wan.json'), `${JSON.stringify(config, null, 2)}\n`)
}

/** Asks the running WAN; its complaint becomes ours. */
export async function tellWan(
  plan: PlaygroundPlan,
  command: WanCommand,
): Promise<Extract<WanReply, { ok: true }>> {
  const reply = await askWan(controlSocket(plan), command)
  if (!reply.ok) throw new Failure(reply.error, { exitCode: 2 })
  return reply
}

export async function untilWanAnswers(plan: PlaygroundPlan): Promise<void> {
  const untilMs = Date.now() + START_MS_MAX
  for (;;) {
    try {
      await tellWan(plan, { command: 'stats' })
      return
    } catch (cause) {
      if (Date.now() > untilMs)
        throw new Failure('the simulated network does not start', {
          why: `its log: ${join(plan.stateDir, 'wan.out')}`,
          cause,
        })
      await sleep(20)
    }
  }
}
