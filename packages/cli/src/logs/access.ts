import { type AccessLine, type ApiClient, ApiError } from '@roost/api'
import { type Clock, systemClock } from '@roost/base'
import { checkedMachineId } from '../machine/machine-id.ts'

/** How long a listener waits for a server that went away: it is started again within seconds, or somebody has to look. */
const AWAY_MS_MAX = 5 * 60_000
const RETRY_MS = 1000
/** A call that took longer had reached the server, which was there until it broke. */
const CONNECT_MS_MAX = 15_000

/** Requests as they are answered, until it is interrupted. Nothing is kept of them, so what comes while the connection is broken is missing. */
export async function followAccess(
  client: ApiClient,
  app: string,
  options: {
    readonly region?: string | undefined
    readonly machine?: string | undefined
    readonly query?: boolean | undefined
  },
  print: (line: AccessLine) => unknown,
  run: {
    readonly signal: AbortSignal
    readonly warn: (text: string) => unknown
    readonly clock?: Clock
  },
): Promise<void> {
  const { signal, warn, clock = systemClock } = run
  const query = {
    ...(options.region === undefined ? {} : { region: options.region }),
    ...(options.machine === undefined ? {} : { machine: checkedMachineId(options.machine) }),
    ...(options.query ? { query: 'true' as const } : {}),
  }
  /** When the server was last known to be there. */
  let thereAt: number | null = null
  let broken = false
  for (;;) {
    const beganAt = clock.now()
    try {
      for await (const event of client.appAccessLogs({ params: { app }, query }, { signal })) {
        thereAt = clock.now()
        broken = false
        if ('notice' in event) warn(event.notice)
        else print(event)
      }
      thereAt = clock.now()
    } catch (error) {
      if (signal.aborted) return
      const now = clock.now()
      if (now - beganAt > CONNECT_MS_MAX) thereAt = now
      const away =
        error instanceof ApiError
          ? error.status >= 500
          : error instanceof Error && error.name === 'ServerUnreached'
      // A first connection that fails is no break.
      if (!away || thereAt === null || now - thereAt > AWAY_MS_MAX) throw error
    }
    if (signal.aborted) return
    if (!broken) warn('the connection broke; requests are missing until the server answers again')
    broken = true
    await clock.sleep(RETRY_MS, signal)
    if (signal.aborted) return
  }
}
