import type { LogLine } from '@roost/api'
import { type Clock, createLineQueue, type LineQueue, PlatformError } from '@roost/base'
import type { AppName, Host, HostId, MachineId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { listHosts } from '../store/hosts.ts'
import { listMachines } from '../store/machines.ts'
import type { LogHub } from './log-hub.ts'
import { type LogRequest, machineLogs } from './machine-logs.ts'

export interface AppLogsRequest {
  readonly app: AppName
  /** How many lines of the past, of all machines together. */
  readonly lines: number
  readonly follow: boolean
  /** Only later ones. RFC 3339. */
  readonly since?: string | undefined
  /** By its name, it may have gone long ago. */
  readonly machine?: MachineId | undefined
  readonly region?: string | undefined
  /** Of machines that have several: only this one. */
  readonly container?: string | undefined
}

type LogDeps = Pick<Deps, 'store' | 'clock' | 'agent'> & { readonly hub: LogHub }

/** Lines that wait for a slow reader, and characters of them. What comes from now on is left out beyond that, and counted. */
const QUEUE_MAX = 2_000
const QUEUE_CHARS_MAX = 1_000_000
/** Of what was said before, together. */
const PAST_CHARS_MAX = 32_000_000
/** Machines that are read at once. */
const READERS_MAX = 500
/** Hosts that have not told their past by then are not waited for: it comes when it comes. */
const PAST_MS = 3_000
const LOOK_MS = 1_000
/** Machines that are gone for less still tell why: those of a release that failed, most of all. */
const GONE_MS = 3_600_000
const GONE_MAX = 50
const PAUSE_MS = 1_000
/** One that has gone may have last words on their way. */
const LAST_WORDS_MS = 5_000

type Item =
  /** `silent`: it is of this host that it does not answer. */
  | { readonly kind: 'line'; readonly line: LogLine; readonly silent?: HostId }
  /** This machine has told its past, or can't. */
  | { readonly kind: 'past'; readonly machine: MachineId }
  | { readonly kind: 'late' }

const weight = (item: Item) => (item.kind === 'line' ? item.line.message.length : 0)

/**
 * Lines of all machines of an app: what there was in the order of time, then what comes, in the order in which it comes.
 * With `follow`, machines that appear are read as well. A host that does not answer is named in a line of its own, and so is
 * what was left out because it came faster than it was read.
 */
export async function* appLogs(
  deps: LogDeps,
  request: AppLogsRequest,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const ended = new AbortController()
  const either = AbortSignal.any([signal, ended.signal])
  const queue = createLineQueue<Item>(QUEUE_MAX, { of: weight, max: QUEUE_CHARS_MAX })
  const left = createLeftOut(deps.clock)
  either.addEventListener('abort', () => queue.close(), { once: true })
  if (either.aborted) return
  try {
    const first = await findMachines(deps, request)
    const readers = createReaders(deps, request, { queue, left, signal: either })
    for (const machine of first)
      if (!readers.add(machine, request.lines))
        void queue.push({ kind: 'past', machine: machine.id })
    yield* readPast(deps.clock, queue, first, request, either)
    if (!request.follow) return
    void lookForMachines(deps, request, readers, either)
    for (let item = await queue.pull(); item !== null; item = await queue.pull()) {
      yield* left.tell()
      if (item.kind === 'line') yield item.line
    }
  } finally {
    ended.abort()
  }
}

/** Counts, for each machine, what a reader could not take. */
function createLeftOut(clock: Clock) {
  const counts = new Map<MachineId, { lines: number; readonly last: LogLine }>()
  return {
    add(machine: MachineId, line: LogLine) {
      const known = counts.get(machine)
      if (known) known.lines++
      else counts.set(machine, { lines: 1, last: line })
    },
    *tell(): Generator<LogLine> {
      if (counts.size === 0) return
      const timestamp = new Date(clock.now()).toISOString()
      for (const { lines, last } of counts.values())
        yield {
          ...last,
          timestamp,
          message: `[roost] ${lines} lines left out: they came faster than they were read`,
        }
      counts.clear()
    },
  }
}

/**
 * Until every machine has told its past, sorted, and only the newest of it. Where nobody stays to hear them later, hosts that are
 * late are named: they may hang for longer than anybody waits.
 */
async function* readPast(
  clock: Clock,
  queue: LineQueue<Item>,
  machines: readonly LoggedMachine[],
  { lines: count, follow }: AppLogsRequest,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const open = new Map(machines.map((machine) => [machine.id, machine]))
  const silent = new Set<HostId>()
  let late = false
  const waited = new AbortController()
  void clock
    .sleep(PAST_MS, AbortSignal.any([signal, waited.signal]))
    .then(() => queue.push({ kind: 'late' }))
  let lines: LogLine[] = []
  let chars = 0
  const newest = (charsMax: number) => {
    const sorted = lines.sort(byTime).slice(Math.max(0, lines.length - count))
    chars = sorted.reduce((sum, { message }) => sum + message.length, 0)
    let from = 0
    while (chars > charsMax) chars -= sorted[from++]?.message.length ?? 0
    return sorted.slice(from)
  }
  while (open.size > 0) {
    const item = await queue.pull()
    late = item?.kind === 'late'
    if (item === null || item.kind === 'late') break
    if (item.kind === 'past') open.delete(item.machine)
    else {
      if (item.silent !== undefined) silent.add(item.silent)
      lines.push(item.line)
      chars += item.line.message.length
    }
    if (lines.length > 2 * count + QUEUE_MAX || chars > PAST_CHARS_MAX)
      lines = newest(PAST_CHARS_MAX / 2)
  }
  waited.abort()
  yield* newest(PAST_CHARS_MAX)
  if (!late || follow) return
  for (const { id, host } of open.values()) {
    if (silent.has(host.id)) continue
    silent.add(host.id)
    yield silenceOf(clock, id, host)
  }
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
    const asked = machines.filter(
      ({ assignment: a }) =>
        (request.machine === undefined || request.machine === a.id) &&
        (request.region === undefined || request.region === a.region),
    )
    const gone = asked
      .filter((m) => m.destroyedAt !== null)
      .filter((m) => request.machine !== undefined || (m.destroyedAt ?? 0) > goneAfter)
      .slice(-GONE_MAX)
    const there = asked.filter((m) => m.destroyedAt === null)
    return [...gone, ...there].flatMap(({ assignment: a, destroyedAt }) => {
      const host = hosts.get(a.host)
      return host === undefined ? [] : [{ id: a.id, host, gone: destroyedAt !== null }]
    })
  })
}

