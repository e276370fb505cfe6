import { randomBytes } from 'node:crypto'
import {
  chownSync,
  closeSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { PassThrough, type Readable } from 'node:stream'
import { backoffMs, type Clock, type Logger, PlatformError } from '@roost/base'
import { EXEC_SIGNALS, type ExecRequest, type ExecSession } from '../exec/exec-session.ts'
import { type ContainerdClient, isNotFound, orAbsent } from './client.ts'
import { type ExecPipes, makePipes, pipeReader, pipeWriter } from './exec-pipes.ts'
import { type ContainerProcess, execProcess } from './exec-process.ts'
import { tasks } from './generated/index.js'
import { GVISOR } from './gvisor.ts'
import { killDescendants, type ProcessRef, processRef } from './process-tree.ts'
import type { ImageUser } from './user.ts'

/** What of a container's OCI spec an exec needs. */
export interface ContainerSpec {
  readonly process: ContainerProcess
  readonly annotations?: Readonly<Record<string, string>>
  readonly mounts: readonly { readonly destination: string; readonly source: string }[]
}

interface ExecRef {
  readonly containerId: string
  readonly execId: string
  /** null where it is not known, or has ended. */
  readonly process: ProcessRef | null
}

const START_MS = 30_000
const WAIT_MS = 3_600_000
/** What a program left behind may hold its output open: after so long without a byte it was no output of the program's. */
const QUIET_MS = 1000
const KILL_MS = 10_000
/** Nobody saw how it ended. */
const EXIT_UNKNOWN = 137
const SIGKILL = 9
const SPEC = 'types.containerd.io/opencontainers/runtime-spec/1/Process'
/** In an exec's directory: the path of the environment file that was made for it alone. */
const OWN_ENVIRONMENT = 'environment'

/**
 * Programs beside those of machines. Each has a directory on tmpfs under its name, `<container>-<chance>`, from before it is
 * made until after it is gone: so the next agent finds what this one leaves when it is killed.
 */
export class ExecPrograms {
  readonly #client: ContainerdClient
  readonly #dir: string
  readonly #clock: Clock
  readonly #log: Logger
  readonly #open = new Map<string, ExecSession | null>()

  constructor(options: {
    readonly client: ContainerdClient
    /** On tmpfs. */
    readonly runDir: string
    readonly clock: Clock
    readonly log: Logger
  }) {
    this.#client = options.client
    this.#clock = options.clock
    this.#log = options.log
    this.#dir = join(options.runDir, 'exec')
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
  }

  /** `user`: null for whom the container's program runs as. */
  async start(
    containerId: string,
    spec: ContainerSpec,
    request: Pick<ExecRequest, 'command' | 'terminal'>,
    user: ImageUser | null,
    signal: AbortSignal,
  ): Promise<ExecSession> {
    signal.throwIfAborted()
    const execId = `exec-${randomBytes(8).toString('hex')}`
    const terminal = request.terminal !== undefined
    this.#open.set(execId, null)
    let ref: ExecRef = { containerId, execId, process: null }
    let fds: ReturnType<ExecPipes['open']> | null = null
    try {
      const pipes = await makePipes(this.#dirOf(ref), terminal)
      const environmentName = this.#environmentFor(ref, spec, user)
      const gvisor = spec.annotations?.[GVISOR] !== undefined
      const container = spec.process
      const process = execProcess({ container, request, user, environmentName, gvisor })
      fds = pipes.open()
      await this.#client.call(tasks.TasksService.exec, {
        containerId,
        execId,
        terminal,
        stdin: pipes.stdin,
        stdout: pipes.stdout,
        stderr: pipes.stderr ?? '',
        spec: { typeUrl: SPEC, value: Buffer.from(JSON.stringify(process)) },
      })
      // Not aborted: what comes about a moment later would be nobody's.
      const started = await this.#client.call(
        tasks.TasksService.start,
        { containerId, execId },
        { timeoutMs: START_MS },
      )
      ref = { ...ref, process: processRef(started.pid) }
      signal.throwIfAborted()
      const session = this.#session(ref, fds, terminal)
      this.#open.set(execId, session)
      return session
    } catch (error) {
      for (const fd of Object.values(fds ?? {})) if (fd !== null) closeSync(fd)
      await this.#finish(ref)
      throw error
    }
  }

  /** What an agent that was killed has left, or what could not be ended when it should have. */
  async sweep(): Promise<void> {
    for (const name of readdirSync(this.#dir)) {
      const containerId = name.slice(0, name.lastIndexOf('-'))
      const execId = `exec-${name.slice(name.lastIndexOf('-') + 1)}`
      if (this.#open.has(execId)) continue
      const call = this.#client.call(tasks.TasksService.get, { containerId, execId })
      const pid = (await orAbsent(call).catch(() => undefined))?.process?.pid ?? 0
      await this.#finish({ containerId, execId, process: pid > 0 ? processRef(pid) : null })
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map((session) => session?.close()))
  }

  // ── a session ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #session(ref: ExecRef, fds: ReturnType<ExecPipes['open']>, terminal: boolean): ExecSession {
    const { containerId, execId } = ref
    const closing = new AbortController()
    const gone = new AbortController()
    const service = tasks.TasksService
    const quietly = (call: Promise<unknown>) => this.#quietly(execId, call)
    const stdin = pipeWriter(fds.stdin, () =>
      quietly(this.#client.call(service.closeIo, { containerId, execId, stdin: true })),
    )
    const stdout = pipeReader(fds.stdout)
    const stderr = fds.stderr === null ? null : pipeReader(fds.stderr)
    const outputs = stderr === null ? [stdout] : [stdout, stderr]
    for (const stream of [stdin, ...outputs]) stream.on('error', () => {})
    const exit = this.#exitOf(ref, gone.signal)
    const finished = (async () => {
      await Promise.race([exit, aborted(closing.signal)])
      await this.#untilQuiet(outputs, closing.signal)
      // What it leaves behind goes on, as after a shell, unless nobody is there any more.
      await this.#finish(closing.signal.aborted ? ref : { ...ref, process: null })
      gone.abort()
      stdin.destroy()
    })()
    return {
      stdin,
      stdout,
      stderr: stderr ?? empty(),
      exit,
      resize: async ({ columns, rows }) => {
        const size = { containerId, execId, width: columns, height: rows }
        if (terminal) await quietly(this.#client.call(service.resizePty, size))
      },
      signal: async (name) => {
        const number = EXEC_SIGNALS[name]
        const names = Object.keys(EXEC_SIGNALS).join(', ')
        if (number === undefined)
          throw new PlatformError('invalid', `signal: ${name} is not one of ${names}`)
        const request = { containerId, execId, signal: number, all: false }
        await quietly(this.#client.call(service.kill, request))
      },
      close: async () => {
        closing.abort()
        await finished
        for (const stream of outputs) stream.destroy()
      },
    }
  }

  async #exitOf({ containerId, execId }: ExecRef, gone: AbortSignal): Promise<number> {
    const request = { containerId, execId }
    for (let failures = 0; !gone.aborted; failures++) {
      try {
        const options = { timeoutMs: WAIT_MS, signal: gone }
        return (await this.#client.call(tasks.TasksService.wait, request, options)).exitStatus
      } catch (error) {
        if (isNotFound(error)) return EXIT_UNKNOWN
      }
      // containerd may be away for a moment, or the shim for good.
      await this.#clock.sleep(backoffMs(failures, 100, 2000), gone)
      const look = this.#client.call(tasks.TasksService.get, request)
      const there = await look.then(
        () => true,
        (error: unknown) => !isNotFound(error),
      )
      if (!there) return EXIT_UNKNOWN
    }
    return EXIT_UNKNOWN
  }

  /** Everything was read, or nothing comes any more though somebody would read it. */
  async #untilQuiet(outputs: readonly Socket[], closing: AbortSignal): Promise<void> {
    const over = new AbortController()
    const left = new Set(outputs.filter((stream) => !stream.readableEnded && !stream.destroyed))
    const done = (stream: Socket) => {
      left.delete(stream)
      if (left.size === 0) over.abort()
    }
    if (left.size === 0) return
    for (const stream of left) {
      stream.once('end', () => done(stream))
      stream.once('close', () => done(stream))
      // Begins to read, so that it is known whether something is there.
      stream.read(0)
    }
    const either = AbortSignal.any([over.signal, closing])
    while (!either.aborted) {
      const before = [...left].map((stream) => stream.bytesRead)
      await this.#clock.sleep(QUIET_MS, either)
      const quiet = [...left].every(
        (stream, n) => stream.bytesRead === before[n] && stream.readableLength === 0,
      )
      if (quiet) return
    }
  }

  // ── its end ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Ends what is left of it. What can't be ended now keeps its directory, for the next sweep. */
  async #finish(ref: ExecRef): Promise<void> {
    const { containerId, execId, process } = ref
    const request = { containerId, execId }
    const { kill, wait, deleteProcess } = tasks.TasksService
    try {
      if (process !== null) killDescendants(process)
      await this.#client
        .call(kill, { ...request, signal: SIGKILL, all: false })
        .then(() => this.#client.call(wait, request, { timeoutMs: KILL_MS }))
        // It had ended, or was never begun.
        .catch(() => {})
      await orAbsent(this.#client.call(deleteProcess, request, { timeoutMs: KILL_MS }))
      this.#removeTraces(ref)
    } catch (error) {
      this.#log.warn('end an exec: left for the next sweep', { exec: execId, error })
    } finally {
      this.#open.delete(execId)
    }
  }

  /** A container's id may be as long as containerd takes one, so the exec's own can't have it in it. */
  #dirOf({ containerId, execId }: Pick<ExecRef, 'containerId' | 'execId'>): string {
    return join(this.#dir, `${containerId}-${execId.slice('exec-'.length)}`)
  }

  #removeTraces(ref: ExecRef): void {
    const dir = this.#dirOf(ref)
    try {
      rmSync(readFileSync(join(dir, OWN_ENVIRONMENT), 'utf8'), { force: true })
    } catch {
      // It had none of its own.
    }
    rmSync(dir, { recursive: true, force: true })
  }

  /** The container's own can be read by its user and root; anybody else gets a copy, for as long as the program runs. */
  #environmentFor(ref: ExecRef, spec: ContainerSpec, user: ImageUser | null): string {
    const own = spec.process.user.uid
    if (user === null || user.uid === 0 || user.uid === own) return 'env'
    const source = spec.mounts.find(({ destination }) => destination === '/.roost')?.source
    if (source === undefined)
      throw new PlatformError('internal', `exec in ${ref.containerId}: it has no /.roost`)
    const name = `env-${ref.execId.slice('exec-'.length)}`
    const path = join(source, name)
    writeFileSync(join(this.#dirOf(ref), OWN_ENVIRONMENT), path)
    writeFileSync(path, readFileSync(join(source, 'env')), { mode: 0o400, flag: 'wx' })
    chownSync(path, user.uid, user.gid)
    return name
  }

  async #quietly(execId: string, call: Promise<unknown>): Promise<void> {
    await call.catch((error: unknown) => {
      if (!isNotFound(error)) this.#log.info('exec', { exec: execId, error })
    })
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

function empty(): Readable {
  return new PassThrough().end()
}
