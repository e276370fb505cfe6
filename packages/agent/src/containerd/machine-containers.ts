import { randomBytes } from 'node:crypto'
import { type Clock, PlatformError } from '@roost/base'
import {
  containerConfigsOf,
  containersOf,
  exitOfAll,
  type MachineId,
  type RunEnd,
  stopOrder,
} from '@roost/core'
import { type ContainerId, containerIdOf, partsOf } from '../container-id.ts'
import { imageName } from '../image/puller.ts'
import type {
  ContainerStart,
  FileContent,
  ImageToPull,
  MachineSpec,
  RuntimeContainer,
  RuntimeMachine,
  StopHow,
} from '../runtime.ts'
import { writeEnvironmentFile } from '../secret/environment-file.ts'
import type { Cgroups } from './cgroup.ts'
import type { containers, mount, task as taskType } from './generated/index.js'
import type { StoredImage } from './image-store.ts'
import type { MachineDirs } from './machine-dir.ts'
import { fileMounts, type WrittenFile, writeFiles } from './machine-files.ts'
import type { TempDirs } from './temp-dirs.ts'
import type { ImageUser } from './user.ts'

type Container = ReturnType<typeof containers.Container.create>
type Task = ReturnType<typeof taskType.Process.create>
type Mount = ReturnType<typeof mount.Mount.create>
type Exit = NonNullable<RuntimeMachine['exit']>

/** Marks the record of a machine that has containers. */
const HAS_CONTAINERS = 'roost/containers'
/** On each container: whose it is. */
const MACHINE = 'roost/machine'
/** On the machine and on its containers: in which run of the machine they were last started. */
const RUN = 'roost/run'
const GROUP = 'io.containerd.runc.v2.group'
const SIGKILL = 9

/** What is kept beside the record of a machine with containers, and beside each of them. */
export interface ContainerRecord {
  readonly user: ImageUser
  readonly chainId: string
}

/** How one container is to be made. */
export interface ContainerPlan {
  readonly id: ContainerId
  readonly image: StoredImage
  readonly imageName: string
  readonly init: {
    readonly exec?: readonly string[]
    readonly entrypoint?: readonly string[]
    readonly cmd?: readonly string[]
  }
  /** In place of the image's. */
  readonly user: string | undefined
  /** On tmpfs: its environment. */
  readonly roostDir: string
  readonly mounts: readonly object[]
  readonly annotations: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
}

/** What the runtime can do with any one container, and lends. None of it waits for a turn. */
export interface ContainerDeeds {
  container(id: ContainerId): Promise<Container | undefined>
  /** Those that have names of their own. */
  containersOf(machine: MachineId): Promise<readonly Container[]>
  task(id: ContainerId): Promise<Task | undefined>
  find(image: ImageToPull): Promise<StoredImage>
  contents(spec: MachineSpec, files: readonly FileContent[]): Promise<readonly WrittenFile[]>
  refuseUnrunnable(plan: Pick<ContainerPlan, 'init' | 'image'>): void
  prepare(id: ContainerId, chainId: string): Promise<readonly Mount[]>
  mounts(id: ContainerId): Promise<readonly Mount[] | undefined>
  removeSnapshot(id: ContainerId): Promise<void>
  make(spec: MachineSpec, plan: ContainerPlan, mounts: readonly Mount[]): Promise<void>
  /** One that never runs: for its labels and what is kept beside it. */
  makeRecord(spec: MachineSpec, labels: Readonly<Record<string, string>>): Promise<void>
  recordOf(container: Container): { readonly spec: MachineSpec } & ContainerRecord
  label(container: Container, labels: Readonly<Record<string, string>>): Promise<void>
  /** Creates and starts its task. */
  run(id: ContainerId, mounts: readonly Mount[], signal: AbortSignal): Promise<void>
  exitOf(container: Container, task: Task | undefined): Exit
  /** Notes how its task ended, and deletes it. */
  reap(id: ContainerId): Promise<void>
  signal(id: ContainerId, number: number): Promise<void>
  /** False when it still runs after that time. */
  waitForExit(id: ContainerId, timeoutMs: number, signal?: AbortSignal): Promise<boolean>
  killAll(id: ContainerId): Promise<void>
  deleteTask(id: ContainerId): Promise<void>
  deleteContainer(id: ContainerId): Promise<void>
  cgroupPath(id: ContainerId): string
  thaw(id: MachineId): void
  isFrozen(id: MachineId): boolean
  attach(spec: MachineSpec): Promise<void>
}

