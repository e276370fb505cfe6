import type { AppName, Instant } from '../id.ts'

/** What a route needs of its caller. Closed: a new route names one of these or adds one here. */
export type Action =
  | 'app:read'
  | 'app:create'
  | 'app:destroy'
  | 'machine:read'
  | 'machine:create'
  | 'machine:update'
  | 'machine:start'
  | 'machine:stop'
  | 'machine:destroy'
  | 'machine:exec'
  | 'machine:connect'
  | 'session:list'
  | 'release:read'
  | 'release:create'
  | 'build:create'
  | 'log:read'
  | 'certificate:read'
  | 'certificate:add'
  | 'certificate:remove'
  | 'secret:list'
  | 'secret:set'
  | 'host:read'
  | 'host:join-token'
  | 'host:remove'
  | 'region:read'
  | 'token:self'
  | 'token:create'
  | 'token:list'
  | 'token:revoke'
  | 'registry:pull'
  | 'registry:push'
  | 'registry:collect'

/** A role is a named list of actions, on all apps or on some. */
export interface Policy {
  readonly actions: readonly (Action | '*')[]
  /** Absent: every app. */
  readonly apps?: readonly AppName[]
  readonly expiresAt?: Instant
}

/** What somebody wants to do. `app` is null for what concerns no single app. */
export interface AccessRequest {
  readonly action: Action
  readonly app: AppName | null
}

export type AccessDecision =
  | { readonly kind: 'allowed' }
  | { readonly kind: 'denied'; readonly why: string }
