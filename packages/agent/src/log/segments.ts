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
  /** Milliseconds since 1970. */
  readonly at: number
  readonly message: string
}

export interface ReadLine extends StoredLine {
  /** Where the raw log goes on after it. */
  readonly offset: number
}

const SEGMENT_BYTES = 1_000_000
const SEGMENTS_MAX = 10

/**
 * The last 10 MB of what one machine said, in files of about 1 MB, oldest dropped. Each line bears the offset in the
 * machine's raw log up to which it was read: what was stored and how far we are is one write, so a crash neither loses nor
 * doubles a line. A line without text only says where to go on.
 */
export class Segments {
  readonly #dir: string
  #names: string[]
  #bytes = 0
  #offset = 0

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
    this.#offset = this.#lastOffset(text.subarray(0, end).toString('utf8'))
  }

  /** Up to where the raw log is stored. */
  get offset(): number {
    return this.#offset
  }

  append(lines: readonly ReadLine[]): void {
    const last = lines.at(-1)
    if (!last) return
    this.#write(lines.map(({ at, offset, message }) => `${at} ${offset} ${message}\n`).join(''))
    this.#offset = last.offset
  }

  /** Goes on from somewhere else: what lay between is dropped, or the raw log begins anew. */
  seek(offset: number): void {
    if (offset === this.#offset) return
    this.#write(`${Date.now()} ${offset}\n`)
    this.#offset = offset
  }

  /** The last `count` lines, oldest first. */
  tail(count: number): StoredLine[] {
    const newestFirst: StoredLine[] = []
    for (const name of [...this.#names].reverse()) {
      if (newestFirst.length >= count) break
      const lines = readFileSync(join(this.#dir, name), 'utf8').split('\n')
      for (const line of lines.reverse()) {
        if (newestFirst.length >= count) break
        const stored = parseLine(line)
        if (stored) newestFirst.push(stored)
      }
    }
    return newestFirst.reverse()
  }

  #write(text: string): void {
    const bytes = Buffer.from(text)
    if (this.#names.length === 0 || this.#bytes + bytes.length > SEGMENT_BYTES) this.#rotate()
    const path = join(this.#dir, this.#names.at(-1) ?? '')
    try {
      appendFileSync(path, bytes, { mode: 0o600 })
      this.#bytes += bytes.length
    } catch (error) {
      // Half a write must not become the beginning of the next line.
      if (existsSync(path)) truncateSync(path, Math.min(this.#bytes, statSync(path).size))
      throw error
    }
  }

  #rotate(): void {
    const next = Number(this.#names.at(-1) ?? 0) + 1
    this.#names.push(String(next).padStart(12, '0'))
    this.#bytes = 0
    while (this.#names.length > SEGMENTS_MAX) {
      const oldest = this.#names.shift()
      if (oldest) unlinkSync(join(this.#dir, oldest))
    }
  }

  #lastOffset(text: string): number {
    const line = text.slice(text.lastIndexOf('\n', text.length - 2) + 1)
    return Number(/^\d+ (\d+)/.exec(line)?.[1] ?? 0)
  }
}

function parseLine(line: string): StoredLine | null {
  const match = /^(\d+) \d+ /.exec(line)
  if (!match?.[1]) return null
  return { at: Number(match[1]), message: line.slice(match[0].length) }
}