export interface LabelNames {
  readonly stamp: string
  readonly started: string
  readonly exit: string
  readonly cause: string
}

/**
 * Machines of several containers. The machine itself is a record in containerd that runs nothing: its labels say since when it
 * runs and how it ended. Its containers are made before it and removed before it, so that where it is, all of it is. They share
 * one shim (by the annotation), one network namespace, and a control group with the machine's limits, below which each has
 * its own.
 *
 * A container belongs to the machine's run in which it was started; what it did in an earlier one is over.
 */
export class MachineContainers {
  readonly #deeds: ContainerDeeds
  readonly #labels: LabelNames
  readonly #dirs: MachineDirs
  readonly #tempDirs: TempDirs
  readonly #cgroups: Cgroups
  readonly #clock: Clock

  constructor(options: {
    readonly deeds: ContainerDeeds
    readonly labels: LabelNames
    readonly dirs: MachineDirs
    readonly tempDirs: TempDirs
    readonly cgroups: Cgroups
    readonly clock: Clock
  }) {
    this.#deeds = options.deeds
    this.#labels = options.labels
    this.#dirs = options.dirs
    this.#tempDirs = options.tempDirs
    this.#cgroups = options.cgroups
    this.#clock = options.clock
  }

  isMachine(container: Container): boolean {
    return container.labels[HAS_CONTAINERS] !== undefined
  }

  /** Made by us for a machine that has several. */
  isPart(container: Container): boolean {
    return container.labels[MACHINE] !== undefined || partsOf(container.id)?.name != null
  }

  // ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** `machine`: undefined when only parts of it are there, as after a crash while it was made or removed. */
  shown(
    id: MachineId,
    machine: Container | undefined,
    parts: readonly { readonly container: Container; readonly task: Task | undefined }[],
  ): RuntimeMachine {
    const broken: RuntimeMachine = { id, stamp: '', state: 'broken', startedAt: null, exit: null }
    if (machine === undefined) return broken
    const stamp = machine.labels[this.#labels.stamp] ?? ''
    const names =
      containersOf(this.#deeds.recordOf(machine).spec.config)?.map(({ name }) => name) ?? []
    const byName = new Map(parts.map((part) => [partsOf(part.container.id)?.name, part]))
    if (names.some((name) => !byName.has(name))) return { ...broken, stamp }
    const run = machine.labels[RUN] ?? ''
    const shown = names.flatMap((name) => {
      const part = byName.get(name)
      return part ? [this.#shownPart(name, part, run)] : []
    })
    const startedAt = Number(machine.labels[this.#labels.started]) || null
    const noted = machine.labels[this.#labels.exit]
    const exit = noted ? (JSON.parse(noted) as Exit) : null
    const state =
      startedAt === null
        ? 'created'
        : exit !== null
          ? 'exited'
          : this.#deeds.isFrozen(id)
            ? 'suspended'
            : 'running'
    return { id, stamp, state, startedAt, exit, containers: shown }
  }

  #shownPart(
    name: string,
    { container, task }: { readonly container: Container; readonly task: Task | undefined },
    run: string,
  ): RuntimeContainer {
    const startedAt = Number(container.labels[this.#labels.started]) || null
    const ours = run !== '' && container.labels[RUN] === run
    const status = task?.status ?? 0
    if (!ours || startedAt === null || status === CREATED)
      return { name, state: 'created', startedAt: null, exit: null }
    if (task && status !== STOPPED) return { name, state: 'running', startedAt, exit: null }
    return { name, state: 'exited', startedAt, exit: this.#deeds.exitOf(container, task) }
  }

  // ── making ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const plans = await Promise.all(this.#plansOf(spec))
    for (const plan of plans) this.#deeds.refuseUnrunnable(plan)
    for (const plan of plans) {
      signal.throwIfAborted()
      // One of an earlier attempt, which was cut off: it may be of another version.
      await this.#removePart(plan.id)
      const mounts = await this.#deeds.prepare(plan.id, plan.image.chainId)
      await this.#deeds.make(spec, plan, mounts)
    }
    await this.#deeds.makeRecord(spec, { [HAS_CONTAINERS]: String(plans.length) })
  }

  #plansOf(spec: MachineSpec): Promise<ContainerPlan>[] {
    const { id, config } = spec
    return (containerConfigsOf(config) ?? []).map(async (one): Promise<ContainerPlan> => {
      const image = spec.containerImages?.[one.name] ?? spec.image
      const volumes = one.mounts.map(({ name, path }) => ({
        destination: path,
        type: 'bind',
        source: this.#tempDirs.path(id, name),
        options: ['bind', 'rw', 'nosuid', 'nodev'],
      }))
      return {
        id: containerIdOf(id, one.name),
        image: await this.#deeds.find(image),
        imageName: imageName(image),
        init: one,
        user: one.user,
        roostDir: this.#dirs.secretDir(id, one.name),
        mounts: [...volumes, ...fileMounts(this.#dirs.fileDir(id, one.name), one.files)],
        annotations: { [GROUP]: id },
        labels: { [MACHINE]: id, [this.#labels.stamp]: spec.stamp },
      }
    })
  }

  /** The machine runs from here on; its containers are started one by one. */
  async start(machine: Container): Promise<void> {
    const id = machine.id as MachineId
    if (this.isRunning(machine)) return
    const { spec } = this.#deeds.recordOf(machine)
    for (const part of await this.#deeds.containersOf(id)) await this.#deeds.deleteTask(part.id)
    await this.#deeds.attach(spec)
    await this.#tempDirs.renew(id, spec.config)
    this.#limit(spec)
    const { started, exit, cause } = this.#labels
    const now = this.#clock.now()
    await this.#deeds.label(machine, {
      [started]: String(now),
      [RUN]: `${now}-${randomBytes(4).toString('hex')}`,
      [exit]: '',
      [cause]: '',
    })
  }

  /** A new group each time, so that it counts this run's kills for want of memory and no other's. */
  #limit({ id, config }: MachineSpec): void {
    const path = this.#deeds.cgroupPath(id)
    this.#cgroups.remove(path)
    this.#cgroups.limitMachine(path, config.guest)
  }

  isRunning(machine: Container): boolean {
    const { started, exit } = this.#labels
    return Boolean(machine.labels[started]) && !machine.labels[exit]
  }

  async startContainer(
    machine: Container,
    name: string,
    { environment, files }: ContainerStart,
    signal: AbortSignal,
  ): Promise<void> {
    const id = containerIdOf(machine.id as MachineId, name)
    const doing = `start container ${name} of machine ${machine.id}`
    const [container, task] = await Promise.all([this.#deeds.container(id), this.#deeds.task(id)])
    if (!container || !this.isRunning(machine))
      throw new PlatformError('precondition_failed', doing, {
        cause: new Error(container ? 'the machine does not run' : 'there is no such container'),
        retry: 'later',
      })
    const run = machine.labels[RUN] ?? ''
    // Whoever made its task may have died before it was started: that is no run.
    const runs = task !== undefined && task.status !== CREATED && task.status !== STOPPED
    if (runs && container.labels[RUN] === run) return
    if (task) await this.#deeds.deleteTask(id)
    signal.throwIfAborted()
    const { spec } = this.#deeds.recordOf(machine)
    const { user, chainId } = this.#deeds.recordOf(container)
    await this.#ready(spec)
    const config = containerConfigsOf(spec.config)?.find((one) => one.name === name)
    writeEnvironmentFile(this.#dirs.secretDir(spec.id, name), environment, user)
    const contents = await this.#deeds.contents(spec, files ?? [])
    writeFiles(this.#dirs.fileDir(spec.id, name), config?.files ?? [], contents, user)
    const { started, exit, cause } = this.#labels
    const hadRun = Boolean(container.labels[started])
    if (hadRun) {
      await this.#deeds.removeSnapshot(id)
      this.#cgroups.remove(this.#deeds.cgroupPath(id))
    }
    const mounts =
      (!hadRun && (await this.#deeds.mounts(id))) || (await this.#deeds.prepare(id, chainId))
    signal.throwIfAborted()
    // Written before it runs: a crash from here on must not let it look as if it had never run.
    const now = String(this.#clock.now())
    await this.#deeds.label(container, { [started]: now, [RUN]: run, [exit]: '', [cause]: '' })
    try {
      await this.#deeds.run(id, mounts, signal)
    } catch (error) {
      await this.#deeds.deleteTask(id).catch(() => {})
      await this.#deeds.label(container, { [RUN]: '' }).catch(() => {})
      throw error
    }
  }

  /** What they share, if it was lost while none of them ran. Else it is in use, and stays as it is. */
  async #ready(spec: MachineSpec): Promise<void> {
    const parts = await this.#deeds.containersOf(spec.id)
    const tasks = await Promise.all(parts.map((part) => this.#deeds.task(part.id)))
    if (tasks.some((task) => task && task.status !== STOPPED)) return
    await this.#deeds.attach(spec)
    await this.#tempDirs.ensure(spec.id, spec.config)
    this.#cgroups.limitMachine(this.#deeds.cgroupPath(spec.id), spec.config.guest)
  }

  // ── ending ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async stopContainer(
    machine: MachineId,
    name: string,
    number: number,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const id = containerIdOf(machine, name)
    const task = await this.#deeds.task(id)
    if (!task) return
    if (task.status !== STOPPED) {
      const asked = number !== SIGKILL && timeoutMs > 0
      if (asked) await this.#deeds.signal(id, number)
      const ended = asked && (await this.#deeds.waitForExit(id, timeoutMs, signal))
      if (!ended) await this.#deeds.killAll(id)
    }
    await this.#deeds.reap(id)
  }

  /** In their order, those of one group at the same time, and altogether in `timeoutMs`. Then the machine has ended. */
  async stop(
    machine: Container,
    how: StopHow,
    numberOf: (signal: string) => number,
    signal?: AbortSignal,
  ): Promise<void> {
    if (!this.isRunning(machine)) return
    const id = machine.id as MachineId
    this.#deeds.thaw(id)
    const { config } = this.#deeds.recordOf(machine).spec
    const all = containersOf(config) ?? []
    const deadline = this.#clock.now() + how.timeoutMs
    const usual = how.signal === config.stop_config.signal
    for (const group of stopOrder(all))
      await Promise.all(
        all
          .filter(({ name }) => group.includes(name))
          .map(({ name, stop }) => {
            const left = Math.max(0, deadline - this.#clock.now())
            const number = numberOf(usual ? stop.signal : how.signal)
            return this.stopContainer(id, name, number, Math.min(left, stop.timeout_ms), signal)
          }),
      )
    await this.#noteEnd(machine, how.exit ?? null)
  }

  async #noteEnd(machine: Container, exit: RunEnd | null): Promise<void> {
    const parts = await this.#deeds.containersOf(machine.id as MachineId)
    const run = machine.labels[RUN]
    const exits = parts
      .filter(({ labels }) => labels[RUN] === run && labels[this.#labels.exit])
      .map((part) => ({
        ...this.#deeds.exitOf(part, undefined),
        container: partsOf(part.id)?.name ?? '',
      }))
    const now = this.#clock.now()
    const nothing = { code: 0, signal: 0, oomKilled: false, cause: null, at: now }
    const ended = exit ?? exitOfAll(exits) ?? nothing
    await this.#deeds.label(machine, { [this.#labels.exit]: JSON.stringify(ended) })
  }

  /** Its host went down while it ran. Of one whose containers alone are gone, each says so itself. */
  async noteReboot(machine: Container, exit: Exit): Promise<void> {
    if (!this.isRunning(machine)) return
    await this.#deeds.label(machine, { [this.#labels.exit]: JSON.stringify(exit) })
  }

  async remove(id: MachineId): Promise<void> {
    for (const part of await this.#deeds.containersOf(id)) await this.#deeds.deleteTask(part.id)
    for (const part of await this.#deeds.containersOf(id)) await this.#removePart(part.id)
    await this.#deeds.deleteContainer(id)
  }

  async #removePart(id: ContainerId): Promise<void> {
    await this.#deeds.deleteTask(id)
    await this.#deeds.deleteContainer(id)
    await this.#deeds.removeSnapshot(id)
  }

  /** Below its directory, which can't be removed before. */
  removeShared(id: MachineId): Promise<void> {
    return this.#tempDirs.remove(id)
  }

  sharedIds(): readonly MachineId[] {
    return this.#tempDirs.ids()
  }
}

/** As containerd numbers the states of a task. */
const CREATED = 1
const STOPPED = 3
