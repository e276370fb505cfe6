import { connect } from 'node:net'
import type { EdgeAliveReply } from '@roost/api'
import type { Clock, Logger } from '@roost/base'
import type { Host, HostId } from '@roost/core'

/**
 * What this edge knows of the others by asking them itself, once a second: whether program and HAProxy answer, and how far they are.
 * One that was never asked counts as living.
 */
export interface Prober {
  isAlive(host: HostId): boolean
  /** This edge to each host, steady: small changes do not show. */
  roundTrips(): ReadonlyMap<HostId, number>
  /** The last answers of those that live. */
  replies(): readonly EdgeAliveReply[]
  /** What another host last said that it measured. */
  roundTripsOf(host: HostId): ReadonlyMap<HostId, number>
  stop(): Promise<void>
}

/** How one edge is asked; fakes and tests bring their own. */
export interface EdgeAsker {
  alive(host: Host, signal: AbortSignal): Promise<EdgeAliveReply>
  /** Resolves when the HAProxy of that host accepts a connection from the street. */
  knock(host: Host, signal: AbortSignal): Promise<void>
  /** The host is gone. */
  forget(host: HostId): void
}

const ASK_EDGES_MS = 1000
/** Time for a new connection with TLS, four times around the world; silence is noticed by itself. */
const TIMEOUT_MS = 2500
const FAILURES_MAX = 3
const SILENCE_MS_MAX = 3000
/** The way is as long as the quickest of the last answers: a busy machine makes some slower, and nothing makes one quicker. */
const SAMPLES = 8

export function startProber(options: {
  readonly self: HostId
  readonly hosts: () => readonly Host[]
  readonly asker: EdgeAsker
  /** Somebody died, came back, or moved. */
  readonly onChange: () => void
  /** What an edge said of itself. */
  readonly onReply?: (reply: EdgeAliveReply) => void
  readonly clock: Clock
  /** By a clock that nobody sets: a jump must not make everybody look silent. */
  readonly elapsedMs?: () => number
  /** How often others are asked. */
  readonly periodMs?: number | undefined
  readonly log: Logger
}): Prober {
  const { self, asker, clock, log, elapsedMs = () => performance.now() } = options
  const { periodMs = ASK_EDGES_MS } = options
  const known = new Map<HostId, Neighbour>()
  const stopping = new AbortController()

  async function ask(neighbour: Neighbour): Promise<void> {
    const { host } = neighbour
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(TIMEOUT_MS)])
    const from = performance.now()
    const [alive] = await Promise.allSettled([
      asker.alive(host, signal).then((reply) => {
        options.onReply?.(reply)
        neighbour.reply = reply
        neighbour.measured = new Map(
          Object.entries(reply.round_trip_ms).map(([id, ms]) => [id as HostId, ms]),
        )
        if (!reply.serving) throw new Error('its HAProxy does not serve')
        return performance.now() - from
      }),
      asker.knock(host, signal),
    ]).then((results) => {
      const bad = results.find((result) => result.status === 'rejected')
      if (bad !== undefined) throw bad.reason
      return results as [PromiseFulfilledResult<number>, PromiseFulfilledResult<void>]
    })
    // The first answer after a silence also made the connection: it says nothing of the way.
    if (neighbour.connected) neighbour.measure(alive.value)
    neighbour.connected = true
  }

  async function visit(neighbour: Neighbour): Promise<void> {
    if (neighbour.asking) return
    neighbour.asking = true
    const tripBefore = neighbour.shownMs
    try {
      await ask(neighbour)
      neighbour.failures = 0
      neighbour.heardAt = elapsedMs()
    } catch (error) {
      if (stopping.signal.aborted) return
      neighbour.failures += 1
      neighbour.connected = false
      if (neighbour.failures === 1)
        log.info('edge does not answer', { of: neighbour.host.name, error })
    } finally {
      neighbour.asking = false
    }
    if (!tellAlive(neighbour) && neighbour.shownMs !== tripBefore) options.onChange()
  }

  /** Death comes with time as well as with an answer: what counts is what was told before. */
  function tellAlive(neighbour: Neighbour): boolean {
    const alive = neighbour.isAlive(elapsedMs())
    if (alive === neighbour.toldAlive) return false
    neighbour.toldAlive = alive
    log.warn(alive ? 'edge is back' : 'edge is dead', { of: neighbour.host.name })
    options.onChange()
    return true
  }

  const ended = (async () => {
    while (!stopping.signal.aborted) {
      const hosts = options.hosts().filter(({ id }) => id !== self)
      for (const host of hosts) {
        const neighbour = known.get(host.id) ?? createNeighbour(host, elapsedMs())
        neighbour.host = host
        known.set(host.id, neighbour)
        tellAlive(neighbour)
        void visit(neighbour)
      }
      for (const id of known.keys()) {
        if (hosts.some((host) => host.id === id)) continue
        known.delete(id)
        asker.forget(id)
      }
      await clock.sleep(periodMs, stopping.signal)
    }
  })()

  return {
    isAlive: (host) => known.get(host)?.isAlive(elapsedMs()) ?? true,
    roundTrips: () =>
      new Map([...known].flatMap(([id, { shownMs }]) => (shownMs === null ? [] : [[id, shownMs]]))),
    replies: () =>
      [...known.values()].flatMap(({ reply, toldAlive }) => (reply && toldAlive ? [reply] : [])),
    roundTripsOf: (host) => known.get(host)?.measured ?? new Map(),
    stop: async () => {
      stopping.abort()
      await ended
      for (const id of known.keys()) asker.forget(id)
    },
  }
}

type Measured = ReadonlyMap<HostId, number>

interface Neighbour {
  host: Host
  asking: boolean
  toldAlive: boolean
  failures: number
  connected: boolean
  /** Of the last answer; before the first one, since when it is known. */
  heardAt: number
  measured: Measured
  reply: EdgeAliveReply | null
  /** Changes only when the way has become longer or shorter by a fifth and 5 ms: ranks that flicker would move traffic for nothing. */
  shownMs: number | null
  measure(ms: number): void
  isAlive(now: number): boolean
}

function createNeighbour(host: Host, now: number): Neighbour {
  const samples: number[] = []
  return {
    host,
    asking: false,
    toldAlive: true,
    failures: 0,
    connected: false,
    heardAt: now,
    measured: new Map(),
    reply: null,
    shownMs: null,
    measure(ms) {
      samples.push(ms)
      if (samples.length > SAMPLES) samples.shift()
      const quickest = Math.min(...samples)
      const shown = this.shownMs
      const moved = shown === null ? Number.POSITIVE_INFINITY : Math.abs(quickest - shown)
      if (moved > 5 && moved > (shown ?? 0) / 5) this.shownMs = quickest
    },
    isAlive(now) {
      if (this.failures >= FAILURES_MAX) return false
      return this.failures === 0 || now - this.heardAt < SILENCE_MS_MAX
    },
  }
}

/** Resolves when somebody accepts. */
export function tcpKnock(address: string, port: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port })
    const end = () => socket.destroy(new Error('no connection in time'))
    signal.addEventListener('abort', end, { once: true })
    socket.once('connect', () => {
      resolve()
      // Ended by us with a reset: nothing of it stays behind.
      socket.resetAndDestroy()
    })
    socket.once('error', reject)
    socket.once('close', () => signal.removeEventListener('abort', end))
  })
}
