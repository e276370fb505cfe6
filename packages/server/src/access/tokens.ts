import { createHash } from 'node:crypto'
import { PlatformError } from '@roost/base'
import {
  type Instant,
  isLive,
  type Policy,
  type Token,
  type TokenId,
  type TokenKind,
} from '@roost/core'
import type { Reader, Tx } from '../store/store.ts'
import { findTokens } from '../store/tokens.ts'

export interface TokenOwner {
  readonly name: string
  readonly policy: Policy
  /** Default `admin`: the server itself makes no others. */
  readonly kind?: TokenKind
  /** The token with which it is made; default null: the server makes it. */
  readonly parent?: TokenId | null
}

/** Clients put several tokens into one header; more than this nobody needs. */
const TOKENS_MAX = 10
const TOKEN_ID_CHARS = 12

/** What the store knows tokens by. They have 256 bits of chance in them, so a plain hash tells nobody anything. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}

/** The tokens of an `Authorization` header: `Bearer a` or `FlyV1 a,b`. */
export function tokensOf(header: string | undefined): string[] {
  const match = /^(?:bearer|flyv1)\s+(.+)$/i.exec(header?.trim() ?? '')
  return (match?.[1] ?? '')
    .split(',')
    .map((token) => token.trim())
    .filter((token) => token !== '')
    .slice(0, TOKENS_MAX)
}

export function tokenId(token: string): TokenId {
  return hashToken(token).slice(0, TOKEN_ID_CHARS) as TokenId
}

/** The first of the tokens that is known and has not ended; null when none is. */
export async function authenticate(
  reader: Reader,
  tokens: readonly string[],
  now: Instant,
): Promise<Token | null> {
  return (await known(reader, tokens)).find((token) => isLive(token, now)) ?? null
}

/** How a token ended. Only its bearer hears of it. */
export interface TokenEnd {
  readonly how: 'expired' | 'revoked'
  readonly at: Instant
}

/** How the last of these tokens ended; null when none of them is known any more. */
export async function endOf(reader: Reader, tokens: readonly string[]): Promise<TokenEnd | null> {
  const ends = (await known(reader, tokens)).flatMap(({ revokedAt, policy }): TokenEnd[] => {
    if (revokedAt !== null) return [{ how: 'revoked', at: revokedAt }]
    return policy.expiresAt === undefined ? [] : [{ how: 'expired', at: policy.expiresAt }]
  })
  return ends.sort((a, b) => b.at - a.at)[0] ?? null
}

/** In the order in which they were sent. */
async function known(reader: Reader, tokens: readonly string[]): Promise<Token[]> {
  const hashes = tokens.map(hashToken)
  const rows = await findTokens(reader, hashes)
  return hashes.flatMap((hash) => rows.find((row) => row.hash === hash)?.token ?? [])
}

export async function insertToken(
  tx: Tx,
  token: string,
  owner: TokenOwner,
  now: Instant,
): Promise<void> {
  await tx.db
    .insertInto('tokens')
    .values({
      hash: hashToken(token),
      id: tokenId(token),
      kind: owner.kind ?? 'admin',
      name: owner.name,
      policy: JSON.stringify(owner.policy),
      parent: owner.parent ?? null,
      created_at: now,
      last_used_at: null,
      revoked_at: null,
    })
    .onConflict((conflict) => conflict.column('hash').doNothing())
    .execute()
}

export async function hasTokens(reader: Reader): Promise<boolean> {
  return (await reader.db.selectFrom('tokens').select('hash').executeTakeFirst()) !== undefined
}

const JOIN_TOKEN_MS = 3_600_000

/** A token with which one host may join within the hour. */
export async function createJoinToken(
  tx: Tx,
  secret: string,
  now: Instant,
): Promise<{ token: string; expiresAt: Instant }> {
  const token = `roost_join_${secret}`
  const expiresAt = now + JOIN_TOKEN_MS
  await tx.db.deleteFrom('join_tokens').where('expires_at', '<', now).execute()
  await tx.db
    .insertInto('join_tokens')
    .values({ hash: hashToken(token), created_at: now, expires_at: expiresAt, used_by: null })
    .execute()
  return { token, expiresAt }
}

/**
 * Uses a join token for a host, known by its WireGuard key. The same host may come with it again, since the reply to its
 * first try may have been lost. Throws `unauthorized`.
 */
export async function useJoinToken(
  tx: Tx,
  token: string,
  hostKey: string,
  now: Instant,
): Promise<void> {
  const hash = hashToken(token)
  const row = await tx.db
    .selectFrom('join_tokens')
    .select(['expires_at', 'used_by'])
    .where('hash', '=', hash)
    .executeTakeFirst()
  if (row === undefined) throw new PlatformError('unauthorized', 'this join token is not known')
  if (now >= row.expires_at)
    throw new PlatformError('unauthorized', 'this join token has expired; make a new one')
  if (row.used_by !== null && row.used_by !== hostKey)
    throw new PlatformError('unauthorized', 'this join token was used by another host')
  await tx.db
    .updateTable('join_tokens')
    .set({ used_by: hostKey })
    .where('hash', '=', hash)
    .execute()
}
