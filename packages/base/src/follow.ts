import type { Revision } from '@roost/core'
import type { Clock } from './clock.ts'
import type { Logger } from './log.ts'
import type { CacheEvent, RecordCache } from './record-cache.ts'
import { backoffMs } from './retry.ts'

export interface FollowOptions {
  /** Opens the watch stream. It ends by throwing, returning, or when `signal` aborts: all three mean to connect again. */
  readonly connect: (since: Revision, signal: AbortSignal) => AsyncIterable<CacheEvent>
  readonly cache: Pick<RecordCache<object>, 'apply' | 'abandon' | 'revision'>
  /** After each batch that changed something. Must not throw. */
  readonly onChange: () => void
  /** Whether the server is heard, when that changes. */
  readonly onConnection?: (connected: boolean) => void
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  /** A stream without an event for so long is dead. The server says something every 5 s. Default 15 s. */
  readonly idleMs?: number
  /** Longest pause between two attempts. Default 5 s. */
  readonly pauseMsMax?: number
}

/** Keeps a cache like the server's records until `signal` aborts: list once, then watch, and again after each loss. */
export async function follow(options: FollowOptions): Promise<void> {
  const { clock, signal, cache, log } = options
  let failures = 0
  let connected = false
  const say = (now: boolean) => {
    if (now === connected) return
    connected = now
    options.onConnection?.(now)
  }

  while (!signal.aborted) {
    cache.abandon()
    try {
      await readOnce(options, () => {
        failures = 0
        say(true)
      })
      if (!signal.aborted) log.info('watch: stream ended')
    } catch (error) {
      // The first failure is news; that it goes on failing is not.
      if (!signal.aborted && failures === 0) log.warn('watch: stream broke', { error })
    }
    say(false)
    if (signal.aborted) return
    await clock.sleep(backoffMs(failures++, 200, options.pauseMsMax ?? 5000), signal)
  }
}

async function readOnce(options: FollowOptions, onSynced: () => void): Promise<void> {
  const { clock, cache, idleMs = 15_000 } = options
  const ended = new AbortController()
  const signal = AbortSignal.any([options.signal, ended.signal])
  const events = options.connect(cache.revision(), signal)[Symbol.asyncIterator]()
  const unlessSilent = watchSilence(clock, idleMs, signal)
  let dirty = false
  try {
    while (!options.signal.aborted) {
      const event = await unlessSilent(events.next())
      if (event.done) return
      const before = cache.revision()
      cache.apply([event.value])
      if (event.value.type !== 'synced') {
        dirty = true
        continue
      }
      onSynced()
      if (dirty || cache.revision() !== before) options.onChange()
      dirty = false
    }
  } finally {
    ended.abort()
    // Not awaited: a generator that hangs in its own wait would hold up the next connection.
    void events.return?.().catch(() => {})
  }
}

/** What is silent for so many parts of the time is dead. A timer for each event would cost more than the event. */
const PARTS = 5

/** Waits for the next event, unless nothing comes for `idleMs` (and up to a fifth more), or `signal` aborts. */
function watchSilence(
  clock: Clock,
  idleMs: number,
  signal: AbortSignal,
): <T>(next: Promise<T>) => Promise<T> {
  let quietParts = 0
  let giveUp = (_: Error) => {}
  const watch = async () => {
    while (!signal.aborted && quietParts < PARTS) {
      quietParts++
      await clock.sleep(idleMs / PARTS, signal)
    }
    giveUp(new Error(signal.aborted ? 'aborted' : `nothing heard for ${idleMs} ms`))
  }
  void watch()
  return (next) =>
    new Promise((resolve, reject) => {
      giveUp = reject
      next.then((event) => {
        quietParts = 0
        resolve(event)
      }, reject)
    })
}
