import type { Clock, Logger, MessageSocket, PeerClient } from '@roost/base'
import type { DnsFacts, Host, Hostname, Instant } from '@roost/core'
import type { Authority } from './authority/authority.ts'
import type { Ids } from './ids.ts'
import type { ImageResolver } from './image-resolver.ts'
import type { ImageKeeper } from './registry/image-keeper.ts'
import type { PushActivity } from './registry/push-activity.ts'
import type { RegistryTokens } from './registry/registry-tokens.ts'
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
  readonly authority: Pick<Authority, 'ca' | 'signRequest'>
  readonly registryTokens: RegistryTokens
  readonly pushes: PushActivity
  /** null: the images lie on another machine. */
  readonly imageKeeper: ImageKeeper | null
  /** A client for the agent of that host, kept open; the caller closes nothing. */
  agent(host: Host): PeerClient
  /** The same for the edge of that host. */
  edge(host: Host): PeerClient
  /** A session with the agent of that host, by a path of its. */
  agentSocket(host: Host, path: string, signal: AbortSignal): Promise<MessageSocket>
  /** What the world's DNS says of a name of people's own. */
  lookUpName(hostname: Pick<Hostname, 'name' | 'app'>): Promise<DnsFacts>
  readonly installation: Installation
}

export interface Installation {
  readonly version: string
  /** Apps answer under `<app>.<domain>`. */
  readonly domain: string
  /** Name of its own image store, with which references of what was pushed to it begin: `registry.internal`. */
  readonly registry: string
  /** Where agents and edges reach the server: a mesh URL. */
  readonly internalUrl: string
  /** Those of this server and its image store, as they are now. */
  certificates(): readonly {
    readonly of: string
    readonly expiresAt: Instant
    readonly lifeMs: number
  }[]
}
