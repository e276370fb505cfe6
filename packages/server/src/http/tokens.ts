import type { TokenReply } from '@roost/api'
import { type Logger, PlatformError } from '@roost/base'
import {
  type AppName,
  type Instant,
  isLive,
  mintToken,
  revokeToken,
  TOKENS_MAX,
  type Token,
  type TokenId,
  type TokenKind,
  tokensInSight,
} from '@roost/core'
import { insertToken, tokenId } from '../access/tokens.ts'
import type { Deps } from '../deps.ts'
import { getToken, listTokens, markRevoked } from '../store/tokens.ts'
import { appOrThrow } from './apps.ts'
import type { Handlers } from './handler.ts'

export function tokenHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'ids'> & { readonly log: Logger },
): Pick<Handlers, 'listTokens' | 'createToken' | 'revokeToken'> {
  const { store, clock, ids, log } = deps
  return {
    listTokens: ({ query, caller }) =>
      store.read(async (reader) => {
        const all = await listTokens(reader)
        const now = clock.now()
        return tokensInSight(all, caller.policy, caller.token ?? null)
          .filter((token) => query.all === 'true' || isLive(token, now))
          .map((token) => tokenReply(token, all, now))
      }),

    createToken: async ({ body, caller }) => {
      const secret = `roost_${ids.secret()}`
      const created = await store.transaction(async (tx) => {
        const now = clock.now()
        const app = (body.app ?? null) as AppName | null
        // First whether it may: a token for one app learns nothing of others.
        const wish = {
          kind: body.kind,
          app,
          ...(body.expires_in === undefined ? {} : { lifeMs: inMs(body.expires_in) }),
        }
        const minted = mintToken(caller.policy, wish, now)
        if (minted.kind === 'refused') throw new PlatformError(codeOf(body.kind, app), minted.why)
        if (app !== null) await appOrThrow(tx, app)
        const all = await listTokens(tx)
        if (all.filter((token) => isLive(token, now)).length >= TOKENS_MAX)
          throw new PlatformError('conflict', `there are ${TOKENS_MAX} tokens: revoke some first`)
        const name = body.name ?? (app === null ? body.kind : `${body.kind} ${app}`)
        const owner = { kind: body.kind, name, policy: minted.policy, parent: caller.token ?? null }
        await insertToken(tx, secret, owner, now)
        const token = await getToken(tx, tokenId(secret))
        if (token === null) throw new PlatformError('internal', 'the token that was made is gone')
        return tokenReply(token, all, now)
      })
      log.info('token made', { token: created.id, kind: created.kind, by: caller.name })
      return { ...created, token: secret }
    },

    revokeToken: async ({ params, query, caller }) => {
      const id = params.token as TokenId
      const revoked = await store.transaction(async (tx) => {
        const now = clock.now()
        const seen = tokensInSight(await listTokens(tx), caller.policy, caller.token ?? null)
        if (!seen.some((one) => one.id === id))
          throw new PlatformError('not_found', `token ${id} not found`)
        const keepMade = query.keep_made === 'true'
        const decision = revokeToken(await listTokens(tx), id, { keepMade }, now)
        if (decision.kind === 'refused') throw new PlatformError('conflict', decision.why)
        await markRevoked(tx, decision.ids, now)
        const all = await listTokens(tx)
        return decision.ids.flatMap((one) =>
          all.filter((row) => row.id === one).map((row) => tokenReply(row, all, now)),
        )
      })
      for (const { id: one } of revoked) log.info('token revoked', { token: one, by: caller.name })
      return { revoked }
    },
  }
}

function inMs(seconds: number | null | undefined): number | null {
  return seconds === null || seconds === undefined ? null : seconds * 1000
}

/** A wish that makes no sense is wrong whoever has it; one that is too wide is forbidden. */
function codeOf(kind: TokenKind, app: AppName | null): 'invalid' | 'forbidden' {
  return (kind === 'deploy' && app === null) || (kind === 'admin' && app !== null)
    ? 'invalid'
    : 'forbidden'
}

function tokenReply(token: Token, all: readonly Token[], now: Instant): TokenReply {
  const { expiresAt, apps } = token.policy
  const time = (at: Instant | null | undefined) =>
    at === null || at === undefined ? null : new Date(at).toISOString()
  return {
    id: token.id,
    kind: token.kind,
    name: token.name,
    apps: apps === undefined ? null : [...apps],
    state: token.revokedAt !== null ? 'revoked' : isLive(token, now) ? 'active' : 'expired',
    created_at: new Date(token.createdAt).toISOString(),
    created_by: all.find(({ id }) => id === token.parent)?.name ?? null,
    parent: token.parent,
    expires_at: time(expiresAt),
    last_used_at: time(token.lastUsedAt),
    revoked_at: time(token.revokedAt),
  }
}
