import type { AppName, Instant, TokenId } from '../id.ts'
import type { Policy } from './policy.ts'
import { ADMIN, deployRole, READ_ONLY, readOnlyRole } from './roles.ts'

/** What tokens are made for. `deploy` is always for one app, `readonly` for one or for all, `admin` for everything. */
export const TOKEN_KINDS = ['admin', 'deploy', 'readonly'] as const
export type TokenKind = (typeof TOKEN_KINDS)[number]

/** How long a token lives of which nobody said how long. */
export const TOKEN_LIFE_DEFAULT_MS = 90 * 86_400_000
/** How long its row stays after its end, so that its bearer hears what happened to it. */
export const TOKEN_KEPT_MS = 30 * 86_400_000
/** At one time, of those that have not ended. */
export const TOKENS_MAX = 1_000

export interface Token {
  readonly id: TokenId
  readonly kind: TokenKind
  /** For people; several may have the same. */
  readonly name: string
  readonly policy: Policy
  /** The token with which it was made; null: by the server itself, at its first start. */
  readonly parent: TokenId | null
  readonly createdAt: Instant
  /** To the minute; null: never yet. */
  readonly lastUsedAt: Instant | null
  readonly revokedAt: Instant | null
}

export interface TokenWish {
  readonly kind: TokenKind
  readonly app: AppName | null
  /** Milliseconds; null: for ever. Absent: `TOKEN_LIFE_DEFAULT_MS`, or less when its maker ends before. */
  readonly lifeMs?: number | null
}

export type Minted =
  | { readonly kind: 'minted'; readonly policy: Policy }
  | { readonly kind: 'refused'; readonly why: string }

/**
 * The policy of a token that the bearer of `maker` may make. It allows nothing, at no time, that `maker` does not allow: what
 * would be wider is refused, not narrowed, but for an end that nobody asked for.
 */
export function mintToken(maker: Policy, wish: TokenWish, now: Instant): Minted {
  const { kind, app, lifeMs } = wish
  if (kind === 'deploy' && app === null) return refused('a deploy token is for one app: name it')
  if (kind === 'admin' && app !== null)
    return refused('an administrator token is for everything, not for one app')
  const end = endOf(maker, lifeMs, now)
  const policy: Policy = {
    ...roleOf(kind, app),
    ...(end === null ? {} : { expiresAt: end }),
  }
  const wider = widerIn(maker, policy)
  return wider === null ? { kind: 'minted', policy } : refused(wider)
}

/** What `narrow` allows and `wide` does not, in words; null: nothing. */
export function widerIn(wide: Policy, narrow: Policy): string | null {
  const own = new Set(wide.actions)
  const missing = own.has('*') ? undefined : narrow.actions.find((action) => !own.has(action))
  if (missing === '*') return 'this token does not allow everything, so it makes no administrator'
  if (missing !== undefined) return `this token does not allow ${missing} itself`
  if (wide.apps !== undefined) {
    const apps = wide.apps.join(', ')
    if (narrow.apps === undefined)
      return `this token is for single apps (${apps}): name one of them`
    const other = narrow.apps.find((app) => !wide.apps?.includes(app))
    if (other !== undefined) return `this token is for ${apps}, not for ${other}`
  }
  if (wide.expiresAt === undefined) return null
  return narrow.expiresAt === undefined || narrow.expiresAt > wide.expiresAt
    ? `this token ends at ${new Date(wide.expiresAt).toISOString()}, and what it makes ends no later`
    : null
}

function roleOf(kind: TokenKind, app: AppName | null): Policy {
  if (kind === 'admin') return ADMIN
  if (app === null) return READ_ONLY
  return kind === 'deploy' ? deployRole(app) : readOnlyRole(app)
}

function endOf(maker: Policy, lifeMs: number | null | undefined, now: Instant): Instant | null {
  if (lifeMs === null) return null
  if (lifeMs !== undefined) return now + lifeMs
  return Math.min(now + TOKEN_LIFE_DEFAULT_MS, maker.expiresAt ?? Number.POSITIVE_INFINITY)
}

export function isLive(token: Token, now: Instant): boolean {
  const { expiresAt } = token.policy
  return token.revokedAt === null && (expiresAt === undefined || now < expiresAt)
}

/** The token itself and all that were made with it, and with those, and so on. */
export function tokenAndMade(tokens: readonly Token[], id: TokenId): Token[] {
  const found = tokens.filter((token) => token.id === id)
  const seen = new Set(found.map((token) => token.id))
  for (let n = 0; n < found.length; n++) {
    for (const token of tokens) {
      if (token.parent !== found[n]?.id || seen.has(token.id)) continue
      seen.add(token.id)
      found.push(token)
    }
  }
  return found
}

/**
 * The token by which places are counted: the first of its line that is no administrator's, so that a token gains none by making
 * others. An administrator's counts by itself: most come from the first one, and would take each other's places.
 */
export function lineOf(tokens: readonly Token[], id: TokenId): TokenId {
  const known = new Map(tokens.map((token) => [token.id, token]))
  const seen = new Set([id])
  let first = id
  for (;;) {
    const parent = known.get(known.get(first)?.parent ?? first)
    if (parent === undefined || seen.has(parent.id) || parent.policy.actions.includes('*'))
      return first
    first = parent.id
    seen.add(first)
  }
}

/** Which tokens the bearer of one hears of: an administrator of all, anybody else of the own and what was made with it. */
export function tokensInSight(
  tokens: readonly Token[],
  bearer: Policy,
  own: TokenId | null,
): Token[] {
  if (bearer.actions.includes('*')) return [...tokens]
  return own === null ? [] : tokenAndMade(tokens, own)
}

export type Revocation =
  | { readonly kind: 'revoke'; readonly ids: readonly TokenId[] }
  | { readonly kind: 'refused'; readonly why: string }

/**
 * What ends when a token is revoked: also what was made with it, since whoever stole it may have made those, unless
 * `keepMade`. What is kept stays what was made with it, whoever revoked it, itself too: it may do no more than before, counts to the
 * same line, ends with each token further up, and ends when this one is revoked again without `keepMade`. The last token that may do
 * everything stays: without it nobody could make another.
 */
export function revokeToken(
  tokens: readonly Token[],
  id: TokenId,
  options: { readonly keepMade: boolean },
  now: Instant,
): Revocation {
  const family = tokenAndMade(tokens, id)
  const ending = (options.keepMade ? family.slice(0, 1) : family).filter(
    (token) => token.revokedAt === null,
  )
  const ids = new Set(ending.map((token) => token.id))
  const master = (token: Token) =>
    token.policy.actions.includes('*') && token.policy.expiresAt === undefined
  const left = tokens.some((token) => master(token) && isLive(token, now) && !ids.has(token.id))
  if (!left && ending.some(master))
    return refused(
      'it is the last administrator token that does not expire: make another one first',
    )
  return { kind: 'revoke', ids: [...ids] }
}

function refused(why: string): { readonly kind: 'refused'; readonly why: string } {
  return { kind: 'refused', why }
}
