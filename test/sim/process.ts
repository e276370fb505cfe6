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
  gate<T>(work: Promise<T>): Promise<T>
  clock(clock: Clock): Clock
}

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
  return {
    name,
    alive: () => !death.signal.aborted,
    kill: () => death.abort(),
    gone: death.signal,
    gate,
    clock: (clock) => ({
      now: () => clock.now(),
      sleep: (ms, signal) => gate(clock.sleep(ms, signal)),
    }),
  }
}
