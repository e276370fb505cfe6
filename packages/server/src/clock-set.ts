import type { Clock } from '@roost/base'
import type { Instant } from '@roost/core'
import { listOpenReleases, putRelease } from './store/releases.ts'
import type { Tx } from './store/store.ts'

/** Longer without a look at the clock than this, with one look each second: it was set forward, or this program stood still. */
export const FORWARD_MS_MAX = 5_000
/** What two looks may differ by when nobody set anything. */
const BACKWARD_MS_MAX = 100

/**
 * A clock that notices when it is set, at the first look after that, before anybody can conclude anything from it. A program
 * that stood still (a host that slept, a debugger) is the same case: nobody was silent in a time in which nobody listened.
 */
export function noticeSetting(clock: Clock, onSet: (byMs: number) => void): Clock {
  let last = clock.now()
  return {
    now: () => {
      const now = clock.now()
      const by = now - last
      last = now
      if (by > FORWARD_MS_MAX || by < -BACKWARD_MS_MAX) onSet(by)
      return now
    },
    sleep: (ms, signal) => clock.sleep(ms, signal),
  }
}

/** What is stored to be compared with the clock moves along with it, so that it is as long ago and as far ahead as before. */
export async function moveTimes(tx: Tx, byMs: number): Promise<void> {
  for (const release of await listOpenReleases(tx))
    await putRelease(tx, { ...release, deadline: moved(release.deadline, byMs) })
  await tx.db
    .updateTable('statuses')
    .set((at) => ({
      ready_since: at('ready_since', '+', byMs),
      started_since: at('started_since', '+', byMs),
      failed_since: at('failed_since', '+', byMs),
    }))
    .execute()
}

/** 0 is no time. */
function moved(at: Instant, byMs: number): Instant {
  return at === 0 ? 0 : at + byMs
}
