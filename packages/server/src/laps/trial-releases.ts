import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Loop, silentLogger } from '@roost/base'
import {
  type App,
  type AppName,
  type Assignment,
  type Host,
  type HostId,
  isFinal,
  type MachineConfig,
  type RegionCode,
  type Release,
} from '@roost/core'
import { createIds } from '../ids.ts'
import { createRelease, type ReleaseRequest } from '../release/create-release.ts'
import { openMasterKey } from '../secret/master-key.ts'
import { createSecrets } from '../secret/secrets.ts'
import { networkNumber, putApp } from '../store/apps.ts'
import { putHost } from '../store/hosts.ts'
import { listMachines } from '../store/machines.ts'
import { getRelease, listReleaseEvents } from '../store/releases.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import { createPresence } from '../watch/presence.ts'
import { startDrainLap } from './drain-lap.ts'
import { type StepMoment, startReleaseLap } from './release-lap.ts'
import { agentThatSays, createSteppedClock, type Fate, simulateHosts } from './simulated-hosts.ts'

export const shop = 'shop' as AppName
export const START = 1_700_000_000_000

export const CONFIG: MachineConfig = {
  image: 'registry.internal/shop@sha256:1',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [
    {
      protocol: 'tcp',
      internal_port: 8080,
      ports: [],
      checks: [],
      concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
      autostop: 'off',
      autostart: true,
      min_machines_running: 0,
    },
  ],
  checks: {},
  restart: { policy: 'on-failure', max_retries: 10 },
  stop_config: { signal: 'SIGINT', timeout_ms: 5_000 },
  metadata: {},
  auto_destroy: false,
}

export function trialHost(name: string, number: number, memoryMb = 4096): Host {
  return {
    id: `${number}`.padStart(14, '0') as HostId,
    name,
    region: name.split('-')[0] as RegionCode,
    number,
    publicAddress: '198.51.100.1',
    wireguard: { endpoint: '198.51.100.1:51820', publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 4, memoryMb },
    builder: false,
    availability: 'active',
    agentSeenAt: START,
    edgeSeenAt: START,
    status: 'ok',
  }
}

/**
 * For tests: the release and drain laps over a store in memory, with hosts that carry out what they hear. `close` when done.
 */
export async function openTrialReleases(
  options: {
    readonly hosts?: readonly Host[]
    /** By image digest, or by image digest and region: `sha256:2 ams`. */
    readonly fates?: Readonly<Record<string, Fate>>
    readonly lines?: readonly object[]
    readonly onStep?: (moment: StepMoment) => void
  } = {},
) {
  const hosts = options.hosts ?? [
    trialHost('ams-1', 1),
    trialHost('iad-1', 2),
    trialHost('syd-1', 3),
  ]
  const folder = await mkdtemp(join(tmpdir(), 'roost-release-'))
  const clock = createSteppedClock(START)
  const store = openSqlite({ file: ':memory:' })
  const presence = createPresence(START)
  const secrets = createSecrets(await openMasterKey(join(folder, 'master.key')))
  const ids = createIds()
  const deps = {
    store,
    clock,
    ids,
    presence,
    secrets,
    log: silentLogger,
    agent: () => agentThatSays(options.lines ?? []),
    ...(options.onStep === undefined ? {} : { onStep: options.onStep }),
  }
  await store.transaction(async (tx) => {
    const { number } = await networkNumber(tx, 'personal', 'default')
    const app: App = {
      name: shop,
      organization: 'personal',
      network: number,
      createdAt: START,
      primaryRegion: null,
      release: 0,
    }
    await putApp(tx, app)
    for (const one of hosts) await putHost(tx, one)
  })
  const fates = options.fates ?? {}
  const fateOf = ({ imageDigest, region }: Assignment) =>
    fates[`${imageDigest} ${region}`] ?? fates[imageDigest] ?? {}
  const world = simulateHosts({ store, clock, presence, hosts, fateOf })

  let loops: Loop[] = []
  const startLaps = () => {
    loops = [startReleaseLap(deps), startDrainLap(deps)]
  }
  const killLaps = async () => {
    const ended = Promise.all(loops.map((loop) => loop.stop()))
    await clock.advance(0)
    await ended
  }
  startLaps()
  const close = async () => {
    await killLaps()
    await store.close()
    await rm(folder, { recursive: true, force: true })
  }

  const release = (image: string, ask: Partial<Release['ask']> = {}, change = {}) =>
    store.transaction((tx) =>
      createRelease(
        tx,
        {
          app: shop,
          cause: 'deploy',
          ask: { scale: null, regions: [], ha: true, ...ask },
          what: {
            image: `registry.internal/shop@${image}`,
            imageDigest: image,
            config: CONFIG,
            primaryRegion: null,
            source: null,
          },
          waitTimeoutMs: 120_000,
          createdBy: 'admin',
          ...change,
        } satisfies ReleaseRequest,
        { now: clock.now(), newId: ids.machineId },
      ),
    )
  const machines = () => store.read((reader) => listMachines(reader, { app: shop }))
  const events = (version: number) =>
    store.read(async (reader) =>
      (await listReleaseEvents(reader, shop, version, 0)).map(({ event }) => event),
    )
  /** Lets the world go on until something holds, at most for so long. */
  const until = async (what: () => Promise<boolean>, limitMs: number, watch = async () => {}) => {
    for (let ms = 0; ms <= limitMs; ms += 100) {
      if (await what()) return
      await world.tick()
      await clock.advance(100)
      await watch()
    }
    throw new Error(`not within ${limitMs} ms: ${JSON.stringify(await events(1), null, 1)}`)
  }
  const ended = async (version: number, limitMs = 60_000, watch = async () => {}) => {
    const look = () => store.read((reader) => getRelease(reader, shop, version))
    await until(async () => isFinal((await look())?.status ?? 'pending'), limitMs, watch)
    return look()
  }
  const versions = async () =>
    (await machines()).map((m) => m.assignment.config.metadata['fly_release_version'])
  return {
    ...deps,
    world,
    release,
    machines,
    events,
    ended,
    until,
    versions,
    startLaps,
    killLaps,
    close,
  }
}