interface Readers {
  /** False: it is read already, or there are too many. */
  add(machine: LoggedMachine, lines: number): boolean
  /** Those that have gone are read no longer, once their last words had time to come. */
  keep(machines: readonly LoggedMachine[]): void
}

interface ReadFor {
  readonly queue: LineQueue<Item>
  readonly left: ReturnType<typeof createLeftOut>
  readonly signal: AbortSignal
}

function createReaders(deps: LogDeps, request: AppLogsRequest, to: ReadFor): Readers {
  const known = new Map<MachineId, AbortController>()
  const silent = new Set<HostId>()
  return {
    add(machine, lines) {
      if (known.has(machine.id) || known.size >= READERS_MAX) return false
      const ended = new AbortController()
      known.set(machine.id, ended)
      const follow = request.follow && !machine.gone
      const how = { lines, follow, since: request.since, container: request.container }
      const signal = AbortSignal.any([to.signal, ended.signal])
      void readMachine(deps, machine, how, { ...to, signal }, silent)
      return true
    },
    keep(machines) {
      const there = new Set(machines.filter(({ gone }) => !gone).map(({ id }) => id))
      for (const [id, ended] of known) {
        if (there.has(id)) continue
        known.delete(id)
        void deps.clock.sleep(LAST_WORDS_MS, to.signal).then(() => ended.abort())
      }
    },
  }
}

