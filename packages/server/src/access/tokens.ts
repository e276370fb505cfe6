import { createHash } from 'node:crypto'
import { PlatformError } from '@roost/base'
import type { Instant, Policy } from '@roost/core'
import type { Reader, Tx } from '../store/store.ts'

export interface TokenOwner {
  readonly name: string
  readonly policy: Policy
}

/** Clients put several tokens into one header; more than this nobody needs. */
const TOKENS_MAX = 10

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

/** The first of the tokens that is known; null when none is, or has expired. */
export async function authenticate(
  reader: Reader,
  tokens: readonly string[],
  now: Instant,
): Promise<TokenOwner | null> {
  if (tokens.length === 0) return null
  const rows = await reader.db
    .selectFrom('tokens')
    .select(['name', 'policy', 'hash'])
    .where('hash', 'in', tokens.map(hashToken))
    .execute()
  for (const token of tokens) {
    const row = rows.find(({ hash }) => hash === hashToken(token))
    if (row === undefined) continue
    const policy = JSON.parse(row.policy) as Policy
    if (policy.expiresAt === undefined || now < policy.expiresAt) return { name: row.name, policy }
  }
  return null
}

/** When the last of these tokens expired; null when none of them was ever known. Only its bearer hears of it. */
export async function expiryOf(reader: Reader, tokens: readonly string[]): Promise<Instant | null> {
  if (tokens.length === 0) return null
  const rows = await reader.db
    .selectFrom('tokens')
    .select(['policy'])
    .where('hash', 'in', tokens.map(hashToken))
    .execute()
  const times = rows.flatMap(({ policy }) => (JSON.parse(policy) as Policy).expiresAt ?? [])
  return times.length === 0 ? null : Math.max(...times)
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
      name: owner.name,
      policy: JSON.stringify(owner.policy),
      created_at: now,
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
