import type { EdgeAccessLine } from '@roost/api'
import {
  type Clock,
  createLineQueue,
  type LineQueue,
  type Logger,
  PlatformError,
  startLoop,
} from '@roost/base'
import {
  ACCESS_LINES_PER_SECOND,
  type LineBudget,
  lineBudget,
  type RegionCode,
  type Route,
} from '@roost/core'
import { parseMap } from '../haproxy/observed-proxy.ts'
import type { RuntimeApi } from '../haproxy/runtime-api.ts'
import type { LogLine } from './log-line.ts'

/**
 * Requests of an app, told live to those who ask. Nothing is written or kept: HAProxy says who asked for what only of the slots in a map
 * that holds those of apps that somebody listens to now. Looked at each second, so that a slot that changes hands, a HAProxy that was started again
 * and an edge that died with its listeners all come right.
 */
export interface AccessLog {
  /** Lines from now on, until `signal`. Throws where too many listen. */
  follow(wish: AccessWish): (signal: AbortSignal) => AsyncGenerator<EdgeAccessLine>
  heard(line: LogLine): void
  stop(): Promise<void>
}

export interface AccessWish {
  readonly app: string
  /** Only what this one answered. */
  readonly machine: string | null
  /** Paths with what follows their `?`. */
  readonly query: boolean
}

const LISTENERS_MAX = 100
const LINES_WAITING_MAX = 1000
const LOOK_MS = 1000
/** A listener's own connection must not look dead. */
const QUIET_MS_MAX = 10_000
/** Who has read nothing for so long is gone, whatever his connection says. */
const UNREAD_MS_MAX = 30_000

interface Listener {
  readonly wish: AccessWish
  readonly queue: LineQueue<EdgeAccessLine>
  readonly budget: LineBudget
  /** When it was last told that it is told all; null: not yet. */
  saidAt: number | null
  end(): void
}

export function createAccessLog(options: {
  /** HAProxy's map: slot → `path` or `query`. */
  readonly map: string
  readonly api: Pick<RuntimeApi, 'send'>
  readonly slots: () => ReadonlyMap<string, Pick<Route, 'app'>>
  readonly appOf: (hostname: string) => string | null
  readonly region: RegionCode
  /** Name of this edge's host. */
  readonly host: string
  readonly clock: Clock
  /** By a clock that nobody sets. */
  readonly elapsedMs?: () => number
  readonly log: Logger
}): AccessLog {
  const { map, api, region, host, clock, elapsedMs = () => performance.now() } = options
  const listeners = new Set<Listener>()
  // An edge before this one may have left something there.
  let clean = false

  async function bringThere(): Promise<void> {
    const wanted = new Map<string, string>()
    for (const [slot, { app }] of options.slots()) {
      const here = [...listeners].filter(({ wish }) => wish.app === app)
      if (here.length > 0) wanted.set(slot, here.some(({ wish }) => wish.query) ? 'query' : 'path')
    }
    const [shown = ''] = await api.send([`show map ${map}`])
    const found = parseMap(shown)
    await api.send([
      ...[...found.keys()]
        .filter((slot) => !wanted.has(slot))
        .map((slot) => `del map ${map} ${slot}`),
      ...[...wanted]
        .filter(([slot, asked]) => found.get(slot) !== asked)
        .map(([slot, asked]) => `${found.has(slot) ? 'set' : 'add'} map ${map} ${slot} ${asked}`),
    ])
    clean = wanted.size === 0
  }

  async function lap(): Promise<void> {
    const before = [...listeners]
    if (before.length > 0 || !clean) {
      try {
        await bringThere()
      } catch (error) {
        options.log.debug('requests can not be told now', { error })
        return
      }
    }
    const now = elapsedMs()
    for (const listener of before) {
      const leftOut = listener.budget.leftOut()
      if (leftOut > 0 && !listener.queue.offer({ left_out: leftOut })) listener.budget.miss(leftOut)
      if (listener.saidAt !== null && now - listener.saidAt < QUIET_MS_MAX) continue
      if (listener.queue.offer({})) listener.saidAt = now
      else if (now - (listener.saidAt ?? now) > UNREAD_MS_MAX) listener.end()
    }
  }

  const loop = startLoop({ name: 'access log', periodMs: LOOK_MS, clock, log: options.log, lap })

  return {
    follow(wish) {
      if (listeners.size >= LISTENERS_MAX)
        throw new PlatformError('too_many', `${LISTENERS_MAX} listen to requests here already`)
      return async function* (signal) {
        const listener: Listener = {
          wish,
          queue: createLineQueue(LINES_WAITING_MAX),
          budget: lineBudget(ACCESS_LINES_PER_SECOND),
          saidAt: null,
          end() {
            listener.queue.close()
            if (!listeners.delete(listener)) return
            clean = false
            loop.wake()
          },
        }
        if (signal.aborted) return
        signal.addEventListener('abort', listener.end, { once: true })
        listeners.add(listener)
        loop.wake()
        try {
          for (;;) {
            const line = await listener.queue.pull()
            if (line === null || signal.aborted) return
            yield line
          }
        } finally {
          signal.removeEventListener('abort', listener.end)
          listener.end()
        }
      }
    },
    heard({ access, hostname, machine: asked, answer, totalMs, at }) {
      if (access === null || at !== 'edge' || listeners.size === 0) return
      const app = options.appOf(hostname)
      const machine = asked ?? access.machine
      const now = clock.now()
      for (const { wish, budget, queue } of listeners) {
        if (wish.app !== app || (wish.machine !== null && wish.machine !== machine)) continue
        if (!budget.take(now)) continue
        const told = queue.offer({
          request: {
            timestamp: new Date(now).toISOString(),
            region,
            host,
            client: access.client,
            method: access.method,
            path: wish.query ? access.path : (access.path.split('?')[0] ?? ''),
            status: answer.status,
            bytes_in: answer.bytesIn,
            bytes_out: answer.bytesOut,
            duration_ms: totalMs,
            machine,
            request_id: access.requestId,
          },
        })
        if (!told) budget.miss(1)
      }
    },
    async stop() {
      for (const { queue } of listeners) queue.close()
      await loop.stop()
    },
  }
}
