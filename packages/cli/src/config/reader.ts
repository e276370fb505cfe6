import { closest, distance } from 'fastest-levenshtein'
import { type Place, plainValue, type TomlNode, type TomlTable } from './toml-tree.ts'

/**
 * A configuration file is described by readers, one for each key: a reader says what fits, gives the value a type and
 * names the place of what doesn't fit. It never throws, so that a file's mistakes are all told at once.
 */
export interface Reader<T> {
  read(node: TomlNode, path: string, reading: Reading): T | undefined
  /** Of a table: its keys, for the question where a misplaced key belongs. */
  readonly shape?: Shape
}

export interface Reading {
  /** The key whose value is being read. */
  readonly keyAt: Place
  readonly problems: { readonly at: Place; readonly message: string }[]
  /** Known keys that Roost does not act on yet. */
  readonly idle: { readonly at: Place; readonly path: string; readonly note: string | null }[]
  /** Values that were brought into their range. */
  readonly notes: { readonly at: Place; readonly message: string }[]
  /** The sections that know a key, for one that stands in the wrong place. */
  readonly sectionsWith: (key: string) => readonly string[]
}

export type Shape = Readonly<Record<string, Reader<unknown>>>
export type Values<S extends Shape> = {
  readonly [K in keyof S]?: S[K] extends Reader<infer T> ? T : never
}

export const text: Reader<string> = scalar('a string', (value) =>
  typeof value === 'string' ? value : undefined,
)

export const flag: Reader<boolean> = scalar('true or false', (value) =>
  typeof value === 'boolean' ? value : undefined,
)

export function oneOf<const T extends string>(...allowed: readonly T[]): Reader<T> {
  return {
    read(node, path, reading) {
      const value = node.kind === 'value' ? node.value : undefined
      const found = allowed.find((one) => one === value)
      if (found !== undefined) return found
      const near =
        typeof value === 'string' ? nearest(value.toLowerCase(), allowed, (a) => a) : null
      complain(
        reading,
        node,
        `${path} is one of ${allowed.map(quoted).join(', ')}${near === null ? '' : `: did you mean "${near}"?`}`,
      )
      return undefined
    },
  }
}

export function int(min: number, max = Number.MAX_SAFE_INTEGER): Reader<number> {
  const range = max === Number.MAX_SAFE_INTEGER ? `from ${min} on` : `from ${min} to ${max}`
  return scalar(`a whole number ${range}`, (value) => {
    // As in a URL, a port may stand between quotes.
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
    if (typeof number !== 'number' || !Number.isInteger(number)) return undefined
    return number >= min && number <= max ? number : undefined
  })
}

export const number: Reader<number> = scalar('a number', (value) =>
  typeof value === 'number' ? value : undefined,
)

/** Milliseconds. A bare number counts in `unit`. */
export function duration(unit: 's' | 'ms'): Reader<number> {
  return scalar(
    `a duration such as "10s" or a number of ${unit === 's' ? 'seconds' : 'milliseconds'}`,
    (value) => {
      if (typeof value === 'number')
        return value >= 0 ? value * (unit === 's' ? 1000 : 1) : undefined
      return typeof value === 'string' ? durationMs(value, unit) : undefined
    },
  )
}

/** Megabytes (2^20). A bare number counts in megabytes. */
export const sizeMb: Reader<number> = scalar(
  'a size such as "512mb" or "1gb", or a number of megabytes',
  (value) => {
    if (typeof value === 'number') return Number.isInteger(value) && value > 0 ? value : undefined
    return typeof value === 'string' ? megabytes(value) : undefined
  },
)

/** A list of words; a single string is split as a shell would. */
export const words: Reader<readonly string[]> = {
  read(node, path, reading) {
    if (node.kind === 'value' && typeof node.value === 'string') {
      const split = shellWords(node.value)
      if (split === null) complain(reading, node, `${path} has a quote that does not end`)
      return split ?? undefined
    }
    return list(text).read(node, path, reading)
  },
}

export function list<T>(of: Reader<T>): Reader<readonly T[]> {
  return {
    ...(of.shape === undefined ? {} : { shape: of.shape }),
    read(node, path, reading) {
      if (node.kind !== 'array') return wrong(reading, node, path, 'a list')
      return node.items.flatMap((item, n) => {
        const value = of.read(item, `${path}[${n}]`, reading)
        return value === undefined ? [] : [value]
      })
    },
  }
}

