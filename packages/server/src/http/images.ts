import type { BuildEvent } from '@roost/api'
import { PlatformError } from '@roost/base'
import { type DiskSpace, decide, diskState } from '@roost/core'
import { authenticate } from '../access/tokens.ts'
import type { Deps } from '../deps.ts'
import { listHosts } from '../store/hosts.ts'
import { appOrThrow } from './apps.ts'
import { createBuild } from './builds.ts'
import type { Handlers } from './handler.ts'
import { registryToken } from './registry-token.ts'

/** Building images, and the tokens with which they are pushed and pulled. */
export function imageHandlers(deps: Deps): Pick<Handlers, 'createBuild' | 'registryToken'> {
  const { store, clock, pushes } = deps
  return {
    createBuild: async ({ params, headers, body, signal }) => {
      await store.read((reader) => appOrThrow(reader, params.app))
      await refuseOnFullDisk(deps)
      const header = headers['roost-build']
      const push = pushes.begin(params.app)
      try {
        const events = await createBuild(
          { hosts: () => store.read(listHosts), agent: deps.agent },
          {
            app: params.app,
            header: Array.isArray(header) ? header[0] : header,
            body,
            signal,
            onEnd: push.end,
          },
        )
        return () => explainFullDisk(deps, params.app, events)
      } catch (error) {
        // What was refused before a host heard of it has pushed nothing.
        push.end(true)
        throw error
      }
    },

    registryToken: async ({ query, headers }) => {
      const reply = await registryToken(
        {
          tokens: deps.registryTokens,
          clock,
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

const COLLECTION_MS_MAX = 60_000

/** A build takes minutes, and its push would fail at the end of them. */
async function refuseOnFullDisk({ imageKeeper, clock }: Deps): Promise<void> {
  if (imageKeeper === null || diskState(imageKeeper.space()) !== 'full') return
  const given = new AbortController()
  await Promise.race([
    imageKeeper.collect(true).catch(() => {}),
    clock.sleep(COLLECTION_MS_MAX, given.signal),
  ])
  given.abort()
  const space = imageKeeper.space()
  if (diskState(space) === 'full') throw new PlatformError('disk_full', describeFull(space))
}

/** What the builder hears of a full image store is a 500: here it is known better, and what the push left can go. */
async function* explainFullDisk(
  { imageKeeper, log }: Deps,
  app: string,
  events: AsyncIterable<BuildEvent>,
): AsyncIterable<BuildEvent> {
  for await (const event of events) {
    if (event.kind !== 'failed' || imageKeeper === null) {
      yield event
      continue
    }
    const space = imageKeeper.space()
    const full = event.code === 'unavailable' && diskState(space) === 'full'
    // Looked at before it is tidied up.
    await imageKeeper
      .pushFailed(app)
      .catch((error: unknown) => log.warn('remove what a push left', { app, error }))
    if (full)
      yield { kind: 'failed', code: 'disk_full', message: `push the image: ${describeFull(space)}` }
    else yield event
  }
}

function describeFull({ bytes, freeBytes, path }: DiskSpace): string {
  const mb = (count: number) => `${Math.round(count / 1e6)} MB`
  return `the disk of the image store is full (${mb(freeBytes)} of ${mb(bytes)} are free at ${path}); what runs runs on. "roost registry collect" removes images that no release can return to, "roost doctor" says what takes room`
}
