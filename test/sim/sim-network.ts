import type { Clock } from '../../packages/base/src/index.ts'
import type { Fault, FaultPlan } from './faults.ts'
import type { SimProcess } from './process.ts'
import type { Random } from './random.ts'

/** What may go wrong between one program and the server. */
export interface Link {
  /** One request and its reply. `receive` runs on the other side: not at all, once, or twice. */
  call<T>(receive: () => Promise<T>, signal: AbortSignal): Promise<T>
  /** What the other side says, until it ends, breaks or falls silent. */
  stream<T>(open: (signal: AbortSignal) => AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T>
}

export interface SimNetwork {
  link(from: SimProcess, host: string): Link
  cut(host: string): void
  heal(host: string): void
  isCut(host: string): boolean
}

export function createSimNetwork(options: {
  readonly clock: Clock
  readonly random: Random
  /** Changes when the faults stop. */
  readonly plan: () => FaultPlan
  readonly count: (fault: Fault) => void
}): SimNetwork {
  const { clock, random, plan, count } = options
  const cuts = new Set<string>()

  /** Time on the wire, or never: who waits has a limit of its own. */
  async function travel(host: string): Promise<void> {
    const { delayMsMax, late, lateMsMax } = plan()
    const isLate = random.chance(late)
    if (isLate) count('message late')
    await clock.sleep(random.int(1, isLate ? lateMsMax : delayMsMax))
    if (cuts.has(host)) await new Promise<never>(() => {})
  }

  function link(from: SimProcess, host: string): Link {
    async function call<T>(receive: () => Promise<T>): Promise<T> {
      const fate = {
        requestLost: random.chance(plan().requestLost),
        replyLost: random.chance(plan().replyLost),
        doubled: random.chance(plan().doubled),
        refused: random.chance(0.5),
      }
      await travel(host)
      if (fate.requestLost) {
        count('request lost')
        if (fate.refused) throw new Error('connection refused')
        return new Promise<never>(() => {})
      }
      if (fate.doubled) {
        count('message doubled')
        void travel(host)
          .then(receive)
          .catch(() => {})
      }
      const reply = await receive()
      await travel(host)
      if (fate.replyLost) {
        count('reply lost')
        throw new Error('connection reset')
      }
      return reply
    }

    async function* stream<T>(
      open: (signal: AbortSignal) => AsyncIterable<T>,
      signal: AbortSignal,
    ): AsyncGenerator<T> {
      await travel(host)
      const closed = new AbortController()
      const events = open(AbortSignal.any([signal, from.gone, closed.signal]))[
        Symbol.asyncIterator
      ]()
      try {
        while (!signal.aborted) {
          const next = await events.next()
          if (next.done) throw new Error('connection closed')
          await travel(host)
          if (random.chance(plan().streamBroken)) {
            count('stream broken')
            throw new Error('connection reset')
          }
          if (random.chance(plan().streamSilent)) {
            count('stream silent')
            await new Promise<never>(() => {})
          }
          yield next.value
          if (random.chance(plan().doubled)) {
            count('message doubled')
            yield next.value
          }
        }
      } finally {
        closed.abort()
      }
    }

    return {
      call: (receive) => from.gate(call(receive)),
      stream: (open, signal) => gated(from, stream(open, signal)),
    }
  }

  return {
    link,
    cut: (host) => {
      cuts.add(host)
      count('host cut off')
    },
    heal: (host) => cuts.delete(host),
    isCut: (host) => cuts.has(host),
  }
}

function gated<T>(process: SimProcess, events: AsyncGenerator<T>): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]: () => ({
      next: () => process.gate(events.next()),
      return: () => process.gate(events.return(undefined)),
    }),
  }
}
