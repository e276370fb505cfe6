import type { Instant } from '../id.ts'
import type { MachineExit } from '../machine/machine.ts'
import {
  type ContainerRecord,
  newContainerRecord,
  type ObservedContainer,
} from './container-record.ts'

/** After a run of this length its earlier restarts no longer count, as for machines. */
const RESTART_WINDOW_MS = 300_000

/** Something that happened to a container, to be told. */
export type ContainerHappening =
  | {
      readonly kind: 'started'
      readonly name: string
      readonly at: Instant
      readonly restart: number
    }
  | {
      readonly kind: 'exited'
      readonly name: string
      readonly exit: MachineExit
      readonly restarts: number
    }

/**
 * What a look at the containers of a running machine makes of what was known of them, and what is new in it. Those of an
 * earlier run of the machine are forgotten.
 */
export function observeContainers(
  known: readonly ContainerRecord[],
  seen: readonly ObservedContainer[],
  run: Instant,
  at: Instant,
): { readonly records: readonly ContainerRecord[]; readonly news: readonly ContainerHappening[] } {
  const news: ContainerHappening[] = []
  const records = seen.map((one): ContainerRecord => {
    const last = known.find(({ name }) => name === one.name)
    const before = last?.run === run ? last : newContainerRecord(one.name, run)
    const after = observeContainer(before, one, at, news)
    return { ...after, health: one.health }
  })
  return { records, news }
}

function observeContainer(
  before: ContainerRecord,
  { name, state, startedAt, exit }: ObservedContainer,
  at: Instant,
  news: ContainerHappening[],
): ContainerRecord {
  if (state === 'created') return { ...before, state, startedAt: null }
  const started = before.startedAt === startedAt ? before : startedAnew(before, startedAt)
  if (started !== before && startedAt !== null)
    news.push({ kind: 'started', name, at: startedAt, restart: started.restarts })
  if (state === 'running') return { ...countsOf(started, startedAt, at), state }

  if (before.state === 'exited' && started === before && before.exit?.at === exit?.at) return before
  if (exit === null) return { ...started, state, exit: null }
  const ended: MachineExit = {
    ...exit,
    requested: started.stopAsked && started.because === null,
    ...(started.because === null ? {} : { because: started.because }),
    container: name,
  }
  const after = { ...countsOf(started, startedAt, exit.at), state, exit: ended }
  news.push({ kind: 'exited', name, exit: ended, restarts: after.restarts })
  return after
}

function startedAnew(before: ContainerRecord, startedAt: Instant | null): ContainerRecord {
  const { exit } = before
  const byPolicy = exit !== null && !exit.requested
  return {
    ...before,
    startedAt,
    restarts: before.restarts + (byPolicy ? 1 : 0),
    blameless: before.blameless + (byPolicy && exit.cause ? 1 : 0),
    stopAsked: false,
    because: null,
    failure: null,
  }
}

function countsOf(
  record: ContainerRecord,
  startedAt: Instant | null,
  at: Instant,
): ContainerRecord {
  const lasted = startedAt !== null && at - startedAt >= RESTART_WINDOW_MS
  return lasted ? { ...record, restarts: 0, blameless: 0 } : record
}

/** All of them, or the one that is named, were told to stop: an end that follows is no failure unless there is a reason. */
export function withStopAsked(
  records: readonly ContainerRecord[],
  name: string | null,
  because: string | null,
): readonly ContainerRecord[] {
  return records.map((one) =>
    (name === null || one.name === name) && one.state === 'running'
      ? { ...one, stopAsked: true, because }
      : one,
  )
}

/** A start of it failed. */
export function withFailedStart(
  records: readonly ContainerRecord[],
  name: string,
  failed: { readonly reason: string; readonly at: Instant; readonly final: boolean },
): readonly ContainerRecord[] {
  return records.map((one) =>
    one.name === name
      ? { ...one, failure: { ...failed, count: (one.failure?.count ?? 0) + 1 } }
      : one,
  )
}