/**
 * Reads one machine until its signal aborts: first what its host has kept, then what comes. What comes while the past is told
 * waits; time tells which lines are in both, since no two of a machine have the same. After a break of the stream, what was missed
 * is past too.
 */
async function readMachine(
  deps: LogDeps,
  { id, host }: LoggedMachine,
  how: {
    readonly lines: number
    readonly follow: boolean
    readonly since: string | undefined
    readonly container: string | undefined
  },
  { queue, left, signal }: ReadFor,
  silent: Set<HostId>,
): Promise<void> {
  // In the form of a host's own, so that they can be compared as text.
  let last = how.since === undefined ? null : new Date(how.since).toISOString()
  let heardPast = false
  let saidPast = false
  /** What came while the past is being told; null while nothing is. */
  let held: LogLine[] | null = []
  let missing = !how.follow
  let wake = () => {}

  const sayPast = async () => {
    if (saidPast) return
    saidPast = true
    await queue.push({ kind: 'past', machine: id })
  }
  const saySilence = async (error: unknown) => {
    const unknown = error instanceof PlatformError && error.code === 'not_found'
    if (!unknown && !silent.has(host.id)) {
      silent.add(host.id)
      const line = silenceOf(deps.clock, id, host)
      await queue.push({ kind: 'line', line, silent: host.id })
    }
    await sayPast()
  }
  const tell = (line: LogLine) => {
    if (last !== null && line.timestamp <= last) return
    last = line.timestamp
    if (!queue.offer({ kind: 'line', line })) left.add(id, line)
  }
  const readPast = async () => {
    const request: LogRequest = {
      machine: id,
      follow: false,
      // After a break everything that was missed is wanted.
      lines: heardPast ? 10_000 : how.lines,
      container: how.container,
      ...(last === null ? {} : { after: last }),
    }
    for await (const line of machineLogs(deps.agent(host), request, signal)) {
      silent.delete(host.id)
      if (line === null) continue
      last = line.timestamp
      if (!(await queue.push({ kind: 'line', line }))) return
    }
    heardPast = true
    await sayPast()
  }
  const following = how.follow
    ? deps.hub.follow(id, host, {
        line: (line) => {
          silent.delete(host.id)
          // One stream for all who follow the machine, whatever of it they want.
          if (how.container !== undefined && line.container !== how.container) return
          if (held === null) tell(line)
          else if (held.length < QUEUE_MAX) held.push(line)
          else left.add(id, line)
        },
        live: () => {
          held ??= []
          missing = true
          wake()
        },
        silent: (error) => void saySilence(error),
      })
    : null
  const leave = () => {
    following?.leave()
    wake()
  }
  signal.addEventListener('abort', leave, { once: true })
  if (signal.aborted) leave()
  while (!signal.aborted) {
    if (!missing)
      await new Promise<void>((resolve) => {
        wake = resolve
        if (missing || signal.aborted) resolve()
      })
    if (signal.aborted) return
    missing = false
    try {
      await readPast()
      if (!how.follow) return
      // Unless it broke meanwhile, and is live again.
      if (missing) continue
      const waited: LogLine[] = held ?? []
      held = null
      for (const line of waited) tell(line)
    } catch (error) {
      if (signal.aborted) return
      await saySilence(error)
      if (!how.follow) return
      missing = true
      await deps.clock.sleep(PAUSE_MS, signal)
    }
  }
}

function silenceOf(clock: Clock, machine: MachineId, host: Host): LogLine {
  return {
    timestamp: new Date(clock.now()).toISOString(),
    machine,
    region: host.region,
    host: host.name,
    message: `roost: host ${host.name} in ${host.region} does not answer; lines of its machines are missing here`,
  }
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
