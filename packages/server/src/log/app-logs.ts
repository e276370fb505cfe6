import type { LogLine } from '@roost/api'
import { type Clock, PlatformError } from '@roost/base'
import type { AppName, Host, HostId, MachineId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { listHosts } from '../store/hosts.ts'
import { listMachines } from '../store/machines.ts'
import { createLineQueue, type LineQueue } from './line-queue.ts'
import { type LogRequest, machineLogs } from './machine-logs.ts'

export interface AppLogsRequest {
  readonly app: AppName
  /** How many lines of the past, of all machines together. */
  readonly lines: number
  readonly follow: boolean
  readonly machine?: MachineId | undefined
  readonly region?: string | undefined
}

type LogDeps = Pick<Deps, 'store' | 'clock' | 'agent'>

/** Lines that wait for a slow reader; then the hosts wait too. */
const QUEUE_MAX = 2_000
/** Machines that are read at once. */
const READERS_MAX = 500
/** Hosts that have not told their past by then are not waited for: it comes when it comes. */
const PAST_MS = 3_000
const LOOK_MS = 1_000
/** Machines that are gone for less still tell why: those of a release that failed, most of all. */
const GONE_MS = 3_600_000
const GONE_MAX = 50
const PAUSE_MS = 1_000

type Item =
  | { readonly kind: 'line'; readonly line: LogLine }
  /** This machine has told its past, or can't. */
  | { readonly kind: 'past'; readonly machine: MachineId }
  | { readonly kind: 'late' }

/**
 * Lines of all machines of an app: what there was in the order of time, then what comes, in the order in which it comes.
 * With `follow`, machines that appear are read as well. A host that does not answer is named in a line of its own.
 */
export async function* appLogs(
  deps: LogDeps,
  request: AppLogsRequest,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const ended = new AbortController()
  const either = AbortSignal.any([signal, ended.signal])
  const queue = createLineQueue<Item>(QUEUE_MAX)
  either.addEventListener('abort', () => queue.close(), { once: true })
  if (either.aborted) return
  try {
    const first = await findMachines(deps, request)
    const readers = createReaders(deps, request, queue, either)
    for (const machine of first)
      if (!readers.add(machine, request.lines))
        void queue.push({ kind: 'past', machine: machine.id })
    yield* readPast(deps.clock, queue, new Set(first.map((m) => m.id)), request.lines, either)
    if (!request.follow) return
    void lookForMachines(deps, request, readers, either)
    for (let item = await queue.pull(); item !== null; item = await queue.pull())
      if (item.kind === 'line') yield item.line
  } finally {
    ended.abort()
  }
}

/** Until every machine has told its past, sorted, and only the newest of it. */
async function* readPast(
  clock: Clock,
  queue: LineQueue<Item>,
  open: Set<MachineId>,
  count: number,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const waited = new AbortController()
  void clock
    .sleep(PAST_MS, AbortSignal.any([signal, waited.signal]))
    .then(() => queue.push({ kind: 'late' }))
  let lines: LogLine[] = []
  const newest = () => lines.sort(byTime).slice(Math.max(0, lines.length - count))
  while (open.size > 0) {
    const item = await queue.pull()
    if (item === null || item.kind === 'late') break
    if (item.kind === 'past') open.delete(item.machine)
    else lines.push(item.line)
    if (lines.length > 2 * count + QUEUE_MAX) lines = newest()
  }
  waited.abort()
  yield* newest()
}

function byTime(a: LogLine, b: LogLine): number {
  return a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : 0
}

interface LoggedMachine {
  readonly id: MachineId
  readonly host: Host
  /** Destroyed not long ago: it has only a past. */
  readonly gone: boolean
}

async function findMachines(
  deps: Pick<LogDeps, 'store' | 'clock'>,
  request: AppLogsRequest,
): Promise<LoggedMachine[]> {
  const goneAfter = deps.clock.now() - GONE_MS
  return deps.store.read(async (reader) => {
    const hosts = new Map((await listHosts(reader)).map((h) => [h.id, h]))
    const machines = await listMachines(reader, { app: request.app, destroyed: true })
    const gone = machines.filter((m) => (m.destroyedAt ?? 0) > goneAfter).slice(-GONE_MAX)
    const there = machines.filter((m) => m.destroyedAt === null)
    return [...gone, ...there].flatMap(({ assignment: a, destroyedAt }) => {
      const host = hosts.get(a.host)
      const wanted =
        (request.machine === undefined || request.machine === a.id) &&
        (request.region === undefined || request.region === a.region)
      return wanted && host !== undefined ? [{ id: a.id, host, gone: destroyedAt !== null }] : []
    })
  })
}

interface Readers {
  /** False: it is read already, or there are too many. */
  add(machine: LoggedMachine, lines: number): boolean
  /** Those that are gone may come again one day; those that are there are read once. */
  keep(machines: readonly LoggedMachine[]): void
}

function createReaders(
  deps: LogDeps,
  request: AppLogsRequest,
  queue: LineQueue<Item>,
  signal: AbortSignal,
): Readers {
  const known = new Set<MachineId>()
  const silent = new Set<HostId>()
  return {
    add(machine, lines) {
      if (known.has(machine.id) || known.size >= READERS_MAX) return false
      known.add(machine.id)
      const follow = request.follow && !machine.gone
      void readMachine(deps, machine, { lines, follow }, queue, silent, signal)
      return true
    },
    keep(machines) {
      const there = new Set(machines.map((m) => m.id))
      for (const id of known) if (!there.has(id)) known.delete(id)
    },
  }
}

/** Reads one machine until it is gone; when its host goes away, says so once and goes on when it is back. */
async function readMachine(
  deps: LogDeps,
  { id, host }: LoggedMachine,
  how: { readonly lines: number; readonly follow: boolean },
  queue: LineQueue<Item>,
  silent: Set<HostId>,
  signal: AbortSignal,
): Promise<void> {
  let last: string | null = null
  while (!signal.aborted) {
    const request: LogRequest = {
      machine: id,
      follow: how.follow,
      // After a break everything that was missed is wanted.
      lines: last === null ? how.lines : 10_000,
      ...(last === null ? {} : { after: last }),
    }
    try {
      for await (const line of machineLogs(deps.agent(host), request, signal)) {
        silent.delete(host.id)
        if (line === null) await queue.push({ kind: 'past', machine: id })
        else {
          last = line.timestamp
          if (!(await queue.push({ kind: 'line', line }))) return
        }
      }
      await queue.push({ kind: 'past', machine: id })
      // An agent that restarts ends its streams as one whose machine is gone does.
      if (!how.follow || !(await isThere(deps, id))) return
    } catch (error) {
      if (signal.aborted) return
      const unknown = error instanceof PlatformError && error.code === 'not_found'
      if (!unknown && !silent.has(host.id)) {
        silent.add(host.id)
        const line: LogLine = {
          timestamp: new Date(deps.clock.now()).toISOString(),
          machine: id,
          region: host.region,
          host: host.name,
          message: `roost: host ${host.name} in ${host.region} does not answer; lines of its machines are missing here`,
        }
        await queue.push({ kind: 'line', line })
      }
      await queue.push({ kind: 'past', machine: id })
      if (!how.follow || (unknown && !(await isThere(deps, id)))) return
    }
    await deps.clock.sleep(PAUSE_MS, signal)
  }
}

async function isThere(deps: Pick<LogDeps, 'store'>, id: MachineId): Promise<boolean> {
  return deps.store.read(async (reader) => {
    const row = await reader.db
      .selectFrom('machines')
      .select('destroyed_at')
      .where('id', '=', id)
      .executeTakeFirst()
    return row !== undefined && row.destroyed_at === null
  })
}

/** New machines are read from their first line. */
async function lookForMachines(
  deps: LogDeps,
  request: AppLogsRequest,
  readers: Readers,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const machines = await findMachines(deps, request).catch(() => null)
    if (machines !== null) {
      readers.keep(machines)
      for (const machine of machines) if (!machine.gone) readers.add(machine, 10_000)
    }
    await deps.clock.sleep(LOOK_MS, signal)
  }
}
