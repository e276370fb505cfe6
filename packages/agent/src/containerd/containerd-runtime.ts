import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, uptime } from 'node:os'
import { join } from 'node:path'
import { backoffMs, type Clock, type Logger, PlatformError } from '@roost/base'
import { containersOf, MACHINE_SIGNALS, type MachineId, type MachineSignal } from '@roost/core'
import { type ContainerId, containerIdOf, machineOf, partsOf } from '../container-id.ts'
import type { ExecLimits, ExecRequest, ExecResult, ExecSession } from '../exec/exec-session.ts'
import { type ImagePuller, imageName } from '../image/puller.ts'
import type {
  ContainerStart,
  Environment,
  FileContent,
  ImageToPull,
  MachineSpec,
  Runtime,
  RuntimeMachine,
  StopHow,
} from '../runtime.ts'
import { clearSwaps } from '../secret/clear-swap.ts'
import { writeEnvironmentFile } from '../secret/environment-file.ts'
import type { Cgroups } from './cgroup.ts'
import { type ContainerdClient, isAlreadyExists, isNotFound, orAbsent } from './client.ts'
import { ContainerdExec } from './exec.ts'
import type { Freezer } from './freezer.ts'
import {
  containers,
  events,
  leases,
  type mount,
  namespaces,
  runcOptions,
  snapshots,
  taskEvents,
  tasks,
  task as taskType,
} from './generated/index.js'
import { GVISOR, requireGvisor, writeGvisorWrapper } from './gvisor.ts'
import {
  EXTRACT_PREFIX,
  type ImageStore,
  PULL_LEASE,
  SNAPSHOTTER,
  type StoredImage,
} from './image-store.ts'
import { lookInto } from './look.ts'
import { type ContainerPlan, MachineContainers } from './machine-containers.ts'
import type { MachineDirs } from './machine-dir.ts'
import { fileMounts, type WrittenFile, writeFiles } from './machine-files.ts'
import { recordable } from './recordable.ts'
import { type OciSeccomp, ociSeccomp, type SeccompProfile } from './seccomp.ts'
import { signalProgram } from './signal-program.ts'
import { CAPABILITIES, machineSpec, programOf } from './spec.ts'
import type { StaticFolders } from './static-folders.ts'
import { swapOf } from './swap-of.ts'
import { TempDirs } from './temp-dirs.ts'
import { type ImageUser, resolveUser } from './user.ts'

/** What the runtime needs of the host's network. All of it is idempotent. */
export interface MachineNetwork {
  /** The empty namespace: enough to make a container in it, not to run anything. */
  makeNamespace(machine: Pick<MachineSpec, 'id' | 'ipv4' | 'ipv6'>): Promise<void>
  /** Namespace and link, with the rules that keep others out. */
  attach(machine: Pick<MachineSpec, 'id' | 'ipv4' | 'ipv6'>): Promise<void>
  detach(id: MachineId): Promise<void>
  netnsPath(id: MachineId): string
  /** Machines of which something is there. */
  attached(): Promise<readonly MachineId[]>
}

/** What the runtime needs of the keeper of logs. */
export interface MachineLogs {
  /** Where a container's output goes. */
  file(id: ContainerId): string
  /** Takes in what the machine said last and removes the file. */
  close(id: MachineId): Promise<void>
  ids(): readonly MachineId[]
}

export interface ContainerdRuntimeOptions {
  readonly client: ContainerdClient
  readonly store: ImageStore
  readonly puller: ImagePuller
  readonly network: MachineNetwork
  readonly logs: MachineLogs
  readonly cgroups: Cgroups
  readonly freezer: Freezer
  readonly dirs: MachineDirs
  /** Parent of all machines' cgroups. */
  readonly cgroupParent: string
  /** Where shims are put, if there is such a group: else they count as containerd's. */
  readonly shimCgroup?: string | undefined
  /** A script that is written here, on a file system whose files may be executed; see `writeGvisorWrapper`. */
  readonly gvisorWrapper: string
  /** On tmpfs: runc's own state, and what looks into images need. */
  readonly runDir: string
  readonly statics: StaticFolders
  /** On disk: temporary folders of machines. */
  readonly tempDir: string
  readonly nameservers: readonly string[]
  readonly clock: Clock
  readonly log: Logger
}

type Task = ReturnType<typeof taskType.Process.create>
type Container = ReturnType<typeof containers.Container.create>
type Mount = ReturnType<typeof mount.Mount.create>
type Exit = NonNullable<RuntimeMachine['exit']>

const TINI = '/usr/bin/tini-static'
const BUSYBOX = '/bin/busybox'
const SECCOMP = '/usr/share/containers/seccomp.json'
const RUNTIME = 'io.containerd.runc.v2'
/** What we need to raise the machine again is kept beside its container, without its environment. */
const EXTENSION = 'roost/machine'
const STAMP = 'roost/stamp'
/** When the last run began; absent: it never ran. */
const STARTED = 'roost/started'
/** How the last run ended, once its task is gone. */
const EXIT = 'roost/exit'
/** Why we ended the run ourselves, though nobody had asked for it. */
const CAUSE = 'roost/cause'
const LOST = 'its host or containerd went down'
const KILL_MS = 10_000
/** For its last words to itself: those to the world may be what it can't get rid of. */
const END_RUN_MS = 2_000
const SIGTERM = 15
const START_MS = 60_000
const LOOKS_MAX = 1000
const SIGNALS: Readonly<Record<string, number>> = MACHINE_SIGNALS

