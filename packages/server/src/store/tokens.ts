import type { Instant, Policy, Token, TokenId, TokenKind } from '@roost/core'
import type { Schema } from './schema.ts'
import type { Reader, Tx } from './store.ts'

/** What changes with a token wakes those who wait for this key. */
export function tokenKey(id: TokenId): string {
  return `token/${id}`
}

/** Oldest first; those that ended stay for a while. */
export async function listTokens(reader: Reader): Promise<Token[]> {
  const rows = await reader.db
    .selectFrom('tokens')
    .selectAll()
    .orderBy('created_at')
    .orderBy('name')
    .orderBy('id')
    .execute()
  return rows.map(tokenOf)
}

export async function findTokens(reader: Reader, hashes: readonly string[]) {
  if (hashes.length === 0) return []
  const rows = await reader.db
    .selectFrom('tokens')
    .selectAll()
    .where('hash', 'in', [...hashes])
    .execute()
  return rows.map((row) => ({ hash: row.hash, token: tokenOf(row) }))
}

export async function getToken(reader: Reader, id: TokenId): Promise<Token | null> {
  const row = await reader.db
    .selectFrom('tokens')
    .selectAll()
    .where('id', '=', id)
    .executeTakeFirst()
  return row === undefined ? null : tokenOf(row)
}

export async function markRevoked(tx: Tx, ids: readonly TokenId[], now: Instant): Promise<void> {
  for (const id of ids) {
    await tx.db
      .updateTable('tokens')
      .set({ revoked_at: now })
      .where('id', '=', id)
      .where('revoked_at', 'is', null)
      .execute()
    tx.touch(tokenKey(id))
  }
}

/** Those that were made with `from` count from now on as made with its maker, as it is known now. */
export async function handOverMade(tx: Tx, from: TokenId): Promise<void> {
  const maker = (await getToken(tx, from))?.parent ?? null
  await tx.db.updateTable('tokens').set({ parent: maker }).where('parent', '=', from).execute()
}

export async function markUsed(tx: Tx, id: TokenId, now: Instant): Promise<void> {
  await tx.db.updateTable('tokens').set({ last_used_at: now }).where('id', '=', id).execute()
}

function tokenOf(row: Schema['tokens']): Token {
  return {
    id: row.id as TokenId,
    kind: row.kind as TokenKind,
    name: row.name,
    policy: JSON.parse(row.policy) as Policy,
    parent: row.parent as TokenId | null,
    createdAt: row.created_at,
    lastUsedAt: row.last_used_at,
    revokedAt: row.revoked_at,
  }
}
