import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  unlinkSync,
} from 'node:fs'
import { join } from 'node:path'

export interface StoredLine {
  /** Milliseconds since 1970, with microseconds as a fraction: no two lines of a machine have the same. */
  readonly at: number
  readonly message: string
}

/** `message: null`: nothing was said, it only goes on elsewhere. */
export interface ReadLine {
  readonly at: number
  readonly message: string | null
  /** Where the raw log goes on after it. */
  readonly offset: number
}

export const SEGMENT_BYTES = 1_000_000
export const SEGMENTS_MAX = 10

/**
 * The last 10 MB of what one machine said, in files of about 1 MB, oldest dropped. Each line bears the offset in the
 * machine's raw log up to which it was read: what was stored and how far we are is one write, so a crash neither loses nor
 * doubles a line. A line without text only says where to go on. When there is no room, what comes is not stored and the
 * reader goes on: a raw log that is not read fills the file system that machines write to.
 */
export class Segments {
  readonly #dir: string
  #names: string[]
  #bytes = 0
  #offset = 0
  #at = 0

  constructor(dir: string) {
    this.#dir = dir
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    this.#names = readdirSync(dir)
      .filter((name) => /^\d{12}$/.test(name))
      .sort()
    const last = this.#names.at(-1)
    if (last === undefined) return
    const path = join(dir, last)
    const text = readFileSync(path)
    const end = text.lastIndexOf(10) + 1
    if (end < text.length) truncateSync(path, end)
    this.#bytes = end
    const whole = text.subarray(0, end).toString('utf8')
    const line = whole.slice(whole.lastIndexOf('\n', whole.length - 2) + 1)
    const [, at, offset] = /^([\d.]+) (\d+)/.exec(line) ?? []
    this.#at = Number(at ?? 0)
    this.#offset = Number(offset ?? 0)
  }

  /** Up to where the raw log is stored. */
  get offset(): number {
    return this.#offset
  }

  /** Of the last line. */
  get at(): number {
    return this.#at
  }

  /** False: there was no room, and these lines are not stored. */
  append(lines: readonly ReadLine[]): boolean {
    const last = lines.at(-1)
    if (!last) return true
    this.#offset = last.offset
    this.#at = last.at
    return this.#write(
      lines
        .map(({ at, offset, message }) =>
          message === null ? `${stamp(at)} ${offset}\n` : `${stamp(at)} ${offset} ${message}\n`,
        )
        .join(''),
    )
  }

  /** Goes on from somewhere else: what lay between is dropped, or the raw log begins anew. */
  seek(offset: number): void {
    if (offset !== this.#offset) this.append([{ at: this.#at, offset, message: null }])
  }

  /** The last `count` lines, oldest first; only those after `after`. */
  tail(count: number, after = 0): StoredLine[] {
    const newestFirst: StoredLine[] = []
    for (const name of [...this.#names].reverse()) {
      if (newestFirst.length >= count) break
      const found = newestFirst.length
      const lines = textOf(join(this.#dir, name)).split('\n')
      for (const line of lines.reverse()) {
        if (newestFirst.length >= count) break
        const stored = parseLine(line)
        if (stored && stored.at > after) newestFirst.push(stored)
      }
      // A file of which none is new enough ends the search, unless there was nothing to see in it.
      if (after > 0 && newestFirst.length === found && lines.some((line) => parseLine(line))) break
    }
    return newestFirst.reverse()
  }

  /** Drops the oldest, down to so many files. */
  trim(filesMax: number): void {
    while (this.#names.length > Math.max(1, filesMax)) {
      const oldest = this.#names.shift()
      if (oldest && existsSync(join(this.#dir, oldest))) unlinkSync(join(this.#dir, oldest))
    }
  }

  #write(text: string): boolean {
    const bytes = Buffer.from(text)
    if (this.#names.length === 0 || this.#bytes + bytes.length > SEGMENT_BYTES) this.#rotate()
    const path = join(this.#dir, this.#names.at(-1) ?? '')
    try {
      appendFileSync(path, bytes, { mode: 0o600 })
      this.#bytes += bytes.length
      return true
    } catch {
      // Half a write must not become the beginning of the next line.
      if (existsSync(path)) truncateSync(path, Math.min(this.#bytes, statSync(path).size))
      return false
    }
  }

  #rotate(): void {
    const next = Number(this.#names.at(-1) ?? 0) + 1
    this.#names.push(String(next).padStart(12, '0'))
    this.#bytes = 0
    this.trim(SEGMENTS_MAX)
  }
}

function stamp(at: number): string {
  return Number.isInteger(at) ? String(at) : at.toFixed(3)
}

/** Somebody may make room by hand. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function parseLine(line: string): StoredLine | null {
  const match = /^([\d.]+) \d+ /.exec(line)
  if (!match?.[1]) return null
  return { at: Number(match[1]), message: line.slice(match[0].length) }
}
