import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { PORTS } from '@roost/api'
import { describeError, runCommand } from '@roost/base'
import { hostMeshIpv4 } from '@roost/core'
import { Failure } from '../failure/failure.ts'
import { layoutOf } from '../host/layout.ts'
import { recordMachine, tuneMachine } from '../host/machine-record.ts'
import { startProgram } from '../host/programs.ts'
import {
  joinHost,
  type Progress,
  prepareHost,
  raiseServer,
  type ServerAccess,
  startJoined,
} from '../host/raise.ts'
import { requireMachine } from '../host/requirements.ts'
import { seedMirror } from '../mirror/seed.ts'
import { clientFor } from '../session/connect.ts'
import { saveContext } from '../session/contexts.ts'
import { raiseNetwork, raiseUplink } from './network.ts'
import { type PlaygroundPlan, planPlayground, type RegionPlan } from './plan.ts'
import {
  apiUrlOf,
  hostSpecOf,
  lockPlayground,
  planOf,
  readState,
  tokenFileOf,
  writeState,
} from './state.ts'
import { type PlaygroundStatus, playgroundStatus } from './status.ts'
import { untilWanAnswers, wanProgram, writeWanConfig } from './wan-program.ts'

export interface PlaygroundUpOptions {
  readonly regions: readonly string[]
  readonly name?: string | undefined
  readonly domain?: string | undefined
  /** First half of its addresses. Default 198.18. */
  readonly network?: string | undefined
  /** Brings the base images into its registry. Default true. */
  readonly seed?: boolean
  /** Makes the CLI speak to it from now on. Default true. */
  readonly saveContext?: boolean
  readonly onProgress?: Progress
}

const HOSTS_MS_MAX = 60_000

/** Raises a playground and returns when every host is `ok` in the API. What was made before a failure stays until `down`. */
export async function playgroundUp(options: PlaygroundUpOptions): Promise<PlaygroundStatus> {
  const plan = planPlayground(options)
  const say = options.onProgress ?? (() => {})
  requireMachine()
  const unlock = await lockPlayground(plan.name)
  try {
    refuseSecond(plan)
    recordMachine()
    tuneMachine()
    const context = options.saveContext === false ? null : contextName(plan)
    const state = {
      version: 1,
      plan,
      phase: 'raising',
      begunAt: new Date().toISOString(),
      context,
    } as const
    writeState(state)
    await raise(plan, say, options.seed !== false)
    if (context !== null)
      saveContext({
        name: context,
        url: apiUrlOf(plan),
        token: readFileSync(tokenFileOf(plan), 'utf8').trim(),
        ca: readFileSync(caFileOf(plan), 'utf8'),
      })
    writeState({ ...state, phase: 'up' })
    return await playgroundStatus(plan.name)
  } finally {
    unlock()
  }
}

async function raise(plan: PlaygroundPlan, say: Progress, seed: boolean): Promise<void> {
  say('network', 'namespaces and cables')
  mkdirSync(plan.runDir, { recursive: true, mode: 0o711 })
  await runCommand(['mount', '-t', 'tmpfs', '-o', 'mode=0711,size=1g', 'roost', plan.runDir])
  // What the agents mount below it must be seen in the mount namespaces of their containerds.
  await runCommand(['mount', '--make-shared', plan.runDir])
  await raiseNetwork(plan)
  await raiseUplink(plan)
  writeWanConfig(plan)
  startProgram(wanProgram(plan))

  const first = plan.regions[0] as RegionPlan
  const joined = untilWanAnswers(plan).then(() => say('network', 'joined by a simulated WAN'))
  const server: Promise<ServerAccess> = raiseServer(hostSpecOf(plan, first), say, joined)
  // Each host says by itself what is wrong; the promise alone must not end the program.
  server.catch(() => {})
  joined.catch(() => {})
  // They prepare all at once and join one after the other, so that a host's number is its region's.
  const prepared = plan.regions.map((region) => prepareHost(hostSpecOf(plan, region), say))
  const started: Promise<void>[] = []
  for (const promise of prepared) promise.catch(() => {})
  for (const [n, region] of plan.regions.entries()) {
    const spec = hostSpecOf(plan, region)
    const keys = await (prepared[n] as (typeof prepared)[0])
    const { url, ticket } = await server
    await joinHost(spec, keys, { url, ticket: await ticket() }, say)
    started.push(startJoined(spec, say))
  }
  await Promise.all(started)
  await untilHostsAreOk(plan, say)
  if (seed) await seedImages(plan, say)
}

