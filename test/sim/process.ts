import type { Clock } from '../../packages/base/src/index.ts'

/**
 * A program that can be killed between any two of its awaits: from then on nothing that it waits for ever comes, so not a
 * single line of it runs any more. Its connections break, which others notice by `gone`.
 */
export interface SimProcess {
  readonly name: string
  alive(): boolean
  kill(): void
  /** Aborts when it dies: for the other ends of its connections. */
  readonly gone: AbortSignal
  /** For its own waiting: nothing comes after its death. */
  gate<T>(work: Promise<T>): Promise<T>
  /** For others who wait for it: its death breaks the connection. */
  linked<T>(work: Promise<T>): Promise<T>
  clock(clock: Clock): Clock
}

/** One reason for all deaths: an error of its own for each would cost its stack. */
const KILLED = new Error('killed')

export function createProcess(name: string): SimProcess {
  const death = new AbortController()
  const gate = <T>(work: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      work.then(
        (value) => {
          if (!death.signal.aborted) resolve(value)
        },
        (error: unknown) => {
          if (!death.signal.aborted) reject(error)
        },
      )
    })
  const waiting = new Set<(error: Error) => void>()
  const linked = <T>(work: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const ended = () => waiting.delete(reject)
      waiting.add(reject)
      gate(work).then(
        (value) => {
          ended()
          resolve(value)
        },
        (error: unknown) => {
          ended()
          reject(error)
        },
      )
    })
  return {
    name,
    alive: () => !death.signal.aborted,
    kill: () => {
      death.abort(KILLED)
      for (const reject of waiting) reject(new Error('connection reset'))
      waiting.clear()
    },
    gone: death.signal,
    gate,
    linked,
    clock: (clock) => ({
      now: () => clock.now(),
      sleep: (ms, signal) => gate(clock.sleep(ms, signal)),
    }),
  }
}
