import {
  closeSync,
  existsSync,
  type FSWatcher,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  watch,
} from 'node:fs'
import { join } from 'node:path'
import type { LogLine } from '@roost/api'
import { type Clock, type Logger, runCommand } from '@roost/base'
import type { MachineId } from '@roost/core'
import type { MachineLogs } from '../containerd/containerd-runtime.ts'
import { type ReadLine, Segments, type StoredLine } from './segments.ts'

export interface LogKeeperOptions {
  /** Raw logs, on their file system: `<machine>.log`. */
  readonly rawDir: string
  /** What was read, in segments: `<machine>/`. */
  readonly storeDir: string
  readonly region: string
  readonly host: string
  readonly clock: Clock
  readonly log: Logger
}

const CHUNK_BYTES = 256 * 1024
/** Chunks of one machine before it is another's turn. */
const CHUNKS_PER_TURN = 4
const LINE_BYTES_MAX = 64 * 1024
/** What is not ended by a newline counts as a line after that time. */
const PARTIAL_MS = 3000
const PUNCH_BYTES = 1024 * 1024
/** More than this unread is not read any more: it would be gone from the store before anybody saw it. */
const BACKLOG_BYTES_MAX = 32 * 1024 * 1024
/** Below this share of free space, the unread is dropped down to `BACKLOG_KEPT`. */
const FREE_SHARE_MIN = 0.3
const BACKLOG_KEPT_BYTES = 1024 * 1024
const PERIOD_MS = 1000
const QUEUE_LINES_MAX = 5000
const LINES_MAX = 10_000
/** Logs of machines that are gone are kept for those who ask why. */
const GONE_MAX = 50

interface Machine {
  readonly id: MachineId
  readonly segments: Segments
  readonly followers: Set<Follower>
  /** Up to where the raw log's space was given back. */
  punched: number
  /** Size when it was last seen growing, and when: for lines without an end. */
  seenSize: number
  seenAt: number
  /** Lines that were dropped and not yet spoken of. */
  dropped: number
  reading: Promise<boolean> | null
}

interface Follower {
  readonly queue: StoredLine[]
  dropped: number
  wake: () => void
}

/**
 * Reads what machines write, stamps each line, keeps the last of them and gives the space of what it has read back to the
 * raw log's file system by punching holes: cutting a log that is written to would lose lines.
 */
export class LogKeeper implements MachineLogs {
  readonly #options: LogKeeperOptions
  readonly #machines = new Map<MachineId, Machine>()
  readonly #stopped = new AbortController()
  #watcher: FSWatcher | null = null
  #dirty = new Set<MachineId>()
  #wake: () => void = () => {}
  #running: Promise<void> | null = null

  constructor(options: LogKeeperOptions) {
    this.#options = options
  }

  file(id: MachineId): string {
    return join(this.#options.rawDir, `${id}.log`)
  }

  ids(): readonly MachineId[] {
    return readdirSync(this.#options.rawDir)
      .filter((name) => /^[0-9a-f]{14}\.log$/.test(name))
      .map((name) => name.slice(0, 14) as MachineId)
  }

  start(): void {
    try {
      this.#watcher = watch(this.#options.rawDir, (_event, name) => {
        const id = name?.endsWith('.log') ? (name.slice(0, -4) as MachineId) : null
        if (id !== null) {
          this.#dirty.add(id)
          this.#wake()
        }
      })
      this.#watcher.on('error', (error) => this.#options.log.warn('watch logs', { error }))
    } catch (error) {
      this.#options.log.warn('watch logs: read them every second instead', { error })
    }
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    this.#watcher?.close()
    this.#wake()
    await this.#running
  }