async function untilHostsAreOk(plan: PlaygroundPlan, say: Progress): Promise<void> {
  const api = clientFor({
    url: apiUrlOf(plan),
    ca: readFileSync(caFileOf(plan), 'utf8'),
    token: readFileSync(tokenFileOf(plan), 'utf8').trim(),
  })
  const untilMs = Date.now() + HOSTS_MS_MAX
  const seen = new Set<string>()
  for (;;) {
    const hosts = await api.listHosts({}, { timeoutMs: 5000 }).catch(() => [])
    for (const host of hosts) {
      const ok = host.status === 'ok' && host.agent_seen_at !== null && host.edge_seen_at !== null
      if (ok && !seen.has(host.name)) say(host.name, 'ok')
      if (ok) seen.add(host.name)
    }
    const missing = plan.regions.filter((region) => !seen.has(region.code))
    if (missing.length === 0) return
    if (Date.now() > untilMs)
      throw new Failure(`not every host came up within ${HOSTS_MS_MAX / 1000} s`, {
        why: missing
          .map(({ code }) => {
            const host = hosts.find((one) => one.name === code)
            const silent = [
              host?.agent_seen_at == null ? 'agent' : [],
              host?.edge_seen_at == null ? 'edge' : [],
            ].flat()
            const logs = layoutOf(hostSpecOf(plan, regionNamed(plan, code))).logDir
            return `${code}: ${silent.join(' and ') || 'host'} not heard of; logs in ${logs}`
          })
          .join('; '),
        fix: `roost playground down${plan.name === 'roost' ? '' : ` --name ${plan.name}`}`,
      })
    await sleep(50)
  }
}

function regionNamed(plan: PlaygroundPlan, code: string): RegionPlan {
  return plan.regions.find((region) => region.code === code) as RegionPlan
}

async function seedImages(plan: PlaygroundPlan, say: Progress): Promise<void> {
  const first = plan.regions[0] as RegionPlan
  say('images', 'base images into the registry')
  try {
    await seedMirror({
      apiUrl: apiUrlOf(plan),
      apiToken: readFileSync(tokenFileOf(plan), 'utf8').trim(),
      registryUrl: `https://${hostMeshIpv4(first)}:${PORTS.registry}`,
      ca: readFileSync(caFileOf(plan), 'utf8'),
      netns: `/run/netns/${first.netns}`,
      onProgress: (text) => say('images', text),
    })
    say('images', 'ok')
  } catch (error) {
    throw new Failure('the base images could not be brought into the registry', {
      why: describeError(error),
      fix: 'roost playground down',
      cause: error,
    })
  }
}

function refuseSecond(plan: PlaygroundPlan): void {
  const flag = plan.name === 'roost' ? '' : ` --name ${plan.name}`
  const state = readState(plan.name)
  if (state?.phase === 'up') {
    planOf(plan.name)
    throw new Failure(`the playground ${plan.name} is up already`, {
      why: `with ${state.plan.regions.map(({ code }) => code).join(', ')}, since ${state.begunAt}`,
      fix: [`roost playground status${flag}`, `roost playground down${flag}`],
    })
  }
  if (state !== null || existsSync(plan.stateDir))
    throw new Failure(`the playground ${plan.name} is half up`, {
      why: 'an earlier `up` did not come to its end',
      fix: `roost playground down${flag}`,
    })
  const taken = Object.entries(networkInterfaces()).find(([, addresses]) =>
    addresses?.some((one) => one.address.startsWith(`${plan.network}.`)),
  )
  if (taken !== undefined)
    throw new Failure(`this machine uses ${plan.network}.0.0/16 already`, {
      why: `on its interface ${taken[0]}`,
      fix: 'choose another network, for example --network 198.19',
    })
}

export function caFileOf(plan: PlaygroundPlan): string {
  return layoutOf(hostSpecOf(plan, plan.regions[0] as RegionPlan)).ca
}

export function contextName(plan: PlaygroundPlan): string {
  return plan.name === 'roost' ? 'playground' : `playground-${plan.name}`
}
