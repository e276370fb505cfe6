import { PlatformError } from '@roost/base'
import type { MachineId } from '@roost/core'
import { CONTAINER_NAME, containerIdOf } from '../container-id.ts'
import { collectSession } from '../exec/collect.ts'
import type { ExecLimits, ExecRequest, ExecResult, ExecSession } from '../exec/exec-session.ts'
import { createSlots } from '../machine/slots.ts'
import { type ContainerdClient, isNotFound, orAbsent } from './client.ts'
import { type ContainerSpec, ExecPrograms } from './exec-program.ts'
import { containers, tasks, task as taskType } from './generated/index.js'
import { type ImageUser, resolveUser } from './user.ts'

/** Each start costs some 30 ms of a processor; more at once would only make all of them late. */
const STARTS_AT_ONCE = 4
const LOOKUP_MS = 10_000
/** As core's `mainContainer` has it. */
const MAIN_CONTAINER = 'app'
const USERS_BYTES_MAX = 500_000
const ROOT: ImageUser = { uid: 0, gid: 0, additionalGids: [0], home: '/root' }

type Container = ReturnType<typeof containers.Container.create>

/** A container that runs. */
interface Running {
  readonly id: string
  readonly spec: ContainerSpec
}

/** The part of the Runtime port that runs programs in machines that run. */
export class ContainerdExec {
  readonly #client: ContainerdClient
  readonly #programs: ExecPrograms
  readonly #slots = createSlots(STARTS_AT_ONCE)

  constructor(options: ConstructorParameters<typeof ExecPrograms>[0]) {
    this.#client = options.client
    this.#programs = new ExecPrograms(options)
  }

  async exec(
    machine: MachineId,
    request: ExecRequest & ExecLimits,
    signal: AbortSignal,
  ): Promise<ExecResult> {
    return collectSession(await this.openSession(machine, request, signal), request, signal)
  }

  async openSession(
    machine: MachineId,
    request: ExecRequest,
    signal: AbortSignal,
  ): Promise<ExecSession> {
    const { id, spec } = await this.#running(machine, request.container)
    try {
      const user = await this.#user({ id, spec }, request.user, signal)
      return await this.#slots.use(() => this.#programs.start(id, spec, request, user, signal))
    } catch (error) {
      // It may have ended while we were at it.
      if (!signal.aborted && isNotFound(error)) await this.#running(machine, request.container)
      throw error
    }
  }

  sweep(): Promise<void> {
    return this.#programs.sweep()
  }

  /** Ends all sessions. */
  close(): Promise<void> {
    return this.#programs.close()
  }

  async #running(machine: MachineId, name: string | undefined): Promise<Running> {
    if (name !== undefined && !CONTAINER_NAME.test(name))
      throw new PlatformError('not_found', `machine ${machine} has no container "${name}"`)
    const { id, spec } = await this.#find(machine, name)
    const request = { containerId: id, execId: '' }
    const task = (await orAbsent(this.#client.call(tasks.TasksService.get, request)))?.process
    const { Status } = taskType
    if (task?.status === Status.PAUSED || task?.status === Status.PAUSING)
      throw new PlatformError(
        'precondition_failed',
        `machine ${machine} is suspended; resume it first: roost machine start ${machine}`,
      )
    if (task?.status !== Status.RUNNING)
      throw new PlatformError(
        'precondition_failed',
        name === undefined
          ? `machine ${machine} does not run; start it first: roost machine start ${machine}`
          : `container ${name} of machine ${machine} does not run`,
      )
    const text = Buffer.from(spec?.value ?? []).toString('utf8')
    return { id, spec: JSON.parse(text) as ContainerSpec }
  }

  /** The machine's own, or that of this name, or, where each of its containers has a name, that called `app`, else the one that was made first. */
  async #find(machine: MachineId, name: string | undefined): Promise<Container> {
    const id = containerIdOf(machine, name ?? null)
    const found = await orAbsent(this.#client.call(containers.ContainersService.get, { id }))
    const own = found?.container
    if (name !== undefined && own) return own
    const like = await this.#client.call(containers.ContainersService.list, {
      filters: [`id~=^${machine}`],
    })
    const all = like.containers.filter((one) => one.id.startsWith(`${machine}.`))
    const names = all.map((one) => one.id.slice(machine.length + 1)).sort()
    if (name !== undefined)
      throw new PlatformError(
        'not_found',
        `machine ${machine} has no container "${name}"${names.length === 0 ? '' : `; it has ${names.join(', ')}`}`,
      )
    const [first] = [...all].sort((a, b) => madeAt(a) - madeAt(b) || a.id.localeCompare(b.id))
    const app = all.find((one) => one.id === containerIdOf(machine, MAIN_CONTAINER))
    // Under its own id a machine with containers has a record that runs nothing.
    const main = app ?? first ?? own
    if (main) return main
    throw new PlatformError('not_found', `machine ${machine} is not on this host`)
  }

  /** By the container's own list of users, read inside of it: there a link leads nowhere else. */
  async #user(
    { id, spec }: Running,
    wanted: string | undefined,
    signal: AbortSignal,
  ): Promise<ImageUser | null> {
    if (wanted === undefined || wanted === '') return null
    if (wanted === 'root' || wanted === '0') return ROOT
    const command = ['/.roost/busybox', 'sh', '-c', SHOW_USERS]
    const session = await this.#slots.use(() =>
      this.#programs.start(id, spec, { command }, ROOT, signal),
    )
    const limits = { timeoutMs: LOOKUP_MS, outputBytesMax: 3 * USERS_BYTES_MAX }
    const { stdout } = await collectSession(session, limits, signal)
    const [passwd = '', group = ''] = stdout.toString('utf8').split('\0')
    try {
      return resolveUser(wanted, passwd, group)
    } catch (cause) {
      throw new PlatformError('invalid', 'user', { cause })
    }
  }
}

const SHOW_USERS = ['/etc/passwd', '/etc/group']
  .map((path) => `/.roost/busybox head -c ${USERS_BYTES_MAX} ${path} 2>/dev/null; printf '\\0'`)
  .join('; ')

function madeAt({ createdAt }: Container): number {
  return Number(createdAt?.seconds ?? 0n) * 1000 + (createdAt?.nanos ?? 0) / 1e6
}
