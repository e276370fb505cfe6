import type { Misbehaviour } from '../../packages/agent/src/fake-runtime.ts'
import type { RegionCode } from '../../packages/core/src/index.ts'
import type { Random } from './random.ts'

/** What a person asks of the server, as data. `nth` counts the machines that there are, modulo their number. */
export type Wish =
  | {
      readonly kind: 'create'
      readonly region: RegionCode
      readonly version: Version
      readonly launch: boolean
    }
  | {
      readonly kind: 'update'
      readonly nth: number
      readonly version: Version
      readonly launch: boolean
    }
  | { readonly kind: 'start' | 'cordon' | 'uncordon' | 'restart'; readonly nth: number }
  /** Of those that run, or are suspended. */
  | { readonly kind: 'suspend' | 'resume'; readonly nth: number }
  | { readonly kind: 'stop'; readonly nth: number; readonly timeoutMs?: number }
  | { readonly kind: 'destroy'; readonly nth: number; readonly force: boolean }
  /** Of the released app too; held until it ends, or given back. */
  | {
      readonly kind: 'lease'
      readonly nth: number
      readonly released: boolean
      readonly ttlMs: number
    }
  | {
      readonly kind: 'deploy'
      readonly version: Version
      readonly scale: Readonly<Record<string, number>>
      readonly waitTimeoutMs: number
      readonly how?: DeployHow
    }
  | { readonly kind: 'scale'; readonly scale: Readonly<Record<string, number>> }
  | { readonly kind: 'secrets' }
  /** To the release before the one that serves. */
  | { readonly kind: 'rollback' }

export interface DeployHow {
  readonly strategy?: 'rolling' | 'canary' | 'bluegreen' | 'immediate' | 'recreate'
  readonly max_unavailable?: number
}

/** A configuration and image that nobody else has. */
export interface Version {
  readonly number: number
  readonly misbehaviour: Misbehaviour
  readonly restart: {
    readonly policy: 'no' | 'always' | 'on-failure'
    readonly max_retries: number
  }
  readonly stopTimeoutMs: number
  readonly autoDestroy: boolean
  readonly memoryMb: number
}

/** What of a version concerns its image. */
export function imageOf(app: string, version: Version): string {
  return `registry.internal/${app}-${version.number}:1`
}

export function configOf(app: string, version: Version): Record<string, unknown> {
  const { number, misbehaviour, restart, stopTimeoutMs, autoDestroy, memoryMb } = version
  return {
    image: imageOf(app, version),
    env: {
      VERSION: String(number),
      ...(Object.keys(misbehaviour).length === 0
        ? {}
        : { MISBEHAVIOUR: JSON.stringify(misbehaviour) }),
    },
    guest: { cpu_kind: 'shared', cpus: 1, memory_mb: memoryMb },
    services: [
      {
        protocol: 'tcp',
        internal_port: 8080,
        ports: [{ port: 80, handlers: ['http'] }],
        checks: [{ type: 'tcp', interval: '1s', timeout: '1s' }],
      },
    ],
    restart,
    stop_config: { signal: 'SIGINT', timeout: `${stopTimeoutMs}ms` },
    auto_destroy: autoDestroy,
  }
}

export interface PersonPlan {
  readonly machinesMax: number
  readonly releasesMax: number
  /** Of what they ask for, how much misbehaves. */
  readonly misbehaving: number
}

