import { PlatformError } from '@roost/base'
import { decide } from '@roost/core'
import { authenticate } from '../access/tokens.ts'
import type { Deps } from '../deps.ts'
import { listHosts } from '../store/hosts.ts'
import { appOrThrow } from './apps.ts'
import { createBuild } from './builds.ts'
import type { Handlers } from './handler.ts'
import { registryToken } from './registry-token.ts'

/** Building images, and the tokens with which they are pushed and pulled. */
export function imageHandlers(deps: Deps): Pick<Handlers, 'createBuild' | 'registryToken'> {
  const { store, clock } = deps
  return {
    createBuild: async ({ params, headers, body, signal }) => {
      await store.read((reader) => appOrThrow(reader, params.app))
      const header = headers['roost-build']
      const events = await createBuild(
        { hosts: () => store.read(listHosts), agent: deps.agent },
        {
          app: params.app,
          header: Array.isArray(header) ? header[0] : header,
          body,
          signal,
        },
      )
      return () => events
    },

    registryToken: async ({ query, headers }) => {
      const reply = await registryToken(
        {
          tokens: deps.registryTokens,
          authenticate: async (token) => {
            const now = clock.now()
            const owner = await store.read((reader) => authenticate(reader, [token], now))
            if (owner === null) return null
            return {
              name: owner.name,
              may: (action, app) =>
                decide(owner.policy, { action, app }, clock.now()).kind === 'allowed',
            }
          },
        },
        { authorization: headers.authorization, scope: query.scope },
      )
      if (reply === null)
        throw new PlatformError('unauthorized', 'log in with any name and a Roost token')
      return { ...reply }
    },
  }
}