/**
 * The Runtime port by containerd. It remembers nothing that matters: what it knows of a machine is in containerd's
 * container record and task, so an agent that starts anew goes on where the last one stopped.
 *
 * A machine is made in this order and removed in the reverse: directory on tmpfs, network, snapshot, container, task.
 * A task is always deleted before its container: containerd can't delete an orphan.
 */
export class ContainerdRuntime implements Runtime {
  readonly #options: ContainerdRuntimeOptions
  readonly #client: ContainerdClient
  readonly #exec: ContainerdExec
  readonly #several: MachineContainers
  readonly #seccomp: (with32Bit: boolean) => OciSeccomp
  readonly #openFilesHardMax: number
  readonly #coreHardMax: number
  readonly #listeners = new Set<(id: MachineId) => void>()
  readonly #turns = new Map<MachineId, Promise<unknown>>()
  readonly #looks = new Map<string, Promise<Seen>>()
  readonly #closed = new AbortController()

  constructor(options: ContainerdRuntimeOptions) {
    this.#options = options
    this.#client = options.client
    this.#several = new MachineContainers({
      ...options,
      tempDirs: new TempDirs(options.dirs, options.tempDir),
      labels: { stamp: STAMP, started: STARTED, exit: EXIT, cause: CAUSE },
      deeds: this.#deeds(),
    })
    this.#exec = new ContainerdExec(options)
    const profile = JSON.parse(readFileSync(SECCOMP, 'utf8')) as SeccompProfile
    const host = {
      architecture: 'amd64',
      capabilities: CAPABILITIES,
      kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
    }
    const filters = [false, true].map((with32Bit) => ociSeccomp(profile, { ...host, with32Bit }))
    this.#seccomp = (with32Bit) => filters[with32Bit ? 1 : 0] as OciSeccomp
    const limits = readFileSync('/proc/self/limits', 'utf8')
    this.#coreHardMax = /^Max core file size\s+\S+\s+0\s/m.test(limits) ? 0 : 1
    this.#openFilesHardMax = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1] ?? 4096)
    for (const path of [TINI, BUSYBOX])
      if (!existsSync(path))
        throw new PlatformError('internal', `${path} is missing: install tini and busybox-static`)
  }

  // ── the port ──────────────────────────────────────────────────────────────────────────────────────────────────────

  async list(): Promise<readonly RuntimeMachine[]> {
    const [found, running] = await Promise.all([
      this.#client.call(containers.ContainersService.list, { filters: [] }),
      this.#client.call(tasks.TasksService.list, { filter: '' }),
    ])
    const byId = new Map(running.tasks.map((task) => [task.id, task]))
    const parts = found.containers.filter((container) => this.#several.isPart(container))
    const alone = found.containers.filter((container) => !this.#several.isPart(container))
    const machines = new Map(alone.map((container) => [container.id, container]))
    const without = new Set(parts.map(({ id }) => machineOf(id)).filter((id) => !machines.has(id)))
    const partsOfMachine = (id: string) =>
      parts
        .filter((part) => machineOf(part.id) === id)
        .map((container) => ({ container, task: byId.get(container.id) }))
    return Promise.all([
      ...alone.map((container) =>
        this.#several.isMachine(container)
          ? this.#shownSeveral(machineOf(container.id), container, partsOfMachine(container.id))
          : this.#shown(container, byId.get(container.id)),
      ),
      ...[...without].map((id) => this.#shownSeveral(id, undefined, partsOfMachine(id))),
    ])
  }

  async look(id: MachineId): Promise<RuntimeMachine | null> {
    const [container, task] = await Promise.all([this.#container(id), this.#task(id)])
    if (container && !this.#several.isMachine(container)) return this.#shown(container, task)
    const parts = await this.#parts(id)
    if (!container && parts.length === 0) return null
    const withTasks = parts.map(async (part) => ({
      container: part,
      task: await this.#task(part.id),
    }))
    return this.#shownSeveral(id, container, await Promise.all(withTasks))
  }

  async pull(image: MachineSpec['image'], signal: AbortSignal): Promise<void> {
    await this.#options.puller.pull(image, signal)
  }

  create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    return this.#inTurn(spec.id, async () => {
      const existing = await this.#container(spec.id)
      if (existing) {
        if (existing.labels[STAMP] === spec.stamp) return
        throw new PlatformError('conflict', `create machine ${spec.id}`, {
          cause: new Error('it exists of another version'),
          retry: 'later',
        })
      }
      const { dirs, network } = this.#options
      if (containersOf(spec.config) !== null) {
        dirs.write(spec, this.#options.nameservers)
        await network.makeNamespace(spec)
        await this.#several.create(spec, signal)
        return
      }
      const image = await this.#find(spec.image)
      const plan: ContainerPlan = {
        id: spec.id,
        image,
        imageName: imageName(spec.image),
        init: spec.config.init,
        user: undefined,
        roostDir: dirs.secretDir(spec.id),
        mounts: fileMounts(dirs.fileDir(spec.id), spec.config.files ?? []),
        annotations: spec.config.isolation === 'gvisor' ? { [GVISOR]: '1' } : {},
        labels: {
          [STAMP]: spec.stamp,
          ...(spec.config.isolation === 'gvisor' ? { [GVISOR]: '1' } : {}),
        },
      }
      // Refuses what can't run before anything is made.
      programOf(plan.init, image.run)
      if (spec.config.isolation === 'gvisor') requireGvisor()
      swapOf(spec.config, this.#options.cgroups)
      signal.throwIfAborted()
      dirs.write(spec, this.#options.nameservers)
      const [mounts] = await Promise.all([
        this.#prepare(spec.id, image.chainId),
        network.makeNamespace(spec),
      ])
      // Goes on meanwhile; the start waits for it, and says what went wrong.
      network.attach(spec).catch(() => {})
      const seen = await this.#lookInto(plan, mounts)
      await this.#options.statics.ensure(
        { name: plan.imageName, digest: spec.image.digest, lowerDirs: lowerDirs(mounts) },
        (spec.config.statics ?? []).map(({ guest_path }) => guest_path),
        signal,
      )
      await this.#createContainer(spec, plan, seen)
    })
  }

  start(
    id: MachineId,
    environment: Environment,
    signal: AbortSignal,
    files: readonly FileContent[] = [],
  ): Promise<void> {
    return this.#inTurn(id, async () => {
      const [container, task] = await Promise.all([this.#container(id), this.#task(id)])
      if (!container)
        throw new PlatformError('not_found', `start machine ${id}`, {
          cause: new Error('it was not created'),
          retry: 'later',
        })
      if (this.#several.isMachine(container)) return this.#several.start(container)
      if (task && isRunning(task)) return
      if (task) await this.#deleteTask(id)
      const { spec, user, chainId } = recordOf(container)
      signal.throwIfAborted()
      // After a reboot nothing but the container is left.
      const { dirs, network, nameservers, cgroups } = this.#options
      dirs.write(spec, nameservers)
      writeEnvironmentFile(dirs.secretDir(id), environment, user)
      writeFiles(dirs.fileDir(id), spec.config.files ?? [], await this.#contents(spec, files), user)
      await network.makeNamespace(spec)
      const ready = network.attach(spec)
      ready.catch(() => {})
      const hadRun = task !== undefined || container.labels[STARTED] !== undefined
      this.#options.freezer.thaw(this.#cgroupPath(id))
      if (hadRun) {
        await this.#removeSnapshot(id)
        cgroups.remove(this.#cgroupPath(id))
      }
      const mounts = (!hadRun && (await this.#mounts(id))) || (await this.#prepare(id, chainId))
      await Promise.all([
        this.#createTask(id, mounts),
        // Written before the program runs: a crash from here on must not let it look as if it had never run.
        this.#label(container, {
          [STARTED]: String(this.#options.clock.now()),
          [EXIT]: '',
          [CAUSE]: '',
        }),
      ])
      try {
        await ready
        signal.throwIfAborted()
        await this.#startTask(id)
      } catch (error) {
        await this.#deleteTask(id).catch(() => {})
        throw error
      }
    })
  }

  suspend(id: MachineId): Promise<void> {
    return this.#inTurn(id, async () => {
      const [container, task] = await Promise.all([this.#container(id), this.#task(id)])
      const several = container && this.#several.isMachine(container)
      if (several ? !this.#several.isRunning(container) : !task || !isRunning(task))
        throw new PlatformError('precondition_failed', `suspend machine ${id}`, {
          cause: new Error('it does not run'),
          retry: 'later',
        })
      await this.#options.freezer.freeze(this.#cgroupPath(id))
    })
  }

  resume(id: MachineId): Promise<void> {
    return this.#inTurn(id, async () => this.#options.freezer.thaw(this.#cgroupPath(id)))
  }

  startContainer(
    id: MachineId,
    name: string,
    start: ContainerStart,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#inTurn(id, async () => {
      const machine = await this.#container(id)
      if (machine && this.#several.isMachine(machine))
        return this.#several.startContainer(machine, name, start, signal)
      throw new PlatformError('not_found', `start container ${name} of machine ${id}`, {
        cause: new Error('the machine has no containers'),
        retry: 'later',
      })
    })
  }

  stopContainer(
    id: MachineId,
    name: string,
    how: Omit<StopHow, 'exit'>,
    signal?: AbortSignal,
  ): Promise<void> {
    const number = signalNumber(id, how.signal)
    return this.#inTurn(id, () =>
      this.#several.stopContainer(id, name, number, how.timeoutMs, signal),
    )
  }

  stop(id: MachineId, how: StopHow, signal?: AbortSignal): Promise<void> {
    const number = signalNumber(id, how.signal)
    return this.#inTurn(id, async () => {
      const [container, task] = await Promise.all([this.#container(id), this.#task(id)])
      if (container && this.#several.isMachine(container))
        return this.#several.stop(container, how, (name) => signalNumber(id, name), signal)
      if (!task) return
      if (isRunning(task)) {
        this.#options.freezer.thaw(this.#cgroupPath(id))
        const asked = number !== SIGNALS['SIGKILL'] && how.timeoutMs > 0
        if (asked) await this.#kill(id, number, false)
        const ended = asked && (await this.#waitForExit(id, how.timeoutMs, signal))
        if (!ended) await this.#killAll(id)
      }
      await this.#reap(id)
    })
  }

  /** Not in turn: a kill must not wait behind the stop that it is to shorten. */
  async signal(id: MachineId, signal: MachineSignal): Promise<void> {
    const container = await this.#container(id)
    if (!container) throw new PlatformError('not_found', `machine ${id} is not here`)
    this.#refuseSuspended(id)
    const names = (containersOf(recordOf(container).spec.config) ?? []).map(({ name }) => name)
    const ids = names.length === 0 ? [id] : names.map((name) => containerIdOf(id, name))
    const found = await Promise.all(ids.map((one) => this.#task(one)))
    const running = found.filter((task) => task !== undefined && isRunning(task))
    if (running.length === 0)
      throw new PlatformError(
        'precondition_failed',
        `machine ${id} does not run; start it first: roost machine start ${id}`,
      )
    await Promise.all(
      running.map(async (task) => {
        if (task !== undefined && !signalProgram(task.pid, signal))
          await this.#kill(task.id, MACHINE_SIGNALS[signal], false)
      }),
    )
  }

  remove(id: MachineId): Promise<void> {
    return this.#inTurn(id, () => this.#remove(id))
  }

  /**
   * What runs just now, with its first process, which holds its output open. What is suspended has nothing to say, and that of
   * a machine in gVisor is held by its kernel.
   */
  async runs(): Promise<readonly { id: ContainerId; startedAt: number; pid: number }[]> {
    const [found, running] = await Promise.all([
      this.#client.call(containers.ContainersService.list, { filters: [] }),
      this.#client.call(tasks.TasksService.list, { filter: '' }),
    ])
    const startedAt = new Map(
      found.containers
        .filter(({ labels }) => labels[GVISOR] === undefined)
        .map((c) => [c.id, Number(c.labels[STARTED])]),
    )
    return running.tasks.flatMap((task) => {
      const at = startedAt.get(task.id)
      return task.status === taskType.Status.RUNNING && at && !this.#isFrozen(task.id)
        ? [{ id: task.id, startedAt: at, pid: task.pid }]
        : []
    })
  }

  /**
   * Ends a run that can't go on through no fault of its program: its exit bears the cause, so that it is started again, and
   * counts for no limit, unless its restart policy is `no`. Nothing happens to a machine whose run is another by now.
   */
  endRun(id: ContainerId, cause: string, startedAt: number): Promise<void> {
    return this.#inTurn(machineOf(id), async () => {
      const [container, task] = await Promise.all([this.#container(id), this.#task(id)])
      if (!container || !task || !isRunning(task)) return
      if (Number(container.labels[STARTED]) !== startedAt || this.#isFrozen(id)) return
      await this.#label(container, { [CAUSE]: cause })
      await this.#kill(id, SIGTERM, false)
      if (!(await this.#waitForExit(id, END_RUN_MS))) await this.#killAll(id)
      await this.#reap(id)
    })
  }

  async openSession(
    id: MachineId,
    request: ExecRequest,
    signal: AbortSignal,
  ): Promise<ExecSession> {
    this.#refuseSuspended(id)
    return this.#exec.openSession(id, request, signal)
  }

  async exec(
    id: MachineId,
    request: ExecRequest & ExecLimits,
    signal: AbortSignal,
  ): Promise<ExecResult> {
    this.#refuseSuspended(id)
    return this.#exec.exec(id, request, signal)
  }

  onChange(heard: (id: MachineId) => void): () => void {
    this.#listeners.add(heard)
    return () => this.#listeners.delete(heard)
  }

  // ── its life ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Once, when containerd answers: our namespace, and nothing in it that belongs to no machine. */
  async open(): Promise<void> {
    await this.#client
      .call(namespaces.NamespacesService.create, {
        namespace: { name: this.#client.namespace, labels: {} },
      })
      .catch((error: unknown) => {
        if (!isAlreadyExists(error)) throw error
      })
    await this.#exec.sweep()
    await this.#sweep()
  }

  /** Hears containerd's events until `close`; begins anew whenever the stream breaks. */
  async followEvents(): Promise<void> {
    const { signal } = this.#closed
    for (let failures = 0; !signal.aborted; failures++) {
      const stream = this.#client.stream(
        events.EventsService.subscribe,
        { filters: [`namespace==${this.#client.namespace},topic~=^/tasks/`] },
        null,
      )
      const end = () => stream.cancel()
      signal.addEventListener('abort', end, { once: true })
      try {
        for await (const envelope of stream) {
          failures = 0
          const id = machineOfEvent(envelope as Parameters<typeof machineOfEvent>[0])
          if (id !== null) for (const heard of this.#listeners) heard(id)
        }
      } catch (error) {
        if (!signal.aborted && failures === 0)
          this.#options.log.info('containerd: events ended', { error })
      } finally {
        signal.removeEventListener('abort', end)
      }
      await this.#options.clock.sleep(backoffMs(failures, 200, 2000), signal)
    }
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await this.#exec.close()
  }

  // ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────────

  async #shown(container: Container, task: Task | undefined): Promise<RuntimeMachine> {
    const id = container.id as MachineId
    const stamp = container.labels[STAMP]
    if (stamp === undefined || !container.extensions[EXTENSION])
      return { id, stamp: stamp ?? '', state: 'broken', startedAt: null, exit: null }
    const startedAt = Number(container.labels[STARTED]) || null
    if (task && isRunning(task)) {
      const state = this.#isFrozen(id) ? 'suspended' : 'running'
      return { id, stamp, state, startedAt, exit: null }
    }
    if (task?.status === taskType.Status.STOPPED) {
      // Before its cgroup goes with the task: that knows why it was killed.
      const exit = this.#exitOf(container, task)
      // A shim costs some memory, so it goes as soon as we have seen the exit; but never in another's turn.
      if (!this.#turns.has(id)) await this.#inTurn(id, () => this.#reap(id)).catch(() => {})
      return { id, stamp, state: 'exited', startedAt, exit }
    }
    if (startedAt === null) return { id, stamp, state: 'created', startedAt, exit: null }
    if (task) return { id, stamp, state: 'created', startedAt: null, exit: null }
    return { id, stamp, state: 'exited', startedAt, exit: this.#exitOf(container, undefined) }
  }

  async #shownSeveral(
    id: MachineId,
    machine: Container | undefined,
    parts: readonly { readonly container: Container; readonly task: Task | undefined }[],
  ): Promise<RuntimeMachine> {
    const shown = this.#several.shown(id, machine, parts)
    // As with those that are alone: a task that is over is noted and goes, unless somebody is at it.
    const over = parts.filter(({ task }) => task?.status === taskType.Status.STOPPED)
    if (over.length > 0 && !this.#turns.has(id))
      await this.#inTurn(id, async () => {
        for (const { container } of over) await this.#reap(container.id)
      }).catch(() => {})
    return shown
  }

  async #parts(id: MachineId): Promise<readonly Container[]> {
    const request = { filters: [`id~=^${id}\\.`] }
    return (await this.#client.call(containers.ContainersService.list, request)).containers
  }

  #refuseSuspended(id: MachineId): void {
    if (!this.#isFrozen(id)) return
    throw new PlatformError(
      'precondition_failed',
      `machine ${id} is suspended; resume it first: roost machine resume ${id}`,
    )
  }

  #isFrozen(id: string): boolean {
    return this.#options.freezer.isFrozen(this.#cgroupPath(machineOf(id)))
  }

  /** By its task, by what we noted when that was deleted, or, when it was lost, as killed. */
  #exitOf(container: Container, task: Task | undefined): Exit {
    const noted = container.labels[EXIT]
    if (noted) return JSON.parse(noted) as Exit
    if (!task) {
      const at = Number(container.updatedAt?.seconds ?? 0n) * 1000
      return { code: 137, signal: 9, oomKilled: false, cause: LOST, at }
    }
    const code = task.exitStatus
    const signal = code > 128 && code <= 128 + 64 ? code - 128 : 0
    // The kernel may have killed a child, of which its parent then died in its own way.
    const couldBeOom = code === 137 || (code !== 0 && signal === 0)
    return {
      code,
      signal,
      oomKilled: couldBeOom && this.#options.cgroups.oomKills(this.#cgroupPath(container.id)) > 0,
      cause: container.labels[CAUSE] || null,
      at: milliseconds(task.exitedAt),
    }
  }

  /** What ran when the host went down: noted once, so that it is the same exit each time it is looked at. */
  async #noteLost(container: Container): Promise<void> {
    const several = this.#several.isMachine(container)
    const startedAt = Number(container.labels[STARTED]) || null
    if (startedAt === null || container.labels[EXIT]) return
    const now = this.#options.clock.now()
    const bootedAt = now - uptime() * 1000
    const rebooted = startedAt < bootedAt
    const exit: Exit = {
      code: 137,
      signal: 9,
      oomKilled: false,
      cause: rebooted ? 'its host was restarted or lost power' : LOST,
      at: Math.round(rebooted ? bootedAt : now),
    }
    if (!several) await this.#label(container, { [EXIT]: JSON.stringify(exit) })
    // Its record never has a task: what that means its containers say, unless all of them went down with the host.
    else if (rebooted) await this.#several.noteReboot(container, exit)
  }

  /** Notes how a task ended, then deletes it. Looks for itself: what the caller saw may be over by now. */
  async #reap(id: ContainerId): Promise<void> {
    const [container, task] = await Promise.all([this.#container(id), this.#task(id)])
    if (!container || task?.status !== taskType.Status.STOPPED) return
    await this.#label(container, { [EXIT]: JSON.stringify(this.#exitOf(container, task)) })
    await this.#deleteTask(id)
  }

  async #container(id: string): Promise<Container | undefined> {
    const reply = await orAbsent(this.#client.call(containers.ContainersService.get, { id }))
    return reply?.container
  }

  async #task(id: string): Promise<Task | undefined> {
    const request = { containerId: id, execId: '' }
    return (await orAbsent(this.#client.call(tasks.TasksService.get, request)))?.process
  }

  // ── making ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #find(image: ImageToPull): Promise<StoredImage> {
    const found = await this.#options.store.find(imageName(image))
    if (found) return found
    throw new PlatformError('image_not_found', `find image ${imageName(image)}`, {
      cause: new Error('it is not here yet'),
      retry: 'later',
    })
  }

  #contents(spec: MachineSpec, files: readonly FileContent[]): Promise<readonly WrittenFile[]> {
    const { config, image, containerImages = {} } = spec
    const images = new Map([
      [config.image, image],
      ...(config.containers ?? []).map(
        (one) => [one.image, containerImages[one.name] ?? image] as const,
      ),
    ])
    return Promise.all(
      files.map(async ({ path, content }): Promise<WrittenFile> => {
        if (!('imageConfigOf' in content)) return { path, content }
        const named = images.get(content.imageConfigOf)
        if (named !== undefined)
          return { path, content: await this.#options.store.configOf(imageName(named)) }
        throw new PlatformError('invalid', `write ${path}`, {
          cause: new Error(`the machine has no image ${content.imageConfigOf}`),
        })
      }),
    )
  }

  async #createContainer(spec: MachineSpec, plan: ContainerPlan, seen: Seen): Promise<void> {
    const { user } = seen
    const { dirs, network, cgroups, cgroupParent } = this.#options
    // Each time: the group goes with its last machine.
    cgroups.share(cgroupParent, availableParallelism())
    const oci = machineSpec({
      ...plan,
      guest: spec.config.guest,
      image: plan.image.run,
      user,
      hostname: spec.hostname,
      netnsPath: network.netnsPath(spec.id),
      cgroupPath: this.#cgroupPath(plan.id),
      machineDir: dirs.path(spec.id),
      tiniPath: TINI,
      busyboxPath: BUSYBOX,
      seccomp: this.#seccomp(seen.has32Bit),
      openFilesHardMax: this.#openFilesHardMax,
      coreHardMax: this.#coreHardMax,
      swapAccounting: cgroups.swapAccounting,
      // The second version takes no swap at all where it is limited to nothing more than memory.
      neverSwap: cgroups.version === 1 && clearSwaps().length > 0,
      swapMb: swapOf(spec.config, cgroups),
    })
    const gvisor = spec.config.isolation === 'gvisor'
    if (gvisor) writeGvisorWrapper(this.#options.gvisorWrapper)
    const write = (rest: Partial<Container> & Pick<Container, 'id'>) =>
      this.#writeContainer(oci, rest, gvisor)
    await write({
      id: plan.id,
      labels: plan.labels,
      image: plan.imageName,
      snapshotter: SNAPSHOTTER,
      snapshotKey: plan.id,
      extensions: {
        [EXTENSION]: json(EXTENSION, {
          spec: recordable(spec),
          user,
          chainId: plan.image.chainId,
        } satisfies MachineRecord),
      },
    })
  }

  async #writeContainer(
    oci: object,
    rest: Partial<Container> & Pick<Container, 'id'>,
    gvisor = false,
  ): Promise<void> {
    const { runDir, gvisorWrapper } = this.#options
    const root = join(runDir, gvisor ? 'runsc' : 'runc')
    const container = containers.Container.fromPartial({
      ...rest,
      runtime: {
        name: RUNTIME,
        options: {
          typeUrl: 'containerd.runc.v1.Options',
          // runc's state holds the whole spec; on tmpfs it is gone with the power.
          value: runcOptions.Options.encode(
            runcOptions.Options.fromPartial({
              root,
              systemdCgroup: false,
              ...(gvisor ? { binaryName: gvisorWrapper } : {}),
            }),
          ).finish(),
        },
      },
      spec: json('types.containerd.io/opencontainers/runtime-spec/1/Spec', oci),
    })
    await this.#client.call(containers.ContainersService.create, { container })
  }

  /** Whom it runs as; refuses a program that is not in the image. One look per image, program and user. */
  async #lookInto(
    { init, image, imageName: name, user: wanted }: ContainerPlan,
    mounts: readonly Mount[],
  ): Promise<Seen> {
    const program = programOf(init, image.run)[0] ?? ''
    const as = wanted ?? image.run.user
    const key = `${image.digest} ${as} ${program}`
    const known = this.#looks.get(key)
    if (known) return known
    const path = image.run.env.find((line) => line.startsWith('PATH='))?.slice('PATH='.length)
    const look = (async () => {
      const seen = await lookInto({
        lowerDirs: lowerDirs(mounts),
        busyboxPath: BUSYBOX,
        tmpDir: this.#options.runDir,
        program,
        path: path ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        workingDir: image.run.workingDir,
      })
      // What Roost puts into each machine is in no image.
      if (!seen.executable && !program.startsWith('/.roost/'))
        throw new PlatformError('image_unusable', `image ${name}`, {
          cause: new Error(`it has no program "${program}"`),
        })
      return { user: resolveUser(as, seen.passwd, seen.group), has32Bit: seen.has32Bit }
    })()
    if (this.#looks.size >= LOOKS_MAX) this.#looks.clear()
    this.#looks.set(key, look)
    look.catch(() => this.#looks.delete(key))
    return look
  }

  /** A writable snapshot on top of the image. Rooted by its label until we remove it, so no lease is needed. */
  async #prepare(id: ContainerId, parent: string): Promise<readonly Mount[]> {
    try {
      const prepared = await this.#client.call(snapshots.SnapshotsService.prepare, {
        snapshotter: SNAPSHOTTER,
        key: id,
        parent,
        labels: { 'containerd.io/gc.root': new Date(this.#options.clock.now()).toISOString() },
      })
      return prepared.mounts
    } catch (error) {
      if (!isAlreadyExists(error)) throw error
      return (await this.#mounts(id)) ?? []
    }
  }

  async #mounts(key: string): Promise<readonly Mount[] | undefined> {
    const call = this.#client.call(snapshots.SnapshotsService.mounts, {
      snapshotter: SNAPSHOTTER,
      key,
    })
    return (await orAbsent(call))?.mounts
  }

  async #createTask(id: ContainerId, rootfs: readonly Mount[]): Promise<void> {
    const output = `file://${this.#options.logs.file(id)}`
    const request = tasks.CreateTaskRequest.fromPartial({
      containerId: id,
      rootfs: [...rootfs],
      stdout: output,
      stderr: output,
    })
    const make = async () => {
      const limit = { timeoutMs: START_MS }
      const { pid } = await this.#client.call(tasks.TasksService.create, request, limit)
      const { cgroups, shimCgroup } = this.#options
      const shim = parentOf(pid)
      if (shimCgroup !== undefined && shim !== null) cgroups.join(shimCgroup, shim)
    }
    try {
      await make()
    } catch (error) {
      if (!isAlreadyExists(error)) throw error
      await this.#deleteTask(id)
      await make()
    }
  }

  async #startTask(id: ContainerId): Promise<void> {
    const request = { containerId: id, execId: '' }
    await this.#client.call(tasks.TasksService.start, request, { timeoutMs: START_MS })
  }

  async #label(container: Container, labels: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, value] of Object.entries(labels)) container.labels[name] = value
    await this.#client.call(containers.ContainersService.update, {
      container,
      updateMask: ['labels'],
    })
  }

  // ── ending ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #kill(id: string, number: number, all: boolean): Promise<void> {
    const request = { containerId: id, execId: '', signal: number, all }
    await orAbsent(this.#client.call(tasks.TasksService.kill, request))
  }

  /** False when it still runs after that time. Throws when `signal` aborts. */
  async #waitForExit(id: string, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    const deadline = this.#options.clock.now() + timeoutMs
    try {
      const request = { containerId: id, execId: '' }
      await this.#client.call(tasks.TasksService.wait, request, { timeoutMs, signal })
      return true
    } catch (error) {
      if (signal?.aborted) throw error
      if (isNotFound(error)) return true
      if (this.#options.clock.now() >= deadline - 5) return false
      throw error
    }
  }

  async #killAll(id: string): Promise<void> {
    // What is frozen does not even die.
    this.#options.freezer.thaw(this.#cgroupPath(machineOf(id)))
    // The shim may know of processes in the cgroup only after the first signal; and a second one does no harm.
    await this.#kill(id, 9, true).catch(() => this.#kill(id, 9, false))
    if (await this.#waitForExit(id, KILL_MS)) return
    throw new PlatformError('internal', `stop machine ${id}`, {
      cause: new Error(`it still runs ${KILL_MS} ms after SIGKILL`),
      retry: 'later',
    })
  }

  async #deleteTask(id: string): Promise<void> {
    const task = await this.#task(id)
    if (!task) return
    if (task.status !== taskType.Status.STOPPED) await this.#killAll(id)
    await orAbsent(this.#client.call(tasks.TasksService.delete, { containerId: id }))
  }

  async #removeSnapshot(key: string): Promise<void> {
    const request = { snapshotter: SNAPSHOTTER, key }
    await orAbsent(this.#client.call(snapshots.SnapshotsService.remove, request))
  }

  async #remove(id: MachineId): Promise<void> {
    await this.#deleteTask(id)
    await this.#several.remove(id)
    await orAbsent(this.#client.call(containers.ContainersService.delete, { id }))
    await this.#removeSnapshot(id)
    await this.#removeTraces(id)
  }

  /** All that is not in containerd. The directory goes last: its name leads the next sweep to the rest. */
  async #removeTraces(id: MachineId): Promise<void> {
    const { network, logs, cgroups, dirs } = this.#options
    await network.detach(id)
    await logs.close(id)
    cgroups.remove(this.#cgroupPath(id))
    await this.#several.removeShared(id)
    dirs.remove(id)
  }

  /** What a crash between two steps left: everything that bears the name of a machine that containerd doesn't have. */
  async #sweep(): Promise<void> {
    const { network, logs, cgroups, dirs, cgroupParent, log } = this.#options
    const [found, running, kept, held] = await Promise.all([
      this.#client.call(containers.ContainersService.list, { filters: [] }),
      this.#client.call(tasks.TasksService.list, { filter: '' }),
      this.#client.collect(snapshots.SnapshotsService.list, {
        snapshotter: SNAPSHOTTER,
        filters: [],
      }),
      this.#client.call(leases.LeasesService.list, { filters: [] }),
    ])
    const known = new Set(found.containers.map((container) => container.id))
    for (const task of running.tasks) if (!known.has(task.id)) await this.#removeOrphanTask(task.id)
    const alive = new Set(running.tasks.map((task) => task.id))
    for (const container of found.containers)
      if (!alive.has(container.id)) await this.#noteLost(container)
    for (const { id } of held.leases.filter((lease) => lease.id.startsWith(PULL_LEASE)))
      await orAbsent(this.#client.call(leases.LeasesService.delete, { id, sync: false }))
    for (const info of kept.flatMap((reply) => reply.info)) {
      const active = info.kind === snapshots.Kind.ACTIVE
      const extract = info.name.startsWith(EXTRACT_PREFIX)
      if (active && (extract || !known.has(info.name))) await this.#removeSnapshot(info.name)
    }
    const traces = new Set<string>([
      ...dirs.ids(),
      ...logs.ids(),
      ...cgroups.children(cgroupParent),
      ...(await network.attached()),
      ...this.#several.sharedIds(),
    ])
    // Of one with containers there may be these and no record yet, or none any more: that is for `remove` to end.
    const machines = new Set<string>([...known].map(machineOf))
    const left = [...traces].filter((id) => isMachineId(id) && !machines.has(id))
    if (left.length > 0) log.info('swept what a crash had left', { machines: left })
    for (const id of left) await this.#removeTraces(id as MachineId)
  }

  /**
   * What a deed left that failed half-way, of machines that containerd doesn't have: as `open` does it, but while others work.
   */
  async sweepLeftovers(): Promise<void> {
    const { network, logs, cgroups, dirs, cgroupParent, log } = this.#options
    await this.#exec.sweep()
    await this.#options.statics.keepOnly(async () => new Set(await this.#options.store.digests()))
    const kept = await this.#client.collect(snapshots.SnapshotsService.list, {
      snapshotter: SNAPSHOTTER,
      filters: [],
    })
    const active = kept
      .flatMap((reply) => reply.info)
      .filter(({ kind }) => kind === snapshots.Kind.ACTIVE)
      .map(({ name }) => name)
    const traces = new Set<string>([
      ...active.map(machineOf),
      ...dirs.ids(),
      ...logs.ids(),
      ...cgroups.children(cgroupParent),
      ...(await network.attached()),
      ...this.#several.sharedIds(),
    ])
    const isThere = async (id: MachineId) =>
      (await this.#container(id)) !== undefined || (await this.#parts(id)).length > 0
    for (const id of [...traces].filter(isMachineId)) {
      if (this.#turns.has(id) || (await isThere(id))) continue
      await this.#inTurn(id, async () => {
        // It may have been created while we waited for our turn.
        if ((await isThere(id)) || (await this.#task(id))) return
        for (const name of active) if (machineOf(name) === id) await this.#removeSnapshot(name)
        await this.#removeTraces(id)
        log.info('removed what a failed deed had left', { machine: id })
      })
    }
  }

  /** A task can only be deleted while its container exists: it gets one for as long as that takes. */
  async #removeOrphanTask(id: string): Promise<void> {
    const container = containers.Container.fromPartial({
      id,
      runtime: { name: RUNTIME },
      spec: json('types.containerd.io/opencontainers/runtime-spec/1/Spec', {}),
    })
    await this.#client.call(containers.ContainersService.create, { container })
    await this.#deleteTask(id)
    await orAbsent(this.#client.call(containers.ContainersService.delete, { id }))
  }

  // ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #cgroupPath(id: ContainerId): string {
    const name = partsOf(id)?.name ?? null
    const path = `${this.#options.cgroupParent}/${machineOf(id)}`
    return name === null ? path : `${path}/${name}`
  }

  /** What is done to one container, for machines that have several. */
  #deeds(): ConstructorParameters<typeof MachineContainers>[0]['deeds'] {
    return {
      container: (id) => this.#container(id),
      containersOf: (id) => this.#parts(id),
      task: (id) => this.#task(id),
      find: (image) => this.#find(image),
      contents: (spec, files) => this.#contents(spec, files),
      refuseUnrunnable: ({ init, image }) => {
        programOf(init, image.run)
      },
      prepare: (id, chainId) => this.#prepare(id, chainId),
      mounts: (id) => this.#mounts(id),
      removeSnapshot: (id) => this.#removeSnapshot(id),
      make: async (spec, plan, mounts) =>
        this.#createContainer(spec, plan, await this.#lookInto(plan, mounts)),
      makeRecord: (spec, labels) =>
        this.#writeContainer(
          {},
          {
            id: spec.id,
            labels: { [STAMP]: spec.stamp, ...labels },
            image: imageName(spec.image),
            extensions: { [EXTENSION]: json(EXTENSION, { spec: recordable(spec) }) },
          },
        ),
      recordOf,
      label: (container, labels) => this.#label(container, labels),
      run: async (id, mounts, signal) => {
        await this.#createTask(id, mounts)
        signal.throwIfAborted()
        await this.#startTask(id)
      },
      exitOf: (container, task) => this.#exitOf(container, task),
      reap: (id) => this.#reap(id),
      signal: (id, number) => this.#kill(id, number, false),
      waitForExit: (id, timeoutMs, signal) => this.#waitForExit(id, timeoutMs, signal),
      killAll: (id) => this.#killAll(id),
      deleteTask: (id) => this.#deleteTask(id),
      deleteContainer: async (id) => {
        await orAbsent(this.#client.call(containers.ContainersService.delete, { id }))
      },
      cgroupPath: (id) => this.#cgroupPath(id),
      thaw: (id) => this.#options.freezer.thaw(this.#cgroupPath(id)),
      isFrozen: (id) => this.#isFrozen(id),
      attach: async (spec) => {
        this.#options.dirs.write(spec, this.#options.nameservers)
        await this.#options.network.attach(spec)
      },
    }
  }

  /** One deed at a time for each machine. */
  async #inTurn<T>(id: MachineId, deed: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id)
    const mine = (async () => {
      await before?.catch(() => {})
      return deed()
    })()
    this.#turns.set(id, mine)
    try {
      return await mine
    } finally {
      if (this.#turns.get(id) === mine) this.#turns.delete(id)
    }
  }
}