/** Somebody who creates, changes and destroys machines and rolls out releases without waiting for anything. */
export function createPerson(random: Random, regions: readonly RegionCode[]) {
  let versions = 0
  let made = 0
  let deployed = 0

  const versionFrom = (misbehaviour: Misbehaviour): Version => ({
    number: ++versions,
    misbehaviour,
    restart: {
      policy: random.pick(['no', 'always', 'on-failure', 'on-failure'] as const),
      max_retries: random.int(1, 4),
    },
    stopTimeoutMs: random.int(0, 16_000),
    autoDestroy: random.chance(0.05),
    memoryMb: random.pick([128, 256, 256, 512]),
  })
  const anyVersion = (plan: PersonPlan) =>
    versionFrom(random.chance(plan.misbehaving) ? misbehaviourFrom(random) : {})

  function released(plan: PersonPlan): Wish {
    if (deployed > 0 && random.chance(0.35)) {
      const roll = random.int(1, 10)
      if (roll <= 4) return { kind: 'scale', scale: { [random.pick(regions)]: random.int(0, 2) } }
      return { kind: roll <= 6 ? 'secrets' : 'rollback' }
    }
    deployed++
    const broken = random.pick<Misbehaviour>([
      { startFails: 'always', startImpossible: true },
      { exitsAfterMs: 200, exitCode: 1 },
      { exitsAfterMs: 300, oomKilled: true, exitCode: 137 },
      { startFails: 'once' },
      { startBlocksMs: 3000 },
      { pullBlocksMs: 4000 },
      { checkFlaps: 2, checkFlapsEveryMs: 700 },
    ])
    return {
      kind: 'deploy',
      version: {
        ...versionFrom(random.chance(plan.misbehaving / 2) ? broken : {}),
        restart: { policy: 'on-failure', max_retries: 2 },
        autoDestroy: false,
      },
      scale: Object.fromEntries(
        regions.map((region, n) => [region, n === 0 ? random.int(1, 2) : random.int(0, 2)]),
      ),
      waitTimeoutMs: random.int(5_000, 12_000),
      how: howFrom(random),
    }
  }

  return (plan: PersonPlan): Wish => {
    const nth = random.int(0, 1000)
    const roll = random.int(1, 100)
    if (deployed === 0 || (deployed < plan.releasesMax && random.chance(0.14)))
      return released(plan)
    if (made < 3 || (roll <= 22 && made < plan.machinesMax)) {
      made++
      return {
        kind: 'create',
        region: random.pick(regions),
        version: anyVersion(plan),
        launch: random.chance(0.9),
      }
    }
    if (roll <= 37) return { kind: random.chance(0.8) ? 'start' : 'restart', nth }
    if (roll <= 48) return { kind: random.chance(0.6) ? 'suspend' : 'resume', nth }
    if (roll <= 57)
      return {
        kind: 'stop',
        nth,
        ...(random.chance(0.3) ? { timeoutMs: random.int(1, 10_000) } : {}),
      }
    if (roll <= 76)
      return { kind: 'update', nth, version: anyVersion(plan), launch: random.chance(0.85) }
    if (roll <= 84) return { kind: 'destroy', nth, force: false }
    if (roll <= 89) return { kind: 'destroy', nth, force: true }
    if (roll <= 93)
      return { kind: 'lease', nth, released: random.chance(0.3), ttlMs: random.int(1000, 15_000) }
    return { kind: random.chance(0.4) ? 'cordon' : 'uncordon', nth }
  }
}

/** Mostly as the default is. */
function howFrom(random: Random): DeployHow {
  if (random.chance(0.5)) return {}
  return {
    strategy: random.pick(['rolling', 'canary', 'bluegreen', 'immediate', 'recreate'] as const),
    ...(random.chance(0.4) ? { max_unavailable: random.pick([0.33, 1, 2]) } : {}),
  }
}

function misbehaviourFrom(random: Random): Misbehaviour {
  const times = () => random.pick(['once', 'twice'] as const)
  const all: Misbehaviour[] = [
    { pullFails: times(), pullBlocksMs: random.int(1, 5000) },
    { createFails: times() },
    { startFails: times(), startBlocksMs: random.int(1, 3000) },
    { startFails: 'always', startImpossible: true },
    {
      exitsAfterMs: random.int(20, 5000),
      exits: random.int(1, 4),
      exitCode: random.pick([0, 1, 7]),
      oomKilled: random.chance(0.3),
    },
    { ignoresStop: true, resumeFails: 'once' },
    { stopTakesMs: random.int(100, 6000), resumeFails: 'once' },
    { removeFails: times() },
    { suspendFails: times(), resumeFails: times() },
    { resumeFails: times() },
    { checkFlaps: random.int(1, 4), checkFlapsEveryMs: random.int(200, 1500) },
    { silent: true },
  ]
  return { ...random.pick(all), ...random.pick(all) }
}
