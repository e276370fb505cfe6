import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { RecordValues } from '@roost/api'
import type { Logger, RecordCache } from '@roost/base'
import { type Certificate, certificateId } from '@roost/core'
import { type CheckedKind, checkRecord } from './check-record.ts'

/**
 * The records that can be worked with: where one is bad, its last good version goes on, also over a restart of this program.
 * What is refused is said once.
 */
export interface GoodRecords {
  list<K extends CheckedKind>(kind: K): readonly RecordValues[K][]
  /** Reads the cache anew. */
  refresh(): void
}

const KINDS = ['settings', 'host', 'app', 'machine', 'hostname', 'certificate'] as const
const idOf = (kind: CheckedKind, value: unknown): string => {
  if (kind === 'settings') return 'settings'
  if (kind === 'certificate') return certificateId(value as Certificate)
  const { id, name } = value as { id?: unknown; name?: unknown }
  return String((kind === 'app' || kind === 'hostname' ? name : id) ?? 'without an id')
}

type Kept = Partial<Record<CheckedKind, Record<string, unknown>>>

export function createGoodRecords(options: {
  readonly cache: Pick<RecordCache<RecordValues>, 'list' | 'get'>
  /** Last good versions of what is bad now. */
  readonly file: string
  readonly log: Logger
}): GoodRecords {
  const { cache, file, log } = options
  const good = new Map<CheckedKind, Map<string, unknown>>(KINDS.map((kind) => [kind, new Map()]))
  let written = '{}'
  let said = new Set<string>()

  for (const [kind, values] of Object.entries(readKept(file)))
    for (const [id, value] of Object.entries(values ?? {}))
      if (checkRecord(kind as CheckedKind, value).kind === 'good')
        good.get(kind as CheckedKind)?.set(id, value)

  function refresh(): void {
    const kept: Kept = {}
    const saying = new Set<string>()
    for (const kind of KINDS) {
      const before = good.get(kind) ?? new Map<string, unknown>()
      const now = new Map<string, unknown>()
      for (const value of cache.list(kind) as readonly unknown[]) {
        const checked = checkRecord(kind, value)
        if (checked.kind === 'good') {
          now.set(idOf(kind, value), value)
          continue
        }
        const id = typeof value === 'object' && value !== null ? idOf(kind, value) : 'without an id'
        const text = `${kind} ${id}: ${checked.why}`
        saying.add(text)
        if (!said.has(text))
          log.error('refused a record; its last good version goes on', { record: text })
      }
      // What is still there under its id and was good once has become bad.
      for (const [id, value] of before) {
        if (now.has(id) || cache.get(kind, id) === null) continue
        now.set(id, value)
        kept[kind] = { ...kept[kind], [id]: value }
      }
      good.set(kind, now)
    }
    said = saying
    keep(kept)
  }

  function keep(kept: Kept): void {
    const text = JSON.stringify(kept)
    if (text === written) return
    try {
      writeFileSync(`${file}.part`, text, { mode: 0o600 })
      renameSync(`${file}.part`, file)
      written = text
    } catch (error) {
      log.warn('last good records: write', { file, error })
    }
  }

  refresh()
  return {
    list: <K extends CheckedKind>(kind: K) =>
      [...(good.get(kind)?.values() ?? [])] as RecordValues[K][],
    refresh,
  }
}

function readKept(file: string): Kept {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Kept
  } catch {
    return {}
  }
}