  /** Takes in the rest, then lets the raw log go. What was stored stays. */
  async close(id: MachineId): Promise<void> {
    const machine = this.#machine(id)
    while (await this.#read(machine, true));
    machine.segments.seek(0)
    rmSync(this.file(id), { force: true })
    machine.punched = 0
    machine.seenSize = 0
  }

  /** Drops the logs of all but these machines and the last that went. */
  retain(ids: ReadonlySet<MachineId>): void {
    const gone = readdirSync(this.#options.storeDir)
      .filter((name) => !ids.has(name as MachineId))
      .map((name) => ({ name, at: statSync(join(this.#options.storeDir, name)).mtimeMs }))
      .sort((a, b) => b.at - a.at)
    for (const { name } of gone.slice(GONE_MAX)) {
      this.#machines.delete(name as MachineId)
      rmSync(join(this.#options.storeDir, name), { recursive: true, force: true })
    }
  }

  /** Whether it ever said something here. */
  has(id: MachineId): boolean {
    return existsSync(join(this.#options.storeDir, id)) || existsSync(this.file(id))
  }

  /**
   * The last `lines` lines (only those after a time, if `after` is given). With `follow`, then null to say that this was all
   * there was, and what comes until `signal` aborts. A reader that is too slow misses lines and is told.
   */
  async *readLogs(options: {
    readonly machine: MachineId
    readonly lines: number
    readonly follow: boolean
    /** RFC 3339. */
    readonly after?: string | undefined
    readonly signal: AbortSignal
  }): AsyncGenerator<LogLine | null> {
    const { machine: id, signal } = options
    const machine = this.#machine(id)
    const follower: Follower = { queue: [], dropped: 0, wake: () => {} }
    // No line can come between these two.
    if (options.follow) machine.followers.add(follower)
    const after = options.after === undefined ? 0 : Date.parse(options.after)
    const stored = machine.segments
      .tail(Math.max(0, Math.min(LINES_MAX, options.lines)))
      .filter(({ at }) => !(at <= after))
    const wake = () => follower.wake()
    signal.addEventListener('abort', wake)
    try {
      for (const line of stored) yield this.#logLine(id, line)
      if (options.follow) yield null
      while (options.follow && !signal.aborted) {
        if (follower.dropped > 0) {
          const message = `[roost] ${follower.dropped} lines left out: they came faster than they were read`
          follower.dropped = 0
          yield this.#logLine(id, { at: this.#options.clock.now(), message })
        }
        const line = follower.queue.shift()
        if (line) yield this.#logLine(id, line)
        else
          await new Promise<void>((resolve) => {
            follower.wake = resolve
            if (signal.aborted || follower.queue.length > 0) resolve()
          })
      }
    } finally {
      signal.removeEventListener('abort', wake)
      machine.followers.delete(follower)
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      await this.#pause()
      if (signal.aborted) return
      const ids = this.#dirty.size > 0 ? this.#dirty : new Set(this.#idsOrNone())
      this.#dirty = new Set()
      for (const id of ids) {
        try {
          if (await this.#read(this.#machine(id), false)) this.#dirty.add(id)
        } catch (error) {
          this.#options.log.warn('read the log of a machine', { machine: id, error })
        }
        // Those who ask for something else get their turn between two machines.
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
  }

  /** Until something was written, or a second has passed: a hint may be lost. */
  async #pause(): Promise<void> {
    if (this.#dirty.size > 0) return
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    await this.#options.clock.sleep(
      PERIOD_MS,
      AbortSignal.any([woken.signal, this.#stopped.signal]),
    )
    this.#wake = () => {}
    // A moment for what else is being written: one write for many lines.
    if (woken.signal.aborted) await this.#options.clock.sleep(15, this.#stopped.signal)
  }

  #idsOrNone(): readonly MachineId[] {
    try {
      return this.ids()
    } catch {
      return []
    }
  }

  #machine(id: MachineId): Machine {
    const known = this.#machines.get(id)
    if (known) return known
    const machine: Machine = {
      id,
      segments: new Segments(join(this.#options.storeDir, id)),
      followers: new Set(),
      punched: 0,
      seenSize: 0,
      seenAt: 0,
      dropped: 0,
      reading: null,
    }
    this.#machines.set(id, machine)
    return machine
  }

  /** One turn of one machine; true if there is more. */
  async #read(machine: Machine, last: boolean): Promise<boolean> {
    while (machine.reading) await machine.reading.catch(() => {})
    machine.reading = this.#readNow(machine, last)
    try {
      return await machine.reading
    } finally {
      machine.reading = null
    }
  }

  async #readNow(machine: Machine, last: boolean): Promise<boolean> {
    let fd: number
    try {
      fd = openSync(this.file(machine.id), 'r')
    } catch {
      return false
    }
    try {
      const { size } = fstatSync(fd)
      if (size < machine.segments.offset) machine.segments.seek(0)
      if (size !== machine.seenSize) {
        machine.seenSize = size
        machine.seenAt = this.#options.clock.now()
      }
      this.#dropBacklog(machine, fd, size)
      let more = true
      for (let n = 0; more && n < CHUNKS_PER_TURN; n++)
        more = this.#readChunk(machine, fd, size, last)
      await this.#punch(machine)
      return more
    } finally {
      closeSync(fd)
    }
  }

  /** True if there is more to read. */
  #readChunk(machine: Machine, fd: number, size: number, last: boolean): boolean {
    const { clock } = this.#options
    const from = machine.segments.offset
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - from))
    const bytes = chunk.length === 0 ? 0 : readSync(fd, chunk, 0, chunk.length, from)
    if (bytes === 0) return false
    const data = chunk.subarray(0, bytes)
    const at = clock.now()
    const atEnd = from + bytes >= size
    const stale = at - machine.seenAt >= PARTIAL_MS
    const lines = splitLines(data, from, at, atEnd && (last || stale))
    if (machine.dropped > 0 && lines.length > 0) {
      const message = `[roost] ${machine.dropped} lines dropped: they came faster than they could be kept`
      lines.unshift({ at, message, offset: from })
      machine.dropped = 0
    }
    machine.segments.append(lines)
    for (const follower of machine.followers) tell(follower, lines)
    const done = lines.length > 0
    return done && machine.segments.offset < size
  }

  /** Keeps room: a full file system would stop the machine for ever. */
  #dropBacklog(machine: Machine, fd: number, size: number): void {
    const backlog = size - machine.segments.offset
    if (backlog <= BACKLOG_KEPT_BYTES) return
    const { blocks, bavail } = statfsSync(this.#options.rawDir)
    if (backlog <= BACKLOG_BYTES_MAX && bavail / blocks >= FREE_SHARE_MIN) return
    const target = size - BACKLOG_KEPT_BYTES
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
    let at = machine.segments.offset
    // Up to the first line that begins after the target.
    for (let found = false; !found; ) {
      const bytes = readSync(fd, buffer, 0, buffer.length, at)
      if (bytes === 0) break
      let end = -1
      for (
        let newline = buffer.indexOf(10);
        newline !== -1 && newline < bytes && !found;
        newline = buffer.indexOf(10, newline + 1)
      ) {
        machine.dropped++
        end = newline
        found = at + newline >= target
      }
      at += found ? end + 1 : bytes
    }
    machine.segments.seek(at)
  }

  async #punch(machine: Machine): Promise<void> {
    const upTo = Math.floor(machine.segments.offset / 4096) * 4096
    if (upTo < machine.punched) machine.punched = 0
    const length = upTo - machine.punched
    if (length < PUNCH_BYTES) return
    await runCommand([
      'fallocate',
      '--punch-hole',
      '--offset',
      String(machine.punched),
      '--length',
      String(length),
      this.file(machine.id),
    ])
    machine.punched = upTo
  }

  #logLine(machine: MachineId, line: StoredLine): LogLine {
    const { region, host } = this.#options
    return {
      timestamp: new Date(line.at).toISOString(),
      machine,
      region,
      host,
      message: line.message,
    }
  }
}

/** Whole lines, each with the offset behind it; the last one without an end only if `partial`, or if it is too long. */
export function splitLines(data: Buffer, from: number, at: number, partial: boolean): ReadLine[] {
  const lines: ReadLine[] = []
  let start = 0
  // Holes that we punched before a crash read as zeros.
  while (start < data.length && data[start] === 0) start++
  if (start > 0 && start === data.length) return [{ at, message: '', offset: from + start }]
  while (start < data.length) {
    const newline = data.indexOf(10, start)
    const length = (newline === -1 ? data.length : newline) - start
    if (length > LINE_BYTES_MAX) {
      const end = start + LINE_BYTES_MAX
      lines.push({ at, message: text(data, start, end), offset: from + end })
      start = end
    } else if (newline !== -1) {
      lines.push({ at, message: text(data, start, newline), offset: from + newline + 1 })
      start = newline + 1
    } else {
      if (partial && length > 0)
        lines.push({ at, message: text(data, start, data.length), offset: from + data.length })
      break
    }
  }
  return lines
}

function text(data: Buffer, start: number, end: number): string {
  const cr = end > start && data[end - 1] === 13 ? 1 : 0
  return data.toString('utf8', start, end - cr)
}

function tell(follower: Follower, lines: readonly StoredLine[]): void {
  const room = QUEUE_LINES_MAX - follower.queue.length
  follower.queue.push(...lines.slice(0, Math.max(0, room)))
  follower.dropped += Math.max(0, lines.length - room)
  follower.wake()
}
