import type { Clock, Logger, PeerClient } from '@roost/base'
import type { Host } from '@roost/core'
import type { Ids } from './ids.ts'
import type { ImageResolver } from './image-resolver.ts'
import type { Secrets } from './secret/secrets.ts'
import type { Store } from './store/store.ts'
import type { Presence } from './watch/presence.ts'

/** What the server's functions need: all that is not pure comes from here, so that a simulator can give its own. */
export interface Deps {
  readonly store: Store
  readonly clock: Clock
  readonly ids: Ids
  readonly log: Logger
  readonly presence: Presence
  readonly images: ImageResolver
  readonly secrets: Secrets
  /** A client for the agent of that host, kept open; the caller closes nothing. */
  agent(host: Host): PeerClient
}
