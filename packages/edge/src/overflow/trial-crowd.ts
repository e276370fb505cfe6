import { Agent } from 'node:http'

/** For tests: so many clients at once, each of which asks again when it was answered, until told otherwise. */
export interface Crowd {
  readonly failures: readonly string[]
  /** How many were answered, well or not. */
  done(): number
  stop(): Promise<void>
}

/** `ask` says what was wrong with its answer; null: nothing. */
export function startCrowd(size: number, ask: (agent: Agent) => Promise<string | null>): Crowd {
  const going = { on: true }
  const agent = new Agent({ keepAlive: true })
  const failures: string[] = []
  let done = 0
  const clients = Array.from({ length: size }, async () => {
    while (going.on) {
      const failure = await ask(agent).catch((error: Error) => error.message)
      done += 1
      if (failure !== null) failures.push(failure)
    }
  })
  return {
    failures,
    done: () => done,
    async stop() {
      going.on = false
      await Promise.all(clients)
      agent.destroy()
    },
  }
}
