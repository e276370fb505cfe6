import type { Clock } from '../../packages/base/src/index.ts'
import type { Fault, FaultPlan } from './faults.ts'
import type { SimProcess } from './process.ts'
import type { Random } from './random.ts'

/** A program on the network: `server`, `h1/agent`, `h1/edge`, `person`. */
export type Node = string

/** What may go wrong between one program and the server. */
export interface Link {
  /** One request and its reply. `receive` runs on the other side: not at all, once, or twice. */
  call<T>(receive: () => Promise<T>, signal: AbortSignal): Promise<T>
  /** What the other side says, until it ends, breaks or falls silent. */
  stream<T>(open: (signal: AbortSignal) => AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T>
}

export interface SimNetwork {
  link(from: SimProcess, node: Node): Link
  /** Nothing gets from `from` to `to` any more, until the returned function is called. */
  block(from: Node, to: Node): () => void
  heal(): void
}

export function createSimNetwork(options: {
  readonly clock: Clock
  readonly random: Random
  /** Changes when the faults stop. */
  readonly plan: () => FaultPlan
  readonly count: (fault: Fault) => void
}): SimNetwork {
  const { clock, random, plan, count } = options
  /** Ways that are blocked, with how often. */
  const blocked = new Map<string, number>()

  /** Time on the wire, or never: who waits has a limit of its own. */
  async function travel(from: Node, to: Node): Promise<void> {
    const { delayMsMax, late, lateMsMax } = plan()
    const isLate = late > 0 && random.chance(late)
    if (isLate) count('message late')
    await clock.sleep(random.int(1, isLate ? lateMsMax : delayMsMax))
    if (blocked.has(`${from} ${to}`)) await new Promise<never>(() => {})
  }

  function link(process: SimProcess, node: Node): Link {
    const there = () => travel(node, 'server')
    const back = () => travel('server', node)

    async function call<T>(receive: () => Promise<T>): Promise<T> {
      const fate = {
        requestLost: random.chance(plan().requestLost),
        replyLost: random.chance(plan().replyLost),
        doubled: random.chance(plan().doubled),
        refused: random.chance(0.5),
      }
      await there()
      if (fate.requestLost) {
        count('request lost')
        if (fate.refused) throw new Error('connection refused')
        return new Promise<never>(() => {})
      }
      if (fate.doubled) {
        count('message doubled')
        if (node === 'person') count('request of a person doubled')
        void there()
          .then(receive)
          .catch(() => {})
      }
      const reply = await receive()
      await back()
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
      await there()
      const closed = new AbortController()
      const events = open(AbortSignal.any([signal, process.gone, closed.signal]))[
        Symbol.asyncIterator
      ]()
      try {
        while (!signal.aborted) {
          const next = await events.next()
          if (next.done) throw new Error('connection closed')
          await back()
          // Nobody acknowledges: the connection stalls.
          if (blocked.has(`${node} server`)) await new Promise<never>(() => {})
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
        closed.abort(CLOSED)
      }
    }

    return {
      call: (receive) => process.gate(call(receive)),
      stream: (open, signal) => gated(process, stream(open, signal)),
    }
  }

  return {
    link,
    block: (from, to) => {
      const way = `${from} ${to}`
      blocked.set(way, (blocked.get(way) ?? 0) + 1)
      let healed = false
      return () => {
        if (healed) return
        healed = true
        const left = (blocked.get(way) ?? 1) - 1
        if (left > 0) blocked.set(way, left)
        else blocked.delete(way)
      }
    },
    heal: () => blocked.clear(),
  }
}

/** One reason for all: an error of its own for each would cost its stack. */
const CLOSED = new Error('closed')

function gated<T>(process: SimProcess, events: AsyncGenerator<T>): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]: () => ({
      next: () => process.gate(events.next()),
      return: () => process.gate(events.return(undefined)),
    }),
  }
}
