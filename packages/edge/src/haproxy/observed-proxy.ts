import { type EntryName, parseEntryName } from './entry.ts'

/** What HAProxy does now, by its own word. */
export interface ObservedProxy {
  /** Host name → slot. */
  readonly hosts: ReadonlyMap<string, string>
  readonly secure: ReadonlySet<string>
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

/** Reads `show stat -1 4 -1`. Columns are found by name: they move between versions. */
export function parseServers(csv: string): ReadonlyMap<string, readonly ObservedEntry[]> {
  const lines = csv.split('\n')
  const header = lines.find((line) => line.startsWith('# '))
  if (header === undefined) throw new Error(`no statistics: ${csv.slice(0, 100)}`)
  const names = header.slice(2).split(',')
  const column = (name: string) => {
    const at = names.indexOf(name)
    if (at === -1) throw new Error(`statistics without ${name}`)
    return at
  }
  const [slotAt, nameAt, scurAt, slimAt, statusAt, addrAt, stotAt, lastAt] = [
    column('pxname'),
    column('svname'),
    column('scur'),
    column('slim'),
    column('status'),
    column('addr'),
    column('stot'),
    column('lastchg'),
  ] as const
  const slots = new Map<string, ObservedEntry[]>()
  for (const line of lines) {
    if (line === '' || line.startsWith('#')) continue
    const fields = csvFields(line)
    const at = (n: number) => fields[n] ?? ''
    const status = at(statusAt)
    const entries = slots.get(at(slotAt)) ?? []
    slots.set(at(slotAt), entries)
    entries.push({
      name: at(nameAt),
      entry: parseEntryName(at(nameAt)),
      endpoint: at(addrAt),
      maxConnections: Number(at(slimAt)),
      maint: status.startsWith('MAINT'),
      up: status.startsWith('UP') || status === 'no check',
      checking: status !== 'no check',
      sessions: Number(at(scurAt)),
      sessionsTotal: Number(at(stotAt)),
      secondsInState: Number(at(lastAt)),
    })
  }
  return slots
}

/** What a check says last is text with commas, in quotes. */
function csvFields(line: string): readonly string[] {
  if (!line.includes('"')) return line.split(',')
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
