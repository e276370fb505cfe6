import { mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { type AgentConfig, agentConfig, type RecordValues } from '@roost/api'
import {
  backoffMs,
  createLogger,
  createRecordCache,
  describeError,
  type Logger,
  PlatformError,
  type RecordCache,
  runCommand,
  startLoop,
  startWatchdog,
  systemClock,
  untilShutdown,
} from '@roost/base'
import {
  containerImages,
  type Host,
  type HostId,
  imageRepository,
  type MachineId,
} from '@roost/core'
import { type Builder, createBuilder } from './build/builder.ts'
import { registerBuildRoutes } from './build/routes.ts'
import { listeningIn } from './check/listening-in.ts'
import { createProbeChecks } from './check/probe-checks.ts'
import { createContainerProbe } from './check/probe-container.ts'
import { openCgroups } from './containerd/cgroup.ts'
import { ContainerdClient } from './containerd/client.ts'
import { ContainerdRuntime } from './containerd/containerd-runtime.ts'
import { openFreezer } from './containerd/freezer.ts'
import { ImageRoom } from './containerd/image-room.ts'
import { ImageStore } from './containerd/image-store.ts'
import { MachineDirs } from './containerd/machine-dir.ts'
import { createStaticFolders, staticsDirOf } from './containerd/static-folders.ts'
import { type HostDisks, openHostDisks } from './disk/host-disks.ts'
import { createRoomyRuntime } from './disk/roomy-runtime.ts'
import { processesOf } from './exec/processes.ts'
import { placesOf } from './image/places.ts'
import { ImagePuller, imageName } from './image/puller.ts'
import { startCopierWatch } from './log/copier-watch.ts'
import { mountLogFileSystem, showLogFileSystemTo } from './log/file-system.ts'
import { LogKeeper } from './log/machine-logs.ts'
import { followControlPlane } from './machine/follow-control-plane.ts'
import { createMachineKeeper } from './machine/keep-machines.ts'
import { openRecordStore } from './machine/record-store.ts'
import { HostNetwork } from './network/host-network.ts'
import { registerAccessRoutes } from './rpc/access-routes.ts'
import { createAgentListener } from './rpc/listener.ts'
import { createServerClient } from './rpc/server-client.ts'
import { registerSignalRoute } from './rpc/signal-route.ts'
import { registerUsageRoute } from './rpc/usage-route.ts'
import { clearSwaps, describeClearSwap } from './secret/clear-swap.ts'
import { assertTmpfs } from './secret/environment-file.ts'
import { readOrMakeSealingKey, secretOpener } from './secret/sealed-secrets.ts'

const NETWORK_PERIOD_MS = 2000
const RETAIN_PERIOD_MS = 600_000
const clock = systemClock

/**
 * One host's agent. It starts from what it remembers, in this order: the mesh, by which everything else is reached; its own
 * listener; containerd; the machines. The server may be gone all the while.
 */
async function run(config: AgentConfig, log: Logger): Promise<void> {
  const { dataDir, runDir } = config
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  mkdirSync(runDir, { recursive: true, mode: 0o711 })
  assertTmpfs(runDir)
  // A dump of ours would hold the secrets of all machines.
  await runCommand(['prlimit', `--pid=${process.pid}`, '--core=1:1']).catch((error: unknown) =>
    log.warn('forbid core dumps', { error }),
  )
  const tls = readTls(config)
  const closers: (() => Promise<void> | void)[] = []
  untilShutdown(log, closers)

  const cache = createRecordCache<RecordValues>({
    file: join(dataDir, 'records.sqlite'),
    owner: config.hostId,
    log,
  })
  closers.push(() => cache.close())
  const server = createServerClient({ url: config.serverUrl, tls })
  closers.push(() => server.close())

  const network = new HostNetwork({ ...config, clock, log })
  await untilDone('bring up the mesh', log, () => network.ensure(meshView(cache, config)))
  const networking = startLoop({
    name: 'network',
    periodMs: NETWORK_PERIOD_MS,
    clock,
    log,
    lap: () => network.ensure(meshView(cache, config)),
  })
  closers.push(() => networking.stop())

  const rawDir = config.logs.dir
  const imageFile = join(dataDir, 'logs.ext4')
  await untilDone('mount the file system for logs', log, () =>
    mountLogFileSystem({ dir: rawDir, imageFile, sizeMb: config.logs.sizeMb }),
  )
  const storeDir = join(dataDir, 'logs')
  mkdirSync(storeDir, { recursive: true, mode: 0o700 })
  const { region, hostName } = config
  const logs = new LogKeeper({ rawDir, storeDir, region, host: hostName, clock, log })
  logs.start()
  closers.push(() => logs.stop())

  const client = new ContainerdClient(config.containerd.address, config.containerd.namespace)
  closers.push(() => client.close())
  const listener = createAgentListener({
    tls: { key: tls.key, certificate: tls.certificate, clientCa: tls.ca },
    logs,
    health: async () => ({ host: config.hostId, containerd: await client.version() }),
    clock,
    log,
  })
  const inClear = () => clearSwaps().map(describeClearSwap)
  for (const warning of inClear()) log.warn(warning)
  const hostDisks = await openHostDisks({ config, warnings: inClear, clock, log })
  closers.push(() => hostDisks.stop())
  const builder = makeBuilder({ config, cache, tls, server, hostDisks, log })
  registerBuildRoutes(listener.app, { builder })
  registerUsageRoute(listener.app, () => hostDisks.usage())
  const runtime = makeRuntime({ config, client, network, logs, cache, tls, server, hostDisks, log })
  registerSignalRoute(listener.app, runtime)
  const cgroups = openCgroups()
  registerAccessRoutes(listener.app, {
    runtime,
    addresses: (id) =>
      cache
        .list('assignment')
        .filter((assignment) => assignment.id === id)
        .flatMap(({ privateIpv4, privateIpv6 }) => [privateIpv4, privateIpv6]),
    listening: (id) => listeningIn(network.netnsPath(id)),
    processes: (id) => processesOf(cgroups.processes(`${config.cgroupParent}/${id}`)),
    region,
    log,
  })
  closers.push(
    () => builder?.close(),
    () => listener.close(),
  )
  await untilDone('listen', log, () => listener.listen([config.listen]))

  await untilDone('reach containerd', log, async () => {
    await client.version()
    await showLogFileSystemTo(config.containerd.address, rawDir)
    await runtime.open()
  })
  void runtime.followEvents()
  closers.push(() => runtime.close())

  const store = openRecordStore({ file: join(dataDir, 'machines.sqlite'), log })
  closers.push(() => store.close())
  const open = secretOpener(await readOrMakeSealingKey(config.sealingKeyFile))
  const self = meshView(cache, config).hosts.find((host) => host.id === config.hostId)
  const keeper = createMachineKeeper({
    runtime: createRoomyRuntime({ runtime, ...hostDisks }),
    checks: createProbeChecks({
      clock,
      probeContainer: createContainerProbe({
        exec: (id, request, signal) => runtime.exec(id, request, signal),
        netnsPath: (id) => network.netnsPath(id),
      }),
      listening: (id) => listeningIn(network.netnsPath(id)),
    }),
    clock,
    log,
    store,
    host: {
      id: config.hostId as HostId,
      ...(self === undefined ? {} : { publicAddress: self.publicAddress }),
    },
    unseal: (sealed, assignment) => open(sealed, assignment.id),
    onStatus: (status) => link.report(status),
  })
  closers.push(() => keeper.stop())
  const link = followControlPlane({
    controlPlane: server,
    cache,
    clock,
    log,
    onRecords: () => {
      keeper.setAssignments(cache.list('assignment'))
      networking.wake()
    },
    statuses: () => keeper.statuses(),
    onAhead: (id, sequence) => keeper.goBeyond(id, sequence),
    disk: () => hostDisks.worst(),
  })
  closers.push(() => link.stop())
  hostDisks.startCollecting({
    images: new ImageRoom(client),
    cache: builder?.cache ?? null,
    isWanted: (name) =>
      cache
        .list('assignment')
        .some(
          ({ goal, config, imageDigest, containerDigests }) =>
            goal !== 'destroyed' &&
            [
              { image: config.image, digest: imageDigest },
              ...containerImages(config, containerDigests),
            ].some(
              ({ image, digest }) =>
                imageName({ repository: imageRepository(image), digest }) === name,
            ),
        ),
    // An empty cache is no empty world.
    mayCollect: () => cache.revision() > 0,
    sweep: () => runtime.sweepLeftovers(),
  })

  const copiers = startCopierWatch({
    rawDir,
    runs: () => runtime.runs(),
    watchMarks: (heard) => logs.watchMarks(heard),
    onDead: ({ id, startedAt }) => runtime.endRun(id, 'its log copier died', startedAt),
    clock,
    log,
  })
  closers.push(() => copiers.stop())

  const retaining = startLoop({
    name: 'drop old logs',
    periodMs: RETAIN_PERIOD_MS,
    clock,
    log,
    lap: async () => {
      if (cache.revision() > 0)
        logs.retain(new Set<MachineId>(cache.list('assignment').map(({ id }) => id)))
    },
  })
  closers.push(() => retaining.stop())
  log.info('ready', { host: hostName, containerd: await client.version() })
}

function makeRuntime(parts: {
  readonly config: AgentConfig
  readonly client: ContainerdClient
  readonly network: HostNetwork
  readonly logs: LogKeeper
  readonly cache: RecordCache<RecordValues>
  readonly tls: Tls
  readonly server: ReturnType<typeof createServerClient>
  readonly hostDisks: HostDisks
  readonly log: Logger
}): ContainerdRuntime {
  const { config, client, cache, tls, server } = parts
  const store = new ImageStore(client)
  const puller = new ImagePuller({
    store,
    room: parts.hostDisks.room('images'),
    places: (repository) => {
      const registry = cache.get('settings', 'settings')?.registry
      if (!registry)
        throw new PlatformError('unavailable', `pull ${repository}`, {
          cause: new Error('the server has not yet said where images are'),
          retry: 'later',
        })
      return placesOf(repository, {
        ...registry,
        ca: tls.ca,
        token: (inner, signal) => server.registryToken(inner, false, signal),
      })
    },
  })
  return new ContainerdRuntime({
    ...parts,
    store,
    puller,
    cgroups: openCgroups(),
    freezer: openFreezer(clock),
    gvisorWrapper: join(config.dataDir, 'bin/gvisor'),
    dirs: new MachineDirs(config.runDir),
    cgroupParent: config.cgroupParent,
    shimCgroup: config.shimCgroup,
    runDir: config.runDir,
    statics: createStaticFolders({ dir: staticsDirOf(config) }),
    tempDir: join(config.dataDir, 'temp'),
    nameservers: config.nameservers,
    clock,
  })
}

function makeBuilder(parts: {
  readonly config: AgentConfig
  readonly cache: RecordCache<RecordValues>
  readonly tls: Tls
  readonly server: ReturnType<typeof createServerClient>
  readonly hostDisks: HostDisks
  readonly log: Logger
}): Builder | null {
  const { config, cache, tls, server, log } = parts
  if (config.builder === null) return null
  const builder = createBuilder({
    ...config.builder,
    cgroupParent: `${config.cgroupParent}/build`,
    uplink: config.uplink,
    nameservers: config.nameservers,
    ca: tls.ca,
    registry: () => cache.get('settings', 'settings')?.registry ?? null,
    registryToken: (repository, push, signal) => server.registryToken(repository, push, signal),
    room: parts.hostDisks.room('build-cache'),
    clock,
    log: log.child({ part: 'builder' }),
  })
  void builder.sweep().catch((error: unknown) => log.warn('sweep what builds had left', { error }))
  return builder
}

/** What was heard, or, before anything was, what the host was told when it joined. */
function meshView(cache: RecordCache<RecordValues>, config: AgentConfig) {
  const hosts = cache.list('host')
  return {
    hosts: hosts.length > 0 ? hosts : (config.knownHosts as readonly Host[]),
    networks: cache.get('settings', 'settings')?.networks ?? [],
  }
}

/** What a host can't do without is tried until it works: whoever mends the host should not have to start us too. */
async function untilDone(
  what: string,
  log: Logger,
  attempt: () => Promise<unknown>,
): Promise<void> {
  for (let failures = 0; ; failures++) {
    try {
      await attempt()
      return
    } catch (error) {
      if (error instanceof PlatformError && error.retry === 'never') throw error
      if (failures === 0 || failures % 20 === 0) log.warn(`${what}: trying again`, { error })
      await clock.sleep(backoffMs(failures, 50, 2000))
    }
  }
}

interface Tls {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

function readTls({ tls }: AgentConfig): Tls {
  return {
    ca: readFileSync(tls.ca, 'utf8'),
    certificate: readFileSync(tls.certificate, 'utf8'),
    key: readFileSync(tls.key, 'utf8'),
  }
}

function readConfig(): AgentConfig {
  const { values } = parseArgs({ options: { config: { type: 'string' } } })
  if (values.config === undefined) throw new Error('usage: main.ts --config FILE')
  const parsed = agentConfig.safeParse(JSON.parse(readFileSync(values.config, 'utf8')))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new Error(`${values.config}: ${issue?.path.join('.')}: ${issue?.message}`)
}

try {
  const config = readConfig()
  if (config.logFile !== undefined) mkdirSync(dirname(config.logFile), { recursive: true })
  const log = createLogger({ program: 'agent', file: config.logFile })
  startWatchdog({ program: 'agent', log, logFile: config.logFile })
  run(config, log).catch((error: unknown) => {
    log.error('can not start', { error })
    process.stderr.write(`agent: ${describeError(error)}\n`)
    process.exit(1)
  })
} catch (error) {
  process.stderr.write(`agent: ${describeError(error)}\n`)
  process.exit(2)
}
