import { type EntryName, parseEntryName } from './entry.ts'

/** What HAProxy does now, by its own word. */
export interface ObservedProxy {
  /** Host name → slot. */
  readonly hosts: ReadonlyMap<string, string>
  readonly secure: ReadonlySet<string>
  /** Slots of apps that replay. */
  readonly replaying?: ReadonlySet<string>
  /** Servers of each slot, in HAProxy's order, which is the order in which backups take over. Slots without any are missing. */
  readonly slots: ReadonlyMap<string, readonly ObservedEntry[]>
  /** Missing: it serves nothing but the web. */
  readonly services?: ServiceMaps
}

/** What HAProxy looks up to serve more than HTTP on 80 and 443. */
export interface ServiceMaps {
  /** Name of a service (see core's `namesOf`) → slot. */
  readonly names: ReadonlyMap<string, string>
  /** Port or `first:last` → the first, which stands for all of a range. */
  readonly ports: ReadonlyMap<string, string>
  /** Slot → what is done with its requests and answers. */
  readonly options: ReadonlyMap<string, string>
  /** What may be a file of an image: the slot itself → `slot`, slot and beginning of the path → `file`. */
  readonly statics: ReadonlyMap<string, string>
}

export interface ObservedEntry {
  readonly name: string
  /** null for a server that is not ours. */
  readonly entry: EntryName | null
  /** `address:port`. */
  readonly endpoint: string
  readonly maxConnections: number
  /** Out of rotation by our word. */
  readonly maint: boolean
  readonly up: boolean
  /** Health checks run. */
  readonly checking: boolean
  /** Requests and connections on it now. */
  readonly sessions: number
  readonly sessionsTotal: number
  readonly secondsInState: number
}

const SERVER_COLUMNS = [
  'pxname',
  'svname',
  'scur',
  'slim',
  'status',
  'addr',
  'stot',
  'lastchg',
] as const

/** Reads `show stat -1 4 -1`. */
export function parseServers(csv: string): ReadonlyMap<string, readonly ObservedEntry[]> {
  const slots = new Map<string, ObservedEntry[]>()
  for (const at of statRows(csv, SERVER_COLUMNS)) {
    const status = at('status')
    const slot = at('pxname')
    const entries = slots.get(slot) ?? []
    slots.set(slot, entries)
    entries.push({
      name: at('svname'),
      entry: parseEntryName(at('svname')),
      endpoint: at('addr'),
      maxConnections: Number(at('slim')),
      maint: status.startsWith('MAINT'),
      up: status.startsWith('UP') || status === 'no check',
      checking: status !== 'no check',
      sessions: Number(at('scur')),
      sessionsTotal: Number(at('stot')),
      secondsInState: Number(at('lastchg')),
    })
  }
  return slots
}

/** Rows of `show stat`. Columns are found by name: they move between versions. */
export function statRows<Column extends string>(
  csv: string,
  wanted: readonly Column[],
): readonly ((column: Column) => string)[] {
  const lines = csv.split('\n')
  const header = lines.find((line) => line.startsWith('# '))
  if (header === undefined) throw new Error(`no statistics: ${csv.slice(0, 100)}`)
  const names = header.slice(2).split(',')
  const columns = wanted.map((name) => ({ name, at: names.indexOf(name) }))
  for (const { name, at } of columns) if (at === -1) throw new Error(`statistics without ${name}`)
  columns.sort((a, b) => a.at - b.at)
  const positions = columns.map(({ at }) => at)
  const place = new Map(columns.map(({ name }, n) => [name, n]))
  return lines
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const fields = fieldsAt(line, positions)
      return (column) => fields[place.get(column) ?? -1] ?? ''
    })
}

/** Of a hundred columns few are wanted, and there may be thousands of rows. `positions` ascend. */
function fieldsAt(line: string, positions: readonly number[]): readonly string[] {
  if (line.includes('"')) {
    const all = csvFields(line)
    return positions.map((at) => all[at] ?? '')
  }
  const fields: string[] = []
  let at = 0
  let from = 0
  for (const wanted of positions) {
    for (; at < wanted; at++) {
      const comma = line.indexOf(',', from)
      if (comma === -1) return fields
      from = comma + 1
    }
    const end = line.indexOf(',', from)
    fields.push(end === -1 ? line.slice(from) : line.slice(from, end))
  }
  return fields
}

/** What a check says last is text with commas, in quotes. */
function csvFields(line: string): readonly string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '',
  )
}

/** Reads `show map`: lines of pointer, key and value. */
export function parseMap(text: string): ReadonlyMap<string, string> {
  const map = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, key, value] = line.trim().split(/\s+/)
    if (key !== undefined && value !== undefined) map.set(key, value)
  }
  return map
}
