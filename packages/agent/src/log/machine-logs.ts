import {
  closeSync,
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
import { type ContainerId, machineOf, partsOf } from '../container-id.ts'
import type { MachineLogs } from '../containerd/containerd-runtime.ts'
import { hasMark, withoutMarks } from './copier-mark.ts'
import {
  type ReadLine,
  SEGMENT_BYTES,
  SEGMENTS_MAX,
  Segments,
  type StoredLine,
} from './segments.ts'

export interface LogKeeperOptions {
  /** Raw logs, on their file system: `<machine>.log`, or `<machine>.<container>.log`. */
  readonly rawDir: string
  /** What was read, in segments: `<machine>/`, or `<machine>.<container>/`. */
  readonly storeDir: string
  readonly region: string
  readonly host: string
  readonly clock: Clock
  readonly log: Logger
  /** Of all machines' stored logs together, those that are gone included. Default: see `storeBound`. */
  readonly storeBytesMax?: number
}

const CHUNK_BYTES = 256 * 1024
/** Chunks of one machine before it is another's turn. */
const CHUNKS_PER_TURN = 4
const LINE_BYTES_MAX = 64 * 1024
/**
 * So much of one machine's log is kept each second, after a burst of as much. What comes faster is counted and not kept: it would
 * push out what was said ten seconds before, and reading it takes processor time from the machines.
 */
const KEPT_BYTES_PER_SECOND = 4 * 1024 * 1024
const KEPT_BURST_BYTES = 16 * 1024 * 1024
/** What is not ended by a newline counts as a line after that time. */
const PARTIAL_MS = 3000
const PUNCH_BYTES_LEAST = 32 * 1024
const PUNCH_BYTES_MOST = 16 * 1024 * 1024
/**
 * How much of one log may have been read and still take space, as a share of the file system, by the share of it that is free:
 * giving back costs a process each time.
 */
const PUNCH_SHARES = [
  { freeMin: 0.7, share: 1 / 16 },
  { freeMin: 0.5, share: 1 / 512 },
  { freeMin: 0, share: 0 },
] as const
/** More than this unread is not read any more: it would be gone from the store before anybody saw it. */
const BACKLOG_BYTES_MAX = 16 * 1024 * 1024
/** Below this share of free space, the unread is dropped down to `BACKLOG_KEPT`. */
const FREE_SHARE_MIN = 0.3
const BACKLOG_KEPT_BYTES = 1024 * 1024
const PERIOD_MS = 1000
const QUEUE_LINES_MAX = 5000
const QUEUE_BYTES_MAX = 2 * 1024 * 1024
const LINES_MAX = 10_000
/** Logs of machines that are gone are kept for those who ask why, as long as the server knows the machine. */
const GONE_MS_MAX = 7 * 86_400_000
/** A clock that was set back by more than that is believed; by less, time stands still until it has caught up. */
const CLOCK_BACK_MS = 60_000
const STORE_BYTES_LEAST = 256 * 1024 * 1024
const STORE_BYTES_MOST = 4 * 1024 * 1024 * 1024
const STORE_SHARE = 0.05
/** Less free than that on the disk of the store, and the logs of those that are gone make room. */
const DISK_FREE_MIN = 0.05
/** The same complaint of all machines, at most so often. */
const WARN_MS = 60_000

/** What has an output of its own: a machine, or each of its containers. */
interface Source {
  readonly id: ContainerId
  readonly machine: Machine
  readonly segments: Segments
  /** Up to where the raw log's space was given back. */
  punched: number
  /** Size when it was last seen growing, and when: for lines without an end. */
  seenSize: number
  seenAt: number
  /** Lines that were dropped because they came too fast, and for want of room, and not yet spoken of. */
  dropped: number
  homeless: number
  /** What may be kept just now, as of `allowedAt`. */
  allowed: number
  allowedAt: number
  reading: Promise<boolean> | null
}

/** What all outputs of a machine have in common. */
interface Machine {
  readonly followers: Set<Follower>
  /** Of the last line of any of them. */
  at: number
}

type SaidLine = StoredLine & { readonly container: string | null }

interface Follower {
  /** null: of all of them. */
  readonly container: string | null
  readonly queue: SaidLine[]
  bytes: number
  dropped: number
  wake: () => void
}

/**
 * Reads what machines write, stamps each line, keeps the last of them and gives the space of what it has read back to the
 * raw log's file system by punching holes: cutting a log that is written to would lose lines.
 */
export class LogKeeper implements MachineLogs {
  readonly #options: LogKeeperOptions
  readonly #sources = new Map<ContainerId, Source>()
  readonly #machines = new Map<MachineId, Machine>()
  readonly #stopped = new AbortController()
  #watcher: FSWatcher | null = null
  #dirty = new Set<ContainerId>()
  #wake: () => void = () => {}
  #running: Promise<void> | null = null
  #warnedAt = 0
  /** Hears of marks that came through a machine's copiers. */
  #onMark: (id: ContainerId, data: Buffer) => void = () => {}

  constructor(options: LogKeeperOptions) {
    this.#options = options
  }

  file(id: ContainerId): string {
    return join(this.#options.rawDir, `${id}.log`)
  }

  ids(): readonly MachineId[] {
    return [...new Set(this.#rawSources().map(machineOf))]
  }

  #rawSources(): readonly ContainerId[] {
    return readdirSync(this.#options.rawDir)
      .filter((name) => name.endsWith('.log'))
      .map((name) => name.slice(0, -4))
      .filter((id) => partsOf(id) !== null)
  }

  start(): void {
    try {
      this.#watcher = watch(this.#options.rawDir, (_event, name) => {
        const id = name?.endsWith('.log') ? name.slice(0, -4) : null
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

  /** `heard` is shown what is read, where there is a copier's mark in it. */
  watchMarks(heard: (id: ContainerId, data: Buffer) => void): void {
    this.#onMark = heard
  }

  /** Takes in the rest, then lets the raw logs of a machine go. What was stored stays. */
  async close(id: MachineId): Promise<void> {
    // Also one that was never written to: its end is at its beginning.
    const known = [...this.#sources.keys(), ...this.#rawSources(), id]
    for (const one of new Set(known.filter((name) => machineOf(name) === id)))
      await this.#close(this.#source(one))
  }

  async #close(source: Source): Promise<void> {
    while (await this.#read(source, true));
    source.segments.seek(0)
    rmSync(this.file(source.id), { force: true })
    source.punched = 0
    source.seenSize = 0
  }

  /**
   * Drops the logs of machines that are gone: after a week, or as soon as their room is needed, those first that went first. When
   * that does not do, those that are there keep less.
   */
  retain(ids: ReadonlySet<MachineId>): void {
    const { storeDir, clock } = this.#options
    const { blocks, bavail, bsize } = statfsSync(storeDir)
    const bytesMax = this.#options.storeBytesMax ?? storeBound(blocks * bsize)
    const all = readdirSync(storeDir).map((name) => ({ name, ...sizeAndAge(join(storeDir, name)) }))
    const isThere = ({ name }: { readonly name: string }) => ids.has(machineOf(name))
    const gone = all.filter((one) => !isThere(one)).sort((a, b) => a.at - b.at)
    let bytes = all.reduce((sum, one) => sum + one.bytes, 0)
    let missing = DISK_FREE_MIN * blocks * bsize - bavail * bsize
    for (const one of gone) {
      const old = clock.now() - one.at > GONE_MS_MAX
      if (!old && bytes <= bytesMax && missing <= 0) continue
      this.#forget(one.name)
      rmSync(join(storeDir, one.name), { recursive: true, force: true })
      bytes -= one.bytes
      missing -= one.bytes
    }
    if (bytes <= bytesMax) return
    const living = all.filter(isThere)
    const files = Math.floor(bytesMax / (living.length * SEGMENT_BYTES))
    for (const { name } of living)
      this.#source(name).segments.trim(Math.min(SEGMENTS_MAX, Math.max(2, files)))
  }

  #forget(id: ContainerId): void {
    this.#sources.delete(id)
    const machine = machineOf(id)
    const known = this.#machines.get(machine)
    const others = [...this.#sources.keys()].some((one) => machineOf(one) === machine)
    if (!others && known?.followers.size === 0) this.#machines.delete(machine)
  }

  /** Whether it ever said something here. */
  has(id: MachineId): boolean {
    return this.#sourcesOf(id).length > 0
  }

  /** All outputs that the machine has, or ever had, here. */
  #sourcesOf(id: MachineId): readonly ContainerId[] {
    const names = [...readdirSync(this.#options.storeDir), ...this.#idsOrNone()]
    return [...new Set(names.filter((name) => machineOf(name) === id))]
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
    /** Only of that one. */
    readonly container?: string | undefined
    readonly signal: AbortSignal
  }): AsyncGenerator<LogLine | null> {
    const { machine: id, container = null, signal } = options
    const machine = this.#machine(id)
    const follower: Follower = { container, queue: [], bytes: 0, dropped: 0, wake: () => {} }
    // No line can come between these two.
    if (options.follow) machine.followers.add(follower)
    const after = options.after === undefined ? 0 : instantOf(options.after)
    const stored = this.#tail(id, Math.max(0, Math.min(LINES_MAX, options.lines)), after, container)
    const wake = () => follower.wake()
    signal.addEventListener('abort', wake)
    try {
      for (const line of stored) yield this.#logLine(id, line)
      if (options.follow) yield null
      while (options.follow && !signal.aborted) {
        if (follower.dropped > 0) {
          const message = `[roost] ${follower.dropped} lines left out: they came faster than they were read`
          follower.dropped = 0
          yield this.#logLine(id, { at: this.#options.clock.now(), message, container })
        }
        const line = follower.queue.shift()
        if (line) {
          follower.bytes -= line.message.length
          yield this.#logLine(id, line)
        } else
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

  /** The last lines of all of them, in the order in which they were said. */
  #tail(id: MachineId, count: number, after: number, container: string | null): SaidLine[] {
    const all = this.#sourcesOf(id)
      .map((source) => ({ source, name: partsOf(source)?.name ?? null }))
      .filter(({ name }) => container === null || name === container)
      .map(({ source, name }) =>
        this.#source(source)
          .segments.tail(count, after)
          .map((line) => ({ ...line, container: name })),
      )
    return count === 0 ? [] : inOrder(all).slice(-count)
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
          if (await this.#read(this.#source(id), false)) this.#dirty.add(id)
        } catch (error) {
          this.#warn('read the log of a machine', { machine: id, error })
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

  #idsOrNone(): readonly ContainerId[] {
    try {
      return this.#rawSources()
    } catch {
      return []
    }
  }

  #machine(id: MachineId): Machine {
    const known = this.#machines.get(id) ?? { followers: new Set(), at: 0 }
    this.#machines.set(id, known)
    return known
  }

  #source(id: ContainerId): Source {
    const known = this.#sources.get(id)
    if (known) return known
    const segments = new Segments(join(this.#options.storeDir, id))
    const machine = this.#machine(machineOf(id))
    machine.at = Math.max(machine.at, segments.at)
    const source: Source = {
      id,
      machine,
      segments,
      punched: 0,
      seenSize: 0,
      seenAt: 0,
      dropped: 0,
      homeless: 0,
      allowed: KEPT_BURST_BYTES,
      allowedAt: this.#options.clock.now(),
      reading: null,
    }
    this.#sources.set(id, source)
    return source
  }

  /** One turn of one machine; true if there is more. */
  async #read(source: Source, last: boolean): Promise<boolean> {
    while (source.reading) await source.reading.catch(() => {})
    source.reading = this.#readNow(source, last)
    try {
      return await source.reading
    } finally {
      source.reading = null
    }
  }

  async #readNow(source: Source, last: boolean): Promise<boolean> {
    let fd: number
    try {
      fd = openSync(this.file(source.id), 'r')
    } catch {
      return false
    }
    try {
      const { size } = fstatSync(fd)
      if (size < source.segments.offset) source.segments.seek(0)
      if (size !== source.seenSize) {
        source.seenSize = size
        source.seenAt = this.#options.clock.now()
      }
      this.#dropBacklog(source, fd, size)
      let more = true
      // Whoever writes more than may be kept wakes us again by that, and one that stops is read a second later.
      for (let n = 0; more && n < CHUNKS_PER_TURN; n++)
        more = (last || this.#mayKeep(source)) && this.#readChunk(source, fd, size, last)
      await this.#punch(source)
      return more
    } finally {
      closeSync(fd)
    }
  }

  #mayKeep(source: Source): boolean {
    const now = this.#options.clock.now()
    const since = Math.max(0, now - source.allowedAt)
    source.allowedAt = now
    source.allowed = Math.min(
      KEPT_BURST_BYTES,
      source.allowed + (since / 1000) * KEPT_BYTES_PER_SECOND,
    )
    return source.allowed > 0
  }

  /** True if there is more to read. */
  #readChunk(source: Source, fd: number, size: number, last: boolean): boolean {
    const { clock } = this.#options
    const from = source.segments.offset
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - from))
    const bytes = chunk.length === 0 ? 0 : readSync(fd, chunk, 0, chunk.length, from)
    if (bytes === 0) return false
    const data = chunk.subarray(0, bytes)
    source.allowed -= bytes
    if (hasMark(data)) this.#onMark(source.id, data)
    const now = clock.now()
    const atEnd = from + bytes >= size
    const stale = now - source.seenAt >= PARTIAL_MS
    const lines = splitLines(data, from, atEnd && (last || stale))
    if (lines.length === 0) return false
    this.#take(source, lines, now)
    return source.segments.offset < size
  }

  /** Stores lines and tells those who follow, with what had to be left out before them. */
  #take(source: Source, lines: readonly Cut[], now: number): void {
    const { segments } = source
    const begin = segments.offset
    const notices = [
      ...(source.dropped > 0
        ? [`${source.dropped} lines dropped: they came faster than they could be kept`]
        : []),
      ...(source.homeless > 0 ? [`${source.homeless} lines not kept: the disk was full`] : []),
    ].map((text) => ({ message: `[roost] ${text}`, offset: begin }))
    // Later than all before: a reader that was cut off goes on by the time of the last line it had.
    let at = source.machine.at - now > CLOCK_BACK_MS ? 0 : source.machine.at
    const stamped = [...notices, ...lines].map(({ message, offset }): ReadLine => {
      at = Math.max(now, Math.round(at * 1000 + 1) / 1000)
      return { at, offset, message }
    })
    source.machine.at = at
    const spoken = stamped.filter((line): line is ReadLine & StoredLine => line.message !== null)
    const container = partsOf(source.id)?.name ?? null
    for (const follower of source.machine.followers)
      if (follower.container === null || follower.container === container)
        tell(follower, spoken, container)
    if (segments.append(stamped)) {
      source.dropped = 0
      source.homeless = 0
      return
    }
    source.homeless += spoken.length - notices.length
    this.#warn('no room to keep the logs of machines', { machine: source.id })
  }

  #warn(
    message: string,
    fields: { readonly machine: ContainerId; readonly error?: unknown },
  ): void {
    const now = this.#options.clock.now()
    if (Math.abs(now - this.#warnedAt) < WARN_MS) return
    this.#warnedAt = now
    this.#options.log.warn(message, fields)
  }

  /** Keeps room: a full file system would stop the machine for ever. */
  #dropBacklog(source: Source, fd: number, size: number): void {
    const backlog = size - source.segments.offset
    if (backlog <= BACKLOG_KEPT_BYTES) return
    const { blocks, bavail } = statfsSync(this.#options.rawDir)
    if (backlog <= BACKLOG_BYTES_MAX && bavail / blocks >= FREE_SHARE_MIN) return
    const target = size - BACKLOG_KEPT_BYTES
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
    let at = source.segments.offset
    // Up to the first line that begins after the target.
    for (let found = false; !found; ) {
      const bytes = readSync(fd, buffer, 0, buffer.length, at)
      if (bytes === 0) break
      if (hasMark(buffer.subarray(0, bytes))) this.#onMark(source.id, buffer.subarray(0, bytes))
      let end = -1
      for (
        let newline = buffer.indexOf(10);
        newline !== -1 && newline < bytes && !found;
        newline = buffer.indexOf(10, newline + 1)
      ) {
        source.dropped++
        end = newline
        found = at + newline >= target
      }
      at += found ? end + 1 : bytes
    }
    source.segments.seek(at)
  }

  async #punch(source: Source): Promise<void> {
    const upTo = Math.floor(source.segments.offset / 4096) * 4096
    if (upTo < source.punched) source.punched = 0
    const length = upTo - source.punched
    if (length <= 0) return
    const { blocks, bavail, bsize } = statfsSync(this.#options.rawDir)
    const step = PUNCH_SHARES.find(({ freeMin }) => bavail / blocks >= freeMin)
    const most = Math.min(PUNCH_BYTES_MOST, (step?.share ?? 0) * blocks * bsize)
    if (length < Math.max(PUNCH_BYTES_LEAST, most)) return
    await runCommand([
      'fallocate',
      '--punch-hole',
      '--offset',
      String(source.punched),
      '--length',
      String(length),
      this.file(source.id),
    ])
    source.punched = upTo
  }

  #logLine(machine: MachineId, { at, message, container }: SaidLine): LogLine {
    const { region, host } = this.#options
    const said = { timestamp: timestampOf(at), machine, region, host, message }
    return container === null ? said : { ...said, container }
  }
}

/** Each list stays in its own order, also where a clock was set back. */
function inOrder(lists: readonly (readonly SaidLine[])[]): SaidLine[] {
  const heads = lists.filter((list) => list.length > 0).map((list) => ({ list, next: 0 }))
  const merged: SaidLine[] = []
  while (heads.length > 0) {
    const first = heads.reduce((a, b) =>
      (b.list[b.next]?.at ?? 0) < (a.list[a.next]?.at ?? 0) ? b : a,
    )
    merged.push(first.list[first.next++] as SaidLine)
    if (first.next === first.list.length) heads.splice(heads.indexOf(first), 1)
  }
  return merged
}

/** Of the disk that the store lies on. */
export function storeBound(diskBytes: number): number {
  return Math.min(STORE_BYTES_MOST, Math.max(STORE_BYTES_LEAST, STORE_SHARE * diskBytes))
}

/** RFC 3339 with microseconds. */
export function timestampOf(at: number): string {
  const micros = Math.round(at * 1000)
  const iso = new Date(Math.floor(micros / 1000)).toISOString()
  return `${iso.slice(0, -1)}${String(micros % 1000).padStart(3, '0')}Z`
}

/** The counterpart; 0 for what is no time. Finer than microseconds is cut off. */
export function instantOf(timestamp: string): number {
  const ms = Date.parse(timestamp)
  if (!Number.isFinite(ms)) return 0
  const micros = /\.\d{3}(\d{1,3})/.exec(timestamp)?.[1] ?? '0'
  return Math.round(ms * 1000 + Number(micros.padEnd(3, '0'))) / 1000
}

/** All files of a machine, and when the last of them was written to. */
function sizeAndAge(dir: string): { readonly bytes: number; readonly at: number } {
  let [bytes, at] = [0, 0]
  try {
    for (const name of readdirSync(dir)) {
      const { size, mtimeMs } = statSync(join(dir, name))
      bytes += size
      at = Math.max(at, mtimeMs)
    }
  } catch {
    // It went in this moment.
  }
  return { bytes, at }
}

export interface Cut {
  readonly message: string | null
  readonly offset: number
}

/**
 * Whole lines, each with the offset behind it; the last one without an end only if `partial`, or if it is too long: then it is cut
 * at 64 KB, between characters. What is no UTF-8 becomes U+FFFD; NUL bytes at the beginning are left out; everything else, colours
 * included, stays as it was said.
 */
export function splitLines(data: Buffer, from: number, partial: boolean): Cut[] {
  const lines: Cut[] = []
  let start = 0
  // Holes that we punched before a crash read as zeros.
  while (start < data.length && data[start] === 0) start++
  if (start > 0 && start === data.length) return [{ message: null, offset: from + start }]
  const add = (end: number, next: number) =>
    lines.push({ message: text(data.subarray(start, end)), offset: from + next })
  while (start < data.length) {
    const newline = data.indexOf(10, start)
    const end = newline === -1 ? data.length : newline
    if (end - start > LINE_BYTES_MAX) {
      const cut = characterStart(data, start + LINE_BYTES_MAX)
      add(cut, cut)
      start = cut
    } else if (newline !== -1) {
      add(newline, newline + 1)
      start = newline + 1
    } else {
      if (partial && end > start) {
        const said = text(data.subarray(start, end))
        lines.push({ message: said === '' ? null : said, offset: from + end })
      }
      break
    }
  }
  return lines
}

/** At or a little before: a character of UTF-8 has at most three bytes after its first. */
function characterStart(data: Buffer, at: number): number {
  for (let back = 0; back < 4; back++)
    if (((data[at - back] ?? 0) & 0xc0) !== 0x80) return at - back
  return at
}

function text(line: Buffer): string {
  const said = withoutMarks(line)
  return said.toString('utf8', 0, said.length - (said.at(-1) === 13 ? 1 : 0))
}

function tell(follower: Follower, lines: readonly StoredLine[], container: string | null): void {
  for (const line of lines) {
    const full = follower.queue.length >= QUEUE_LINES_MAX || follower.bytes >= QUEUE_BYTES_MAX
    if (full) follower.dropped++
    else {
      follower.queue.push({ ...line, container })
      follower.bytes += line.message.length
    }
  }
  follower.wake()
}