/** `[x]` is taken as a single `[[x]]`. */
export function tables<T>(of: Reader<T>): Reader<readonly T[]> {
  return {
    ...(of.shape === undefined ? {} : { shape: of.shape }),
    read(node, path, reading) {
      if (node.kind !== 'table') return list(of).read(node, path, reading)
      const value = of.read(node, path, reading)
      return value === undefined ? [] : [value]
    },
  }
}

/** Names chosen by the user, all with the same kind of value. */
export function named<T>(of: Reader<T>): Reader<Readonly<Record<string, T>>> {
  return {
    ...(of.shape === undefined ? {} : { shape: of.shape }),
    read(node, path, reading) {
      if (node.kind !== 'table') return wrong(reading, node, path, 'a table')
      const values = [...node.entries].flatMap(([key, entry]) => {
        const value = of.read(entry.value, `${path}.${key}`, reading)
        return value === undefined ? [] : [[key, value] as const]
      })
      return Object.fromEntries(values)
    },
  }
}

/** Text as text; numbers, truth values and dates as they are written. */
export const anyScalar: Reader<string> = scalar('a string', (value) =>
  value instanceof Date ? value.toISOString() : String(value),
)

export const anything: Reader<unknown> = { read: (node) => plainValue(node) }

export function either<A, B>(first: Reader<A>, second: Reader<B>, what: string): Reader<A | B> {
  return {
    read(node, path, reading) {
      for (const reader of [first, second] as readonly Reader<A | B>[]) {
        const trial: Reading = { ...reading, problems: [], idle: [], notes: [] }
        const value = reader.read(node, path, trial)
        if (trial.problems.length > 0) continue
        reading.idle.push(...trial.idle)
        reading.notes.push(...trial.notes)
        return value
      }
      return wrong(reading, node, path, what)
    },
  }
}

export function table<const S extends Shape>(shape: S): Reader<Values<S>> {
  return {
    shape,
    read(node, path, reading) {
      if (node.kind !== 'table') return wrong(reading, node, path, 'a table')
      const values: Record<string, unknown> = {}
      for (const [key, entry] of node.entries) {
        const keyPath = path === '' ? key : `${path}.${key}`
        const reader = Object.hasOwn(shape, key) ? shape[key] : undefined
        if (reader === undefined) {
          complain(reading, entry, unknownKey(key, keyPath, node, shape, reading))
          continue
        }
        const value = reader.read(entry.value, keyPath, { ...reading, keyAt: entry.at })
        if (value !== undefined) values[key] = value
      }
      return values as Values<S>
    },
  }
}

/** Known, checked, and named in the warning: Roost does not act on it yet. `unless`: values that change nothing anyway. */
export function idle<T>(
  of: Reader<T>,
  note: string | null = null,
  unless: (value: T) => boolean = () => false,
): Reader<T> {
  return {
    ...(of.shape === undefined ? {} : { shape: of.shape }),
    read(node, path, reading) {
      const inside: Reading = { ...reading, idle: [], notes: [] }
      const value = of.read(node, path, inside)
      if (value !== undefined && !unless(value))
        reading.idle.push({ at: reading.keyAt, path, note })
      return value
    },
  }
}

/** Brings a number into its range and says so. */
export function clamped(
  of: Reader<number>,
  min: number,
  max: number,
  said: (limit: 'min' | 'max') => string,
): Reader<number> {
  return {
    read(node, path, reading) {
      const value = of.read(node, path, reading)
      if (value === undefined || (value >= min && value <= max)) return value
      const limit = value < min ? 'min' : 'max'
      reading.notes.push({ at: node.at, message: `${path} ${said(limit)}` })
      return limit === 'min' ? min : max
    },
  }
}

function scalar<T>(what: string, pick: (value: string | number | boolean | Date) => T | undefined) {
  const reader: Reader<T> = {
    read(node, path, reading) {
      const value = node.kind === 'value' ? pick(node.value) : undefined
      return value === undefined ? wrong(reading, node, path, what) : value
    },
  }
  return reader
}

function wrong(reading: Reading, node: TomlNode, path: string, what: string): undefined {
  const is =
    node.kind === 'value'
      ? node.value instanceof Date
        ? 'a date'
        : JSON.stringify(node.value)
      : node.kind === 'array'
        ? 'a list'
        : 'a table'
  complain(reading, node, `${path} is ${what}, not ${is}`)
  return undefined
}

