import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { RecordValues } from '@roost/api'
import type { Logger, RecordCache } from '@roost/base'
import { type Certificate, certificateId } from '@roost/core'
import { type CheckedKind, checkRecord } from './check-record.ts'

/**
 * The records that can be worked with: where one is bad, its last good version goes on, also over a restart of this program.
 * What is refused is said once in the log, and by `refused` for as long as it is bad.
 */
export interface GoodRecords {
  /** The very same list as before when nothing in it has changed. */
  list<K extends CheckedKind>(kind: K): readonly RecordValues[K][]
  /** `machine 0000000000f001: status.checks is missing`. */
  refused(): readonly string[]
  /** Reads the cache anew. */
  refresh(): void
}

const KINDS = ['settings', 'host', 'app', 'machine', 'hostname', 'certificate'] as const
/** As which record a value says that it is. */
const idOf = (kind: CheckedKind, value: unknown): string => {
  if (kind === 'settings') return 'settings'
  if (kind === 'certificate') return certificateId(value as Certificate)
  const { id, name } = value as { id?: unknown; name?: unknown }
  return String(kind === 'app' || kind === 'hostname' ? name : id)
}

type Kept = Partial<Record<CheckedKind, Record<string, unknown>>>

export function createGoodRecords(options: {
  readonly cache: Pick<RecordCache<RecordValues>, 'entries'>
  /** Last good versions of what is bad now. */
  readonly file: string
  readonly log: Logger
}): GoodRecords {
  const { cache, file, log } = options
  const good = new Map<CheckedKind, Map<string, unknown>>(KINDS.map((kind) => [kind, new Map()]))
  const lists = new Map<CheckedKind, readonly unknown[]>()
  /** Most records are the same at the next look, and there may be thousands. */
  const verdicts = new WeakMap<object, string | null>()
  let written: Kept = {}
  let refused: ReadonlySet<string> = new Set()

  for (const [kind, values] of Object.entries(readKept(file)))
    for (const [id, value] of Object.entries(values ?? {}))
      if (checkRecord(kind as CheckedKind, value).kind === 'good')
        good.get(kind as CheckedKind)?.set(id, value)

  /** null: it is good. */
  function whyBad(kind: CheckedKind, id: string, value: unknown): string | null {
    if (typeof value !== 'object' || value === null) return whyBadNow(kind, id, value)
    const known = verdicts.get(value)
    if (known !== undefined) return known
    const why = whyBadNow(kind, id, value)
    verdicts.set(value, why)
    return why
  }

  function refresh(): void {
    const kept: Kept = {}
    const now = new Set<string>()
    for (const kind of KINDS) {
      const before = good.get(kind)
      const values = new Map<string, unknown>()
      for (const [id, value] of cache.entries(kind)) {
        const why = whyBad(kind, id, value)
        if (why === null) {
          values.set(id, value)
          continue
        }
        const record = `${kind} ${id}: ${why}`
        now.add(record)
        if (!refused.has(record))
          log.error('refused a record; its last good version goes on', { record })
        if (!before?.has(id)) continue
        const lastGood = before.get(id)
        values.set(id, lastGood)
        const others = kept[kind] ?? {}
        others[id] = lastGood
        kept[kind] = others
      }
      good.set(kind, values)
      const list = [...values.values()]
      if (!isSame(list, lists.get(kind) ?? NOTHING)) lists.set(kind, list)
    }
    refused = now
    keep(kept)
  }

  function keep(kept: Kept): void {
    const values = (of: Kept) => KINDS.flatMap((kind) => Object.entries(of[kind] ?? {}).flat())
    if (isSame(values(kept), values(written))) return
    try {
      writeFileSync(`${file}.part`, JSON.stringify(kept), { mode: 0o600 })
      renameSync(`${file}.part`, file)
      written = kept
    } catch (error) {
      log.warn('last good records: write', { file, error })
    }
  }

  refresh()
  return {
    list: <K extends CheckedKind>(kind: K) =>
      (lists.get(kind) ?? NOTHING) as readonly RecordValues[K][],
    refused: () => [...refused],
    refresh,
  }
}

const NOTHING: readonly unknown[] = []

function isSame(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((value, n) => value === b[n])
}

function whyBadNow(kind: CheckedKind, id: string, value: unknown): string | null {
  const checked = checkRecord(kind, value)
  if (checked.kind === 'bad') return checked.why
  const own = idOf(kind, value)
  return own === id ? null : `it says that it is ${own.slice(0, 100)}`
}

function readKept(file: string): Kept {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Kept
  } catch {
    return {}
  }
}
