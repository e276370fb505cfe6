import { type Clock, type PeerClient, PlatformError, silentLogger } from '@roost/base'
import type { Deps } from './deps.ts'
import { createIds } from './ids.ts'
import { imageName, parseReference } from './image-resolver.ts'
import { createPushActivity } from './registry/push-activity.ts'
import { openSqlite } from './store/sqlite/open-sqlite.ts'
import type { Store } from './store/store.ts'
import { createPresence } from './watch/presence.ts'

/**
 * A server's surroundings without files, network and certificates, for tests and the simulator: a store in memory, an image
 * store that has every image but those named `missing`, hosts that can't be called. Time and chance come from outside.
 */
export function memoryDeps(options: {
  readonly clock: Clock
  readonly randomBytes?: (count: number) => Uint8Array
  /** Default: a new one in memory. */
  readonly store?: Store
  readonly change?: Partial<Deps>
}): Deps {
  const { clock } = options
  const unreachable = () =>
    Promise.reject(new PlatformError('unavailable', 'there is no network', { retry: 'later' }))
  const nobody: PeerClient = {
    json: unreachable,
    // biome-ignore lint/correctness/useYield: it fails before it has anything to say.
    async *lines() {
      await unreachable()
    },
    close: async () => {},
  }
  return {
    store: options.store ?? openSqlite({ file: ':memory:' }),
    clock,
    ids: createIds(options.randomBytes),
    log: silentLogger,
    presence: createPresence(clock.now()),
    images: {
      async resolve(text) {
        const reference = parseReference(text)
        const { repository, digest } = reference
        const image = imageName(reference)
        if (repository.endsWith('missing'))
          throw new PlatformError('image_not_found', `image ${image} not found`)
        return {
          image,
          digest:
            digest ?? `sha256:${Buffer.from(image).toString('hex').padEnd(64, '0').slice(-64)}`,
        }
      },
    },
    secrets: {
      list: async () => [],
      change: async () => false,
      sealForHost: async () => null,
    },
    authority: { ca: 'CA', signRequest: async (_request, names) => JSON.stringify(names) },
    registryTokens: {
      issue: async () => ({ token: 'registry-token', expiresAt: clock.now() + 900_000 }),
      verify: async () => null,
    },
    pushes: createPushActivity({ clock }),
    imageKeeper: null,
    agent: () => nobody,
    edge: () => nobody,
    agentSocket: unreachable,
    lookUpName: async () => ({
      a: null,
      aaaa: null,
      cname: null,
      challengeCname: null,
      ownership: null,
    }),
    installation: {
      version: '0.0.0',
      domain: 'roost.test',
      registry: 'registry.internal',
      internalUrl: 'https://10.210.4.1:4281',
      certificates: () => [],
    },
    ...options.change,
  }
}