export function complain(reading: Reading, where: { readonly at: Place }, message: string): void {
  reading.problems.push({ at: where.at, message })
}

function unknownKey(
  key: string,
  path: string,
  parent: TomlTable,
  shape: Shape,
  reading: Reading,
): string {
  const free = Object.keys(shape).filter((name) => !parent.entries.has(name))
  const near = nearest(key, free, (name) => name)
  const elsewhere = reading.sectionsWith(key)
  // An exact name in another section says more than a similar one in this.
  if (elsewhere.length > 0 && (near === null || distance(key, near) > 1))
    return `unknown key ${path}: ${key} belongs in ${elsewhere.map((name) => (name === '' ? 'the top of the file' : `[${name}]`)).join(' or ')}`
  return `unknown key ${path}${near === null ? '' : `: did you mean ${near}?`}`
}

/** The name that somebody who typed `word` most likely meant; null when none is near. */
export function nearest<T>(
  word: string,
  among: readonly T[],
  nameOf: (one: T) => string,
): T | null {
  if (among.length === 0) return null
  const same = (name: string) => name.toLowerCase().replace(/[-_]/g, '')
  const best = closest(same(word), among.map(nameOf).map(same))
  const limit = Math.max(1, Math.floor(Math.max(word.length, best.length) * 0.4))
  // Two letters that changed places count as two mistakes, which is much for a short word.
  const mixedUp = letters(same(word)) === letters(best)
  if (distance(same(word), best) > limit && !mixedUp) return null
  return among.find((one) => same(nameOf(one)) === best) ?? null
}

function letters(word: string): string {
  return [...word].sort().join('')
}

/** For each key the sections that know it: `internal_port` → `http_service`, `services`. */
export function sectionsOf(root: Reader<unknown>): (key: string) => readonly string[] {
  const found = new Map<string, string[]>()
  const walk = (reader: Reader<unknown>, path: string) => {
    for (const [key, child] of Object.entries(reader.shape ?? {})) {
      found.set(key, [...(found.get(key) ?? []), path])
      walk(child, path === '' ? key : `${path}.${key}`)
    }
  }
  walk(root, '')
  return (key) => [...new Set(found.get(key) ?? [])].slice(0, 3)
}

export function durationMs(value: string, bareUnit: 's' | 'ms'): number | undefined {
  if (/^\d+$/.test(value)) return Number(value) * (bareUnit === 's' ? 1000 : 1)
  const unitMs: Readonly<Record<string, number>> = {
    ns: 1e-6,
    us: 1e-3,
    µs: 1e-3,
    ms: 1,
    s: 1000,
    m: 60_000,
    h: 3_600_000,
  }
  const parts = [...value.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)]
  if (parts.length === 0 || parts.map((part) => part[0]).join('') !== value) return undefined
  return parts.reduce((sum, part) => sum + Number(part[1]) * (unitMs[part[2] ?? ''] ?? 0), 0)
}

export function megabytes(value: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(value.trim())
  if (match === null) return undefined
  const factor = { '': 1, k: 1 / 1024, m: 1, g: 1024, t: 1024 * 1024 }[
    (match[2] ?? '').toLowerCase()
  ]
  const result = Math.round(Number(match[1]) * (factor ?? 1))
  return result > 0 ? result : undefined
}

/** As a POSIX shell splits a line into words; nothing is expanded. null: a quote does not end. */
export function shellWords(line: string): string[] | null {
  const found: string[] = []
  let word: string | null = null
  let quote: '"' | "'" | null = null
  for (let n = 0; n < line.length; n++) {
    const c = line[n] ?? ''
    if (quote !== null) {
      if (c === quote) quote = null
      else if (c === '\\' && quote === '"' && /["\\$`]/.test(line[n + 1] ?? ''))
        word += line[++n] ?? ''
      else word += c
    } else if (c === '"' || c === "'") {
      quote = c
      word ??= ''
    } else if (/\s/.test(c)) {
      if (word !== null) found.push(word)
      word = null
    } else if (c === '\\') {
      word = (word ?? '') + (line[++n] ?? '')
    } else {
      word = (word ?? '') + c
    }
  }
  if (quote !== null) return null
  if (word !== null) found.push(word)
  return found
}

function quoted(value: string): string {
  return `"${value}"`
}