/** What has to be known of the inside of an image before it runs. */
interface Seen {
  readonly user: ImageUser
  readonly has32Bit: boolean
}

interface MachineRecord {
  readonly spec: MachineSpec
  readonly user: ImageUser
  readonly chainId: string
}

function recordOf(container: Container): MachineRecord {
  const value = container.extensions[EXTENSION]?.value
  if (!value)
    throw new PlatformError('internal', `read machine ${container.id}`, {
      cause: new Error('its container was not made by us'),
    })
  return JSON.parse(Buffer.from(value).toString('utf8')) as MachineRecord
}

function signalNumber(id: MachineId, name: string): number {
  const number = SIGNALS[name]
  if (number !== undefined) return number
  throw new PlatformError('invalid', `stop machine ${id}: unknown signal ${name}`)
}

const isMachineId = (name: string): name is MachineId => /^[0-9a-f]{14}$/.test(name)

const isRunning = (task: Task): boolean =>
  task.status === taskType.Status.RUNNING ||
  task.status === taskType.Status.PAUSED ||
  task.status === taskType.Status.PAUSING

/** Of a container's first process: its shim. */
function parentOf(pid: number): number | null {
  try {
    const parent = Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
    return parent > 1 ? parent : null
  } catch {
    return null
  }
}

function json(typeUrl: string, value: object) {
  return { typeUrl, value: Buffer.from(JSON.stringify(value)) }
}

function milliseconds(time: { seconds: bigint; nanos: number } | undefined): number {
  return time ? Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6) : 0
}

/** Overlay mounts name their layers uppermost first; an image of no layers has none. */
function lowerDirs(mounts: readonly Mount[]): readonly string[] {
  const option = mounts[0]?.options.find((text) => text.startsWith('lowerdir='))
  return option ? option.slice('lowerdir='.length).split(':') : []
}

function machineOfEvent(envelope: {
  topic: string
  event: { typeUrl: string; value: Uint8Array } | undefined
}): MachineId | null {
  if (!envelope.event) return null
  const { value } = envelope.event
  switch (envelope.topic) {
    case '/tasks/start':
      return machineOf(taskEvents.TaskStart.decode(value).containerId)
    case '/tasks/exit':
      return machineOf(taskEvents.TaskExit.decode(value).containerId)
    case '/tasks/oom':
      return machineOf(taskEvents.TaskOOM.decode(value).containerId)
    case '/tasks/delete':
      return machineOf(taskEvents.TaskDelete.decode(value).containerId)
    default:
      return null
  }
}
