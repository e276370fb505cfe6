import type { Dialect, MachineId } from '@roost/core'

/**
 * How HAProxy knows a machine: a server of the app's slot, called `<machine>.<a|b|o><n>`, and `-<dialect>` where it is not spoken to as
 * usual. `a` takes part in balancing, `b` is a `backup` that takes over when no other is up, `o` takes part while nearer regions are
 * full (see `overflow/spread-load.ts`). A machine may have several entries, for example when an old address still drains
 * while a new one serves; `n` keeps their names apart.
 */
export interface EntryName {
  readonly machine: MachineId
  readonly role: EntryRole
  readonly number: number
  readonly dialect?: Dialect | undefined
}
export type EntryRole = 'active' | 'backup' | 'overflow'

const DIALECTS: { readonly [K in Dialect]: { readonly word: string; readonly option: string } } = {
  h2: { word: 'h2', option: 'proto h2' },
  'proxy-v1': { word: 'p1', option: 'send-proxy' },
  'proxy-v2': { word: 'p2', option: 'send-proxy-v2' },
}

export function entryName({ machine, role, number, dialect }: EntryName): string {
  const suffix = dialect === undefined ? '' : `-${DIALECTS[dialect].word}`
  return `${machine}.${LETTERS[role]}${number}${suffix}`
}

const LETTERS: Readonly<Record<EntryRole, string>> = { active: 'a', backup: 'b', overflow: 'o' }
const ROLES: Readonly<Record<string, EntryRole>> = { a: 'active', b: 'backup', o: 'overflow' }

/** null for a server that is not ours. */
export function parseEntryName(name: string): EntryName | null {
  const match = /^([0-9a-f]{14})\.([abo])(\d{1,6})(?:-(h2|p1|p2))?$/.exec(name)
  const role = ROLES[match?.[2] ?? '']
  if (match === null || role === undefined) return null
  const dialect = (Object.keys(DIALECTS) as Dialect[]).find((d) => DIALECTS[d].word === match[4])
  return {
    machine: match[1] as MachineId,
    role,
    number: Number(match[3]),
    ...(dialect === undefined ? {} : { dialect }),
  }
}

/** One server as it is wanted. */
export interface Entry extends EntryName {
  readonly address: string
  readonly port: number
  /** Requests at once, others queue; 0 is no limit. */
  readonly maxConnections: number
  /** In another region: its checks may take longer. */
  readonly far: boolean
  /** So many times rarer than usual are its checks, where that many times more is to be checked than usual. Default 1. */
  readonly patience?: number
}

/** Checks of very many servers would be most of what an edge does. It holds for servers that are entered from then on. */
export function patienceFor(servers: number): number {
  return Math.max(1, Math.ceil(servers / SERVERS_CHECKED_OFTEN))
}
const SERVERS_CHECKED_OFTEN = 500
/**
 * Who can't be connected to is left at the first try all the same. But a host that fell silent and that nobody opens a connection to is
 * found out by checks alone, and what it was asked waits for that: least with near ones, which are asked most.
 */
const NEAR_PATIENCE_MAX = 2
const FAR_PATIENCE_MAX = 5

/**
 * Options of a server, the same in the file and over the runtime API, where `default-server` does not apply.
 * - `observe layer4 … on-error mark-down`: the first connection that fails takes the machine out; one good check brings it back.
 * - `pool-max-conn -1`: servers that are added at run time keep no idle connections otherwise (three times the work for
 *   each request).
 * - `pool-purge-delay 150ms`: many apps close a connection that was idle for five seconds, and a POST that meets such a
 *   closing is lost. HAProxy lets go of half of what it thinks too many at each turn, so that the last idle ones of a burst live for some
 *   15 turns: at 1 s they were used after 16 s, at 150 ms after 2.4 at most.
 * - `port`: HAProxy takes checks of such a server for a service of their own, which are sent no PROXY header. With one (as servers that
 *   stand in the file have otherwise, and those added at run time never), an app would hear twice a second of a visitor that says nothing.
 */
export function serverOptions(entry: Entry): string {
  const { far, patience = 1 } = entry
  const [ms, fastMs, patienceMax] = far
    ? [1000, 300, FAR_PATIENCE_MAX]
    : [500, 200, NEAR_PATIENCE_MAX]
  const inter = `inter ${ms * Math.min(patience, patienceMax)}ms fastinter ${fastMs}ms downinter ${ms}ms`
  return [
    `${entry.address}:${entry.port}`,
    'pool-max-conn -1 pool-purge-delay 150ms weight 100',
    ...(entry.maxConnections > 0 ? [`maxconn ${entry.maxConnections}`] : []),
    ...(entry.role === 'backup' ? ['backup'] : []),
    ...(entry.dialect === undefined ? [] : [DIALECTS[entry.dialect].option]),
    ...(isProxied(entry) ? [`port ${entry.port}`] : []),
    `check ${inter} rise 1 fall 2 observe layer4 error-limit 1 on-error mark-down`,
  ].join(' ')
}

function isProxied({ dialect }: Entry): boolean {
  return dialect === 'proxy-v1' || dialect === 'proxy-v2'
}
