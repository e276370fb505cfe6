import { Resolver } from 'node:dns/promises'
import { describeError } from '@roost/base'
import type { NameFacts } from '@roost/core'

export interface NameQuestion {
  readonly asked: string
  readonly host: string | null
  readonly name: string
  /** Address of the name server; null: those of this machine. */
  readonly server: string | null
}

/** All at once, each within the time. */
export async function resolveNames(
  questions: readonly NameQuestion[],
  timeoutMs: number,
): Promise<NameFacts[]> {
  return Promise.all(
    questions.map(async ({ asked, host, name, server }) => {
      const resolver = new Resolver({ timeout: timeoutMs / 2, tries: 2 })
      if (server !== null) resolver.setServers([server])
      const timer = setTimeout(() => resolver.cancel(), timeoutMs)
      try {
        return { asked, host, name, addresses: await resolver.resolve4(name), failure: null }
      } catch (error) {
        return { asked, host, name, addresses: [], failure: describeError(error) }
      } finally {
        clearTimeout(timer)
      }
    }),
  )
}
